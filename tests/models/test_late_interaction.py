"""The head: unit vectors, masks and pooling, by hand on hidden states and by property."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import EncoderConfig, HeadConfig, MeshConfig, TowerConfig
from optical_jax.models.bert import encode_hidden
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.types import TextInputs, TokenVectors, mean_pool, unit

ENCODER = EncoderConfig(vocab_size=64, width=32, layers=2, heads=4, mlp_width=48, max_positions=24)
encode = jax.jit(encode_tokens, static_argnames="cfg")


def tower(**head) -> TowerConfig:
    return TowerConfig(encoder=ENCODER, head=HeadConfig(**head))


def random_params(cfg: TowerConfig):
    return init_params(tower_specs(cfg), jax.random.key(0))


def text_inputs(lengths=(7, 4, 1), length: int = 7) -> TextInputs:
    """Random texts; the second token of each gives no vector, as skipped punctuation does."""
    rng = np.random.default_rng(0)
    attend = np.arange(length)[None, :] < np.asarray(lengths)[:, None]
    keep = attend & (np.arange(length) != 1)
    ids = np.where(attend, rng.integers(1, ENCODER.vocab_size, attend.shape), 0)
    weight = np.where(attend, rng.random(attend.shape), 0.0)
    return TextInputs(*map(jnp.asarray, (ids, attend, keep, weight.astype(np.float32))))


def hidden_states(params, inputs: TextInputs, cfg: TowerConfig) -> np.ndarray:
    return np.asarray(encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder), np.float64)


def normalised(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("projection", [0, 12])
def test_a_vector_a_token(projection):
    cfg = tower(projection=projection)
    params, inputs = random_params(cfg), text_inputs()
    out = encode(params, inputs, cfg)
    keep = np.asarray(inputs.keep)
    assert out.vectors.shape == (3, 7, projection or 32) == (*inputs.ids.shape, cfg.vector_width)
    np.testing.assert_array_equal(out.mask, keep)
    np.testing.assert_array_equal(out.weight, inputs.weight)
    assert (np.asarray(out.vectors)[~keep] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(out.vectors[keep], axis=-1), 1.0, atol=1e-6)
    states = hidden_states(params, inputs, cfg)
    if projection:
        states = states @ np.asarray(params["head"]["projection"]["kernel"], np.float64)
    np.testing.assert_allclose(out.vectors[keep], normalised(states)[keep], atol=1e-6)


@pytest.mark.parametrize("projection", [0, 12])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_one_vector_a_text(pooling, projection):
    """As Sentence Transformers: raw hidden states are pooled over the attended tokens, then projected."""
    cfg = tower(pooling=pooling, projection=projection)
    params, inputs = random_params(cfg), text_inputs()
    out = encode(params, inputs, cfg)
    states, attend = hidden_states(params, inputs, cfg), np.asarray(inputs.attend)
    pooled = [row[real].mean(0) if pooling == "mean" else row[0] for row, real in zip(states, attend, strict=True)]
    expected = np.stack(pooled)
    if projection:
        expected = expected @ np.asarray(params["head"]["projection"]["kernel"], np.float64)
    assert out.vectors.shape == (3, 1, cfg.vector_width)
    np.testing.assert_array_equal(out.mask, [[True]] * 3)
    assert out.weight is None
    np.testing.assert_allclose(out.vectors[:, 0], normalised(expected), atol=1e-6)


@pytest.mark.parametrize("pooling", ["none", "mean", "cls"])
def test_padding_changes_nothing(pooling):
    cfg = tower(pooling=pooling, projection=12)
    params, inputs = random_params(cfg), text_inputs()
    longer = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 6))), inputs).replace(
        ids=jnp.pad(inputs.ids, ((0, 0), (0, 6)), constant_values=9)
    )
    out, padded = encode(params, inputs, cfg), encode(params, longer, cfg)
    np.testing.assert_allclose(padded.vectors[padded.mask], out.vectors[out.mask], atol=2e-6)
    assert not np.asarray(padded.vectors)[~np.asarray(padded.mask)].any()


@pytest.mark.parametrize("pooling", ["none", "mean", "cls"])
def test_a_padded_row_counts_for_nothing(pooling):
    cfg = tower(pooling=pooling, projection=12)
    params, inputs = random_params(cfg), text_inputs(lengths=(7, 0, 3))

    def loss(params):
        out = encode_tokens(params, inputs, cfg)
        return jnp.sum(jnp.sin(out.vectors)), out

    grads, out = jax.grad(loss, has_aux=True)(params)
    assert not out.mask[1].any()
    assert not np.asarray(out.vectors[1]).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_mask_token_reads_but_is_not_read():
    """[MASK] augmentation: `attend` False and `keep` True gives a vector and leaves the others as they were."""
    cfg = tower()
    params, inputs = random_params(cfg), text_inputs(lengths=(5,))
    augmented = inputs.replace(ids=inputs.ids.at[0, 5].set(60), keep=inputs.keep.at[0, 5].set(True))
    plain, out = encode(params, inputs, cfg), encode(params, augmented, cfg)
    np.testing.assert_allclose(out.vectors[0, :5], plain.vectors[0, :5], atol=1e-6)
    assert np.linalg.norm(out.vectors[0, 5]) == pytest.approx(1.0, abs=1e-6)
    others = encode(params, augmented.replace(ids=augmented.ids.at[0, 0].set(61)), cfg)
    assert not np.allclose(others.vectors[0, 5], out.vectors[0, 5], atol=1e-4)


def test_bfloat16_gives_float32_vectors():
    half = TowerConfig(dataclasses.replace(ENCODER, dtype="bfloat16"), HeadConfig(projection=12))
    params, inputs = random_params(half), text_inputs()
    exact, rough = encode(params, inputs, tower(projection=12)), encode(params, inputs, half)
    assert rough.vectors.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(rough.vectors[rough.mask], axis=-1), 1.0, atol=1e-6)
    cosine = np.sum(exact.vectors * rough.vectors, -1)[np.asarray(exact.mask)]
    assert cosine.min() > 0.999


def test_unit_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-7)
    # d(x/|x|)/dx has no part along x: of the first entry at (3, 4) it is (1 - 0.36) / 5 and -0.48 / 5.
    grads = jax.grad(lambda x: unit(x)[:, 0].sum())(x)
    np.testing.assert_allclose(grads, [[0.128, -0.096], [0, 0], [0.5, 0]], atol=1e-6)


def test_mean_pool_by_hand():
    vectors = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], [[0.0, 1.0], [9.0, 9.0], [9.0, 9.0]], [[9.0, 9.0]] * 3])
    mask = jnp.array([[True, True, False], [True, False, False], [False] * 3])
    pooled = mean_pool(TokenVectors(vectors, mask))
    np.testing.assert_allclose(pooled.vectors[:, 0], [[0.5**0.5, 0.5**0.5], [0, 1], [0, 0]], atol=1e-6)
    np.testing.assert_array_equal(pooled.mask, [[True], [True], [False]])


def test_opposite_vectors_pool_to_zero_with_a_finite_gradient():
    vectors, mask = jnp.array([[[1.0, 0.0], [-1.0, 0.0]]]), jnp.ones((1, 2), bool)

    def loss(vectors):
        return jnp.sum(jnp.square(mean_pool(TokenVectors(vectors, mask)).vectors - 1.0))

    value, grads = jax.value_and_grad(loss)(vectors)
    assert value == 2.0
    assert np.isfinite(grads).all()


def test_sharded_equals_one_device():
    cfg, mesh = tower(projection=12), make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    params, inputs = random_params(cfg), text_inputs(lengths=(7, 4, 1, 3, 2, 6, 5, 7))

    def loss(params, inputs):
        out = encode_tokens(params, inputs, cfg)
        return jnp.sum(jnp.sin(mean_pool(out).vectors)), out

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, alone), alone_grads = step(params, inputs)
    with jax.set_mesh(mesh):
        (_, out), grads = step(
            jax.device_put(params, params_shardings(tower_specs(cfg), mesh)),
            jax.device_put(inputs, named_sharding(mesh, ("batch",))),
        )
    np.testing.assert_array_equal(out.mask, alone.mask)
    np.testing.assert_allclose(out.vectors, alone.vectors, atol=1e-5)
    for one, many in zip(jax.tree.leaves(alone_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-5)
