"""Towers out: read back bit for bit, and by transformers and Sentence Transformers with the same numbers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from optical_jax.commands.export import main
from optical_jax.config import CheckpointConfig, EncoderConfig, HeadConfig, TowerConfig
from optical_jax.data.tokenization import load_tokenizer, train_vocabulary
from optical_jax.errors import ConfigError, MachineError
from optical_jax.models.formats import export
from optical_jax.models.formats.export import save_tower
from optical_jax.models.formats.pretrained import Pretrained, open_model
from optical_jax.models.formats.replacing import check_target, replacing
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.load import load
from tests import ROOT
from tests.models.formats.test_pretrained import (
    CHECKPOINTS,
    ENCODERS,
    LATE_INTERACTION,
    hidden_states,
    random_batch,
    token_vectors,
    torch_hidden,
)

TEXTS = ["Jua linachomoza juu ya mlima.", "Mto, mkate na maji!", "soko"]
QUERIES = ["mlima", "maji ya mto"]


def tower_of(head: HeadConfig, family="bert", seed: int = 0) -> tuple[Pretrained, object]:
    """A random tower with a vocabulary of its own."""
    tokenizer = train_vocabulary(TEXTS, vocab_size=90)
    encoder = EncoderConfig(
        family=family, vocab_size=len(tokenizer), width=24, layers=2, heads=4, mlp_width=40, max_positions=40
    )  # fmt: skip
    cfg = TowerConfig(encoder, head)
    # Wide draws, biases and norms too, so that every tensor matters.
    drawn = jax.tree.map(np.asarray, init_params(tower_specs(cfg), jax.random.key(seed)))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: x + 0.2 * rng.standard_normal(x.shape).astype(np.float32), drawn)
    return Pretrained(params, cfg, None, Path()), tokenizer


def assert_same(a: Pretrained, b: Pretrained) -> None:
    assert a.cfg == b.cfg
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


LATE = HeadConfig(
    projection=8, query_marker_id=4, document_marker_id=3, query_length=12, document_length=20,
    augment_queries=True, skip_punctuation=True,
)  # fmt: skip


POOLED = HeadConfig(pooling="mean", query_length=20, document_length=20)


# ---- read back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ENCODERS, *LATE_INTERACTION, "sentence-transformer"])
def test_every_form_is_read_back_exactly(tmp_path, name):
    before = open_model(CHECKPOINTS / name).tower(pooling="auto")
    tokenizer = None if before.tokenizer_path is None else load_tokenizer(before.tokenizer_path)
    save_tower(before.params, before.cfg, tokenizer, tmp_path / "out")
    after = open_model(tmp_path / "out").tower()
    assert_same(before, after)
    assert (after.tokenizer_path is None) == (tokenizer is None)


def test_settings_that_others_have_no_name_for_come_back(tmp_path):
    tower, tokenizer = tower_of(replace(LATE, special_tokens=False))
    cfg = replace(tower.cfg, encoder=replace(tower.cfg.encoder, dtype="bfloat16", remat="dots"))
    save_tower(tower.params, cfg, tokenizer, tmp_path / "out")
    assert open_model(tmp_path / "out").tower(pooling="cls").cfg == cfg


def test_the_tokenizer_comes_back(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    again = load_tokenizer(tmp_path / "out")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_without_optical_json_the_folder_is_read_as_pylate_reads_it(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    (tmp_path / "out" / "optical_jax.json").unlink()
    assert_same(open_model(tmp_path / "out").tower(), tower)


# ---- whole or not at all -----------------------------------------------------------------------------------------


def test_a_later_export_leaves_nothing_of_an_earlier_one(tmp_path):
    with_projection, tokenizer = tower_of(LATE)
    save_tower(with_projection.params, with_projection.cfg, tokenizer, tmp_path / "out")
    pooled, tokenizer = tower_of(POOLED)
    save_tower(pooled.params, pooled.cfg, tokenizer, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(), pooled._replace(tokenizer_path=tmp_path / "out"))
    assert not (tmp_path / "out" / "1_Dense").exists()


def of_the_user(folder: Path) -> dict[str, str]:
    """Files as people put them beside a model: a note, a link, and folders of their own and of the export."""
    files = {"NOTES.md": "mine", "onnx/model.onnx": "x", "1_Dense/tried.txt": "y", ".git/HEAD": "ref"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "empty").mkdir()
    (folder / "latest").symlink_to("NOTES.md")
    return files


def test_a_later_export_keeps_files_of_the_users_own(tmp_path):
    first, tokenizer = tower_of(LATE)
    save_tower(first.params, first.cfg, tokenizer, tmp_path / "out", "a card")
    files = of_the_user(tmp_path / "out")
    later, tokenizer = tower_of(POOLED, seed=1)
    save_tower(later.params, later.cfg, tokenizer, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(), later._replace(tokenizer_path=tmp_path / "out"))
    assert {name: (tmp_path / "out" / name).read_text() for name in files} == files
    assert (tmp_path / "out" / "latest").readlink() == Path("NOTES.md")
    assert (tmp_path / "out" / "empty").is_dir()
    # What only the earlier export wrote is gone, and nothing is left beside the folder.
    assert not (tmp_path / "out" / "README.md").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "1_Dense").iterdir()) == ["tried.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_that_would_be_lost_are_named(tmp_path):
    """A card that was edited, and a folder of the user's own where the next export has one."""
    plain, tokenizer = tower_of(POOLED)
    save_tower(plain.params, plain.cfg, tokenizer, tmp_path / "out", "a card")
    (tmp_path / "out" / "2_Dense").mkdir()
    (tmp_path / "out" / "2_Dense" / "config.json").write_text("mine")
    other, tokenizer = tower_of(replace(POOLED, projection=8))
    with pytest.raises(ConfigError, match=r"2_Dense/config.json was not written by an export"):
        save_tower(other.params, other.cfg, tokenizer, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(), plain._replace(tokenizer_path=tmp_path / "out"))
    (tmp_path / "out" / "README.md").write_text("a card, edited")
    with pytest.raises(ConfigError, match=r"README.md was changed since it was exported"):
        save_tower(plain.params, plain.cfg, tokenizer, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "a card, edited"
    assert (tmp_path / "out" / "2_Dense" / "config.json").read_text() == "mine"


def test_exports_of_versions_without_a_list_of_their_files_are_replaced(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out", "a card")
    (tmp_path / "out" / "exported_files.json").unlink()
    files = of_the_user(tmp_path / "out")
    later, tokenizer = tower_of(POOLED)
    save_tower(later.params, later.cfg, tokenizer, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_text() for name in files} == files
    assert not (tmp_path / "out" / "1_Dense" / "config.json").exists()
    assert not (tmp_path / "out" / "README.md").exists()


KILLED = """
import os, sys
from pathlib import Path
from optical_jax.models.formats.replacing import replacing
rename, renamed = Path.rename, []
def rename_or_die(self, target):
    if len(renamed) == int(sys.argv[2]):
        os._exit(9)
    renamed.append(self)
    return rename(self, target)
Path.rename = rename_or_die
with replacing(Path(sys.argv[1])) as partial:
    (partial / "config.json").write_text("new")
"""


@pytest.mark.parametrize(("renames", "expected"), [(0, "old"), (1, "old"), (2, "new")])
def test_a_kill_leaves_the_old_folder_or_the_new_one(tmp_path, renames, expected):
    with replacing(tmp_path / "out") as partial:
        (partial / "config.json").write_text("old")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "optical_jax.json").write_text("{}")
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out", str(renames)], cwd=ROOT).returncode == 9
    check_target(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == expected
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    with replacing(tmp_path / "out") as partial:
        (partial / "config.json").write_text("newest")
    assert (tmp_path / "out" / "config.json").read_text() == "newest"
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name", ["a [b]", "back\\slash", "star*", "50% #1?", "$HOME ~", "nl\nx", "e\u0301 日本語", "n" * 250]
)
def test_folders_of_any_name_are_written_and_read(tmp_path, name):
    tower, tokenizer = tower_of(LATE)
    for _ in range(2):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path / name)
    assert_same(open_model(tmp_path / name).tower(), tower._replace(tokenizer_path=tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_weights_are_readable_by_whom_the_other_files_are(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert modes["model.safetensors"] == modes["config.json"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    tower, tokenizer = tower_of(LATE)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for _ in range(2):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "model.safetensors").is_file()


def test_folders_that_cannot_be_replaced_are_refused(tmp_path, monkeypatch):
    tower, tokenizer = tower_of(LATE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is the working directory"):
        save_tower(tower.params, tower.cfg, tokenizer, Path())
    with pytest.raises(ConfigError, match=r"bad\\xff is not valid UTF-8"):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path / os.fsdecode(b"bad\xff"))
    assert list(tmp_path.iterdir()) == []


# ---- files of other libraries --------------------------------------------------------------------------------------


def exported(folder: Path, head: HeadConfig, name: str, tokenizer: Any = None) -> Any:
    tower, own = tower_of(head)
    save_tower(tower.params, tower.cfg, tokenizer or own, folder)
    return json.loads((folder / name).read_text())


def test_the_tokenizer_class_is_known_to_transformers_4(tmp_path):
    """Version 4 has no TokenizersBackend, and takes an object where 5 writes a list of further special tokens."""
    _, tokenizer = tower_of(LATE)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[Q]", "[D]"]})
    before = tokenizer(["jua [Q] soko"])["input_ids"]
    config = exported(tmp_path / "out", LATE, "tokenizer_config.json", tokenizer)
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert load_tokenizer(tmp_path / "out")(["jua [Q] soko"])["input_ids"] == before


@pytest.mark.parametrize("folder", ["optical_jax/english_teacher"])
def test_models_in_the_package_are_written_as_exports_are(folder):
    tokenizer, sentence_transformers = (
        json.loads((ROOT / folder / name).read_text())
        for name in ("tokenizer_config.json", "config_sentence_transformers.json")
    )
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "model_type" not in sentence_transformers
    assert sentence_transformers["skiplist_words"] == ["[PAD]"]


def test_symbols_that_the_vocabulary_lacks_are_not_in_the_skiplist(tmp_path):
    """PyLate takes them for [UNK], and drops every unknown token of a document."""
    config = exported(tmp_path / "out", LATE, "config_sentence_transformers.json")
    # Of the texts that the vocabulary is made of.
    assert set(config["skiplist_words"]) == {".", ",", "!"}
    assert "model_type" not in config
    (tmp_path / "out" / "optical_jax.json").unlink()
    assert open_model(tmp_path / "out").tower().cfg.head.skip_punctuation


def test_without_a_projection_the_dense_layer_is_the_identity(tmp_path):
    """So that PyLate adds no random one; the tower read back has none."""
    config = exported(tmp_path / "out", HeadConfig(), "1_Dense/config.json")
    assert (config["in_features"], config["out_features"], config["bias"]) == (24, 24, False)
    weight = load_file(tmp_path / "out" / "1_Dense" / "model.safetensors")["linear.weight"]
    np.testing.assert_array_equal(weight, np.eye(24, dtype=np.float32))
    assert open_model(tmp_path / "out").tower().cfg.head.projection == 0
    assert not load(tmp_path / "out").params["head"]


def test_differences_of_other_libraries_are_printed(tmp_path, capsys):
    make_run(tmp_path / "run")
    own = tmp_path / "run" / "student" / "optical_jax.json"
    own.write_text(json.dumps(deep(json.loads(own.read_text()), "head", special_tokens=False)))
    assert main(["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    note = "Sentence Transformers and PyLate keep the vectors of special tokens, which this model drops."
    assert f"note: {note}\n" in capsys.readouterr().out
    assert note in (tmp_path / "out" / "README.md").read_text()


def deep(values: dict[str, Any], key: str, **changes) -> dict[str, Any]:
    return values | {key: values[key] | changes}


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_the_earlier_export_alone(tmp_path, monkeypatch, fails_at):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    other, _ = tower_of(LATE, seed=1)
    calls = []

    def save_file(tensors, path, metadata):
        calls.append(path)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        path.touch()

    monkeypatch.setattr(export, "save_file", save_file)
    with pytest.raises(MachineError, match=r"out cannot be written: .*No space left"):
        save_tower(other.params, other.cfg, tokenizer, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(), tower._replace(tokenizer_path=None))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_files_are_not_written_over(tmp_path):
    tower, tokenizer = tower_of(LATE)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is not an exported tower; name a new folder"):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="exists and is not an exported tower"):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_parameters_of_another_shape_are_a_bug_not_a_file(tmp_path):
    tower, tokenizer = tower_of(LATE)
    wrong = replace(tower.cfg, encoder=replace(tower.cfg.encoder, vocab_size=91))
    with pytest.raises(ValueError, match="embeddings/word/embedding has shape"):
        save_tower(tower.params, wrong, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- the command -------------------------------------------------------------------------------------------------


def make_run(folder: Path) -> tuple[Pretrained, object]:
    """A run folder with the parts that export reads: config.json, student/, two checkpoints; `best` is the first."""
    tower, tokenizer = tower_of(LATE)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_tower(tower.params, tower.cfg, tokenizer, folder / "student")
    with Checkpoints(folder / "checkpoints", CheckpointConfig()) as checkpoints:
        for step, figure in ((1, 0.9), (2, 0.5)):
            params = jax.tree.map(lambda x, step=step: jax.numpy.asarray(x + step), tower.params)
            checkpoints.save(step, params, {"n": step}, data={"position": 0}, config={"seed": 0}, best_metric=figure)
            checkpoints.wait()
    return tower, tokenizer


def test_the_command_writes_the_checkpoint_asked_for(tmp_path, capsys):
    tower, _ = make_run(tmp_path / "run")
    for checkpoint, step in (("last", 2), ("best", 1), ("1", 1)):
        argv = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--checkpoint", checkpoint]
        assert main(argv) == 0
        found = open_model(tmp_path / "out").tower()
        assert_same(found, tower._replace(params=jax.tree.map(lambda x, step=step: x + np.float32(step), tower.params)))
    assert "wrote the last student" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--run": "nowhere"}, "run=nowhere is not a run"),
        ({"--checkpoint": "newest"}, "checkpoint='newest' is not valid; use last, best or a step number"),
        ({"--checkpoint": "7"}, "has no checkpoint 7; it has 1, 2"),
        ({"--out": "."}, "exists and is not an exported tower"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, change, message):
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    flags = {"--run": "run", "--out": "out"} | change
    assert main([word for flag in flags.items() for word in flag]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---- live, against PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", ENCODERS)
def test_transformers_loads_the_same_hidden_states(tmp_path, name):
    pytest.importorskip("torch")
    tower = open_model(CHECKPOINTS / name).tower()
    save_tower(tower.params, tower.cfg, None, tmp_path / "out")
    ids, attend = random_batch(tower.cfg.encoder.vocab_size, tower.cfg.encoder.pad_id)
    ids, attend = ids[:, :18], attend[:, :18]
    hidden = hidden_states(tower, ids, attend)
    np.testing.assert_allclose(torch_hidden(tmp_path / "out", ids, attend)[attend], hidden[attend], atol=1e-5)


@pytest.mark.parity
def test_transformers_loads_the_real_encoder_again(tmp_path, minilm_dir):
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    tower = open_model(minilm_dir).tower()
    save_tower(tower.params, tower.cfg, load_tokenizer(minilm_dir), tmp_path / "out")
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(["bread and tea", "a boat"], padding=True)
    ids, attend = np.array(batch["input_ids"]), np.array(batch["attention_mask"], bool)
    expected = torch_hidden(minilm_dir, ids, attend)
    np.testing.assert_allclose(torch_hidden(tmp_path / "out", ids, attend)[attend], expected[attend], atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    "head",
    [
        LATE,
        replace(LATE, attend_to_augmentation=True, skip_punctuation=False),
        replace(LATE, augment_queries=False),
        HeadConfig(query_length=10, document_length=16),
    ],
    ids=["colbert", "attending", "unaugmented", "plain"],
)
def test_sentence_transformers_gives_the_same_token_vectors(tmp_path, head):
    """Markers, lengths, augmentation, skiplist and projection, all through the folder alone."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tower, tokenizer = tower_of(head)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    tower = tower._replace(tokenizer_path=tmp_path / "out")
    model = sentence_transformers.MultiVectorEncoder(str(tmp_path / "out"), device="cpu")
    for side, texts, encode in (("query", QUERIES, model.encode_query), ("document", TEXTS, model.encode_document)):
        for ours, theirs in zip(token_vectors(tower, texts, side), encode(texts, convert_to_numpy=True), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("projection", [0, 8])
def test_sentence_transformers_gives_the_same_pooled_vectors(tmp_path, pooling, projection):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    head = HeadConfig(projection=projection, pooling=pooling, query_length=20, document_length=20)
    tower, tokenizer = tower_of(head)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    tower = tower._replace(tokenizer_path=tmp_path / "out")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, np.concatenate(token_vectors(tower, TEXTS, "document")), atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("head", [LATE, HeadConfig(query_length=10, document_length=16)], ids=["colbert", "plain"])
def test_sentence_transformer_refuses_token_vectors(tmp_path, head):
    """It would pool silently, without the projection."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tower, tokenizer = tower_of(head)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    with pytest.raises((ValueError, ImportError), match=r"pylate|MaxSim"):
        sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")


@pytest.mark.parity
@pytest.mark.parametrize(
    "head",
    [
        LATE,
        replace(LATE, augment_queries=False),
        replace(LATE, skip_punctuation=False),
        HeadConfig(query_length=10, document_length=16),
    ],
    ids=["colbert", "unaugmented", "punctuation", "plain"],
)
def test_pylate_gives_the_same_token_vectors(tmp_path, head):
    """With unknown tokens in the documents, which stay."""
    models = pytest.importorskip("pylate.models")
    tower, tokenizer = tower_of(head)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "out")
    tower = tower._replace(tokenizer_path=tmp_path / "out")
    model = models.ColBERT(str(tmp_path / "out"), device="cpu")
    for side, texts in (("query", QUERIES), ("document", [*TEXTS, "jua \u6f22 ; mto"])):
        theirs = model.encode(texts, is_query=side == "query")
        for ours, one in zip(token_vectors(tower, texts, side), theirs, strict=True):
            np.testing.assert_allclose(one, ours, atol=1e-5)


def test_half_precision_is_read_back_as_the_same_numbers_rounded(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "half", dtype="float16")
    tensors = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float16")}
    found = load(tmp_path / "half")
    for before, after in zip(jax.tree.leaves(tower.params), jax.tree.leaves(found.params), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(before).astype(np.float16).astype(np.float32), after)
