"""One update of an English teacher: queries and passages through one encoder, and a ranking loss over all scores."""

from __future__ import annotations

import jax
import optax
from jax.sharding import Mesh

from optical_jax.config import TeacherStageConfig, TowerConfig
from optical_jax.losses.ranking import ranking_loss
from optical_jax.models.late_interaction import tower_specs
from optical_jax.models.stack import unstack_layers
from optical_jax.training.accumulation import encode_in_parts
from optical_jax.training.optimizer import NOTHING_FROZEN, Frozen
from optical_jax.training.step import TrainStep, count_tokens, make_update, with_kernels
from optical_jax.types import LossOutput, Params, RankingBatch


def make_ranking_step(
    cfg: TeacherStageConfig, tower: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> TrainStep:
    """Compile one update, f(state, batch). The loss sees the whole batch, which is encoded in parts."""
    parts, frozen = cfg.training.accumulate, frozen_part(cfg, tower)
    tower = with_kernels(tower, cfg.encoder.attention, cfg.encoder.remat)

    def loss_of(params: Params, batch: RankingBatch, step: jax.Array) -> LossOutput:
        params = stop_below(params, cfg.encoder.frozen_layers)
        with jax.named_scope("queries"):
            queries = encode_in_parts(params, batch.queries, tower, parts)
        with jax.named_scope("passages"):
            passages = encode_in_parts(params, batch.passages, tower, parts)
        with jax.named_scope("loss"):
            return ranking_loss(queries, passages, batch.marks, cfg.loss)

    def tokens_of(batch: RankingBatch) -> jax.Array:
        return count_tokens(batch.queries) + count_tokens(batch.passages)

    return make_update(loss_of, tokens_of, tower_specs(tower), mesh, tx, frozen)


def frozen_part(cfg: TeacherStageConfig, tower: TowerConfig) -> Frozen:
    """Which parameters are frozen: none, or the embeddings and the lower layers."""
    layers = cfg.encoder.frozen_layers
    if layers is None:
        return NOTHING_FROZEN
    return Frozen(embeddings=True, layers=layers if layers < tower.encoder.layers else None)


def stop_below(params: Params, frozen_layers: int | None) -> Params:
    """The parameters with embeddings and lower layers as constants, which no backward pass goes through."""
    if frozen_layers is None:
        return params
    encoder = unstack_layers(params["encoder"])
    below, above = encoder["layers"][:frozen_layers], encoder["layers"][frozen_layers:]
    constants = jax.lax.stop_gradient({"embeddings": encoder["embeddings"], "layers": below})
    encoder = {**encoder, "embeddings": constants["embeddings"], "layers": (*constants["layers"], *above)}
    return {**params, "encoder": encoder}
