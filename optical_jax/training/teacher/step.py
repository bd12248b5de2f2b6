"""One update of a teacher: queries and passages of the global batch through one encoder, and a loss over all scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import optax
from jax.sharding import Mesh

from optical_jax.config import TeacherStageConfig, TowerConfig
from optical_jax.losses.ranking import ranking_loss
from optical_jax.models.late_interaction import tower_specs
from optical_jax.models.stack import unstack_layers
from optical_jax.partitioning import named_sharding
from optical_jax.training.optimizer import NOTHING_FROZEN, Frozen, trained_part, with_trained
from optical_jax.training.state import TrainState, train_state_shardings, update_state
from optical_jax.training.step import count_tokens, encode_in_parts
from optical_jax.types import Metrics, Params, RankingBatch, Scalar

RankingStep = Callable[[TrainState, RankingBatch], tuple[TrainState, Metrics]]


def make_ranking_step(
    cfg: TeacherStageConfig, tower: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> RankingStep:
    """Compile one update. The function returned consumes (donates) the state it is given."""
    tower, parts, frozen = as_trained(cfg, tower), cfg.training.accumulate, frozen_part(cfg, tower)

    def loss_of(trained: Params, params: Params, batch: RankingBatch) -> tuple[Scalar, Metrics]:
        params = stop_below(with_trained(params, trained, frozen), cfg.encoder.frozen_layers)
        with jax.named_scope("queries"):
            queries = encode_in_parts(params, batch.queries, tower, parts)
        with jax.named_scope("passages"):
            passages = encode_in_parts(params, batch.passages, tower, parts)
        with jax.named_scope("loss"):
            out = ranking_loss(queries, passages, batch.marks, cfg.loss)
        return out.loss, {**out.metrics, "loss": out.loss}

    def step(state: TrainState, batch: RankingBatch) -> tuple[TrainState, Metrics]:
        trained = trained_part(state.params, frozen)
        grads, metrics = jax.grad(loss_of, has_aux=True)(trained, state.params, batch)
        state, norms = update_state(state, grads, tx, frozen)
        real_tokens = count_tokens(batch.queries) + count_tokens(batch.passages)
        return state, {**metrics, **norms, "real_tokens": real_tokens}

    states = train_state_shardings(tower_specs(tower), mesh, tx, frozen)
    ins = (states, named_sharding(mesh, ("batch",)))
    return jax.jit(step, in_shardings=ins, out_shardings=(states, named_sharding(mesh, ())), donate_argnums=0)


def frozen_part(cfg: TeacherStageConfig, tower: TowerConfig) -> Frozen:
    """What stays as it starts: nothing, or the embeddings and some lower layers."""
    layers = cfg.encoder.frozen_layers
    if layers is None:
        return NOTHING_FROZEN
    return Frozen(embeddings=True, layers=layers if layers < tower.encoder.layers else None)


def as_trained(cfg: TeacherStageConfig, tower: TowerConfig) -> TowerConfig:
    """The tower as the step computes it: attention and remat are of a run and its devices, not of the tower."""
    return replace(tower, encoder=replace(tower.encoder, attention=cfg.encoder.attention, remat=cfg.encoder.remat))


def stop_below(params: Params, frozen_layers: int | None) -> Params:
    """The parameters with embeddings and lower layers as constants, which no backward pass goes through."""
    if frozen_layers is None:
        return params
    encoder = unstack_layers(params["encoder"])
    below, above = encoder["layers"][:frozen_layers], encoder["layers"][frozen_layers:]
    constants = jax.lax.stop_gradient({"embeddings": encoder["embeddings"], "layers": below})
    encoder = {**encoder, "embeddings": constants["embeddings"], "layers": (*constants["layers"], *above)}
    return {**params, "encoder": encoder}
