"""How a student begins: of the teacher's size, or of another."""

from dataclasses import replace

import numpy as np
import pytest

from optical_jax.config import Config, DataConfig, LossConfig, OtConfig, SizeConfig, StudentConfig, TeacherConfig
from optical_jax.data.text.bitext import load_bitext
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import abstract_params
from optical_jax.towers.tower import encode
from optical_jax.training.student.start import load_teacher, make_student

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


def test_a_head_that_learns_masses_starts_with_equal_ones(cfg):
    cfg = replace(cfg, loss=LossConfig("transport", ot=OtConfig(masses="learned")))
    student = make_student(cfg, load_teacher(cfg), load_bitext(cfg.data).train)
    assert shapes(student.params) == shapes(abstract_params(tower_specs(student.cfg)))
    assert student.params["head"]["mass"]["kernel"].shape == (48,)
    assert not student.params["head"]["mass"]["kernel"].any()


def test_pieces_that_are_kept_have_the_teachers_embeddings(cfg):
    """All but those that the bitext's foreign side has, which start from their translations."""
    student = replace(cfg.student, size=SizeConfig(), keep_pieces=True, new_embeddings="lexicon")
    cfg, teacher = replace(cfg, student=student), load_teacher(cfg)
    tower = make_student(cfg, teacher, load_bitext(cfg.data).train)
    old, new = teacher.tokenizer.get_vocab(), tower.tokenizer.get_vocab()
    assert {piece for piece in old if not piece.startswith("[")} <= new.keys()
    a, b = (t.params["encoder"]["embeddings"]["word"]["embedding"] for t in (teacher, tower))
    assert len(b) == len(new)
    unseen = old.keys() & new.keys() - set(
        tower.tokenizer.tokenize(" ".join(load_bitext(cfg.data).train["en"].foreign))
    )
    assert len(unseen) > 100
    np.testing.assert_array_equal(b[[new[piece] for piece in unseen]], a[[old[piece] for piece in unseen]])


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


# ---- heads and freezing ------------------------------------------------------------------------------------------


def with_student(cfg: Config, **settings) -> Config:
    return replace(cfg, student=replace(cfg.student, size=SizeConfig(), **settings))


def projecting(teacher, width: int):
    """The teacher with a projection to that width."""
    kernel = np.random.default_rng(0).normal(size=(48, width)).astype(np.float32)
    head = replace(teacher.cfg.head, projection=width)
    return teacher.replace(
        params={**teacher.params, "head": {"projection": {"kernel": kernel}}},
        cfg=replace(teacher.cfg, head=head),
    )


def test_a_raw_encoder_takes_its_teachers_head_or_one_of_its_own(cfg):
    """The plain encoder has vectors of 48, the teacher of 16: the head is drawn, or the teacher's kernel."""
    teacher, bitext = projecting(load_teacher(cfg), 16), load_bitext(cfg.data).train
    kernels = {
        name: make_student(with_student(cfg, path=TEACHER, head=name), teacher, bitext).params["head"]["projection"][
            "kernel"
        ]
        for name in ("own", "teacher", "drawn")
    }
    assert {kernel.shape for kernel in kernels.values()} == {(48, 16)}
    np.testing.assert_array_equal(kernels["teacher"], teacher.params["head"]["projection"]["kernel"])
    np.testing.assert_array_equal(kernels["own"], kernels["drawn"])
    assert not np.array_equal(kernels["own"], kernels["teacher"])


def test_heads_where_nothing_need_be_projected(cfg):
    """Encoder and teacher of one width, without a projection: none, or a square one that is drawn."""
    teacher, bitext = load_teacher(cfg), load_bitext(cfg.data).train
    widths = {
        name: make_student(with_student(cfg, path=TEACHER, head=name), teacher, bitext).cfg.head.projection
        for name in ("own", "teacher", "drawn")
    }
    assert widths == {"own": 0, "teacher": 0, "drawn": 48}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"head": "teacher", "size": SIZE}, r"reads hidden states of width 48, and the student's are of width 32"),
        ({"freeze_layers": 3}, r"student.freeze_layers=3: the student has 2"),
        ({"freeze_layers": 2, "freeze_embeddings": True}, r"leave nothing to train"),
    ],
)
def test_what_does_not_fit_the_weights(cfg, settings, told):
    with pytest.raises(ConfigError, match=told):
        make_student(
            replace(with_student(cfg), student=replace(with_student(cfg).student, **settings)),
            load_teacher(cfg),
            load_bitext(cfg.data).train,
        )
