"""Every loss: hand-made values, oracles, invariances, gradients, and the same numbers on 8 devices."""

import functools
import inspect
from pathlib import Path
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment

from optical_jax.config import LossConfig, LossName, MeshConfig, OtConfig
from optical_jax.config.validation import COMPARES_TEXTS
from optical_jax.export.student_card import LOSSES_IN_WORDS
from optical_jax.losses import LOSSES
from optical_jax.partitioning import make_mesh, named_sharding
from optical_jax.types import TokenVectors
from tests import ROOT

CONFIGS = {
    "transport": LossConfig("transport"),
    "transport in log space": LossConfig("transport", ot=OtConfig(epsilon=0.03)),
    "transport stopped early": LossConfig("transport", ot=OtConfig(threshold=1e-2, iterations=100)),
    "transport with idf": LossConfig("transport", ot=OtConfig(masses="idf")),
    "gromov_wasserstein": LossConfig(name="gromov_wasserstein", ot=OtConfig(masses="idf", iterations=20), fusion=0.4),
    **{name: LossConfig(name=name) for name in get_args(LossName) if name not in ("transport", "gromov_wasserstein")},
}
SHARDED = ["transport", "transport stopped early", *(name for name in get_args(LossName) if name != "transport")]
# A loss is compiled for every shape: what is asked of all of them comes in three texts of up to 7 tokens, or padded.
every_loss = pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)


@functools.partial(jax.jit, static_argnames="cfg")
def evaluate(student, teacher, cfg):
    """(loss, metrics, gradient by the student's vectors), as the training step takes them."""

    def loss(vectors):
        out = LOSSES[cfg.name](student.replace(vectors=vectors), teacher, cfg)
        return out.loss, out.metrics

    (value, metrics), grad = jax.value_and_grad(loss, has_aux=True)(student.vectors)
    return value, metrics, grad


def tokens(*texts, weights=None):
    """TokenVectors of hand-written texts (lists of vectors), padded to the longest."""
    longest = max(len(text) for text in texts)
    width = next(len(text[0]) for text in texts if text)
    vectors = np.zeros((len(texts), longest, width), np.float32)
    mask = np.zeros((len(texts), longest), bool)
    for i, text in enumerate(texts):
        for j, vector in enumerate(text):
            vectors[i, j], mask[i, j] = vector, True
    return TokenVectors(jnp.asarray(vectors), jnp.asarray(mask), None if weights is None else jnp.asarray(weights))


def random_tokens(seed, lengths, width=6):
    """Unit vectors of texts of these lengths, padded to 7; padding is zero, as towers give it."""
    rng = np.random.default_rng(seed)
    mask = np.arange(7) < np.array(lengths)[:, None]
    vectors = rng.normal(size=(*mask.shape, width))
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) * mask[:, :, None]
    weight = rng.uniform(0.5, 5.0, mask.shape) * mask
    return TokenVectors(jnp.asarray(vectors, jnp.float32), jnp.asarray(mask), jnp.asarray(weight, jnp.float32))


def pad_tokens(side, extra, garbage=7.0):
    """`extra` masked tokens behind every text, holding what must not matter."""
    widths = ((0, 0), (0, extra))  # [B, L]
    return TokenVectors(
        vectors=jnp.pad(side.vectors, (*widths, (0, 0)), constant_values=garbage),
        mask=jnp.pad(side.mask, widths),
        weight=jnp.pad(side.weight, widths, constant_values=garbage),
    )


def one_vector(sign, length):
    """One text of this many tokens, all the first axis or its opposite, in the shape of `random_tokens` of three."""
    mask = np.arange(7) < np.array([length, 0, 0])[:, None]
    vectors = sign * np.eye(6, dtype=np.float32)[0] * mask[:, :, None]
    return TokenVectors(jnp.asarray(vectors), jnp.asarray(mask), jnp.asarray(mask, jnp.float32))


def pad_pairs(side, extra):
    """`extra` rows without any token, as the last batch of a collection has."""
    return jax.tree.map(lambda x: jnp.pad(x, ((0, extra),) + ((0, 0),) * (x.ndim - 1)), side)


def assert_same_metrics(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], err_msg=name, **tolerance)


E1, E2 = [1.0, 0.0], [0.0, 1.0]


# ---- values by hand ----------------------------------------------------------------------------------------------


def test_every_choice_of_the_config_has_its_loss():
    assert set(get_args(get_type_hints(LossConfig)["name"])) == set(LOSSES)


def test_transport_of_one_token_against_two():
    """Only one plan is feasible, half to each: (0 + 1) / 2, whatever epsilon is."""
    loss, metrics, _ = evaluate(tokens([E1]), tokens([E1, E2]), LossConfig("transport"))
    assert loss == pytest.approx(0.5, abs=1e-6)
    assert metrics["plan_entropy"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["plan_error"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["greedy_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["pooled_cosine"] == pytest.approx(np.sqrt(0.5), abs=1e-6)


def test_transport_of_one_token_against_two_by_idf():
    """Masses 3/4 and 1/4: costs 0 and 1."""
    student = tokens([E1], weights=[[2.0]])
    teacher = tokens([E1, E2], weights=[[3.0, 1.0]])
    assert evaluate(student, teacher, LossConfig("transport", ot=OtConfig(masses="idf")))[0] == pytest.approx(
        0.25, abs=1e-6
    )


def test_pooled_cosine_of_one_token_against_two():
    assert evaluate(tokens([E1]), tokens([E1, E2]), LossConfig(name="pooled_cosine"))[0] == pytest.approx(
        1 - np.sqrt(0.5), abs=1e-6
    )


def test_greedy_is_one_to_one_and_what_is_left_takes_its_best():
    """Students at 0, 0 and 90 degrees, teachers at 0 and 90: one student at 0 is left over and also takes teacher 0;
    with two students at 0 alone, the second must take the teacher at 90."""
    greedy = LossConfig(name="greedy")
    assert evaluate(tokens([E1, E1, E2]), tokens([E1, E2]), greedy)[0] == pytest.approx(0.0, abs=1e-6)
    loss, metrics, _ = evaluate(tokens([E1, E1]), tokens([E1, E2]), greedy)
    assert loss == pytest.approx(0.5, abs=1e-6)
    assert metrics["greedy_cosine"] == pytest.approx(1.0, abs=1e-6)


def test_greedy_cosine_is_the_mean_best_cosine_of_student_tokens():
    """Pair one: best 0.6 and 0.8 of (0.6, 0.8) against both axes, and 1.0; pair two: -1. Means 0.9 and -1."""
    student = tokens([[0.6, 0.8], E1], [[-1.0, 0.0]])
    teacher = tokens([E1, E2], [E1])
    for cfg in (LossConfig("transport"), LossConfig(name="pooled_cosine"), LossConfig(name="greedy")):
        assert evaluate(student, teacher, cfg)[1]["greedy_cosine"] == pytest.approx((0.9 - 1.0) / 2, abs=1e-6)


@every_loss
def test_identical_texts(cfg):
    """No distance and no NaN; entropy alone keeps the transport plan from being the identity."""
    directions = [*np.eye(6), *-np.eye(6)]
    side = tokens(directions[:4], directions[4:5], directions[5:], weights=np.ones((3, 7)))
    loss, metrics, grad = evaluate(side, side, cfg)
    if cfg.name == "gromov_wasserstein":
        # The larger epsilon, and half or less of the cosines: the plan is blurred.
        assert 0.0 <= loss < 0.2
    elif "contrastive" in cfg.name:
        # No token of a text is one of another's: those score 0 or less, which is 20 temperatures.
        assert 0.0 <= loss < 1e-2
    else:
        # Tokens are 1 apart or more: exp(-1 / 0.05) of the mass strays.
        assert abs(loss) < 1e-4
    assert np.isfinite(grad).all()
    assert metrics["greedy_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["pooled_cosine"] == pytest.approx(1.0, abs=1e-5)


@every_loss
def test_the_same_vector_everywhere(cfg):
    """All costs zero, as an untrained student gives nearly: any plan is optimal, every figure finite."""
    loss, metrics, grad = evaluate(one_vector(1, 3), one_vector(1, 5), cfg)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert all(np.isfinite(value) for value in metrics.values())
    assert np.isfinite(grad).all()


@every_loss
def test_the_opposite_vector_everywhere(cfg):
    loss, _, grad = evaluate(one_vector(1, 3), one_vector(-1, 5), cfg)
    # One text has no others to be told from or to be far from; within it all distances are zero, on both sides.
    expected = {"pooled_mse": 4.0, "gromov_wasserstein": 2.0 * cfg.fusion, **dict.fromkeys(COMPARES_TEXTS, 0.0)}
    assert loss == pytest.approx(expected.get(cfg.name, 2.0), abs=1e-5)
    assert np.isfinite(grad).all()


# ---- oracles -----------------------------------------------------------------------------------------------------


def test_transport_at_small_epsilon_is_the_exact_assignment():
    """S = T and equal masses: linear_sum_assignment(C) / S, up to epsilon times log S."""
    epsilon, size = 2e-3, 7
    student, teacher = random_tokens(0, [size] * 3), random_tokens(1, [size] * 3)
    cost = 1 - np.einsum("bse,bte->bst", student.vectors, teacher.vectors)
    exact = np.mean([C[linear_sum_assignment(C)].sum() / size for C in cost])
    loss, metrics, _ = evaluate(
        student, teacher, LossConfig("transport", ot=OtConfig(epsilon=epsilon, iterations=5000))
    )
    assert -1e-4 < loss - exact < epsilon * np.log(size) + 1e-4
    # Each pair's plan is a permutation: entropy log S of log S^2.
    assert metrics["plan_entropy"] == pytest.approx(0.5, abs=0.05)


def pot_problem(side_s, side_t, pair):
    """One pair of ragged batches, unpadded, in float64: cost, masses by idf, vectors."""
    (s, a), (t, b) = (
        (np.float64(side.vectors[pair][side.mask[pair]]), np.float64(side.weight[pair][side.mask[pair]]))
        for side in (side_s, side_t)
    )
    return 1 - s @ t.T, a / a.sum(), b / b.sum(), t


def test_transport_is_pot_sinkhorn_on_ragged_pairs_with_idf_masses():
    student, teacher = random_tokens(2, [5, 2, 7]), random_tokens(3, [3, 6, 7])
    loss, metrics, _ = evaluate(student, teacher, LossConfig("transport", ot=OtConfig(masses="idf", iterations=2000)))
    losses, entropies = [], []
    for pair in range(3):
        cost, a, b, _ = pot_problem(student, teacher, pair)
        plan = ot.sinkhorn(a, b, cost, 0.05, "sinkhorn_log", 2000, 1e-9, warn=False)
        losses.append((plan * cost).sum())
        entropies.append(-(plan * np.log(plan + 1e-300)).sum() / np.log(plan.size))
    assert loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert metrics["plan_entropy"] == pytest.approx(np.mean(entropies), abs=1e-4)
    assert metrics["plan_error"] < 1e-4


# ---- gradients ---------------------------------------------------------------------------------------------------


def test_transport_gradient_is_the_plan_times_minus_the_teacher():
    """d<P, 1 - s.t>/ds_i = -sum_j P_ij t_j, over the number of pairs; P is POT's."""
    student, teacher = random_tokens(4, [5, 3, 7]), random_tokens(5, [4, 6, 1])
    grad = evaluate(student, teacher, LossConfig("transport", ot=OtConfig(masses="idf", iterations=2000)))[2]
    for pair in range(3):
        cost, a, b, t = pot_problem(student, teacher, pair)
        plan = ot.sinkhorn(a, b, cost, 0.05, "sinkhorn_log", 2000, 1e-9, warn=False)
        np.testing.assert_allclose(grad[pair][: len(a)], -(plan @ t) / 3, atol=1e-5)


def test_transport_gradient_is_that_of_the_regularised_optimum():
    """The envelope theorem by finite differences: d/ds of min <P, C> - epsilon H(P), solved anew by POT each time."""
    student, teacher = random_tokens(6, [4]), random_tokens(7, [5])
    grad = np.float64(evaluate(student, teacher, LossConfig("transport", ot=OtConfig(iterations=2000)))[2][0])
    s, t = np.float64(student.vectors[0, :4]), np.float64(teacher.vectors[0, :5])

    def optimum(s):
        cost = 1 - s @ t.T
        plan = ot.sinkhorn(np.full(4, 1 / 4), np.full(5, 1 / 5), cost, 0.05, "sinkhorn_log", 5000, 1e-12, warn=False)
        return (plan * cost).sum() + 0.05 * (plan * np.log(plan)).sum()

    for direction in np.random.default_rng(0).normal(size=(3, *s.shape)):
        slope = (optimum(s + 1e-4 * direction) - optimum(s - 1e-4 * direction)) / 2e-4
        assert (grad[:4] * direction).sum() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("name", ["pooled_cosine", "greedy"])
def test_gradient_by_finite_differences(name):
    cfg = LossConfig(name=name)
    student, teacher = random_tokens(8, [4, 2, 7]), random_tokens(9, [3, 5, 6])
    grad = np.float64(evaluate(student, teacher, cfg)[2])
    for direction in np.random.default_rng(0).normal(size=(3, *student.vectors.shape)):
        moved = [
            evaluate(student.replace(vectors=student.vectors + step * direction.astype(np.float32)), teacher, cfg)[0]
            for step in (1e-2, -1e-2)
        ]
        slope = float(moved[0] - moved[1]) / 2e-2
        assert (grad * direction * np.asarray(student.mask)[:, :, None]).sum() == pytest.approx(slope, abs=2e-3)


# ---- what must not matter ----------------------------------------------------------------------------------------


@every_loss
def test_padding_of_texts_and_of_the_batch_changes_neither_loss_nor_gradient(cfg):
    student, teacher = random_tokens(10, [5, 1, 3]), random_tokens(11, [4, 6, 1])
    loss, metrics, grad = evaluate(student, teacher, cfg)
    padded = pad_pairs(pad_tokens(student, 5), 13), pad_pairs(pad_tokens(teacher, 2), 13)
    padded_loss, padded_metrics, padded_grad = evaluate(*padded, cfg)
    np.testing.assert_allclose(padded_loss, loss, rtol=1e-5)
    assert_same_metrics(padded_metrics, metrics, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded_grad, np.pad(grad, ((0, 13), (0, 5), (0, 0))), atol=1e-6)
    assert not np.any(padded_grad[:, 5:])


@every_loss
@pytest.mark.parametrize("lengths", [(0, 2), (2, 0), (0, 0)], ids=["student", "teacher", "both"])
def test_a_pair_with_an_empty_side_has_no_loss_and_no_gradient(cfg, lengths):
    student, teacher = random_tokens(14, [3, lengths[0], 0]), random_tokens(15, [3, lengths[1], 0])
    thrice = (jax.tree.map(lambda x: x[np.array([0, 0, 0])], side) for side in (student, teacher))
    expected_loss, expected_metrics, expected_grad = evaluate(*thrice, cfg)
    loss, metrics, grad = evaluate(student, teacher, cfg)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_same_metrics(metrics, expected_metrics, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad[0], expected_grad.sum(axis=0), atol=1e-6)
    assert not np.any(grad[1:])


@every_loss
def test_a_batch_without_pairs_is_finite(cfg):
    loss, metrics, grad = evaluate(random_tokens(0, [0, 0, 0]), random_tokens(1, [0, 0, 0]), cfg)
    assert loss == 0.0
    assert all(np.isfinite(value) for value in metrics.values())
    assert not np.any(grad)


@every_loss
def test_the_order_of_tokens_does_not_matter(cfg):
    student, teacher = random_tokens(16, [7, 7, 7]), random_tokens(17, [7, 7, 7])
    s_order, t_order = np.random.default_rng(0).permutation(7), np.random.default_rng(1).permutation(7)
    shuffled = [
        jax.tree.map(lambda x, order=order: x[:, order], side)
        for side, order in ((student, s_order), (teacher, t_order))
    ]
    loss, metrics, grad = evaluate(student, teacher, cfg)
    other_loss, other_metrics, other_grad = evaluate(*shuffled, cfg)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    assert_same_metrics(other_metrics, metrics, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other_grad, grad[:, s_order], atol=1e-6)


@every_loss
def test_bfloat16_vectors_are_worked_on_in_float32(cfg):
    sides = [random_tokens(seed, [4, 6, 1]) for seed in (18, 19)]
    halves = [side.replace(vectors=side.vectors.astype(jnp.bfloat16)) for side in sides]
    rounded = [half.replace(vectors=half.vectors.astype(jnp.float32)) for half in halves]
    loss, metrics, grad = evaluate(*halves, cfg)
    expected_loss, expected_metrics, _ = evaluate(*rounded, cfg)
    assert grad.dtype == jnp.bfloat16
    assert {loss.dtype, *(value.dtype for value in metrics.values())} == {jnp.dtype("float32")}
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_same_metrics(metrics, expected_metrics, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cfg", [CONFIGS[name] for name in SHARDED], ids=SHARDED)
def test_eight_devices_give_the_numbers_of_one(cfg):
    rng = np.random.default_rng(0)
    # The last rows are padding: the mean is over real pairs of all devices, not a mean of the devices' means.
    lengths = [[*rng.integers(1, 7, 13), 0, 0, 0] for _ in range(2)]
    student, teacher = pad_tokens(random_tokens(20, lengths[0]), 5), pad_tokens(random_tokens(21, lengths[1]), 2)
    loss, metrics, grad = evaluate(student, teacher, cfg)

    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    sharded = jax.device_put((student, teacher), named_sharding(mesh, ("batch",)))
    assert len(sharded[0].vectors.sharding.device_set) == 8
    with jax.set_mesh(mesh):
        sharded_loss, sharded_metrics, sharded_grad = evaluate(*sharded, cfg)
    np.testing.assert_allclose(sharded_loss, loss, rtol=1e-5)
    assert_same_metrics(sharded_metrics, metrics, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sharded_grad, grad, atol=1e-6)
    assert sharded_grad.sharding.is_equivalent_to(named_sharding(mesh, ("batch",)), 3)


@every_loss
def test_a_vector_that_is_not_a_number_makes_the_loss_not_a_number(cfg):
    """So that training stops on it, rather than hanging or going on."""
    student = random_tokens(22, [3, 4, 1])
    broken = student.replace(vectors=student.vectors.at[1, 2].set(jnp.nan))
    assert np.isnan(evaluate(broken, random_tokens(23, [2, 5, 7]), cfg)[0])


def test_every_loss_is_described():
    """In the table of losses, on model cards, in the help text and on the page of the method."""
    names = set(get_args(LossName))
    assert names == set(LOSSES) == set(LOSSES_IN_WORDS)
    page = (ROOT / "docs" / "method.md").read_text("utf-8")
    described = Path(inspect.getsourcefile(LossConfig)).read_text("utf-8").split("class LossConfig")[1]
    for name in names:
        assert name in described
        assert f"`{name}`" in page, name
