"""The NNX face: the same numbers as the functions, and what NNX users do with a module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.models.nnx_module import TowerModule
from optical_jax.params import count_params
from optical_jax.types import TextInputs

CFG = TowerConfig(
    encoder=EncoderConfig(vocab_size=40, width=16, layers=2, heads=2, mlp_width=24, max_positions=8),
    head=HeadConfig(projection=6),
)


@pytest.fixture
def inputs() -> TextInputs:
    ids = jnp.array([[2, 7, 9, 3, 0], [2, 11, 3, 0, 0]])
    return TextInputs(ids=ids, attend=ids > 0, keep=ids > 0)


def loss_of(vectors: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(3.0 * vectors))


def test_same_vectors_and_parameters_as_the_functions(inputs):
    tower = TowerModule(CFG, rngs=nnx.Rngs(0))
    params = tower.pure_params()
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        lambda spec: spec.shape, tower_specs(CFG), is_leaf=lambda x: hasattr(x, "axes")
    )
    out = nnx.jit(lambda tower, inputs: tower(inputs))(tower, inputs)
    np.testing.assert_allclose(out.vectors, encode_tokens(params, inputs, CFG).vectors, atol=1e-6)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(tower, nnx.Param))) == count_params(tower_specs(CFG))


def test_split_and_merge(inputs):
    tower = TowerModule(CFG, rngs=nnx.Rngs(0))
    graph, state = nnx.split(tower, nnx.Param)
    halved = jax.tree.map(lambda x: 0.5 * x, state)
    moved = nnx.merge(graph, halved)
    np.testing.assert_allclose(
        moved.pure_params()["head"]["projection"]["kernel"], 0.5 * tower.pure_params()["head"]["projection"]["kernel"]
    )
    assert moved.cfg == CFG
    assert not np.allclose(moved(inputs).vectors, tower(inputs).vectors)


def test_gradient_equals_the_functions(inputs):
    tower = TowerModule(CFG, rngs=nnx.Rngs(1))
    grads = nnx.grad(lambda tower: loss_of(tower(inputs).vectors))(tower)
    expected = jax.grad(lambda params: loss_of(encode_tokens(params, inputs, CFG).vectors))(tower.pure_params())
    got = nnx.to_pure_dict(grads)["params"]
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_without_a_projection(inputs):
    """The head is then an empty dict, which NNX must carry along."""
    cfg = TowerConfig(encoder=CFG.encoder)
    tower = TowerModule(cfg, rngs=nnx.Rngs(0))
    assert tower(inputs).vectors.shape == (2, 5, 16)
    assert nnx.merge(*nnx.split(tower))(inputs).vectors.shape == (2, 5, 16)
