"""bfloat16 is the type of activations and of factors, and of nothing else: read from the step as it is lowered."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    MeshConfig,
    StudentConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.models.late_interaction import tower_specs
from optical_jax.models.layers import contract
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.state import init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.types import Batch, PackedInputs, TextInputs

TOWER = TowerConfig(
    EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=16, dtype="bfloat16"),
    HeadConfig(projection=8),
)
DOT = re.compile(r"stablehlo\.dot_general .* : \(tensor<(\S*)>, tensor<(\S*)>\) -> tensor<(\S*)>")
IN_FLOAT32 = re.compile(r"stablehlo\.(exponential|r?sqrt|log|divide|reduce|scatter|tanh)[ (]|chlo\.erf")
"""What norms, softmax, GELU, pooling, transport and the optimizer are made of, and no residual or bias is."""


def kind(tensor: str) -> str:
    return tensor.rsplit("x", 1)[-1]


def padded() -> TextInputs:
    real = np.arange(8) < np.array([[8], [3], [5], [1]])
    return TextInputs(np.where(real, 7, 0).astype(np.int32), real, real)


def packed() -> PackedInputs:
    """Two rows of two texts of 4 tokens."""
    at = np.arange(16, dtype=np.int32)
    keep = np.ones((4, 4), bool)
    return PackedInputs(np.full((2, 8), 7, np.int32), np.ones((2, 8), bool), at.reshape(2, 8), at.reshape(4, 4), keep)


def traced_step(side, remat="none", tower=TOWER):
    cfg = Config(data=DataConfig(global_batch=4), training=TrainingConfig(steps=3), student=StudentConfig(remat=remat))
    mesh, tx = make_mesh(cfg.mesh, jax.devices()[:1]), make_optimizer(cfg.optimizer, 3)
    params = init_params(tower_specs(tower), jax.random.key(0))
    with jax.set_mesh(mesh):
        state = init_train_state(params, tower_specs(tower), mesh, tx)
        return make_train_step(cfg, tower, tower, mesh, tx).trace(state, params, Batch(side, side)), state


def equations(jaxpr, name: str) -> list:
    """All of that primitive, in loops and calls too."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == name:
            found.append(eqn)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found += equations(inner, name) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize(("remat", "again"), [("none", 0), ("dots", 2), ("full", 8)])
@pytest.mark.parametrize("side", [padded(), packed()], ids=["padded", "packed"])
def test_the_whole_step_sums_in_float32(side, remat, again):
    """By hand: eight products a layer, which stands once for all, and one in the head. The student's have two gradients
    each, and what is computed again."""
    traced, state = traced_step(side, remat)
    narrow = [eqn for eqn in equations(traced.jaxpr.jaxpr, "dot_general") if eqn.invars[0].aval.dtype == jnp.bfloat16]
    assert len(narrow) == (8 + 1) + 3 * (8 + 1) + again
    lowered = traced.lower()
    text = lowered.as_text()
    dots = [tuple(map(kind, found)) for found in DOT.findall(text)]
    assert len(dots) == text.count("stablehlo.dot_general")
    # Of two types one would be widened, and the product be done in float32, as cost and transport are from the start.
    assert set(dots) == {("bf16", "bf16", "bf16"), ("bf16", "bf16", "f32"), ("f32", "f32", "f32")}
    # In float32: scores, what is read by them, the head; and the gradients of six kernels a layer and one in the head.
    # The teacher's has no gradient.
    wide = [eqn for eqn in narrow if eqn.outvars[0].aval.dtype == jnp.float32]
    assert len(wide) == 2 * (2 + 1) + (6 + 1) + {"none": 0, "dots": 2, "full": 2}[remat]
    for line in text.splitlines():
        if IN_FLOAT32.search(line):
            assert "bf16" not in line, line
    assert {leaf.dtype for leaf in jax.tree.leaves(traced.out_info[0])} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    if remat == "full":  # The step with the most in it is also run.
        _, metrics = lowered.compile()(state, init_params(tower_specs(TOWER), jax.random.key(0)), Batch(side, side))
        assert np.isfinite(metrics["loss"])


def test_a_step_in_float32_has_nothing_narrow():
    tower = replace(TOWER, encoder=replace(TOWER.encoder, dtype="float32"))
    assert "bf16" not in traced_step(packed(), tower=tower)[0].lower().as_text()


@pytest.mark.parametrize(
    ("equation", "x", "y"),
    [
        ("MI,IO->MO", (50, 70), (70, 30)),
        ("BHLK,BHTK->BHLT", (2, 3, 50, 70), (2, 3, 40, 70)),
        ("BHLT,BHTK->BHLK", (2, 3, 50, 40), (2, 3, 40, 70)),
        ("BLD,DE->BLE", (2, 50, 70), (70, 30)),
    ],
)
def test_products_and_gradients_by_numpy(equation, x, y):
    """Of factors that bfloat16 holds exactly: then only the sums could be rounded, and float32 holds those too."""
    rng = np.random.default_rng(0)
    shape = np.einsum(equation, np.zeros(x), np.zeros(y)).shape
    x, y, g = (rng.integers(-8, 9, size).astype(np.float64) for size in (x, y, shape))
    narrow = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y)
    product, back = jax.vjp(lambda x, y: contract(equation, x, y, "float32"), *narrow)
    x_gradient, y_gradient = back(jnp.asarray(g, jnp.float32))
    of_x, of_y, out = re.split(",|->", equation)
    np.testing.assert_array_equal(product, np.einsum(equation, x, y))
    assert (product.dtype, x_gradient.dtype, y_gradient.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    assert contract(equation, *narrow).dtype == jnp.bfloat16
    want = np.einsum(f"{out},{of_y}->{of_x}", g, y)
    np.testing.assert_array_equal(x_gradient, jnp.asarray(want, jnp.bfloat16))
    np.testing.assert_array_equal(y_gradient, np.einsum(f"{of_x},{out}->{of_y}", x, g))


def test_a_gradient_of_many_tokens_loses_none():
    """Of 4097 ones the sum is 4097, which bfloat16 does not hold; summed in bfloat16 it would stop at 256."""
    x, kernel = jnp.ones((4097, 1), jnp.bfloat16), jnp.ones((1, 1))
    gradient = jax.grad(lambda kernel: contract("MI,IO->MO", x, kernel).sum())(kernel)
    assert gradient == 4097


@pytest.mark.parametrize("result", [None, "float32"])
def test_what_devices_sum_in_parts_is_rounded_once(result):
    """257 ones on one device, 256 minus ones on the other: a part rounded to bfloat16 would be 256, and the sum 0."""
    mesh = make_mesh(MeshConfig(tensor=2, data=1), jax.devices()[:2])
    x = jnp.asarray([[1.0] * 257 + [-1.0] * 256 + [0.0]], jnp.bfloat16)
    split = NamedSharding(mesh, PartitionSpec(None, "tensor")), NamedSharding(mesh, PartitionSpec("tensor", None))
    with jax.set_mesh(mesh):
        product = jax.jit(lambda x, y: contract("MI,IO->MO", x, y, result))
        assert product(jax.device_put(x, split[0]), jax.device_put(np.ones((514, 1), np.float32), split[1])) == 1.0
        # The gradient of x, of a kernel split over its outputs.
        gradient = jax.jit(jax.grad(lambda x, y: contract("MI,IO->MO", x, y).astype(jnp.float32).sum()))
        kernel = jax.device_put(np.asarray(x, np.float32), split[0])
        assert gradient(jnp.ones((1, 1), jnp.bfloat16), kernel) == 1.0
