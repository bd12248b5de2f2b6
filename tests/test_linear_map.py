"""Least-squares maps: known ones are found again, ridge is SciPy's, and blocks change nothing."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import to_unit_vectors
from optical_jax.models.linear_map import fit_linear_map


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
    with pytest.raises(ConfigError, match=r"ridge=.* is impossible; give 0 or more"):
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
