"""Towers out: read back bit for bit, and by transformers and Sentence Transformers with the same numbers."""

from dataclasses import replace
from pathlib import Path

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
from optical_jax.models.formats.pretrained import Pretrained, load_pretrained
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.load import load
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


# ---- read back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ENCODERS, *LATE_INTERACTION, "sentence-transformer"])
def test_every_form_is_read_back_exactly(tmp_path, name):
    before = load_pretrained(str(CHECKPOINTS / name), pooling="auto")
    tokenizer = None if before.tokenizer_path is None else load_tokenizer(before.tokenizer_path)
    save_tower(before.params, before.cfg, tokenizer, tmp_path / "out")
    after = load_pretrained(str(tmp_path / "out"))
    assert_same(before, after)
    assert (after.tokenizer_path is None) == (tokenizer is None)


def test_settings_that_others_have_no_name_for_come_back_and_are_told(tmp_path, caplog):
    tower, tokenizer = tower_of(replace(LATE, special_tokens=False))
    cfg = replace(tower.cfg, encoder=replace(tower.cfg.encoder, dtype="bfloat16", remat="dots"))
    save_tower(tower.params, cfg, tokenizer, tmp_path / "out")
    assert load_pretrained(str(tmp_path / "out"), pooling="cls").cfg == cfg
    assert "will keep the vectors of special tokens" in caplog.text


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
    assert_same(load_pretrained(str(tmp_path / "out")), tower)


# ---- whole or not at all -----------------------------------------------------------------------------------------


def test_a_later_export_leaves_nothing_of_an_earlier_one(tmp_path):
    with_projection, tokenizer = tower_of(LATE)
    save_tower(with_projection.params, with_projection.cfg, tokenizer, tmp_path / "out")
    plain, tokenizer = tower_of(HeadConfig(query_length=16, document_length=16))
    save_tower(plain.params, plain.cfg, tokenizer, tmp_path / "out")
    assert_same(load_pretrained(str(tmp_path / "out")), plain._replace(tokenizer_path=tmp_path / "out"))
    assert not (tmp_path / "out" / "1_Dense").exists()


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
    assert_same(load_pretrained(str(tmp_path / "out")), tower._replace(tokenizer_path=None))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_files_are_not_written_over(tmp_path):
    tower, tokenizer = tower_of(LATE)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is no exported tower; name a new folder"):
        save_tower(tower.params, tower.cfg, tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="exists and is no exported tower"):
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
        found = load_pretrained(str(tmp_path / "out"))
        assert_same(found, tower._replace(params=jax.tree.map(lambda x, step=step: x + np.float32(step), tower.params)))
    assert "wrote the last student" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--run": "nowhere"}, "run=nowhere holds no run"),
        ({"--checkpoint": "newest"}, "checkpoint='newest' is none; give last, best or a step"),
        ({"--checkpoint": "7"}, "has no checkpoint 7; it has 1, 2"),
        ({"--out": "."}, "exists and is no exported tower"),
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
    tower = load_pretrained(str(CHECKPOINTS / name))
    save_tower(tower.params, tower.cfg, None, tmp_path / "out")
    ids, attend = random_batch(tower.cfg.encoder.vocab_size, tower.cfg.encoder.pad_id)
    ids, attend = ids[:, :18], attend[:, :18]
    hidden = hidden_states(tower, ids, attend)
    np.testing.assert_allclose(torch_hidden(tmp_path / "out", ids, attend)[attend], hidden[attend], atol=1e-5)


@pytest.mark.parity
def test_transformers_loads_the_real_encoder_again(tmp_path, minilm_dir):
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    tower = load_pretrained(str(minilm_dir))
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


def test_half_precision_is_read_back_as_the_same_numbers_rounded(tmp_path):
    tower, tokenizer = tower_of(LATE)
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "half", dtype="float16")
    tensors = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float16")}
    found = load(tmp_path / "half")
    for before, after in zip(jax.tree.leaves(tower.params), jax.tree.leaves(found.params), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(before).astype(np.float16).astype(np.float32), after)
