"""Every transport plan: POT and SciPy, what each promises, what must not matter, and gradients in float64."""

import functools
from dataclasses import replace

import jax
import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment

from optical_jax.config import LossConfig, OtConfig
from optical_jax.losses.ot_distillation import transport, transport_loss
from optical_jax.ot.plans import PLANS, greedy_matching, plan_error
from optical_jax.types import TokenVectors

every_space = pytest.mark.parametrize(
    ("plan", "epsilon"), [*((plan, 0.05) for plan in sorted(PLANS)), ("sinkhorn", 0.02), ("unbalanced", 0.02)]
)
every_plan = pytest.mark.parametrize("plan", sorted(PLANS))
THROUGH = ("sinkhorn", "unbalanced", "partial", "ipot", "softmax")
ENOUGH = 300
"""Iterations, the same in all properties: a program is compiled once."""
BALANCED = ("sinkhorn", "ipot", "uniform")
ROWS_HOLD = (*BALANCED, "greedy", "argmax", "softmax")


error_of = jax.jit(plan_error)


def in_float64():
    """Both spellings: the older one is gone from newer versions of JAX."""
    from jax import experimental

    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else experimental.enable_x64()


@functools.partial(jax.jit, static_argnames="cfg")
def solve(cost, rows, cols, cfg):
    return PLANS[cfg.plan](cost, rows, cols, cfg)


def vectors(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def problems(seed, B=5, S=8, T=6, dtype=np.float32):
    """Costs, unequal masses with zeros on padding, and the real lengths; the first pair is full."""
    rng = np.random.default_rng(seed)
    lengths = [(S, T), *((int(rng.integers(1, S + 1)), int(rng.integers(1, T + 1))) for _ in range(B - 1))]
    cost = 1 - np.einsum("bse,bte->bst", vectors(rng, B, S, 5), vectors(rng, B, T, 5))

    def masses(side, size):
        real = np.arange(size) < np.array([pair[side] for pair in lengths])[:, None]
        weight = rng.uniform(0.5, 2.0, (B, size)) * real
        return (weight / weight.sum(axis=1, keepdims=True)).astype(dtype)

    return cost.astype(dtype), masses(0, S), masses(1, T), lengths


def each_pair(cost, rows, cols, lengths):
    """The problems one by one, unpadded, in float64."""
    for C, a, b, (s, t) in zip(cost, rows, cols, lengths, strict=True):
        a, b = np.float64(a[:s]), np.float64(b[:t])
        yield np.float64(C[:s, :t]), a / a.sum(), b / b.sum()


# ---- oracles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "weight"), [(0.05, 0.5), (0.02, 0.1), (0.2, 2.0)])
def test_unbalanced_is_pot(epsilon, weight):
    found = problems(0)
    cfg = OtConfig(plan="unbalanced", epsilon=epsilon, marginal_weight=weight, iterations=2000)
    plans = np.asarray(solve(*found[:3], cfg))
    for plan, (C, a, b) in zip(plans, each_pair(*found), strict=True):
        expected = ot.unbalanced.sinkhorn_unbalanced(a, b, C, epsilon, weight, numItermax=20_000, stopThr=1e-12)
        np.testing.assert_allclose(plan[: len(a), : len(b)], expected, atol=1e-6)


def test_unbalanced_of_one_token_each_by_hand():
    """c p + (epsilon + 2 weight) (p log p - p + 1) is least at exp(-c / (epsilon + 2 weight)), here exp(-1 / 2)."""
    one = np.ones((1, 1), np.float32)
    cfg = OtConfig(plan="unbalanced", epsilon=1.0, marginal_weight=0.5, iterations=200)
    np.testing.assert_allclose(solve(one[None], one, one, cfg), [[[np.exp(-0.5)]]], rtol=1e-5)


def test_unbalanced_of_a_high_price_is_sinkhorn():
    cost, rows, cols, _ = problems(1)
    cfg = OtConfig(plan="unbalanced", epsilon=0.2, marginal_weight=1e5, iterations=300)
    balanced = solve(cost, rows, cols, replace(cfg, plan="sinkhorn"))
    # Rounding of a scaling is one of the moved mass, and a price of 1e5 takes it up slowly.
    np.testing.assert_allclose(solve(cost, rows, cols, cfg), balanced, atol=1e-4)


@pytest.mark.parametrize(("epsilon", "share"), [(0.1, 0.3), (0.05, 0.8)])
def test_partial_is_pot(epsilon, share):
    found = problems(2)
    plans = np.asarray(solve(*found[:3], OtConfig("cosine", "partial", epsilon, iterations=2000, partial_mass=share)))
    for plan, (C, a, b) in zip(plans, each_pair(*found), strict=True):
        expected = ot.partial.entropic_partial_wasserstein(a, b, C, epsilon, share, numItermax=3000, stopThr=1e-12)
        np.testing.assert_allclose(plan[: len(a), : len(b)], expected, atol=1e-5)


def test_partial_of_all_mass_is_sinkhorn():
    cost, rows, cols, _ = problems(3)
    cfg = OtConfig(plan="partial", partial_mass=1.0)
    np.testing.assert_array_equal(solve(cost, rows, cols, cfg), solve(cost, rows, cols, OtConfig()))


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_ipot_is_pot_emd_whatever_its_step(epsilon):
    found = problems(4)
    plans = np.asarray(solve(*found[:3], OtConfig(plan="ipot", epsilon=epsilon, iterations=3000)))
    for plan, (C, a, b) in zip(plans, each_pair(*found), strict=True):
        assert (plan[: len(a), : len(b)] * C).sum() == pytest.approx(ot.emd2(a, b, C), abs=1e-3)


@pytest.mark.parametrize(("S", "T"), [(6, 6), (9, 4)])
def test_exact_is_linear_sum_assignment_on_ragged_pairs(S, T):
    cost, rows, cols, lengths = problems(S, B=12, S=S, T=T)
    cost[:, :, -1] -= 5.0 * (cols[:, None, -1] == 0.0)  # what padding holds must not matter
    plans = np.asarray(solve(cost, rows, cols, OtConfig(plan="exact")))
    for plan, C, (s, t) in zip(plans, cost, lengths, strict=True):
        expected = np.zeros_like(plan)
        expected[linear_sum_assignment(C[:s, :t])] = 1.0 / min(s, t)
        np.testing.assert_allclose(plan, expected, rtol=1e-6)


def test_greedy_argmax_and_softmax_by_hand():
    """Student 1 is nearest to teacher 0 and takes it, so greedily student 0 is left the other one."""
    cost = np.array([[[0.2, 0.9], [0.1, 0.15]]], np.float32)
    rows, cols = np.array([[0.75, 0.25]], np.float32), np.array([[0.5, 0.5]], np.float32)
    np.testing.assert_allclose(solve(cost, rows, cols, OtConfig(plan="greedy")), [[[0, 0.75], [0.25, 0]]])
    np.testing.assert_allclose(solve(cost, rows, cols, OtConfig(plan="argmax")), [[[0.75, 0], [0.25, 0]]])
    share = 1 / (1 + np.exp(-0.7 / 0.5)), 1 / (1 + np.exp(-0.05 / 0.5))
    expected = [[[0.75 * share[0], 0.75 * (1 - share[0])], [0.25 * share[1], 0.25 * (1 - share[1])]]]
    np.testing.assert_allclose(solve(cost, rows, cols, OtConfig(plan="softmax", epsilon=0.5)), expected, rtol=1e-5)


def test_greedy_moves_along_the_matching():
    cost, rows, cols, lengths = problems(5)
    plan = solve(cost, rows, cols, OtConfig(plan="greedy"))
    match = jax.jit(greedy_matching)(cost, rows > 0, cols > 0)
    for P, m, a, (s, _) in zip(np.asarray(plan), np.asarray(match), rows, lengths, strict=True):
        np.testing.assert_array_equal(P[np.arange(s), m[:s]], a[:s])


# ---- what each promises ------------------------------------------------------------------------------------------


@every_plan
def test_marginals(plan):
    cost, rows, cols, lengths = problems(6)
    # IPOT comes to both marginals as slowly as it does to the unregularised plan.
    found = np.asarray(
        solve(cost, rows, cols, OtConfig(plan=plan, iterations=10 * ENOUGH if plan == "ipot" else ENOUGH))
    )
    of_rows, of_cols = found.sum(axis=2), found.sum(axis=1)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert not found[(rows == 0)[:, :, None] | (cols == 0)[:, None, :]].any()
    if plan in ROWS_HOLD:
        np.testing.assert_allclose(of_rows, rows, atol=2e-6)
    if plan in BALANCED:
        assert (np.asarray(error_of(found, rows, cols)) < 1e-5).all()
    if plan == "partial":
        np.testing.assert_allclose(found.sum(axis=(1, 2)), 0.8, atol=2e-6)
        assert (of_cols <= cols + 2e-6).all()
        assert (of_rows <= rows + 5e-3).all()
    if plan == "exact":
        least = np.array([1 / min(pair) for pair in lengths])[:, None]
        for sums in (of_rows, of_cols):
            assert (np.isclose(sums, 0.0) | np.isclose(sums, least)).all()
        np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-6)
    if plan == "unbalanced":
        assert ((found.sum(axis=(1, 2)) > 0.1) & (found.sum(axis=(1, 2)) < 1.0)).all()


@every_space
def test_a_pair_with_an_empty_side_gets_the_zero_plan(plan, epsilon):
    cost, rows, cols, _ = problems(7)
    rows[1], cols[2], rows[3], cols[3] = 0.0, 0.0, 0.0, 0.0
    found = np.asarray(solve(cost, rows, cols, OtConfig(plan=plan, epsilon=epsilon, iterations=ENOUGH)))
    assert np.isfinite(found).all()
    assert not found[1:4].any()
    assert found[0].any()


@every_space
def test_padding_and_order_of_tokens(plan, epsilon):
    cost, rows, cols, _ = problems(8)
    cfg = OtConfig(plan=plan, epsilon=epsilon, iterations=ENOUGH)
    found = np.asarray(solve(cost, rows, cols, cfg))
    wider = (np.pad(cost, ((0, 0), (0, 3), (0, 2)), constant_values=1.5), np.pad(rows, ((0, 0), (0, 3))))
    padded = np.asarray(solve(*wider, np.pad(cols, ((0, 0), (0, 2))), cfg))
    np.testing.assert_allclose(padded, np.pad(found, ((0, 0), (0, 3), (0, 2))), atol=2e-6)
    s, t = np.random.default_rng(0).permutation(8), np.random.default_rng(1).permutation(6)
    np.testing.assert_allclose(solve(cost[:, s][:, :, t], rows[:, s], cols[:, t], cfg), found[:, s][:, :, t], atol=2e-6)


def test_the_exact_plan_ends_on_costs_that_are_not_numbers():
    cost, rows, cols, _ = problems(9)
    cost[0], cost[1, 0] = np.nan, np.inf
    assert np.isfinite(solve(cost, rows, cols, OtConfig(plan="exact"))).all()


# ---- the loss, and its gradients ---------------------------------------------------------------------------------


def sides(seed, dtype=np.float64):
    """Ragged texts of three pairs, the last with an empty side; padding is zero, as towers give it."""
    rng = np.random.default_rng(seed)

    def side(lengths, size):
        mask = np.arange(size) < np.array(lengths)[:, None]
        x = vectors(rng, 3, size, 6) * mask[:, :, None]
        return TokenVectors(x.astype(dtype), mask, (rng.uniform(0.5, 2.0, mask.shape) * mask).astype(dtype))

    return side([5, 3, 0], 5), side([4, 6, 2], 6)


@functools.partial(jax.jit, static_argnames="cfg")
def loss_and_grad(student, teacher, cfg):
    """((loss, (metrics, plan)), gradient by the student's vectors)."""

    def loss(vectors):
        moved = student.replace(vectors=vectors)
        out = transport_loss(moved, teacher, cfg)
        return out.loss, (out.metrics, transport(moved, teacher, cfg.ot).plan)

    return jax.value_and_grad(loss, has_aux=True)(student.vectors)


def slopes(f, x, seed=0, step=1e-5):
    """(direction, finite difference along it) of three random directions."""
    for direction in np.random.default_rng(seed).normal(size=(3, *x.shape)):
        yield direction, (float(f(x + step * direction)) - float(f(x - step * direction))) / (2 * step)


@every_plan
def test_gradient_of_a_stopped_plan_is_that_of_the_plan_held_fixed(plan):
    with in_float64():
        student, teacher = sides(0)
        (_, (_, held)), grad = loss_and_grad(student, teacher, LossConfig("transport", ot=OtConfig(plan=plan)))
        held = np.asarray(held)
        assert held.dtype == np.float64
        mass = held.sum(axis=(1, 2), keepdims=True)
        held = held / np.where(mass > 0, mass, 1.0) / 2  # two pairs have both sides

        def fixed(x):
            return (held * (1 - np.einsum("bse,bte->bst", x, teacher.vectors))).sum()

        for direction, slope in slopes(fixed, student.vectors):
            assert (np.asarray(grad) * direction).sum() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(("plan", "epsilon"), [*((plan, 0.1) for plan in THROUGH), ("sinkhorn", 0.04)])
def test_gradient_through_a_plan_by_finite_differences(plan, epsilon):
    """On padded pairs and one with an empty side. A plan held fixed has another slope by far."""
    relaxation = 1.5 if plan == "sinkhorn" else 1.0
    cfg = LossConfig(
        "transport", ot=OtConfig("cosine", plan, epsilon, iterations=8, relaxation=relaxation, gradient="through")
    )
    with in_float64():
        student, teacher = sides(1)
        (_, _), grad = loss_and_grad(student, teacher, cfg)
        assert not np.any(np.asarray(grad)[2])
        for direction, slope in slopes(
            lambda x: loss_and_grad(student.replace(vectors=x), teacher, cfg)[0][0], student.vectors
        ):
            real = direction * np.asarray(student.mask)[:, :, None]
            assert (np.asarray(grad) * real).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)


@every_plan
def test_moved_mass_is_told_and_divided_by(plan):
    """Unlike texts far apart: however little is moved, the loss is the mean cost of what is."""
    student, teacher = sides(2, np.float32)
    far = teacher.replace(vectors=np.broadcast_to(np.eye(6, dtype=np.float32)[0], teacher.vectors.shape))
    near = student.replace(vectors=np.broadcast_to(-np.eye(6, dtype=np.float32)[0], student.vectors.shape))
    (loss, (metrics, _)), grad = loss_and_grad(near, far, LossConfig("transport", ot=OtConfig(plan=plan)))
    assert loss == pytest.approx(2.0, abs=1e-4)
    assert np.isfinite(grad).all()
    if plan == "unbalanced":
        # exp(-2 / (epsilon + 2 weight)), as of one token each.
        assert metrics["plan_mass"] == pytest.approx(np.exp(-2 / 1.05), rel=1e-3)
    elif plan == "partial":
        assert metrics["plan_mass"] == pytest.approx(0.8, abs=1e-5)
    else:
        assert "plan_mass" not in metrics
