"""Losses between the texts of a batch, and of what is inside a text: by hand, by oracles, by finite differences."""

import math
from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.optimize

from optical_jax.config import LossConfig, OtConfig
from optical_jax.errors import ConfigError
from optical_jax.losses import LOSSES, batch_scores, distillation_loss
from optical_jax.losses.batch_scores import mean_maxsims, transport_scores
from optical_jax.losses.ot_distillation import transport
from optical_jax.ot.gromov import distortion, gromov_plan
from optical_jax.retrieval.scoring import maxsim
from optical_jax.types import TokenVectors
from tests.losses.test_losses import E1, E2, evaluate, random_tokens, tokens

BATCH = random_tokens(30, [5, 1, 3, 4]), random_tokens(31, [4, 6, 1, 7])
"""Four pairs."""
SQUARE = [E1, E2, [-1.0, 0.0], [0.0, -1.0]]


def of_one_token(*texts):
    return tokens(*([text] for text in texts))


# ---- pooled_mse --------------------------------------------------------------------------------------------------


def test_pooled_mse_is_of_means_that_are_no_unit_vectors():
    """The mean of both axes is (1/2, 1/2): 1/4 + 1/4 from the first axis. Two opposite tokens cancel: 1."""
    student, teacher = tokens([E1], [E1]), tokens([E1, E2], [E1, [-1.0, 0.0]])
    assert evaluate(student, teacher, LossConfig(name="pooled_mse"))[0] == pytest.approx((0.5 + 1.0) / 2, abs=1e-6)


def test_pooled_mse_of_single_vectors_is_twice_the_pooled_cosine():
    student, teacher = random_tokens(1, [1] * 5), random_tokens(2, [1] * 5)
    mse, cosine = (evaluate(student, teacher, LossConfig(name=name))[0] for name in ("pooled_mse", "pooled_cosine"))
    assert mse == pytest.approx(2 * float(cosine), rel=1e-5)


# ---- scores of a batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [1, 500, 1 << 24], ids=["a row a block", "a remainder", "one block"])
def test_scores_are_those_of_search_over_the_number_of_query_tokens(numbers, monkeypatch):
    monkeypatch.setattr(batch_scores, "platform", lambda: "gpu")  # a CPU takes a row at a time
    monkeypatch.setattr(batch_scores, "BLOCK_NUMBERS", numbers)
    student, teacher = BATCH
    expected = maxsim(student, teacher) / student.mask.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean_maxsims(student, teacher), expected, atol=1e-6)
    empty = teacher.replace(mask=teacher.mask.at[2].set(False))
    expected = expected.at[:, 2].set(0.0)
    np.testing.assert_allclose(mean_maxsims(student, empty), expected, atol=1e-6)


@pytest.mark.parametrize("plan", ["sinkhorn", "partial", "argmax"])
def test_transport_scores_are_those_of_each_pair_of_texts_by_itself(plan):
    student, teacher = BATCH
    cfg, N = OtConfig(plan=plan), len(BATCH[1].mask)
    scores = jax.jit(transport_scores, static_argnums=2)(student, teacher, cfg)
    for b in range(len(student.mask)):
        one = jax.tree.map(lambda x, b=b: jnp.repeat(x[b : b + 1], N, axis=0), student)
        moved = jax.jit(transport, static_argnums=2)(one, teacher, cfg)
        expected = 1.0 - (moved.plan * moved.cost).sum(axis=(1, 2)) / moved.plan.sum(axis=(1, 2))
        np.testing.assert_allclose(scores[b], expected, atol=1e-6)


def test_transport_scores_of_sharp_plans_are_those_of_the_best_assignment():
    """Texts of as many tokens each: scipy's assignment, every student text against every teacher text."""
    student, teacher = random_tokens(5, [4] * 3), random_tokens(6, [4] * 3)
    scores = transport_scores(student, teacher, OtConfig(plan="ipot", iterations=200, epsilon=0.01))
    cosines = np.einsum("bse,nte->bnst", student.vectors[:, :4], teacher.vectors[:, :4])
    for b, n in np.ndindex(3, 3):
        rows, cols = scipy.optimize.linear_sum_assignment(-cosines[b, n])
        assert float(scores[b, n]) == pytest.approx(cosines[b, n][rows, cols].mean(), abs=2e-3)


@pytest.mark.parametrize("name", ["contrastive", "relational"])
def test_blocks_change_neither_loss_nor_gradient(name, monkeypatch):
    """The other tests see one block; here it is one a text."""
    monkeypatch.setattr(batch_scores, "platform", lambda: "gpu")
    whole, _, grad = jax.jit(partial(evaluate.__wrapped__, cfg=LossConfig(name=name)))(*BATCH)
    monkeypatch.setattr(batch_scores, "BLOCK_NUMBERS", 1)
    by_block, _, grad_by_block = jax.jit(partial(evaluate.__wrapped__, cfg=LossConfig(name=name)))(*BATCH)
    np.testing.assert_allclose(by_block, whole, rtol=1e-5)
    np.testing.assert_allclose(grad_by_block, grad, atol=1e-6)


# ---- contrastive -------------------------------------------------------------------------------------------------

POOLED_AND_NOT = pytest.mark.parametrize("name", ["contrastive", "pooled_contrastive", "ot_contrastive"])


@POOLED_AND_NOT
def test_contrastive_by_hand(name):
    """Own at cosine 1, the other at 0, temperature 1/2: log(1 + exp(-2)) for each of two texts."""
    cfg, side = LossConfig(name=name, temperature=0.5), of_one_token(E1, E2)
    assert evaluate(side, side, cfg)[0] == pytest.approx(math.log1p(math.exp(-2.0)), abs=1e-6)


def test_the_students_text_asks():
    """MaxSim from two student tokens: 1 to a teacher with both, 1/2 to one with the first; the other way they tie."""
    student = tokens([E1, E2], [E1])
    teacher = tokens([E1, E2], [E1])
    losses = [math.log1p(math.exp(-0.5)), math.log(2.0)]
    cfg = LossConfig(name="contrastive", temperature=1.0)
    assert evaluate(student, teacher, cfg)[0] == pytest.approx(sum(losses) / 2, abs=1e-6)


@POOLED_AND_NOT
def test_the_same_english_text_twice_is_no_negative(name):
    """Three pairs, the first two of one English text: each of them has one negative, the third has two."""
    cfg = LossConfig(name=name, temperature=1.0)
    student, teacher = of_one_token(E1, E1, E2), of_one_token(E1, E1, E2)
    one, two = math.log1p(math.exp(-1.0)), math.log1p(2 * math.exp(-1.0))
    assert evaluate(student, teacher, cfg)[0] == pytest.approx((2 * one + two) / 3, abs=1e-6)


@POOLED_AND_NOT
def test_one_pair_alone_has_nothing_to_learn(name):
    loss, _, grad = evaluate(random_tokens(1, [4]), random_tokens(2, [5]), LossConfig(name=name))
    assert loss == 0.0
    assert not np.any(grad)


def test_contrastive_is_torch_cross_entropy_of_maxsim():
    torch = pytest.importorskip("torch")
    student, teacher = BATCH
    scores = np.asarray(maxsim(student, teacher) / student.mask.sum(axis=1, keepdims=True)) / 0.05
    expected = torch.nn.functional.cross_entropy(torch.tensor(scores), torch.arange(4))
    assert evaluate(student, teacher, LossConfig(name="contrastive"))[0] == pytest.approx(expected.item(), rel=1e-5)


# ---- score_kl ----------------------------------------------------------------------------------------------------


def test_score_kl_by_hand():
    """The teacher's first text scores (1, 0), the student's (0, 1): with p = e / (1 + e), (2 p - 1) nats; the second
    texts agree."""
    teacher, student = of_one_token(E1, E2), of_one_token(E2, E2)
    p = math.e / (1 + math.e)
    cfg = LossConfig(name="score_kl", temperature=1.0)
    assert evaluate(student, teacher, cfg)[0] == pytest.approx((2 * p - 1) / 2, abs=1e-6)


def test_score_kl_is_torch_kl_div():
    torch = pytest.importorskip("torch")
    student, teacher = BATCH
    logs = [
        torch.log_softmax(torch.tensor(np.asarray(maxsim(q, teacher) / q.mask.sum(axis=1, keepdims=True)) / 0.05), 1)
        for q in (student, teacher)
    ]
    expected = torch.nn.functional.kl_div(*logs, reduction="batchmean", log_target=True).item()
    assert evaluate(student, teacher, LossConfig(name="score_kl"))[0] == pytest.approx(expected, rel=1e-4)


# ---- relational --------------------------------------------------------------------------------------------------


def test_relational_by_hand():
    """Teacher: at 0, 90 and 180 degrees, distances r2, r2, 2, angles 45, 90, 45. Student: all 120 degrees apart, equal
    distances and 60 degrees everywhere."""
    corners = [[math.cos(a), math.sin(a)] for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
    mean = (2 * math.sqrt(2) + 2) / 3
    distance = (2 * (math.sqrt(2) / mean - 1) ** 2 + (2 / mean - 1) ** 2) / 2 / 3
    angle = (2 * (math.sqrt(0.5) - 0.5) ** 2 + 0.5**2) / 2 / 3
    loss, metrics, _ = evaluate(of_one_token(*corners), of_one_token(*SQUARE[:3]), LossConfig(name="relational"))
    assert metrics["relational_distance"] == pytest.approx(distance, abs=1e-6)
    assert metrics["relational_angle"] == pytest.approx(angle, abs=1e-6)
    assert loss == pytest.approx(distance + 2 * angle, abs=1e-6)


def test_relational_does_not_see_where_the_texts_lie():
    """A rotation changes nothing, nor does another width."""
    side = random_tokens(3, [1] * 6)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 6)))[0].T  # orthonormal rows: [6, 9]
    assert evaluate(side.replace(vectors=side.vectors @ turn), side, LossConfig(name="relational"))[0] < 1e-9


def test_no_angle_is_taken_towards_the_same_text():
    """Of three texts one is there twice: no triple is left, and distances are those of the two sides."""
    student = of_one_token(E1, E2, [-1.0, 0.0])
    loss, metrics, grad = evaluate(student, of_one_token(E1, E1, E2), LossConfig(name="relational"))
    # At the single text both others are real corners, whose directions are one: cosine 1 against the student's 0.5.
    assert metrics["relational_angle"] == pytest.approx(0.5 * (1 - math.sqrt(0.5)) ** 2, abs=1e-6)
    assert np.isfinite(grad).all()
    assert loss > 0


def test_relational_is_parks_formula():
    student, teacher = (np.asarray(side.vectors[:, 0], np.float64) for side in BATCH_OF_ONE)

    def huber(x):
        return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5

    def distances(x):
        far = {(i, j): np.linalg.norm(x[i] - x[j]) for i, j in permutations(range(5), 2)}
        return {pair: value / np.mean(list(far.values())) for pair, value in far.items()}

    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    s, t = distances(student), distances(teacher)
    distance = np.mean([huber(s[pair] - t[pair]) for pair in s])
    angles = np.mean([huber(angle(student, *three) - angle(teacher, *three)) for three in permutations(range(5), 3)])
    loss = evaluate(*BATCH_OF_ONE, LossConfig(name="relational"))[0]
    assert loss == pytest.approx(distance + 2 * angles, rel=1e-5)


BATCH_OF_ONE = random_tokens(32, [1] * 5), random_tokens(33, [1] * 5)
"""Five pairs of pooled towers."""


# ---- gromov_wasserstein ------------------------------------------------------------------------------------------


def gromov_problem(pair, student=BATCH[0], teacher=BATCH[1]):
    """One pair, unpadded, float64: cost, inner distances, masses by idf."""
    (s, a), (t, b) = (
        (np.float64(side.vectors[pair][side.mask[pair]]), np.float64(side.weight[pair][side.mask[pair]]))
        for side in (student, teacher)
    )
    cost = 1 - s @ t.T if s.shape[1] == t.shape[1] else np.zeros((len(s), len(t)))
    return cost, 1 - s @ s.T, 1 - t @ t.T, a / a.sum(), b / b.sum()


def quadruple_sum(plan, student, teacher):
    square = (student[:, None, :, None] - teacher[None, :, None, :]) ** 2  # [S, T, S, T]
    return np.einsum("ijkl,ij,kl->", square, plan, plan)


@pytest.mark.parametrize("epsilon", [0.3, 0.1], ids=["kernel", "logarithms"])
@pytest.mark.parametrize("fusion", [0.0, 0.5])
def test_gromov_is_pots(epsilon, fusion):
    """From the product of the masses, ten linearisations, each solved to the end."""
    loss = evaluate(
        *BATCH,
        LossConfig(
            name="gromov_wasserstein", ot=OtConfig(epsilon=epsilon, iterations=1000, masses="idf"), fusion=fusion
        ),
    )[0]
    expected = []
    for pair in range(4):
        M, C, D, p, q = gromov_problem(pair)
        settings = {"epsilon": epsilon, "max_iter": 10, "tol": 0.0, "numItermax": 3000, "stopThr": 1e-10}
        if fusion == 0.0:
            plan = ot.gromov.entropic_gromov_wasserstein(C, D, p, q, "square_loss", **settings)
        else:
            plan = ot.gromov.entropic_fused_gromov_wasserstein(
                M, C, D, p, q, "square_loss", alpha=1 - fusion, **settings
            )
        expected.append(fusion * (plan * M).sum() + (1 - fusion) * quadruple_sum(plan, C, D))
    assert loss == pytest.approx(np.mean(expected), rel=2e-4)


def test_gromov_between_towers_of_different_widths():
    student = random_tokens(34, [5, 3, 1], width=9)
    teacher, cfg = random_tokens(35, [5, 3, 4], width=6), LossConfig(name="gromov_wasserstein", fusion=0.0)
    loss, metrics, grad = evaluate(student, teacher, cfg)
    assert grad.shape == student.vectors.shape
    assert np.any(grad)
    assert metrics.keys() == {"plan_entropy", "plan_error", "distortion"}
    assert loss == metrics["distortion"]
    with pytest.raises(ConfigError, match=r"loss.fusion=0.5 .* are 9 .* 6 wide; add --loss.fusion 0"):
        LOSSES["gromov_wasserstein"](student, teacher, LossConfig(name="gromov_wasserstein"))


def test_gromov_does_not_see_a_rotation():
    """A text against itself, turned and its tokens shuffled: the plan finds the order by inner distances alone."""
    rng = np.random.default_rng(0)
    side = random_tokens(36, [7])
    turned = side.vectors[:, rng.permutation(7)] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    cfg = LossConfig(name="gromov_wasserstein", ot=OtConfig(epsilon=5e-3, iterations=300), fusion=0.0)
    loss, metrics, _ = evaluate(side.replace(vectors=turned.astype(jnp.float32)), side, cfg)
    assert loss < 1e-3
    assert metrics["plan_entropy"] == pytest.approx(0.5, abs=0.02)  # a permutation: log 7 of log 49


def test_distortion_of_any_plan_is_the_sum_over_quadruples():
    rng = np.random.default_rng(0)
    plan, student, teacher = rng.random((4, 5)), rng.random((4, 4)), rng.random((5, 5))
    student, teacher = student + student.T, teacher + teacher.T
    got = distortion(*(jnp.asarray(x[None], jnp.float32) for x in (student, teacher, plan)))
    assert got[0] == pytest.approx(quadruple_sum(plan, student, teacher), rel=1e-5)


def test_gromov_gradient_is_that_of_its_value_at_a_fixed_plan():
    """Finite differences, by NumPy in float64, of the sum over quadruples and of <P, C>."""
    cfg = LossConfig(name="gromov_wasserstein", ot=OtConfig(epsilon=0.1, masses="idf"), fusion=0.3)
    grad = np.float64(evaluate(*BATCH, cfg)[2])  # the solver of its plan works in float32
    problems, arrays = [gromov_problem(pair) for pair in range(4)], []
    for parts in zip(*problems, strict=True):
        padded = [np.pad(x, [(0, 7 - size) for size in x.shape]) for x in parts]
        arrays.append(jnp.asarray(np.stack(padded), jnp.float32))
    plans = np.float64(jax.jit(gromov_plan, static_argnums=(5, 6))(*arrays, cfg.fusion, cfg.ot))
    for pair, (_, _, D, _, _) in enumerate(problems):
        s, t = (np.float64(side.vectors[pair][side.mask[pair]]) for side in BATCH)

        plan = plans[pair, : len(s), : len(t)]

        def value(s, plan=plan, t=t, D=D):
            return 0.3 * (plan * (1 - s @ t.T)).sum() + 0.7 * quadruple_sum(plan, 1 - s @ s.T, D)

        direction = np.random.default_rng(pair).normal(size=s.shape)
        slope = (value(s + 1e-5 * direction) - value(s - 1e-5 * direction)) / 2e-5
        assert (grad[pair][: len(s)] * direction).sum() == pytest.approx(slope / 4, abs=2e-6)


# ---- all ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["pooled_cosine", "pooled_mse", "contrastive", "pooled_contrastive", "ot_contrastive", "relational", "score_kl"],
)
def test_gradients_by_finite_differences(name):
    with jax.enable_x64():
        student, teacher = (
            TokenVectors(jnp.asarray(side.vectors, jnp.float64), side.mask, side.weight) for side in BATCH
        )
        # A stopped plan is held fixed by its gradient alone; here plans move with the vectors on both sides.
        cfg = LossConfig(name=name, temperature=0.3, ot=OtConfig(gradient="through"))

        @jax.jit
        def loss(vectors):
            return LOSSES[name](student.replace(vectors=vectors), teacher, cfg).loss

        grad = jax.jit(jax.grad(loss))(student.vectors)
        assert grad.dtype == jnp.float64
        for direction in np.random.default_rng(0).normal(size=(3, *student.vectors.shape)):
            slope = (loss(student.vectors + 1e-6 * direction) - loss(student.vectors - 1e-6 * direction)) / 2e-6
            np.testing.assert_allclose((grad * direction).sum(), slope, rtol=1e-6, atol=1e-9)


def test_half_precision_teachers_of_one_vector_a_text():
    """As the teacher's cache keeps them."""
    student, teacher = BATCH_OF_ONE
    half = teacher.replace(vectors=teacher.vectors.astype(jnp.float16))
    rounded = half.replace(vectors=half.vectors.astype(jnp.float32))

    @jax.jit
    def losses(teacher):
        return [
            LOSSES[name](student, teacher, LossConfig(name=name)).loss
            for name in ("pooled_mse", "contrastive", "relational")
        ]

    for of_half, of_rounded in zip(losses(half), losses(rounded), strict=True):
        assert of_half.dtype == jnp.float32
        np.testing.assert_allclose(of_half, of_rounded, rtol=1e-6)


# ---- sums --------------------------------------------------------------------------------------------------------


def test_added_losses_are_weighted_and_told_apart():
    """pooled_mse 1/2, pooled_cosine 1 - r(1/2): their sum with a weight of 3."""
    student, teacher = tokens([E1]), tokens([E1, E2])
    summed = jax.jit(distillation_loss, static_argnums=2)
    out = summed(student, teacher, LossConfig(name="pooled_mse", add=("pooled_cosine=3", "transport = 0.5")))
    assert out.metrics["loss_pooled_mse"] == pytest.approx(0.5, abs=1e-6)
    assert out.metrics["loss_pooled_cosine"] == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)
    assert out.loss == pytest.approx(0.5 + 3 * (1 - math.sqrt(0.5)) + 0.5 * 0.5, abs=1e-6)
    assert "plan_error" in out.metrics
    alone = summed(student, teacher, LossConfig(name="pooled_mse"))
    assert alone.metrics.keys() == {"greedy_cosine", "pooled_cosine"}
