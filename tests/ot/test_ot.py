"""Costs, masses and plans against SciPy, POT, closed forms and properties."""

import functools
from typing import get_args, get_type_hints

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from scipy.optimize import linear_sum_assignment

from optical_jax.config import OtConfig
from optical_jax.ot.costs import COSTS, cosine_cost
from optical_jax.ot.masses import MASSES, idf_mass, uniform_mass
from optical_jax.ot.plans import PLANS, greedy_matching, plan_entropy, plan_error
from optical_jax.ot.sinkhorn import KERNEL_EPSILON, sinkhorn_plan
from optical_jax.types import TokenVectors

solve = jax.jit(sinkhorn_plan, static_argnames="cfg")
match_greedily = jax.jit(greedy_matching)
entropy_of, error_of = jax.jit(plan_entropy), jax.jit(plan_error)

BOTH_SPACES = pytest.mark.parametrize("epsilon", [KERNEL_EPSILON, 0.8 * KERNEL_EPSILON], ids=["kernel", "log"])


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def random_costs(rng, *shape, width=8):
    *batch, S, T = shape
    student, teacher = unit(rng.normal(size=(*batch, S, width))), unit(rng.normal(size=(*batch, T, width)))
    return (1.0 - np.einsum("...se,...te->...st", student, teacher)).astype(np.float32)


def random_mass(rng, length, padded_length):
    weight = rng.uniform(0.2, 5.0, length)
    return np.pad(weight / weight.sum(), (0, padded_length - length)).astype(np.float32)


def ragged_problems(seed=0, B=6, S=9, T=7):
    """Costs [B, S, T], masses with zeros on padding, and the real lengths."""
    rng = np.random.default_rng(seed)
    lengths = [(int(rng.integers(2, S + 1)), int(rng.integers(2, T + 1))) for _ in range(B)]
    rows = np.stack([random_mass(rng, s, S) for s, _ in lengths])
    cols = np.stack([random_mass(rng, t, T) for _, t in lengths])
    return random_costs(rng, B, S, T), rows, cols, lengths


# ---- costs and masses --------------------------------------------------------------------------------------------


def test_cosine_cost_of_same_orthogonal_and_opposite_vectors():
    student = jnp.array([[[1.0, 0.0]]])
    teacher = jnp.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    np.testing.assert_array_equal(COSTS["cosine"](student, teacher), [[[0.0, 1.0, 2.0]]])


def test_cosine_cost_of_bfloat16_vectors_is_computed_in_float32():
    rng = np.random.default_rng(0)
    student = jnp.asarray(unit(rng.normal(size=(2, 3, 64))), jnp.bfloat16)
    teacher = jnp.asarray(unit(rng.normal(size=(2, 4, 64))), jnp.bfloat16)
    expected = 1 - np.einsum("bse,bte->bst", np.float64(student), np.float64(teacher))
    cost = cosine_cost(student, teacher)
    assert cost.dtype == jnp.float32
    np.testing.assert_allclose(cost, expected, atol=1e-6)


def test_cosine_cost_asks_for_full_precision():
    """Without it TF32 and TPU products keep three digits; the CPU that runs the tests would never tell."""
    x = jnp.ones((1, 2, 4))
    assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in str(jax.make_jaxpr(cosine_cost)(x, x))


def test_sinkhorn_asks_for_full_precision():
    jaxpr = str(jax.make_jaxpr(lambda c, a, b: sinkhorn_plan(c, a, b, OtConfig()))(*map(jnp.asarray, UNEQUAL_2X2)))
    assert jaxpr.count("Precision.HIGHEST, Precision.HIGHEST") == jaxpr.count("dot_general") > 0


def tokens_with(mask, weight=None):
    mask = jnp.asarray(mask, bool)
    weight = None if weight is None else jnp.asarray(weight)
    return TokenVectors(vectors=jnp.zeros((*mask.shape, 2)), mask=mask, weight=weight)


def test_uniform_mass_is_equal_on_tokens_and_exactly_zero_elsewhere():
    mass = uniform_mass(tokens_with([[1, 1, 0, 1, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))
    np.testing.assert_array_equal(mass, [[0.25, 0.25, 0, 0.25, 0.25], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert mass.dtype == jnp.float32


def test_idf_mass_is_in_proportion_to_the_weight_of_real_tokens():
    mask = [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    weight = jnp.asarray([[3.0, 1.0, 9.0], [0.0, 2.0, 6.0], [1.0, 1.0, 1.0]], jnp.bfloat16)
    mass = idf_mass(tokens_with(mask, weight))
    np.testing.assert_allclose(mass, [[0.75, 0.25, 0], [0, 0.25, 0.75], [0, 0, 0]], rtol=1e-6)
    assert mass.dtype == jnp.float32


def test_a_text_without_any_weight_gets_equal_masses():
    np.testing.assert_array_equal(idf_mass(tokens_with([[1, 1, 0]], [[0.0, 0.0, 5.0]])), [[0.5, 0.5, 0.0]])


def test_idf_mass_without_weights_is_an_error():
    with pytest.raises(ValueError, match=r"loss\.ot\.masses=idf"):
        idf_mass(tokens_with([[1, 1]]))


@pytest.mark.parametrize(("field", "table"), [("cost", COSTS), ("masses", MASSES), ("plan", PLANS)])
def test_every_choice_of_the_config_has_its_function(field, table):
    assert set(get_args(get_type_hints(OtConfig)[field])) == set(table)


# ---- Sinkhorn: closed forms --------------------------------------------------------------------------------------

UNEQUAL_2X2 = (
    np.array([[[0.1, 0.9], [0.4, 0.6]]], np.float32),
    np.array([[0.3, 0.7]], np.float32),
    np.array([[0.6, 0.4]], np.float32),
)


@BOTH_SPACES
def test_symmetric_2x2_plan_is_a_sigmoid(epsilon):
    """Equal masses and cost c off the diagonal: the diagonal holds 1/2 sigmoid(c / epsilon) each."""
    half = np.full((1, 2), 0.5, np.float32)
    plan = solve(np.array([[[0.0, 0.1], [0.1, 0.0]]], np.float32), half, half, OtConfig(epsilon=epsilon))
    diagonal = 0.5 / (1.0 + np.exp(-0.1 / epsilon))
    np.testing.assert_allclose(plan, [[[diagonal, 0.5 - diagonal], [0.5 - diagonal, diagonal]]], atol=1e-6)


@BOTH_SPACES
def test_unequal_2x2_plan_solves_the_quadratic(epsilon):
    """p11 p22 / (p12 p21) = exp(-(C11 + C22 - C12 - C21) / epsilon), with p12 = a1 - p11 and so on."""
    cost, rows, cols = UNEQUAL_2X2
    (a, b), C = (float(rows[0, 0]), float(cols[0, 0])), cost[0].astype(float)
    odds = np.exp(-(C[0, 0] + C[1, 1] - C[0, 1] - C[1, 0]) / epsilon)
    # p (1 - a - b + p) = odds (a - p) (b - p); at most min(a, b) of the roots is a plan.
    roots = np.roots([1 - odds, 1 - a - b + odds * (a + b), -odds * a * b])
    p = next(root for root in roots if max(0, a + b - 1) <= root <= min(a, b))
    plan = solve(cost, rows, cols, OtConfig(epsilon=epsilon, iterations=500))
    np.testing.assert_allclose(plan, [[[p, a - p], [b - p, 1 - a - b + p]]], atol=2e-6)


@BOTH_SPACES
@pytest.mark.parametrize("threshold", [0.0, 1e-4])
def test_one_token_against_many_has_one_feasible_plan(epsilon, threshold):
    cost = np.array([[[0.0, 1.0, 2.0]]], np.float32)
    cols = np.array([[0.5, 0.2, 0.3]], np.float32)
    cfg = OtConfig(epsilon=epsilon, threshold=threshold)
    np.testing.assert_allclose(solve(cost, np.ones((1, 1), np.float32), cols, cfg), [cols], atol=1e-6)
    flipped = solve(cost.swapaxes(1, 2), cols, np.ones((1, 1), np.float32), cfg)
    np.testing.assert_allclose(flipped[:, :, 0], cols, atol=1e-6)


@BOTH_SPACES
def test_constant_cost_gives_the_product_of_the_masses(epsilon):
    """Every token at the farthest distance, 2: nothing to choose, however small exp(-2 / epsilon) is."""
    rng = np.random.default_rng(0)
    rows, cols = random_mass(rng, 5, 5)[None], random_mass(rng, 4, 4)[None]
    plan = solve(np.full((1, 5, 4), 2.0, np.float32), rows, cols, OtConfig(epsilon=epsilon))
    np.testing.assert_allclose(plan[0], np.outer(rows, cols), rtol=1e-4)


# ---- Sinkhorn: oracles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 6, 12])
def test_small_epsilon_is_the_exact_assignment(size):
    """<P, C> exceeds the optimum by at most epsilon times the entropy it may gain, log S."""
    epsilon = 2e-3
    cost = random_costs(np.random.default_rng(size), 1, size, size)
    mass = np.full((1, size), 1 / size, np.float32)
    plan = np.asarray(solve(cost, mass, mass, OtConfig(epsilon=epsilon, iterations=5000)))[0]
    students, teachers = linear_sum_assignment(cost[0])
    excess = (plan * cost[0]).sum() - cost[0][students, teachers].sum() / size
    assert -1e-4 < excess < epsilon * np.log(size) + 1e-4
    np.testing.assert_array_equal(plan.argmax(axis=1), teachers)


def test_small_epsilon_is_pot_emd_on_ragged_pairs_with_unequal_masses():
    epsilon = 2e-3
    cost, rows, cols, lengths = ragged_problems()
    plans = np.asarray(solve(cost, rows, cols, OtConfig(epsilon=epsilon, iterations=5000)))
    for plan, C, a, b, (s, t) in zip(plans, cost, rows, cols, lengths, strict=True):
        a, b = a[:s].astype(float), b[:t].astype(float)
        exact = ot.emd2(a / a.sum(), b / b.sum(), C[:s, :t].astype(float))
        assert -1e-3 < (plan * C).sum() - exact < epsilon * np.log(s * t) + 1e-3


@BOTH_SPACES
def test_plans_are_pot_sinkhorn_at_the_same_epsilon(epsilon):
    cost, rows, cols, lengths = ragged_problems(seed=1)
    plans = np.asarray(solve(cost, rows, cols, OtConfig(epsilon=epsilon, iterations=3000)))
    for plan, C, a, b, (s, t) in zip(plans, cost, rows, cols, lengths, strict=True):
        a, b = a[:s].astype(float), b[:t].astype(float)
        expected = ot.sinkhorn(
            a / a.sum(),
            b / b.sum(),
            C[:s, :t].astype(float),
            epsilon,
            method="sinkhorn_log",
            numItermax=3000,
            stopThr=1e-9,
            warn=False,
        )
        np.testing.assert_allclose(plan[:s, :t], expected, atol=1e-5)
        assert not plan[s:].any()
        assert not plan[:, t:].any()


@pytest.mark.parametrize("iterations", [1, 7, 50])
def test_exactly_the_asked_iterations_are_run(iterations):
    """A hand-written loop in float64 on one unpadded problem: columns first, then rows."""
    cost, rows, cols, ((s, t), *_) = ragged_problems(seed=2)
    C, a, b = cost[0, :s, :t].astype(float), rows[0, :s].astype(float), cols[0, :t].astype(float)
    kernel, u = np.exp(-C / 0.05), np.ones(s)
    for _ in range(iterations):
        v = b / (kernel.T @ u)
        u = a / (kernel @ v)
    plan = solve(cost, rows, cols, OtConfig(iterations=iterations))[0]
    np.testing.assert_allclose(plan[:s, :t], u[:, None] * kernel * v[None, :], atol=2e-6)


def test_kernel_space_is_as_exact_as_log_space_on_the_hardest_costs():
    """Clusters at opposite ends (costs 0 and 2) of unequal size: mass must cross cells of exp(-2 / epsilon)."""
    signs_s, signs_t = np.array([1.0, 1, 1, 1, -1]), np.array([1.0, -1, -1, -1])
    cost = (1 - np.outer(signs_s, signs_t)).astype(np.float32)
    cost[1:3, 2] = 0.7
    rows, cols = np.full((1, 5), 0.2, np.float32), np.full((1, 4), 0.25, np.float32)
    plan = solve(cost[None], rows, cols, OtConfig(epsilon=KERNEL_EPSILON, iterations=2000))
    expected = ot.sinkhorn(
        np.full(5, 0.2), np.full(4, 0.25), cost.astype(float), KERNEL_EPSILON, "sinkhorn_log", 2000, 0.0, warn=False
    )
    np.testing.assert_allclose(plan[0], expected, atol=1e-5)


# ---- Sinkhorn: properties ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.tuples(st.integers(0, 6), st.integers(0, 5)),
    epsilon=st.sampled_from([0.04, 0.05, 0.5]),
    scale=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_marginals_hold(seed, lengths, epsilon, scale):
    """The plan is non-negative, zero where a mass is, moves the row masses exactly and the column masses nearly."""
    rng = np.random.default_rng(seed)
    (s, t), S, T = lengths, 6, 5
    rows, cols = (
        random_mass(rng, n, size)[None] if n else np.zeros((1, size), np.float32) for n, size in ((s, S), (t, T))
    )
    plan = np.asarray(solve(scale * random_costs(rng, 1, S, T), rows, cols, OtConfig(epsilon=epsilon, iterations=2000)))
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    assert not plan[0, s:].any()
    assert not plan[0, :, t:].any()
    if s and t:
        np.testing.assert_allclose(plan.sum(axis=2), rows, atol=3e-6)
        np.testing.assert_allclose(plan.sum(axis=1), cols, atol=5e-3)
    else:
        assert not plan.any()


@BOTH_SPACES
def test_a_threshold_stops_at_the_error_it_names(epsilon):
    cost, rows, cols, _ = ragged_problems(seed=3)
    cfg = functools.partial(OtConfig, epsilon=epsilon)
    errors = []
    for threshold in (1e-1, 1e-3):
        plan = solve(cost, rows, cols, cfg(iterations=1000, threshold=threshold))
        errors.append(np.asarray(error_of(plan, rows, cols)))
        assert (errors[-1] <= threshold + 1e-5).all()
    assert (errors[1] < errors[0]).any()
    # Never reached, it changes nothing: 17 iterations are 17 iterations, whatever blocks they are looked at in.
    few = [solve(cost, rows, cols, cfg(iterations=17, threshold=threshold)) for threshold in (0.0, 1e-9)]
    np.testing.assert_allclose(few[1], few[0], atol=1e-6)


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_a_plan_is_a_constant_to_differentiation(plan):
    cost, rows, cols = map(jnp.asarray, UNEQUAL_2X2)
    grad = jax.grad(lambda *args: jnp.square(PLANS[plan](*args, OtConfig())).sum(), argnums=(0, 1, 2))(cost, rows, cols)
    assert not any(np.any(g) for g in grad)


# ---- greedy matching ---------------------------------------------------------------------------------------------


def greedy_by_hand(cost):
    """One cell at a time, as DR.DECR's loop does."""
    left, match = cost.copy(), cost.argmin(axis=1)
    for _ in range(min(cost.shape)):
        s, t = np.unravel_index(left.argmin(), left.shape)
        match[s] = t
        left[s], left[:, t] = np.inf, np.inf
    return match


def test_greedy_takes_the_closest_pair_first():
    """Student 0 is nearest to teacher 0, but student 1 is nearer still: 0 must take what is left."""
    cost = np.array([[[0.2, 0.9], [0.1, 0.15]]], np.float32)
    both = np.ones((1, 2), bool)
    np.testing.assert_array_equal(match_greedily(cost, both, both), [[1, 0]])


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("S", "T"), [(1, 1), (1, 6), (6, 1), (7, 7), (9, 4), (4, 9)])
def test_greedy_is_the_one_at_a_time_loop(S, T, rounded):
    rng = np.random.default_rng(S * 10 + T)
    cost = random_costs(rng, 20, S, T, width=3)
    cost = cost.round(1) if rounded else cost
    match = match_greedily(cost, np.ones((20, S), bool), np.ones((20, T), bool))
    np.testing.assert_array_equal(match, [greedy_by_hand(c) for c in cost])


def test_greedy_never_matches_padding():
    cost, rows, cols, lengths = ragged_problems(seed=4)
    cost[:, :, -1] -= 5.0  # what padding holds must not matter, even where it looks closest
    match = match_greedily(cost, rows > 0, cols > 0)
    for row, C, (s, t) in zip(np.asarray(match), cost, lengths, strict=True):
        np.testing.assert_array_equal(row[:s], greedy_by_hand(C[:s, :t]))


def test_greedy_ends_on_costs_that_are_not_numbers():
    cost = np.full((2, 3, 3), np.nan, np.float32)
    cost[1, 0, 1] = 0.5
    mask = np.ones((2, 3), bool)
    assert match_greedily(cost, mask, mask)[1, 0] == 1


# ---- measures of a plan ------------------------------------------------------------------------------------------


def test_plan_entropy_is_zero_for_one_cell_one_for_an_even_plan_and_half_for_a_permutation():
    even = np.full((2, 2), 0.25)
    permutation = np.eye(2) / 2
    one_cell = np.array([[1.0, 0.0], [0.0, 0.0]])
    plans = np.stack([even, permutation, one_cell, np.zeros((2, 2))]).astype(np.float32)
    rows = cols = np.array([[1, 1], [1, 1], [1, 0], [0, 0]], bool)
    np.testing.assert_allclose(entropy_of(plans, rows, cols), [1.0, 0.5, 0.0, 0.0], atol=1e-6)


def test_plan_error_adds_what_is_missing_on_either_side():
    plan = np.array([[[0.5, 0.0], [0.1, 0.3]]], np.float32)
    rows, cols = np.array([[0.5, 0.5]], np.float32), np.array([[0.5, 0.5]], np.float32)
    # Rows 0.5, 0.4: off by 0.1. Columns 0.6, 0.3: off by 0.3.
    np.testing.assert_allclose(error_of(plan, rows, cols), [0.4], atol=1e-6)
