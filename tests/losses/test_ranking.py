"""Losses over MaxSim scores: by hand, against NumPy, by finite differences, against PyTorch, and on 8 devices."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import (
    EncoderConfig,
    HeadConfig,
    MeshConfig,
    OptimizerConfig,
    RankingDataConfig,
    RankingLossConfig,
    StartConfig,
    TeacherStageConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.losses import batch_scores
from optical_jax.losses.ranking import ranking_loss
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, named_sharding
from optical_jax.training.loop import put
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.state import init_train_state
from optical_jax.training.teacher.step import frozen_part, make_ranking_step
from optical_jax.types import RankingBatch, RankingMarks, TextInputs, TokenVectors

CONTRASTIVE = RankingLossConfig(temperature=0.5)
EVERY = {
    "contrastive": CONTRASTIVE,
    "own negatives": replace(CONTRASTIVE, in_batch=False),
    "kl": RankingLossConfig(contrastive=0.0, kl=1.0, score_scale=2.0),
    "margin_mse": RankingLossConfig(contrastive=0.0, margin_mse=1.0),
    "all": RankingLossConfig(contrastive=0.5, kl=2.0, margin_mse=0.25),
}


def some_marks(B: int = 4, n: int = 3, scores: Any = None) -> RankingMarks:
    """Query 0's second passage is relevant to query 1 and stands in its row too; 5 stands twice."""
    ids = np.array([[0, 4, 5], [4, 6, 7], [2, 5, 9], [3, 10, 11]], np.int32)[:B, :n]
    first = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)[:B, :n]
    relevant = np.array([[0, -1], [4, -1], [2, 11], [3, -1]], np.int32)[:B]
    return on_device(
        RankingMarks(ids, first, relevant, np.full((B, n), np.nan, np.float32) if scores is None else scores)
    )


def on_device(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


GIVEN = np.array([[2, 1, 0.5], [1, np.nan, -1], [np.nan, 1, 2], [0.5, np.nan, np.nan]], np.float32)
COUNTED = [[1, 2, 4, 5, 6, 8, 9, 10, 11], [0, 2, 4, 5, 6, 8, 9, 10, 11], [0, 1, 2, 4, 5, 8, 9, 10]]
COUNTED += [[0, 1, 2, 4, 5, 6, 8, 10, 11]]
"""Of each query the places that are its negatives: not 3 and 7, which stand before; not what is relevant to it."""


def some_tokens(seed: int, texts: int, length: int, width: int = 5, dtype: Any = np.float32) -> TokenVectors:
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(1, length + 1, (texts, 1))
    vectors = rng.normal(size=(texts, length, width))
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) * mask[:, :, None]
    return on_device(TokenVectors(vectors.astype(dtype), mask))


def test_two_queries_by_hand():
    """Scores [[1, 0], [0, 1]] at temperature 1: each query's loss is log(1 + e^-1)."""
    vectors = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    tokens = on_device(TokenVectors(vectors, np.ones((2, 1), bool)))
    ids = np.array([[0], [1]])
    marks = on_device(RankingMarks(ids, np.ones((2, 1), bool), ids, np.full((2, 1), np.nan, np.float32)))
    out = ranking_loss(tokens, tokens, marks, RankingLossConfig())
    assert float(out.loss) == pytest.approx(np.log1p(np.exp(-1.0)), abs=1e-6)
    assert float(out.metrics["first_rank"]) == 1.0
    # Where each is relevant to the other too, nobody has a negative left, and nothing is to be learned.
    out = ranking_loss(tokens, tokens, marks.replace(relevant=jnp.array([[0, 1], [1, 0]])), RankingLossConfig())
    assert float(out.loss) == pytest.approx(0.0, abs=1e-6)


def maxsim_by_numpy(queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
    """Score of every query with every passage, a pair of texts at a time."""
    queries, passages = jax.device_get((queries, passages))
    return np.array(
        [
            [(q[qm] @ p[pm].T).max(axis=1).sum() for p, pm in zip(passages.vectors, passages.mask, strict=True)]
            for q, qm in zip(queries.vectors, queries.mask, strict=True)
        ]
    )


def loss_by_numpy(scores: np.ndarray, cfg: RankingLossConfig) -> float:
    """The losses as their definitions read, a query at a time."""
    own = np.stack([scores[b, 3 * b : 3 * b + 3] for b in range(4)])

    def log_softmax(x: np.ndarray) -> np.ndarray:
        return x - np.log(np.exp(x - x.max()).sum()) - x.max()

    contrastive = []
    for b in range(4):
        places = COUNTED[b] if cfg.in_batch else [3 * b + k for k in (1, 2)]
        if not cfg.in_batch and b == 2:
            places = [7, 8]
        contrastive.append(-log_softmax(scores[b, [3 * b, *places]] / cfg.temperature)[0])
    kl, margins = [], []
    for found, given in zip(own, GIVEN * cfg.score_scale, strict=True):
        some = np.isfinite(given)
        if some.sum() > 1:
            target = log_softmax(given[some])
            kl.append((np.exp(target) * (target - log_softmax(found[some]))).sum())
        if some[0] and some[1:].any():
            others = np.flatnonzero(some[1:]) + 1
            margins.append((((found[0] - found[others]) - (given[0] - given[others])) ** 2).mean())
    parts = {"contrastive": contrastive, "kl": kl, "margin_mse": margins}
    return sum(getattr(cfg, name) * float(np.mean(values)) for name, values in parts.items())


@pytest.mark.parametrize(("cfg", "block"), [*((cfg, 1 << 24) for cfg in EVERY.values()), (CONTRASTIVE, 1)])
def test_losses_are_what_numpy_computes(cfg, block, monkeypatch):
    """Whatever the size of a block; a passage that stands twice or is judged relevant is nobody's negative."""
    monkeypatch.setattr(batch_scores, "BLOCK_NUMBERS", block)
    monkeypatch.setattr(batch_scores, "platform", lambda: "gpu")
    queries, passages = some_tokens(0, 4, 3), some_tokens(1, 12, 6)
    out = ranking_loss(queries, passages, some_marks(scores=GIVEN), cfg)
    assert float(out.loss) == pytest.approx(loss_by_numpy(maxsim_by_numpy(queries, passages), cfg), rel=1e-5)


@pytest.mark.parametrize("cfg", [EVERY["own negatives"], EVERY["all"]], ids=["own negatives", "all"])
def test_gradients_by_finite_differences(cfg):
    with jax.enable_x64(True):
        queries, passages = some_tokens(2, 4, 3, dtype=np.float64), some_tokens(3, 12, 4, dtype=np.float64)
        marks = some_marks(scores=GIVEN.astype(np.float64))

        @jax.jit
        def loss(q, p):
            return ranking_loss(queries.replace(vectors=q), passages.replace(vectors=p), marks, cfg).loss

        grads = jax.grad(loss, argnums=(0, 1))(queries.vectors, passages.vectors)
        rng, eps = np.random.default_rng(0), 1e-6
        for side, grad in enumerate(grads):
            at = [queries.vectors, passages.vectors]
            way = rng.normal(size=grad.shape)
            up, down = ([x + sign * eps * way if i == side else x for i, x in enumerate(at)] for sign in (1, -1))
            slope = (loss(*up) - loss(*down)) / (2 * eps)
            assert float((grad * way).sum()) == pytest.approx(float(slope), rel=1e-5, abs=1e-8)
            assert np.isfinite(grad).all()


@pytest.mark.parity
def test_torch_agrees_with_loss_and_gradients():
    """In-batch cross entropy and KL over the groups as PyLate and ColBERT have them."""
    import torch

    queries, passages = some_tokens(4, 4, 3), some_tokens(5, 12, 6)
    given = np.nan_to_num(GIVEN)
    q, p = (torch.tensor(np.array(x.vectors), requires_grad=True) for x in (queries, passages))
    similarity = torch.einsum("bqe,npe->bnqp", q, p)
    similarity = similarity.masked_fill(~torch.tensor(np.array(passages.mask))[None, :, None, :], -torch.inf)
    scores = (similarity.max(-1).values * torch.tensor(np.array(queries.mask))[:, None, :]).sum(-1)
    own = torch.stack([scores[b, 3 * b : 3 * b + 3] for b in range(4)])
    ids = np.arange(12).reshape(4, 3)
    marks = on_device(RankingMarks(ids, np.ones((4, 3), bool), ids[:, :1], given))
    cfg = RankingLossConfig(contrastive=1.0, kl=1.0)
    want = torch.nn.functional.cross_entropy(scores, torch.arange(4) * 3) + torch.nn.functional.kl_div(
        own.log_softmax(-1), torch.tensor(given).log_softmax(-1), reduction="batchmean", log_target=True
    )
    want.backward()

    def loss(q, p):
        return ranking_loss(queries.replace(vectors=q), passages.replace(vectors=p), marks, cfg).loss

    value, grads = jax.value_and_grad(loss, argnums=(0, 1))(jnp.asarray(queries.vectors), jnp.asarray(passages.vectors))
    assert float(value) == pytest.approx(want.item(), rel=1e-5)
    for ours, theirs in zip(grads, (q, p), strict=True):
        assert theirs.grad is not None
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-6)


# ---- the step ----------------------------------------------------------------------------------------------------

TOWER = TowerConfig(
    EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=16), HeadConfig(projection=8)
)
STAGE = TeacherStageConfig(
    encoder=StartConfig(path="x"),
    data=RankingDataConfig(global_batch=16, passages=2),
    loss=RankingLossConfig(kl=0.5),
    optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=2),
    training=TrainingConfig(steps=4),
)


def some_batch(step: int) -> RankingBatch:
    rng = np.random.default_rng(step)

    def side(texts: int, length: int) -> TextInputs:
        real = np.arange(length) < rng.integers(1, length + 1, (texts, 1))
        ids = np.where(real, rng.integers(1, 64, real.shape), 0).astype(np.int32)
        return TextInputs(ids=ids, attend=real, keep=real)

    ids = rng.permutation(20)[:16][:, None] * np.ones(2, int) + np.array([0, 20])
    first = np.ones((16, 2), bool)
    ids[3, 1], first[3, 1] = ids[0, 0], False
    marks = RankingMarks(ids.astype(np.int32), first, ids[:, :1], rng.normal(size=(16, 2)).astype(np.float32))
    return RankingBatch(side(16, 4), side(32, 8), marks)


def run_steps(cfg: TeacherStageConfig, devices: int) -> tuple[list[float], Any]:
    mesh = make_mesh(cfg.mesh, jax.devices()[:devices])
    tx, frozen = make_optimizer(cfg.optimizer, 4), frozen_part(cfg, TOWER)
    losses = []
    with jax.set_mesh(mesh):
        step: Any = make_ranking_step(cfg, TOWER, mesh, tx)
        state = init_train_state(
            init_params(tower_specs(TOWER), jax.random.key(0)), tower_specs(TOWER), mesh, tx, frozen
        )
        for n in range(3):
            state, metrics = step(state, put(some_batch(n), named_sharding(mesh, ("batch",))))
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


def test_negatives_are_those_of_the_global_batch():
    """Split over 4 devices, and encoded in 2 parts, losses and parameters are those of the whole batch."""
    want, want_params = run_steps(STAGE, 1)
    split = replace(STAGE, mesh=MeshConfig(fsdp=2), training=TrainingConfig(steps=4, accumulate=2))
    losses, params = run_steps(split, 4)
    np.testing.assert_allclose(losses, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, want_params)


def test_frozen_layers_stay_and_the_others_learn():
    start = init_params(tower_specs(TOWER), jax.random.key(0))
    _, params = run_steps(replace(STAGE, encoder=StartConfig(path="x", frozen_layers=1)), 1)

    def moved(name: Any) -> Any:
        return jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)), name(start), name(params))

    for one in jax.tree.leaves(moved(lambda tree: tree["encoder"]["embeddings"])):
        assert one.max() == 0.0
    for one in jax.tree.leaves(moved(lambda tree: tree["encoder"]["layers"])):
        assert one[0].max() == 0.0
        assert one[1].max() > 0.0
    assert moved(lambda tree: tree["head"]["projection"]["kernel"]).max() > 0.0
