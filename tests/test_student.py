"""How a student begins: of the teacher's size, or of another."""

from dataclasses import replace

import numpy as np
import pytest

from optical_jax.config import Config, DataConfig, SizeConfig, StudentConfig, TeacherConfig
from optical_jax.data.bitext import load_bitext
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import abstract_params
from optical_jax.student import load_teacher, make_student
from optical_jax.towers import encode

TEACHER = "configs/tiny/teacher"
SIZE = SizeConfig(width=32, layers=1, heads=2, mlp_width=40)


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    """English against itself, with a vocabulary of its own: a smaller model of the same language."""
    file = tmp_path_factory.mktemp("bitext") / "en.train.tsv"
    words = ["teacher", "woman", "child", "fish", "book", "bread", "river", "market"]
    lines = [f"the {a} sees the {b}" for a in words for b in words if a != b]
    file.write_text("".join(f"{line}\t{line}\n" for line in lines), "utf-8")
    return Config(
        teacher=TeacherConfig(path=TEACHER),
        student=StudentConfig(vocabulary="train", vocab_size=120, size=SIZE),
        data=DataConfig(bitext=(str(file),), keep_equal=True),
    )


def shapes(tree) -> list:
    import jax

    return [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def test_a_student_of_another_size(cfg):
    teacher = load_teacher(cfg)
    student = make_student(cfg, teacher, load_bitext(cfg.data).train)
    encoder = student.cfg.encoder
    assert (encoder.width, encoder.layers, encoder.heads, encoder.mlp_width) == (32, 1, 2, 40)
    assert student.cfg.vector_width == teacher.cfg.vector_width == 48
    assert student.cfg.head.projection == 48
    assert shapes(student.params) == shapes(abstract_params(tower_specs(student.cfg)))
    assert encode(student, ["the child sees the fish"]).vectors.shape[2] == 48


def test_its_word_embeddings_keep_their_distances(cfg):
    """Of 48 dimensions 47 components hold nearly all: pieces as far apart as in the same student of full width."""
    teacher, bitext = load_teacher(cfg), load_bitext(cfg.data).train
    full = make_student(replace(cfg, student=replace(cfg.student, size=SizeConfig())), teacher, bitext)
    small = make_student(replace(cfg, student=replace(cfg.student, size=replace(SIZE, width=46))), teacher, bitext)
    a, b = (t.params["encoder"]["embeddings"]["word"]["embedding"] for t in (full, small))
    assert (a.shape[1], b.shape[1]) == (48, 46)
    far = [np.linalg.norm(table[:, None] - table[None], axis=2) for table in (a, b)]
    assert np.corrcoef(far[0].ravel(), far[1].ravel())[0, 1] > 0.99


def test_no_more_components_than_there_are(cfg):
    wide = replace(cfg, student=replace(cfg.student, size=replace(SIZE, width=64)))
    with pytest.raises(ConfigError, match=r"student.size.width=64 is more than the 48 principal components"):
        make_student(wide, load_teacher(cfg), load_bitext(cfg.data).train)


# ---- blind to word order -----------------------------------------------------------------------------------------


def sorted_vectors(tower, text) -> np.ndarray:
    found = encode(tower, [text])
    vectors = np.asarray(found.vectors)[0][np.asarray(found.mask)[0]]
    return vectors[np.lexsort(vectors.round(4).T)]


def test_without_word_order_words_may_change_places(cfg):
    """The same vectors, a word each, wherever it stands; with it they are others."""
    teacher, bitext = load_teacher(cfg), load_bitext(cfg.data).train
    for word_order in (True, False):
        student = make_student(replace(cfg, student=replace(cfg.student, word_order=word_order)), teacher, bitext)
        here, there = (sorted_vectors(student, text) for text in ("the child sees fish", "fish sees the child"))
        assert here.shape == there.shape
        assert np.allclose(here, there, atol=1e-3) == (not word_order)


def test_training_leaves_fixed_positions_alone():
    """Neither gradient nor decay reach them, and they do not count for the norm that is clipped."""
    import jax.numpy as jnp
    import optax

    from optical_jax.config import OptimizerConfig
    from optical_jax.training.optimizer import make_optimizer

    params = {"position": {"embedding": jnp.ones((4, 2))}, "word": {"embedding": jnp.ones((4, 2))}}
    grads = {"position": {"embedding": jnp.full((4, 2), 1e6)}, "word": {"embedding": jnp.full((4, 2), 1e-3)}}
    settings = OptimizerConfig(warmup_steps=1, clip_norm=1.0, weight_decay=0.1, eps=1.0)
    moved = {}
    for fixed in (True, False):
        tx = make_optimizer(settings, 10, fix_positions=fixed)
        updates, _ = tx.update(grads, tx.init(params), params)
        moved[fixed] = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(moved[True]["position"]["embedding"], 1.0)
    assert not np.array_equal(moved[False]["position"]["embedding"], np.ones((4, 2)))
    # With eps 1 an update grows with its gradient: clipped by the positions' norm, the words' would all but vanish.
    words = {fixed: np.asarray(moved[fixed]["word"]["embedding"]) for fixed in (True, False)}
    assert (words[True] < words[False]).all()
