"""What the backward pass finds kept and what it computes again: the same gradients, fewer bytes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import Config, EncoderConfig, HeadConfig, LossConfig, StudentConfig, TowerConfig
from optical_jax.config.validation import validate
from optical_jax.errors import ConfigError
from optical_jax.models import attention
from optical_jax.models.bert import encode_hidden, encoder_specs
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.params import init_params
from optical_jax.training.estimate import attention_flops, encoder_forward_flops, step_cost
from optical_jax.training.step import student_and_teacher
from optical_jax.types import Batch, TextInputs

ROWS, LENGTH = 2, 24
ENCODER = EncoderConfig(vocab_size=64, width=32, layers=3, heads=4, mlp_width=48, max_positions=128)
IDS = jnp.asarray(np.random.default_rng(0).integers(5, 64, (ROWS, LENGTH)), jnp.int32)
ATTEND = jnp.arange(LENGTH)[None, :] < jnp.array([[LENGTH], [7]])
OUTPUTS = 5 * ENCODER.width + ENCODER.mlp_width
"""Coordinates a token that the dense maps of one layer give: query, key, value, out, down; up."""
PARAMS = init_params(encoder_specs(ENCODER), jax.random.key(0))


def loss(params, cfg: EncoderConfig, ids=IDS, attend=ATTEND):
    return jnp.sum(jnp.sin(encode_hidden(params, ids, attend, cfg).astype(jnp.float32)))


def kept_bytes(cfg: EncoderConfig, ids=IDS, attend=ATTEND) -> int:
    """Of all that the backward pass is handed."""
    backward = jax.eval_shape(lambda params: jax.vjp(lambda p: loss(p, cfg, ids, attend), params)[1], PARAMS)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_neither_values_nor_gradients(remat):
    value_and_grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    kept = value_and_grad(PARAMS, ENCODER)
    again = value_and_grad(PARAMS, replace(ENCODER, remat=remat))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_what_is_kept_in_bytes(dtype, width):
    """By hand: `dots` keeps five outputs of width D and one of width F a token and layer more than `full`, and does
    not need their biases again."""
    kept = {remat: kept_bytes(replace(ENCODER, dtype=dtype, remat=remat)) for remat in ("none", "dots", "full")}
    assert kept["dots"] - kept["full"] == ENCODER.layers * OUTPUTS * (ROWS * LENGTH * width - 4)
    assert kept["none"] > kept["dots"]


def test_dots_keeps_what_splash_keeps_for_itself(monkeypatch):
    """Its output, and a logarithm a token and head, in float32: the kernel is not run again."""
    monkeypatch.setattr(attention, "platform", lambda: "tpu")
    ids, attend = jnp.zeros((ROWS, 128), jnp.int32), jnp.ones((ROWS, 128), bool)
    cfg = replace(ENCODER, dtype="bfloat16", attention="splash")
    kept = {remat: kept_bytes(replace(cfg, remat=remat), ids, attend) for remat in ("dots", "full")}
    a_token = 2 * (OUTPUTS + ENCODER.width) + 4 * ENCODER.heads
    assert kept["dots"] - kept["full"] == ENCODER.layers * (ROWS * 128 * a_token - 4 * OUTPUTS)


# ---- settings --------------------------------------------------------------------------------------------------


def test_towers_of_before_the_policies_are_read():
    """They said yes or no."""
    for said, meant in ((False, "none"), (True, "full"), ("dots", "dots")):
        assert tower_config({"encoder": {"remat": said}, "head": {}}, "x").encoder.remat == meant


def test_a_config_file_that_says_yes_is_told_what_to_write():
    cfg = replace(Config(run="x"), teacher=replace(Config().teacher, path="y"))
    with pytest.raises(ConfigError, match=r"student\.remat=True is not valid; use one of none, dots, full"):
        validate(replace(cfg, student=StudentConfig(remat=True)))  # pyright: ignore[reportArgumentType]


def test_remat_and_attention_are_the_run_s():
    """Whatever the towers say, which are loaded on other devices too."""
    tower = TowerConfig(replace(ENCODER, remat="dots"), HeadConfig())
    cfg = Config(student=StudentConfig(remat="full", attention="xla"))
    student, teacher = student_and_teacher(cfg, tower, tower)
    assert (student.encoder.remat, student.encoder.attention) == ("full", "xla")
    assert teacher.encoder.attention == "auto"


def test_flops_of_what_is_computed_again():
    tower = TowerConfig(ENCODER, HeadConfig(projection=16))
    side = TextInputs(np.zeros((ROWS, LENGTH), np.int32), np.ones((ROWS, LENGTH), bool), np.ones((ROWS, LENGTH), bool))

    def student_flops(remat):
        cfg = Config(loss=LossConfig(name="pooled_cosine"), student=StudentConfig(remat=remat))
        return step_cost(cfg, tower, tower, Batch(side, side)).student_flops / ROWS

    forward = encoder_forward_flops(tower, LENGTH)
    # Two products of [L, K] with [K, L] a head, so of [L, D] with [D, L] a layer; 2 for a multiply and add.
    scores = 3 * 2 * 2 * LENGTH * LENGTH * 32
    assert attention_flops(ENCODER, LENGTH) == scores
    assert [student_flops(remat) for remat in ("none", "dots", "full")] == [
        3 * forward, 3 * forward + scores, 4 * forward,
    ]  # fmt: skip
