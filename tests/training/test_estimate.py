"""FLOPs by hand against what XLA counts in an unrolled model, and parameters by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import Config, EncoderConfig, HeadConfig, LossConfig, OtConfig, TowerConfig
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.training.estimate import (
    encoder_forward_flops,
    loss_flops,
    model_flops,
    parameter_counts,
    side_forward_flops,
    step_cost,
)
from optical_jax.training.student.teacher_cache import as_if_cached
from optical_jax.types import Batch, TextInputs

# One layer: XLA counts the body of a scan once, however often it runs.
TOWER = TowerConfig(
    EncoderConfig(vocab_size=100, width=64, layers=1, heads=4, mlp_width=256, max_positions=128),
    HeadConfig(projection=32),
)


def test_forward_flops_agree_with_xla():
    inputs = TextInputs(jnp.zeros((2, 64), jnp.int32), jnp.ones((2, 64), bool), jnp.ones((2, 64), bool))
    params = abstract_params(tower_specs(TOWER))
    compiled = jax.jit(lambda p, i: encode_tokens(p, i, TOWER).vectors).lower(params, inputs).compile()
    counted = compiled.cost_analysis()["flops"]
    assert 2 * encoder_forward_flops(TOWER, 64) == pytest.approx(counted, rel=0.15)


def test_backward_is_twice_forward_and_the_teacher_has_none():
    side = TextInputs(np.zeros((2, 64), np.int32), np.ones((2, 64), bool), np.ones((2, 64), bool))
    cost = step_cost(Config(loss=LossConfig(name="pooled_cosine")), TOWER, TOWER, Batch(side, side))
    assert cost.student_flops == 3 * cost.teacher_flops
    assert cost.flops > cost.student_flops + cost.teacher_flops


def side(rows, length):
    return TextInputs(np.zeros((rows, length), np.int32), np.ones((rows, length), bool), np.ones((rows, length), bool))


def test_similarities_by_hand():
    """2 pairs of 48 and 64 tokens: cells of width 32, there and back twice; pooled vectors meet in one cell each."""
    pooled = replace(TOWER, head=replace(TOWER.head, pooling="mean"))
    batch, cells = Batch(side(2, 48), side(2, 64)), 2 * 48 * 64

    def transport(name, student=TOWER, teacher=TOWER, add=(), **ot):
        cfg = Config(loss=LossConfig(name=name, ot=OtConfig(iterations=50, **ot), add=add))
        return step_cost(cfg, student, teacher, batch).transport_flops

    assert transport("transport") == 3 * 2 * cells * 32 + 50 * 4 * cells
    assert transport("transport", plan="uniform") == transport("greedy") == 3 * 2 * cells * 32
    # Its greedy_cosine is told all the same, without a gradient.
    assert transport("pooled_cosine") == 2 * cells * 32
    assert transport("pooled_cosine", pooled, pooled) == 2 * 2 * 32
    assert transport("greedy", teacher=pooled) == 3 * 2 * (2 * 48) * 32
    # Both students' tokens meet both teachers' tokens, there and back; a batch whose cosines would fill more than
    # KEPT_NUMBERS goes there once more.
    assert transport("contrastive") == (1 + 2 * 2) * 2 * cells * 32
    assert transport("greedy", add=("contrastive=0.1",)) == (3 + 2 * 2) * 2 * cells * 32
    assert loss_flops("contrastive", LossConfig("contrastive"), B=256, S=64, T=64, E=32) == 3 * 2 * 256**2 * 64**2 * 32


def test_a_pooled_tower_projects_one_vector_a_text():
    """4 maps of 64 x 64 and 2 of 64 x 256 a token, 2 x 64 x 64 of attention; then 64 x 32 for each of 2 texts."""
    pooled = replace(TOWER, head=replace(TOWER.head, pooling="cls"))
    token = 2 * (4 * 64 * 64 + 2 * 64 * 256 + 2 * 64 * 64)
    assert side_forward_flops(side(2, 64), pooled) == 2 * 64 * token + 2 * (2 * 64 * 32)
    assert side_forward_flops(side(2, 64), TOWER) == 2 * 64 * (token + 2 * 64 * 32)


def test_a_cached_teacher_costs_a_step_nothing():
    """Its vectors are padded to the longest of all texts, 24 tokens, which cells are counted for; pooled to one."""
    batch = Batch(side(2, 48), side(2, 16))
    cfg = Config(loss=LossConfig(name="greedy"))
    cached = as_if_cached(batch, TOWER, longest=24)
    assert cached.teacher.vectors.shape == (2, 24, 32)
    assert cached.teacher.vectors.dtype == np.float16
    assert cached.teacher.mask.sum(axis=1).tolist() == [16, 16]
    cost = step_cost(cfg, TOWER, TOWER, cached)
    assert cost.teacher_flops == 0
    assert cost.student_flops == step_cost(cfg, TOWER, TOWER, batch).student_flops
    assert cost.transport_flops == 3 * 2 * (2 * 48 * 24) * 32
    pooled = replace(TOWER, head=replace(TOWER.head, pooling="mean"))
    assert as_if_cached(batch, pooled, longest=24).teacher.vectors.shape == (2, 1, 32)


def test_parameters_by_hand():
    """Tables of 100 + 128 + 2 rows and their norm; 4 maps of 64 x 64, 2 of 64 x 256, biases, 2 norms; 64 x 32."""
    body = 4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 2 * 128 + 64 * 32
    assert parameter_counts(TOWER) == {"all": 230 * 64 + 128 + body, "body": body}
    assert model_flops(TOWER, TOWER, 10, 7) == (6 * 10 + 2 * 7) * body
