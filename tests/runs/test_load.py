"""What `load` gives of a run and of a folder: which tower, for which side, and what it refuses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import CheckpointConfig
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.errors import ConfigError
from optical_jax.models.formats.export import save_tower
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.load import load, towers_of_run
from optical_jax.towers.tower import encode, hidden_states
from tests.towers.test_tower import CFG, TEXTS, WORDS, one_by_one, random_params, same_arrays


@pytest.fixture(scope="module")
def tokenizer():
    return train_vocabulary([" ".join(WORDS)] * 3, vocab_size=96)


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run folder: teacher, student before training, and two checkpoints of which the first is the best."""
    headless = dataclasses.replace(CFG, head=dataclasses.replace(CFG.head, projection=0))
    path = tmp_path / "run"
    save_tower(random_params(0), CFG, tokenizer, path / "teacher")
    save_tower(random_params(1, headless), headless, tokenizer, path / "student")
    (path / "config.json").write_text(json.dumps({"seed": 0}))
    with Checkpoints(path / "checkpoints", CheckpointConfig()) as checkpoints:
        for step, figure in ((100, 0.5), (200, 0.25)):
            params = jax.device_put(random_params(step, headless))
            checkpoints.save(
                step, params, {"count": jnp.zeros(())}, data={"i": 0}, config={"seed": 0}, best_metric=figure
            )
            checkpoints.wait()
    return path


def test_a_run_gives_its_student_for_queries(run):
    headless = dataclasses.replace(CFG, head=dataclasses.replace(CFG.head, projection=0))
    for checkpoint, seed in (("last", 200), ("best", 100), (100, 100), ("200", 200), ("untrained", 1)):
        student = load(run, checkpoint=checkpoint)
        assert same_arrays(student.params, random_params(seed, headless)), checkpoint
        assert student.cfg == headless
        assert student.side == "query"
    np.testing.assert_allclose(
        encode(load(run), TEXTS[:3]).vectors[0, 0], next(one_by_one(load(run), TEXTS[:1])).vectors[0], atol=2e-6
    )


def test_a_run_gives_its_teacher_for_documents(run):
    teacher = load(str(run), side="document")
    assert same_arrays(teacher.params, random_params(0))
    assert (teacher.cfg, teacher.side) == (CFG, "document")


@pytest.mark.parametrize(("sides", "asks", "holds"), [("queries", 200, 0), ("both", 200, 0), ("documents", 0, 200)])
def test_a_run_gives_each_side_who_learned_it(run, sides, asks, holds):
    """By the seed of its parameters: 200 the student's, 0 the teacher's."""
    (run / "config.json").write_text(json.dumps({"student": {"sides": sides}}))
    for side, seed in (("query", asks), ("document", holds)):
        tower = load(run, side=side)
        word = tower.params["encoder"]["embeddings"]["word"]["embedding"]
        assert np.array_equal(word, random_params(seed)["encoder"]["embeddings"]["word"]["embedding"]), side
        assert tower.side == side
        assert load(run, side=side, part="teacher").side == side


def test_a_side_that_was_not_learned_is_refused_where_sides_differ(run, tokenizer):
    """Without markers the student of queries encodes documents too; with one it has never seen theirs."""
    assert load(run, side="document", part="student").side == "document"
    marked = dataclasses.replace(CFG, head=dataclasses.replace(CFG.head, document_marker_id=5))
    save_tower(random_params(1), marked, tokenizer, run / "student")
    with pytest.raises(ConfigError, match=r"encode as a query only, not as a document; train one with"):
        load(run, side="document", part="student")
    (run / "config.json").write_text(json.dumps({"student": {"sides": "both"}}))
    assert load(run, side="document", part="student", checkpoint="untrained").side == "document"


def test_who_asks_and_who_holds_the_documents(run):
    def who(sides: str, documents: str) -> list[bool]:
        """True for the student, of the query side and the document side."""
        (run / "config.json").write_text(json.dumps({"student": {"sides": sides}}))
        towers = towers_of_run(run, documents=documents)
        assert [tower.side for tower in towers] == ["query", "document"]
        return [tower.cfg.head.projection == 0 for tower in towers]

    assert who("queries", "auto") == who("both", "auto") == who("both", "teacher") == [True, False]
    assert who("both", "student") == [True, True]
    assert who("documents", "auto") == who("documents", "student") == [False, True]


def test_a_folder_has_no_parts(run):
    with pytest.raises(ConfigError, match="is not a run, so it has no student"):
        load(run / "teacher", part="student")


def test_a_run_before_its_first_checkpoint(run):
    """What a start that was killed early leaves behind."""
    (run / "checkpoints").rename(run / "elsewhere")
    assert load(run, checkpoint="untrained").side == "query"
    assert load(run, side="document").side == "document"
    with pytest.raises(ConfigError, match="checkpoint"):
        load(run)


@pytest.mark.parametrize("side", ["query", "document"])
def test_a_folder_gives_one_tower_for_both_sides(run, side):
    tower = load(run / "teacher", side=side)
    assert same_arrays(tower.params, random_params(0))
    assert (tower.cfg, tower.side) == (CFG, side)


def test_a_folder_without_tokenizer_files(tmp_path):
    save_tower(random_params(0), CFG, None, tmp_path / "bare")
    tower = load(tmp_path / "bare")
    assert tower.tokenizer is None
    assert hidden_states(tower, np.array([[2, 3]]), np.array([[1, 1]])).shape == (1, 2, 32)


def test_what_load_refuses(run, tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint 150"):
        load(run, checkpoint=150)
    with pytest.raises(ConfigError, match="side='passage'"):
        load(run, side="passage")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="is not a run"):
        load(run / "teacher", checkpoint="best")
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere")
    (run / "teacher").rename(run / "gone")
    with pytest.raises(ConfigError, match="no teacher/ folder"):
        load(run, side="document")


def test_the_real_encoder(minilm_dir):
    """MiniLM knows that two sentences say the same."""
    tower = load(minilm_dir)
    out = encode(tower, ["A man is eating food.", "Someone eats a meal.", "The sky is blue today."])
    means = out.vectors.sum(1) / out.mask.sum(1)[:, None]
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    assert means[0] @ means[1] > means[0] @ means[2] + 0.2
