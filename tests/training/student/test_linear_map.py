"""Least-squares maps: known ones are found again, ridge is SciPy's, and blocks change nothing."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from optical_jax.commands.train import main
from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    SizeConfig,
    StudentConfig,
    TeacherConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.config.validation import validate
from optical_jax.data.text.bitext import load_bitext
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import to_unit_vectors
from optical_jax.runs.load import load
from optical_jax.towers.tower import Tower, encode
from optical_jax.training.student.linear_map import fit_linear_map
from optical_jax.training.student.start import load_teacher, make_student


def random_pairs(rows=200, D=12, E=7, noise=0.0, seed=0):
    """Inputs of different spread by direction, the map, and targets."""
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(rows, D)) * np.geomspace(1, 0.01, D), rng.normal(size=(D, E))
    return x, kernel, x @ kernel + noise * rng.normal(size=(rows, E))


def test_finds_a_known_map():
    x, kernel, y = random_pairs()
    found = fit_linear_map([(x, y)])
    np.testing.assert_allclose(found.kernel, kernel, rtol=1e-6)  # float32 of it
    assert found.kernel.dtype == np.float32
    assert found.rank == 12
    assert found.explained == pytest.approx(1.0, abs=1e-12)
    assert found.condition == pytest.approx(np.linalg.cond(x), rel=1e-9)


def test_finds_a_known_map_where_normal_equations_lose_it():
    """A condition of 1e9: squared, it would be beyond float64."""
    rng = np.random.default_rng(1)
    x = np.linalg.qr(rng.normal(size=(60, 6)))[0] * np.geomspace(1, 1e-9, 6)
    kernel = rng.normal(size=(6, 3))
    found = fit_linear_map([(x[:25], x[:25] @ kernel), (x[25:], x[25:] @ kernel)])
    np.testing.assert_allclose(found.kernel, kernel, rtol=1e-4)
    assert found.condition == pytest.approx(1e9, rel=1e-3)


@pytest.mark.parametrize("ridge", [0.0, 0.3, 50.0])
def test_ridge_is_scipy_s(ridge):
    """Least squares of the data with sqrt(ridge) times the identity below it, and zeros for targets."""
    x, _, y = random_pairs(noise=0.1)
    D, E = x.shape[1], y.shape[1]
    below = np.concatenate([x, np.sqrt(ridge) * np.eye(D)]), np.concatenate([y, np.zeros((D, E))])
    expected = scipy.linalg.lstsq(*below)[0]
    found = fit_linear_map([(x, y)], ridge)
    np.testing.assert_allclose(found.kernel, expected, rtol=1e-5, atol=1e-7)
    assert found.explained == pytest.approx(1 - np.square(y - x @ expected).sum() / np.square(y).sum(), rel=1e-9)
    assert found.condition == pytest.approx(np.linalg.cond(below[0]), rel=1e-9)


def test_blocks_change_nothing():
    x, _, y = random_pairs(noise=0.1)
    whole = fit_linear_map([(x, y)], 0.01)
    cuts = [0, 1, 4, 150, 150, 200]
    parts = fit_linear_map(((x[a:b], y[a:b]) for a, b in itertools.pairwise(cuts)), 0.01)
    np.testing.assert_allclose(parts.kernel, whole.kernel, rtol=1e-5, atol=1e-7)
    assert (parts.rank, parts.condition) == (whole.rank, pytest.approx(whole.condition))
    assert parts.explained == pytest.approx(whole.explained)


def test_of_fewer_texts_than_directions_the_shortest_map():
    x, _, y = random_pairs(rows=5)
    found = fit_linear_map([(x, y)])
    np.testing.assert_allclose(found.kernel, np.linalg.pinv(x) @ y, rtol=1e-5)
    assert (found.rank, found.condition) == (5, np.inf)
    assert found.explained == pytest.approx(1.0)


def test_a_direction_that_is_never_seen_maps_to_zero():
    x, kernel, y = random_pairs()
    x[:, 3] = 0.0
    found = fit_linear_map([(x, x @ kernel)])
    assert found.rank == 11
    np.testing.assert_allclose(found.kernel[3], 0.0, atol=1e-12)
    np.testing.assert_allclose(np.delete(found.kernel, 3, 0), np.delete(kernel, 3, 0), rtol=1e-5)
    # Ridge leaves nothing that cannot be inverted.
    assert np.isfinite(fit_linear_map([(x, y)], 0.1).condition)


def test_stands_as_a_towers_projection():
    x, kernel, y = random_pairs(D=16, E=8)
    cfg = TowerConfig(EncoderConfig(width=16), HeadConfig(projection=8, pooling="mean"))
    params = {"head": {"projection": {"kernel": jnp.asarray(fit_linear_map([(x, y)]).kernel)}}}
    got = to_unit_vectors(params, jnp.asarray(x, jnp.float32)[:, None], cfg)[:, 0]
    expected = (x @ kernel) / np.linalg.norm(x @ kernel, axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_targets_of_nothing_but_zeros():
    found = fit_linear_map([(np.eye(3), np.zeros((3, 2)))])
    assert found.explained == 1.0
    assert not found.kernel.any()


@pytest.mark.parametrize("ridge", [-1.0, np.nan, np.inf])
def test_ridge_is_checked(ridge):
    with pytest.raises(ConfigError, match=r"ridge=.* is not valid; use 0 or more"):
        fit_linear_map([(np.eye(2), np.eye(2))], ridge)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([], "no vectors"),
        ([(np.zeros((0, 2)), np.zeros((0, 2)))], "no vectors"),
        ([(np.eye(2), np.eye(3))], "2 vectors on one side and 3"),
        ([(np.eye(2), np.full((2, 2), np.nan))], "not finite"),
    ],
)
def test_what_is_no_pairs_of_vectors(blocks, said):
    with pytest.raises(ValueError, match=said):
        fit_linear_map(blocks)


# ---- as a student's head -------------------------------------------------------------------------------------------

TEACHER = "configs/tiny/teacher"


def fitted_config(**student) -> Config:
    """The tiny teacher's encoder as a frozen encoder, mapped to the teacher by least squares."""
    return Config(
        teacher=TeacherConfig(path=TEACHER, max_length=16),
        student=StudentConfig(path=TEACHER, head="fitted", max_length=16, **student),
        data=DataConfig(bitext=("configs/tiny/sw.train.tsv",)),
        training=TrainingConfig(steps=0),
    )


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_a_student_is_fitted_as_numpy_fits_it(pooling):
    """Mean vectors of English texts on both sides; ridge by the normal equations. Tokens then take the same map."""
    cfg = fitted_config(ridge=0.5)
    cfg = replace(cfg, teacher=replace(cfg.teacher, pooling=pooling))
    teacher, said, train = load_teacher(cfg), [], load_bitext(cfg.data).train
    student = make_student(cfg, teacher, train, said.append)
    english = sorted(set(train["sw"].english))
    plain = replace(student.cfg.head, projection=0)
    bare = Tower({**student.params, "head": {}}, TowerConfig(student.cfg.encoder, plain), student.tokenizer)

    def means(tower):
        found = encode(tower, english)
        total = np.asarray(found.vectors, np.float64).sum(axis=1)
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    x, y = means(bare), means(teacher)
    expected = np.linalg.solve(x.T @ x + 0.5 * np.eye(x.shape[1]), x.T @ y)
    kernel = student.params["head"]["projection"]["kernel"]
    np.testing.assert_allclose(kernel, expected, atol=1e-4)
    assert student.cfg.vector_width == teacher.cfg.vector_width
    assert f"fitted to {len(english)} English texts" in said[0]
    (text,) = encode(student, english[:1]).vectors
    (hidden,) = encode(bare, english[:1]).vectors
    np.testing.assert_allclose(text[0], hidden[0] @ expected / np.linalg.norm(hidden[0] @ expected), atol=1e-4)


def test_a_whole_run_without_a_step(tmp_path, capsys):
    """Its checkpoint is the student as it began; the same command again finds it finished."""
    flags = ["--config", "linear_map", "--teacher.path", TEACHER, "--student.path", TEACHER, "--training.steps", "0"]
    flags += ["--data.bitext", "configs/tiny/sw.train.tsv", "--run", str(tmp_path / "run")]
    assert main(flags) == 0, capsys.readouterr().err
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 0]
    begun, last = load(tmp_path / "run", checkpoint="untrained"), load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, begun.params, last.params)
    assert main(flags) == 0
    assert "is finished: 0 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": StudentConfig(head="fitted")}, "add --student.path PATH"),
        ({"student": StudentConfig(path="x", head="fitted", vocabulary="train")}, "student.vocabulary='train' changes"),
        ({"student": StudentConfig(path="x", head="fitted", size=SizeConfig(8, 1, 1, 8))}, "student.size=SizeConfig"),
        ({"student": StudentConfig(path="x", head="fitted", ridge=-1.0)}, "student.ridge=-1.0 is not valid"),
        ({"student": StudentConfig(path="x")}, "training.steps=0 trains nothing"),
        ({"student": StudentConfig(path="x", ridge=2.0), "training": TrainingConfig()}, "student.ridge=2.0 is for"),
        ({"training": TrainingConfig(steps=-1)}, "training.steps=-1 is not valid"),
    ],
)
def test_impossible_settings_of_a_fitted_head(change, said):
    with pytest.raises(ConfigError) as error:
        validate(replace(fitted_config(), **change), needs_run=False)
    assert said in str(error.value)
