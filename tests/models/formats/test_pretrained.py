"""Checkpoints from outside, against golden numbers of PyTorch (tests/reference/make_golden.py) and against it live."""

import json
import logging
import shutil
import string
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from optical_jax.config import HeadConfig
from optical_jax.data.tokenization import load_tokenizer, pad_tokens, tokenize
from optical_jax.errors import ConfigError
from optical_jax.models.bert import encode_hidden
from optical_jax.models.formats.pretrained import Pretrained, open_model
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from tests import REFERENCE

CHECKPOINTS = REFERENCE / "checkpoints"
ENCODERS = (
    "bert",
    "bert-relu-bf16",
    "bert-tanh-f16",
    "mbert-sharded",
    "minilm",
    "roberta",
    "xlm-roberta-sharded-bf16",
)
LATE_INTERACTION = ("stanford", "pylate", "multi-vector")


def hidden_states(tower: Pretrained, ids, attend) -> np.ndarray:
    params = jax.tree.map(jnp.asarray, tower.params["encoder"])
    return np.asarray(encode_hidden(params, ids, attend, tower.cfg.encoder))


def token_vectors(tower: Pretrained, texts: list[str], side) -> list[np.ndarray]:
    """The vectors of each text, as a user of the tower gets them."""
    assert tower.tokenizer_path is not None
    tokens = tokenize(load_tokenizer(tower.tokenizer_path), texts, tower.cfg.head, side)
    inputs = pad_tokens(tokens, max(len(t.ids) for t in tokens), tower.cfg.encoder.pad_id)
    params, inputs = jax.tree.map(jnp.asarray, (tower.params, inputs))
    out = encode_tokens(params, inputs, tower.cfg)
    return [np.asarray(v)[np.asarray(m)] for v, m in zip(out.vectors, out.mask, strict=True)]


def copy_checkpoint(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINTS / name, folder / name))


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ---- encoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_states_are_those_of_transformers(name):
    golden = np.load(CHECKPOINTS / name / "golden.npz")
    tower = open_model(CHECKPOINTS / name).tower()
    hidden = hidden_states(tower, golden["ids"], golden["attend"])
    np.testing.assert_allclose(hidden[golden["attend"]], golden["hidden"][golden["attend"]], atol=1e-5)


@pytest.mark.parametrize("name", [*ENCODERS, *LATE_INTERACTION])
def test_the_parameters_are_those_of_the_spec(name):
    tower = open_model(CHECKPOINTS / name).tower()
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), tower.params)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), abstract_params(tower_specs(tower.cfg)))


def test_the_real_encoder_gives_the_hidden_states_of_transformers(minilm_dir):
    golden = np.load(REFERENCE / "all-MiniLM-L6-v2.npz")
    hidden = hidden_states(open_model(minilm_dir).tower(), golden["ids"], golden["attend"])
    np.testing.assert_allclose(hidden[golden["attend"]], golden["hidden"][golden["attend"]], atol=1e-5)


def test_the_real_encoder_is_pooled_only_when_asked(minilm_dir):
    heads = {pooling: open_model(minilm_dir).tower(pooling=pooling).cfg.head for pooling in ("none", "auto", "cls")}
    assert {pooling: head.pooling for pooling, head in heads.items()} == {"none": "none", "auto": "mean", "cls": "cls"}
    assert heads["none"].query_length == heads["none"].document_length == 256  # sentence_bert_config.json


def test_heads_are_dropped_and_named_in_one_line(caplog):
    with caplog.at_level(logging.INFO, logger="optical_jax.models.formats.pretrained"):
        open_model(CHECKPOINTS / "minilm").tower()
    (line,) = caplog.messages
    assert "dropped embeddings.position_ids, pooler.dense.bias, pooler.dense.weight" in line


def test_lengths_are_cut_to_the_position_table():
    bert, roberta = (open_model(CHECKPOINTS / name).tower().cfg for name in ("bert", "roberta"))
    assert bert.head.query_length == bert.head.document_length == 20
    assert roberta.head.document_length == 20  # of 22 positions two come before the first token


# ---- late interaction --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("name", LATE_INTERACTION)
def test_token_vectors_are_those_of_sentence_transformers(name, side):
    golden = np.load(CHECKPOINTS / name / "golden.npz")
    vectors = token_vectors(open_model(CHECKPOINTS / name).tower(), golden[f"{side}_texts"].tolist(), side)
    assert [len(v) for v in vectors] == golden[f"{side}_counts"].tolist()
    np.testing.assert_allclose(np.concatenate(vectors), golden[f"{side}_vectors"], atol=1e-5)


def test_a_dense_model_gives_the_vectors_of_sentence_transformers():
    golden = np.load(CHECKPOINTS / "sentence-transformer" / "golden.npz")
    tower = open_model(CHECKPOINTS / "sentence-transformer").tower(pooling="auto")
    vectors = token_vectors(tower, golden["texts"].tolist(), "document")
    np.testing.assert_allclose(np.concatenate(vectors), golden["vectors"], atol=1e-5)


def test_heads_of_every_form():
    stanford, pylate, native = (open_model(CHECKPOINTS / name).tower().cfg.head for name in LATE_INTERACTION)
    assert stanford == HeadConfig(
        projection=8, query_marker_id=1, document_marker_id=2, query_length=12, document_length=16,
        augment_queries=True, attend_to_augmentation=False, skip_punctuation=True,
    )  # fmt: skip
    assert pylate == HeadConfig(
        projection=8, query_marker_id=108, document_marker_id=109, query_length=10, document_length=14,
        augment_queries=True, attend_to_augmentation=True, skip_punctuation=True,
    )  # fmt: skip
    assert native == HeadConfig(
        projection=128, query_marker_id=1, document_marker_id=2, query_length=9, document_length=13
    )


def test_stanfords_experiment_folder_means_its_newest_checkpoint(tmp_path):
    shutil.copytree(CHECKPOINTS / "stanford", tmp_path / "checkpoints" / "colbert")
    assert open_model(tmp_path).tower().cfg == open_model(CHECKPOINTS / "stanford").tower().cfg


def test_stanford_defaults_where_the_metadata_is_silent(tmp_path):
    folder = copy_checkpoint("stanford", tmp_path)
    (folder / "artifact.metadata").unlink()
    head = open_model(folder).tower().cfg.head
    assert (head.query_marker_id, head.document_marker_id, head.query_length, head.document_length) == (1, 2, 32, 40)
    assert head.augment_queries
    assert head.skip_punctuation


def test_markers_are_found_in_vocab_txt(tmp_path):
    folder = copy_checkpoint("pylate", tmp_path)
    vocab = load_tokenizer(folder).get_vocab()
    (folder / "tokenizer.json").unlink()
    words = sorted((piece for piece in vocab if piece not in ("[Q] ", "[D] ")), key=vocab.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "added_tokens.json").write_text(json.dumps({p: vocab[p] for p in ("[Q] ", "[D] ")}))
    assert open_model(folder).tower().cfg == open_model(CHECKPOINTS / "pylate").tower().cfg


def test_pylate_expands_queries_and_skips_punctuation_unless_told_otherwise(tmp_path):
    folder = copy_checkpoint("pylate", tmp_path)
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 11}))
    head = open_model(folder).tower().cfg.head
    assert (head.augment_queries, head.attend_to_augmentation, head.skip_punctuation) == (True, False, True)
    assert (head.query_length, head.document_length) == (11, 20)
    edit_json(path, do_query_expansion=False, skiplist_words=[])
    head = open_model(folder).tower().cfg.head
    assert (head.augment_queries, head.skip_punctuation) == (False, False)


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "modernbert"}, "'modernbert' is not supported; supported are bert, roberta, xlm-roberta"),
        ({"hidden_act": "silu"}, "hidden_act='silu' is not supported; supported are gelu,"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not supported"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
        ({"hidden_size": None}, "hidden_size=None is not a positive integer"),
        ({"vocab_size": 61}, r"embeddings.word_embeddings.weight has shape \[60, 16\], config.json says \[61, 16\]"),
        ({"num_hidden_layers": 3}, r"encoder.layer.2.attention.self.query.weight, .* and 12 more missing"),
        ({"num_hidden_layers": 1}, r"unexpected tensors encoder.layer.1.*and 12 more"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, values, message):
    folder = copy_checkpoint("bert", tmp_path)
    edit_json(folder / "config.json", **values)
    with pytest.raises(ConfigError, match=message):
        open_model(folder).tower()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layer.1.output.dense.bias"), "encoder.layer.1.output.dense.bias missing"),
        (lambda t: t.update({"adapter.weight": np.ones(2, np.float32)}), "unexpected tensors adapter.weight"),
        (lambda t: t.update({"linear.weight": np.ones((8, 16), np.float32)}), "unexpected tensors linear.weight"),
        (lambda t: t.pop("embeddings.word_embeddings.weight"), "no encoder in it"),
        (lambda t: t.update({"x.embeddings.word_embeddings.weight": np.ones((2, 2))}), "2 encoders"),
        (lambda t: t.update({"embeddings.LayerNorm.bias": np.ones(16, np.int8)}), "bias is int8; only float"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    folder = copy_checkpoint("bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=message):
        open_model(folder).tower()


@pytest.mark.parametrize(
    ("name", "file", "values", "message"),
    [
        ("stanford", "artifact.metadata", {"similarity": "l2"}, "similarity='l2' is not supported"),
        ("stanford", "artifact.metadata", {"query_token_id": "[Q]"}, r"query_token_id '\[Q\]' is not one token"),
        ("pylate", "config_sentence_transformers.json", {"query_prefix": "query: "}, "'query: ' is not one token"),
        ("pylate", "config_sentence_transformers.json", {"skiplist_words": ["the"]}, "skiplist_words other than"),
        ("pylate", "1_Dense/config.json", {"bias": True}, "bias=True is not supported"),
        ("pylate", "1_Dense/config.json", {"use_residual": True}, "use_residual=True is not supported"),
        ("sentence-transformer", "2_Dense/config.json", {"activation_function": "torch.nn.Tanh"}, "torch.nn.Tanh"),
        ("sentence-transformer", "1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "only mean and cls"),
        ("multi-vector", "2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "keep_only_token_ids"),
        (
            "multi-vector", "2_MultiVectorMask/config.json",
            {"skiplist_words": list("!"), "skiplist_tasks": ["query"]}, r"skiplist_tasks=\['query'\]",
        ),
        (
            "multi-vector", "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 5}}, "strategy='min' is not supported",
        ),
        (
            "multi-vector", "sentence_bert_config.json",
            {"query_expansion": {"strategy": "fixed", "length": 9, "token": "the"}}, "token='the' is not supported",
        ),
    ],
)  # fmt: skip
def test_heads_that_a_tower_cannot_express_are_refused(tmp_path, name, file, values, message):
    folder = copy_checkpoint(name, tmp_path)
    edit_json(folder / file, **values)
    with pytest.raises(ConfigError, match=message):
        open_model(folder).tower(pooling="auto")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"},
            "prompts {'query': 'query: '} are not put before texts (Sentence Transformers puts that of 'query' before "
            "every text); put them there yourself",
        ),
        ("config_sentence_transformers.json", {"prompts": {"query": "q: "}}, "before texts; put them there yourself"),
        ("config_sentence_transformers.json", {"truncate_dim": 4}, "truncate_dim=4 is not applied"),
    ],
)
@pytest.mark.parametrize("pooling", ["auto", "none"])
def test_what_sentence_transformers_would_do_to_texts_is_stated(tmp_path, caplog, file, values, message, pooling):
    folder = copy_checkpoint("sentence-transformer", tmp_path)
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | values))
    with caplog.at_level(logging.INFO, logger="optical_jax"):
        open_model(folder).tower(pooling=pooling)
    assert message in caplog.text


def without_normalize(folder: Path) -> Path:
    modules = json.loads((folder / "modules.json").read_text())
    kept = [module for module in modules if not module["type"].endswith("Normalize")]
    (folder / "modules.json").write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize("name", ["sentence-transformer", "multi-vector"])
def test_vectors_that_are_not_normalized_there_are_stated(tmp_path, caplog, name):
    stated = "it has no Normalize module, but vectors are scaled to length one here"
    with caplog.at_level(logging.INFO, logger="optical_jax"):
        open_model(CHECKPOINTS / name).tower(pooling="auto")
        assert stated not in caplog.text
        open_model(without_normalize(copy_checkpoint(name, tmp_path))).tower(pooling="auto")
    assert caplog.text.count(stated) == 1


def test_pylate_normalizes_without_a_module(caplog):
    with caplog.at_level(logging.INFO, logger="optical_jax"):
        open_model(CHECKPOINTS / "pylate").tower(pooling="auto")
    assert "Normalize" not in caplog.text


@pytest.mark.parametrize(("lowercase", "stated"), [(False, True), (True, False)])
def test_lower_case_that_the_tokenizer_does_not_do_is_stated(tmp_path, caplog, lowercase, stated):
    folder = copy_checkpoint("sentence-transformer", tmp_path)
    edit_json(folder / "sentence_bert_config.json", do_lower_case=True)
    edit_json(folder / "tokenizer.json", normalizer={"type": "Lowercase"} if lowercase else None)
    with caplog.at_level(logging.INFO, logger="optical_jax"):
        open_model(folder).tower(pooling="auto")
    assert ("do_lower_case=true is not applied" in caplog.text) == stated


def test_normalize_before_pooling_is_refused(tmp_path):
    folder = copy_checkpoint("sentence-transformer", tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    (normalize,) = (module for module in modules if module["type"].endswith("Normalize"))
    others = [module for module in modules if module is not normalize]
    (folder / "modules.json").write_text(json.dumps([others[0], normalize, *others[1:]]))
    with pytest.raises(ConfigError, match="Normalize before Pooling is not supported"):
        open_model(folder).tower(pooling="auto")


@pytest.mark.parametrize(
    ("words", "skips"),
    [
        (list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), True),
        (["[PAD]"], False),
        ([], False),
        (["\u2581.", ".", "\u2581,", ","], True),
        ([".", ",", "[PAD]"], True),
    ],
)
def test_skiplists_that_mean_the_punctuation_of_the_vocabulary(tmp_path, words, skips):
    """Of a vocabulary that has a full stop and a comma."""
    folder = copy_checkpoint("pylate", tmp_path)
    edit_json(folder / "config_sentence_transformers.json", skiplist_words=words)
    pieces = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    symbols = {piece for piece in pieces if len(piece) == 1 and piece in string.punctuation}
    for piece in symbols - {".", ","}:
        pieces[f"[was {ord(piece)}]"] = pieces.pop(piece)
    edit_json(
        folder / "tokenizer.json",
        model={**json.loads((folder / "tokenizer.json").read_text())["model"], "vocab": pieces},
    )
    assert open_model(folder).tower().cfg.head.skip_punctuation == skips
    edit_json(folder / "config_sentence_transformers.json", skiplist_words=["."])
    with pytest.raises(ConfigError, match="skiplist_words other than"):
        open_model(folder).tower()


def test_modules_a_tower_does_not_have_are_refused(tmp_path):
    folder = copy_checkpoint("sentence-transformer", tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.CNN"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="module CNN is not supported"):
        open_model(folder).tower()


def test_a_projection_that_is_missing_or_of_another_model_is_refused(tmp_path):
    folder = copy_checkpoint("pylate", tmp_path)
    save_file({"linear.weight": np.ones((8, 15), np.float32)}, folder / "1_Dense" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"linear.weight has shape \[8, 15\], not \[any, 16\]"):
        open_model(folder).tower()
    (folder / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"1_Dense has no model.safetensors"):
        open_model(folder).tower()
    folder = copy_checkpoint("stanford", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["linear.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"linear.weight, the projection, is missing"):
        open_model(folder).tower()


def test_broken_folders(tmp_path):
    folder = copy_checkpoint("mbert-sharded", tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"names model-00002-of-00003.safetensors, which is not in the folder"):
        open_model(folder).tower()
    folder = copy_checkpoint("bert", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ConfigError, match="is not a complete safetensors file"):
        open_model(folder).tower()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"bert has no model.safetensors"):
        open_model(folder).tower()
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ConfigError, match=r"only pytorch_model.bin, and pickles are never read; convert it"):
        open_model(folder).tower()
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json cannot be read"):
        open_model(folder).tower()
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config.json does not exist"):
        open_model(folder).tower()


# ---- hub names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["no/such-model", "/no/such/folder", "nothing", "../up"])
def test_a_path_that_is_nothing_is_one_line(path):
    with pytest.raises(ConfigError, match=f"^{path}: no such folder[^\n]*$"):
        open_model(path).tower()


def test_a_hub_name_is_found_in_the_cache(tmp_path):
    """HF_HUB_OFFLINE is set (conftest.py): what was downloaded once is read without a network."""
    repository = tmp_path / "models--someone--bert"
    commit = "0" * 40
    shutil.copytree(CHECKPOINTS / "bert", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    tower = open_model("someone/bert", str(tmp_path)).tower()
    assert tower.cfg == open_model(CHECKPOINTS / "bert").tower().cfg


# ---- live, against PyTorch ---------------------------------------------------------------------------------------


def random_model(name: str, seed: int = 0):
    """A random tiny model of transformers, every parameter drawn, and its lowest free token id."""
    torch = pytest.importorskip("torch")
    import transformers

    sizes = {"vocab_size": 70, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": 30}
    offset = {"type_vocab_size": 1, "max_position_embeddings": 32}
    config, kind = {
        "bert": (transformers.BertConfig(**sizes), transformers.BertModel),
        "bert-tanh": (transformers.BertConfig(**sizes, hidden_act="gelu_new"), transformers.BertModel),
        "bert-relu": (transformers.BertConfig(**sizes, hidden_act="relu"), transformers.BertModel),
        "mbert": (transformers.BertConfig(**sizes | {"vocab_size": 300}), transformers.BertForMaskedLM),
        "minilm": (transformers.BertConfig(**sizes | {"num_attention_heads": 12}), transformers.BertForMaskedLM),
        "roberta": (transformers.RobertaConfig(**sizes | offset), transformers.RobertaForMaskedLM),
        "xlm-roberta": (transformers.XLMRobertaConfig(**sizes | offset), transformers.XLMRobertaModel),
    }[name]
    model, generator = kind(config).eval(), torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        value.copy_(1 + 0.3 * noise if key.endswith("LayerNorm.weight") else 0.3 * noise)
    return model


def random_batch(vocab_size: int, pad_id: int):
    """A padded batch: full, part and one-token rows."""
    ids = np.random.default_rng(1).integers(5, vocab_size, (4, 28)).astype(np.int32)
    attend = np.arange(28) < np.array([[28], [13], [5], [1]])
    return np.where(attend, ids, pad_id), attend


def torch_hidden(folder: Path, ids, attend) -> np.ndarray:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor(ids).long(), attention_mask=torch.tensor(attend)).last_hidden_state.numpy()


@pytest.mark.parity
@pytest.mark.parametrize("name", ["bert", "bert-tanh", "bert-relu", "mbert", "minilm", "roberta", "xlm-roberta"])
@pytest.mark.parametrize(("dtype", "shard"), [("float32", "1GB"), ("float16", "8KB"), ("bfloat16", "1GB")])
def test_hidden_states_agree_with_transformers(tmp_path, name, dtype, shard):
    torch = pytest.importorskip("torch")
    model = random_model(name).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "8KB")
    tower = open_model(tmp_path).tower()
    ids, attend = random_batch(tower.cfg.encoder.vocab_size, tower.cfg.encoder.pad_id)
    hidden = hidden_states(tower, ids, attend)
    np.testing.assert_allclose(hidden[attend], torch_hidden(tmp_path, ids, attend)[attend], atol=1e-5)


@pytest.mark.parity
def test_the_real_encoder_agrees_with_transformers(minilm_dir):
    pytest.importorskip("torch")
    tower = open_model(minilm_dir).tower()
    ids, attend = random_batch(tower.cfg.encoder.vocab_size, tower.cfg.encoder.pad_id)
    hidden = hidden_states(tower, ids, attend)
    np.testing.assert_allclose(hidden[attend], torch_hidden(minilm_dir, ids, attend)[attend], atol=1e-5)


@pytest.mark.parity
def test_the_advice_for_pickles_works(tmp_path):
    torch = pytest.importorskip("torch")
    model = random_model("mbert")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError) as refusal:
        open_model(tmp_path).tower()
    code = str(refusal.value).split('python -c "')[1].rstrip('"')
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    ids, attend = random_batch(300, 0)
    hidden = hidden_states(open_model(tmp_path).tower(), ids, attend)
    np.testing.assert_allclose(hidden[attend], torch_hidden(tmp_path, ids, attend)[attend], atol=1e-5)
