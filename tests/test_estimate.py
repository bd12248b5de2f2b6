"""FLOPs by hand against what XLA counts in an unrolled model, and parameters by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import Config, EncoderConfig, HeadConfig, LossConfig, TowerConfig
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.training.estimate import encoder_forward_flops, model_flops, parameter_counts, step_cost
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


def test_parameters_by_hand():
    """Tables of 100 + 128 + 2 rows and their norm; 4 maps of 64 x 64, 2 of 64 x 256, biases, 2 norms; 64 x 32."""
    body = 4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 2 * 128 + 64 * 32
    assert parameter_counts(TOWER) == {"all": 230 * 64 + 128 + body, "body": body}
    assert model_flops(TOWER, TOWER, 10, 7) == (6 * 10 + 2 * 7) * body
