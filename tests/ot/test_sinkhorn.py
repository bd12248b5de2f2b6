"""Every solver against POT at its epsilon, and what relaxation and early stopping promise."""

import functools
from dataclasses import replace

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from hypothesis import given, settings

from optical_jax.config import Config, LossConfig, OtConfig, TeacherConfig
from optical_jax.config.validation import validate
from optical_jax.errors import ConfigError
from optical_jax.ot.ott_solvers import OttChoices, solve_by_ott
from optical_jax.ot.plans import plan_error
from optical_jax.ot.sinkhorn import FARTHEST, KERNEL_EPSILON, sinkhorn_plan, solve_sinkhorn

solve = jax.jit(solve_sinkhorn, static_argnames=("cfg", "in_log_space"))
solve_ott = jax.jit(solve_by_ott, static_argnames=("cfg", "choices"))
error_of = jax.jit(plan_error)

BOTH_SPACES = pytest.mark.parametrize("in_log_space", [False, True], ids=["kernel", "log"])


def problems(seed, B, S, T, width=8):
    """Cosine costs [B, S, T], unequal masses with zeros on padding, and the real lengths."""
    rng = np.random.default_rng(seed)

    def vectors(length):
        x = rng.normal(size=(B, length, width))
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def masses(lengths, size):
        weight = np.where(np.arange(size) < lengths[:, None], rng.uniform(0.2, 5.0, (B, size)), 0.0)
        return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)

    cost = 1.0 - np.einsum("bse,bte->bst", vectors(S), vectors(T))
    lengths = rng.integers(2, S + 1, B), rng.integers(2, T + 1, B)
    return cost.astype(np.float32), masses(lengths[0], S), masses(lengths[1], T), list(zip(*lengths, strict=True))


SMALL = problems(seed=1, B=6, S=9, T=9)
LONG = problems(seed=2, B=3, S=64, T=64, width=16)


@functools.cache
def pot_plans(which, epsilon):
    """POT's, in float64 on the unpadded problems, converged."""
    cost, rows, cols, lengths = SMALL if which == "small" else LONG
    plans = np.zeros(cost.shape)
    for plan, C, a, b, (s, t) in zip(plans, cost, rows, cols, lengths, strict=True):
        a, b = a[:s].astype(float), b[:t].astype(float)
        # Kernel and logarithms are the same iteration; float64 holds the kernel down to epsilon 0.01.
        plan[:s, :t] = ot.sinkhorn(
            a / a.sum(), b / b.sum(), C[:s, :t].astype(float), epsilon, numItermax=100_000, stopThr=1e-10
        )
    return plans


# ---- the same plans as POT -------------------------------------------------------------------------------------------

OURS = {
    "plain": {"iterations": 3000},
    "relaxed 1.5": {"iterations": 1000, "relaxation": 1.5},
    "relaxed 1.8": {"iterations": 500, "relaxation": 1.8},
    "stopping": {"iterations": 5000, "threshold": 2e-6},
    "stopping, relaxed 1.8": {"iterations": 5000, "threshold": 2e-6, "relaxation": 1.8},
}


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("name", sorted(OURS))
def test_plans_are_pots(name, epsilon):
    cfg = OtConfig(epsilon=epsilon, **OURS[name])
    cost, rows, cols, _ = SMALL
    for in_log_space in {True, epsilon < KERNEL_EPSILON}:
        plan = solve(cost, rows, cols, cfg, in_log_space=in_log_space).plan
        np.testing.assert_allclose(plan, pot_plans("small", epsilon), atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.02, 0.05])
def test_plans_of_long_texts_are_pots(epsilon):
    cost, rows, cols, _ = LONG
    cfg = OtConfig(epsilon=epsilon, iterations=600, relaxation=1.8)
    for in_log_space in {True, epsilon < KERNEL_EPSILON}:
        plan = solve(cost, rows, cols, cfg, in_log_space=in_log_space).plan
        np.testing.assert_allclose(plan, pot_plans("long", epsilon), atol=1e-5)


@pytest.mark.parametrize(
    "choices",
    [
        OttChoices(),
        OttChoices(in_log_space=True),
        OttChoices(in_log_space=True, start_epsilon=10.0, decay=0.9),
        OttChoices(start="sorting"),
        OttChoices(start="larger epsilon"),
        OttChoices(in_log_space=True, start="larger epsilon"),
    ],
    ids=str,
)
@pytest.mark.parametrize("threshold", [0.0, 2e-6])
def test_plans_of_ott_are_pots(choices, threshold):
    cost, rows, cols, _ = SMALL
    cfg = OtConfig(epsilon=0.05, iterations=3000, threshold=threshold)
    found = solve_ott(cost, rows, cols, cfg, choices)
    np.testing.assert_allclose(found.plan, pot_plans("small", 0.05), atol=1e-5)
    assert (found.iterations == 3000).all() if threshold == 0.0 else (found.iterations < 3000).any()


# ---- relaxation ------------------------------------------------------------------------------------------------------


@BOTH_SPACES
def test_relaxation_is_the_hand_written_loop(in_log_space):
    """In float64 by logarithms: every update but the last pair's goes 1.5 times as far, at most 0.3 nats beyond."""
    cost, rows, cols, ((s, t), *_) = SMALL
    C, a, b = cost[0, :s, :t].astype(float), rows[0, :s].astype(float), cols[0, :t].astype(float)
    f, g, beyond = np.zeros(s), np.zeros(t), []

    def moved(old, new):
        step = 0.5 * (new - old)
        beyond.append(np.abs(step).max())
        return new + np.clip(step, -0.3, 0.3)

    for turn in range(6):
        plain = np.log(b) - np.log(np.exp(-C / 0.05 + f[:, None]).sum(axis=0))
        g = moved(g, plain) if turn < 5 else plain
        plain = np.log(a) - np.log(np.exp(-C / 0.05 + g[None, :]).sum(axis=1))
        f = moved(f, plain) if turn < 5 else plain
    assert max(beyond) > FARTHEST == 0.3 > min(beyond)
    plan = solve(cost, rows, cols, OtConfig(iterations=6, relaxation=1.5), in_log_space=in_log_space).plan[0]
    np.testing.assert_allclose(plan[:s, :t], np.exp(-C / 0.05 + f[:, None] + g[None, :]), atol=2e-6)


@BOTH_SPACES
@pytest.mark.parametrize("relaxation", [1.5, 1.8, 1.9])
def test_relaxation_leaves_less(in_log_space, relaxation):
    """1.9 without a limit runs in circles here and ends with errors of one."""
    cost, rows, cols, _ = problems(seed=0, B=16, S=16, T=16)
    errors = [
        error_of(solve(cost, rows, cols, cfg, in_log_space=in_log_space).plan, rows, cols).max()
        for cfg in (OtConfig(iterations=100), OtConfig(iterations=100, relaxation=relaxation))
    ]
    assert errors[1] < 0.2 * errors[0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    in_log_space=st.booleans(),
    width=st.sampled_from([1, 2, 8]),
    relaxation=st.sampled_from([1.5, 1.8, 1.9]),
    empty=st.sampled_from([None, 0, 1]),
)
def test_relaxed_plans_move_the_masses(seed, in_log_space, width, relaxation, empty):
    """Width 1 is the hardest: vectors at opposite ends, costs 0 and 2. A pair with an empty side moves nothing."""
    cost, *masses, _ = problems(seed, B=2, S=6, T=5, width=width)
    if empty is not None:
        masses[empty][1] = 0.0
    rows, cols = masses
    plan = np.asarray(
        solve(cost, rows, cols, OtConfig(iterations=500, relaxation=relaxation), in_log_space=in_log_space).plan
    )
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    assert not plan[~((rows > 0)[:, :, None] & (cols > 0)[:, None, :])].any()
    whole = slice(0, 2 if empty is None else 1)
    np.testing.assert_allclose(plan.sum(axis=2)[whole], rows[whole], atol=3e-6)
    np.testing.assert_allclose(plan.sum(axis=1)[whole], cols[whole], atol=5e-3)


@pytest.mark.parametrize("relaxation", [0.9, 1.95, float("nan")])
def test_relaxations_that_may_not_converge_are_refused(relaxation):
    cfg = Config(teacher=TeacherConfig(path="x"), loss=LossConfig("transport", ot=OtConfig(relaxation=relaxation)))
    with pytest.raises(ConfigError, match=r"loss\.ot\.relaxation=.*from 1 to 1.9"):
        validate(cfg, needs_run=False)


# ---- early stopping --------------------------------------------------------------------------------------------------


@BOTH_SPACES
def test_a_pair_stops_by_itself(in_log_space):
    """Its plan is that of exactly so many iterations with a plain one every ten, whoever else is in the batch."""
    cost, rows, cols, _ = problems(seed=5, B=8, S=16, T=16)
    cfg = OtConfig(iterations=2003, threshold=1e-3)
    plan, iterations, _ = solve(cost, rows, cols, cfg, in_log_space=in_log_space)
    assert len(set(np.asarray(iterations).tolist())) > 1
    for i, count in enumerate(np.asarray(iterations).astype(int)):
        # 2003 is three iterations and two hundred blocks of ten.
        assert count % 10 == 3
        alone = solve(cost[i : i + 1], rows[i : i + 1], cols[i : i + 1], cfg, in_log_space=in_log_space)
        np.testing.assert_allclose(alone.plan[0], plan[i], atol=1e-6)
        fixed = replace(cfg, iterations=int(count), threshold=0.0)
        counted = solve(cost, rows, cols, fixed, in_log_space=in_log_space).plan
        np.testing.assert_allclose(counted[i], plan[i], atol=1e-6)
        assert error_of(counted, rows, cols)[i] < 1e-3 + 1e-6


@BOTH_SPACES
@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_with_one_side_keeps_nobody_going(in_log_space, side):
    cost, rows, cols, _ = problems(seed=5, B=8, S=16, T=16)
    cfg = OtConfig(iterations=2000, threshold=1e-3)
    whole = solve(cost, rows, cols, cfg, in_log_space=in_log_space)
    masses = [np.array(rows), np.array(cols)]
    masses[side][1] = 0.0
    plan, iterations, _ = solve(cost, *masses, cfg, in_log_space=in_log_space)
    others = np.arange(8) != 1
    np.testing.assert_allclose(plan[others], whole.plan[others], atol=1e-6)
    np.testing.assert_array_equal(iterations[others], whole.iterations[others])
    assert not np.asarray(plan[1]).any()
    assert iterations[1] == 10


@BOTH_SPACES
def test_no_pair_exceeds_the_iterations(in_log_space):
    cost, rows, cols, _ = problems(seed=5, B=8, S=16, T=16)
    iterations = solve(cost, rows, cols, OtConfig(iterations=27, threshold=1e-9), in_log_space=in_log_space).iterations
    np.testing.assert_array_equal(iterations, 27)


@pytest.mark.parametrize("threshold", [0.0, 1e-3])
def test_the_loss_is_differentiated_around_the_solver(threshold):
    """d<P, C>/dC is P itself, with P held: a while loop has no reverse mode, so nothing may reach into it."""
    cost, rows, cols = map(jnp.asarray, SMALL[:3])
    cfg = OtConfig(relaxation=1.8, threshold=threshold)

    def moved(cost):
        return jnp.sum(sinkhorn_plan(cost, rows, cols, cfg) * cost)

    np.testing.assert_array_equal(jax.jit(jax.grad(moved))(cost), sinkhorn_plan(cost, rows, cols, cfg))
