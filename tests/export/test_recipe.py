"""The code on a model card, run as it stands there, gives the vectors of `encode`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.export.recipe import transformers_recipe
from optical_jax.export.student_card import model_card
from optical_jax.models.formats.export import save_tower
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode, hidden_states
from tests import ROOT
from tests.commands.test_export import LATE, QUERIES, tower_of
from tests.export.test_student_card import FACTS, PLAIN, PROJECTED, python_blocks

HEADS = {
    "projected": PROJECTED,
    "plain": PLAIN,
    "marked": replace(LATE, augment_queries=False),
    "colbert": LATE,
    "attending": replace(LATE, attend_to_augmentation=True),
    "text-only": replace(PROJECTED, special_tokens=False),
    "marked-text-only": replace(LATE, augment_queries=False, special_tokens=False),
    "augmented-text-only": replace(LATE, special_tokens=False),
    "mean": replace(PROJECTED, pooling="mean"),
    "cls": replace(PLAIN, pooling="cls"),
}
LONG = "jua linachomoza juu ya mlima mto mkate na maji soko jua"
ASKED = [*QUERIES, LONG, "!"]


def save(head: HeadConfig, folder: Path, family: str = "bert") -> None:
    tower, tokenizer = tower_of(head, family)
    save_tower(tower.params, tower.cfg, tokenizer, folder)


def test_a_recipe_says_projection_only_where_there_is_one():
    for head in HEADS.values():
        source = transformers_recipe(TowerConfig(EncoderConfig(), head), "x", (2, 3))
        compile(source, "recipe", "exec")
        assert ("projection" in source) == bool(head.projection)
    assert "2_Dense" in transformers_recipe(TowerConfig(EncoderConfig(), HEADS["mean"]), "x")


def test_the_projection_stands_alone_in_the_folder(tmp_path):
    """Hidden states times the transposed weight, at length one: NumPy gets what `encode` gives."""
    save(PROJECTED, tmp_path / "out")
    tower = load(tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "1_Dense" / "model.safetensors")
    assert {name: x.shape for name, x in tensors.items()} == {"linear.weight": (8, 24)}
    for text in QUERIES:
        ids = np.array([tower.tokenizer(text)["input_ids"]])
        hidden = np.asarray(hidden_states(tower, ids, np.ones_like(ids)))[0]
        vectors = hidden @ tensors["linear.weight"].T
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(encode(tower, [text]).vectors[0], vectors, atol=1e-5)


def run_recipe(source: str, folder: Path, monkeypatch, texts) -> list[np.ndarray]:
    """What `encode` of the code gives, run where the folder lies."""
    monkeypatch.chdir(folder.parent)
    names: dict[str, Any] = {}
    exec(source, names)
    return [np.asarray(one) for one in names["encode"](texts)]


def assert_as_ours(found: list[np.ndarray], folder: Path, texts) -> None:
    ours = encode(load(folder), texts)
    for theirs, vectors, mask in zip(found, ours.vectors, ours.mask, strict=True):
        np.testing.assert_allclose(np.atleast_2d(theirs), vectors[mask], atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "family"), [*((name, "bert") for name in HEADS), ("marked", "xlm-roberta"), ("mean", "xlm-roberta")]
)
def test_the_recipe_gives_the_vectors_of_encode(tmp_path, monkeypatch, name, family):
    pytest.importorskip("torch")
    save(HEADS[name], tmp_path / "x_encoder", family)
    tower = load(tmp_path / "x_encoder")
    from optical_jax.export.recipe import special_token_ids

    facts = replace(FACTS, tower=tower.cfg, special_ids=special_token_ids(tower.tokenizer))
    (source,) = (block for block in python_blocks(model_card(facts)) if "AutoModel" in block)
    found = run_recipe(source, tmp_path / "x_encoder", monkeypatch, ASKED)
    assert_as_ours(found, tmp_path / "x_encoder", ASKED)


@pytest.mark.parity
@pytest.mark.parametrize("head", [PLAIN, LATE, HEADS["mean"]], ids=["plain", "colbert", "mean"])
def test_the_sentence_transformers_code_gives_the_vectors_of_encode(tmp_path, monkeypatch, head):
    pytest.importorskip("sentence_transformers")
    save(head, tmp_path / "x_encoder")
    tower = load(tmp_path / "x_encoder")
    (source,) = (
        b for b in python_blocks(model_card(replace(FACTS, tower=tower.cfg))) if "from sentence_transformers" in b
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(source.replace('["..."]', repr(QUERIES)), names)
    assert_as_ours(
        [np.asarray(one.cpu() if hasattr(one, "cpu") else one) for one in names["vectors"]],
        tmp_path / "x_encoder",
        QUERIES,
    )


def test_optical_jax_code_runs(tmp_path, monkeypatch):
    save(PROJECTED, tmp_path / "x_encoder")
    save(replace(PROJECTED), tmp_path / "teacher")
    source = python_blocks(model_card(replace(FACTS, tower=load(tmp_path / "x_encoder").cfg)))[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(source, names)
    assert names["scores"].shape == (1, 2)


# ---- docs/formats.md ---------------------------------------------------------------------------------------------


def doc_recipe() -> str:
    (source,) = python_blocks((ROOT / "docs" / "formats.md").read_text("utf-8"), "python transformers")
    return source


def test_the_page_shows_what_a_card_would():
    cfg = TowerConfig(EncoderConfig(), HeadConfig(projection=128, query_length=64))
    assert doc_recipe() == transformers_recipe(cfg, "my_encoder")


@pytest.mark.parity
def test_the_page_gives_the_vectors_of_encode(tmp_path, monkeypatch):
    """Word for word; the page's tower reads 64 tokens."""
    pytest.importorskip("torch")
    tower, tokenizer = tower_of(HeadConfig(projection=128, query_length=40, document_length=40))
    save_tower(tower.params, tower.cfg, tokenizer, tmp_path / "my_encoder")
    assert_as_ours(
        run_recipe(doc_recipe(), tmp_path / "my_encoder", monkeypatch, ASKED), tmp_path / "my_encoder", ASKED
    )
