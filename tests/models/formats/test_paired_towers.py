"""CLIP's and SigLIP's towers against golden numbers of PyTorch (reference/make_golden_pairs.py), and properties."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import MeshConfig
from optical_jax.errors import ConfigError
from optical_jax.models.encoders import encode_hidden
from optical_jax.models.formats.pretrained import Pretrained, open_model
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.models.paired_text import at_end_of_text
from optical_jax.models.vision import bicubic_weights, encode_patches
from optical_jax.params import abstract_params, init_params
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.types import ImageInputs, PackedInputs, TextInputs
from tests import REFERENCE

PAIRS = REFERENCE / "pairs"
NAMES = ("clip", "clip-gelu-highest-id-f16", "siglip-sharded-bf16")
SIZES = ("own", "larger", "wide", "odd")

encode = jax.jit(encode_tokens, static_argnames="cfg")


def load(name: str, part, pooling="auto") -> Pretrained:
    return open_model(PAIRS / name).tower(part, pooling=pooling)


def golden(name: str):
    return np.load(PAIRS / name / "golden.npz")


def text_inputs(found, rows=slice(None), length: int = 9) -> TextInputs:
    ids, attend = found["ids"][rows, :length], found["attend"][rows, :length]
    return TextInputs(ids=jnp.asarray(ids), attend=jnp.asarray(attend), keep=jnp.asarray(attend))


def packed(inputs: TextInputs, length: int = 16) -> PackedInputs:
    """Two texts a row, by a loop: the first at the row's beginning, the second right behind it."""
    ids, attend = np.asarray(inputs.ids), np.asarray(inputs.attend)
    B, S = ids.shape
    rows, home, place = np.full((B // 2, length), 39), np.full((B // 2, length), -1), np.full((B, S), -1)
    for text in range(B):
        row, start = text // 2, (text % 2) * int(attend[text - 1].sum())
        for s in range(int(attend[text].sum())):
            at = start + s
            rows[row, at], home[row, at], place[text, s] = ids[text, s], text * S + s, row * length + at
    arrays = rows.astype(np.int32), home >= 0, home.astype(np.int32), place.astype(np.int32), attend
    return PackedInputs(*map(jnp.asarray, arrays))


def allow_sizes(tower: Pretrained) -> Pretrained:
    encoder = dataclasses.replace(tower.cfg.encoder, interpolate=True)
    return tower._replace(cfg=dataclasses.replace(tower.cfg, encoder=encoder))


# ---- the golden numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_those_of_transformers(name):
    found = golden(name)
    pooled, tokens = load(name, "text"), load(name, "text", "none")
    out = encode(pooled.params, text_inputs(found), pooled.cfg)
    assert out.mask.shape == (4, 1)
    np.testing.assert_allclose(out.vectors[:, 0], found["text_pooled"], atol=1e-5)
    out = encode(tokens.params, text_inputs(found), tokens.cfg)
    np.testing.assert_allclose(out.vectors[found["attend"]], found["text_tokens"][found["attend"]], atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_those_of_transformers(name, size):
    found = golden(name)
    for pooling, kind in (("auto", "pooled"), ("none", "patches")):
        tower = load(name, "image", pooling)
        tower = tower if size == "own" else allow_sizes(tower)
        out = encode(tower.params, ImageInputs(jnp.asarray(found[f"{size}_pixels"])), tower.cfg)
        expected = found[f"{size}_{kind}"].reshape(out.vectors.shape)
        np.testing.assert_allclose(out.vectors, expected, atol=1e-5)
        assert out.mask.all()


@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_those_of_the_spec(name, part):
    tower = load(name, part)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), tower.params)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), abstract_params(tower_specs(tower.cfg)))


def test_what_the_configs_say():
    clip, highest, siglip = (load(name, "text").cfg for name in NAMES)
    assert [cfg.encoder.eos_id for cfg in (clip, highest, siglip)] == [7, 2, None]
    assert [cfg.encoder.activation for cfg in (clip, highest, siglip)] == ["quick_gelu", "gelu", "gelu_tanh"]
    assert [cfg.head.pooling for cfg in (clip, highest, siglip)] == ["eos", "eos", "last"]
    assert [cfg.head.document_length for cfg in (clip, highest, siglip)] == [9, 9, 9]
    image = load("siglip-sharded-bf16", "image").cfg
    assert (image.encoder.grid, image.head.pooling, image.vector_width, siglip.vector_width) == (3, "map", 16, 16)


# ---- texts -----------------------------------------------------------------------------------------------------


def test_ends_of_texts_by_hand():
    ids = np.array([[5, 7, 9, 7], [5, 9, 9, 7], [5, 6, 8, 7]])
    attend = np.array([[True, True, True, True], [True, True, True, False], [True, True, False, False]])
    cfg = load("clip", "text").cfg.encoder
    first = at_end_of_text(ids, attend, cfg)
    np.testing.assert_array_equal(first.argmax(1), [1, 0, 0])  # no end among the tokens: the first, as PyTorch's argmax
    highest = at_end_of_text(ids, attend, dataclasses.replace(cfg, eos_id=2))
    np.testing.assert_array_equal(highest.argmax(1), [2, 1, 1])
    assert (first.sum(1) == 1).all()


@pytest.mark.parametrize("pooling", ["auto", "none", "mean"])
@pytest.mark.parametrize("name", NAMES)
def test_padding_and_packing_change_nothing(name, pooling):
    """SigLIP, which reads its padding, fills every text up itself: rows of any length give one vector."""
    found, tower = golden(name), load(name, "text", pooling)
    rows = slice(1, 4)
    whole, short = text_inputs(found, rows), text_inputs(found, rows, length=6)
    other = whole.replace(ids=jnp.where(whole.attend, whole.ids, 38))
    out = encode(tower.params, whole, tower.cfg)
    for inputs in (short, other):
        again = encode(tower.params, inputs, tower.cfg)
        np.testing.assert_allclose(again.vectors[again.mask], out.vectors[out.mask], atol=2e-6)
    four = text_inputs(found)
    together, apart = encode(tower.params, packed(four), tower.cfg), encode(tower.params, four, tower.cfg)
    np.testing.assert_array_equal(together.mask, apart.mask)
    np.testing.assert_allclose(together.vectors, apart.vectors, atol=2e-6)


@pytest.mark.parametrize(("name", "reads_on"), [("clip", False), ("siglip-sharded-bf16", True)])
def test_who_reads_what_follows(name, reads_on):
    found, tower = golden(name), load(name, "text")
    ids, attend = found["ids"][:1], np.ones((1, 9), bool)
    changed = ids.copy()
    changed[0, 8] += 1
    params = jax.tree.map(jnp.asarray, tower.params["encoder"])
    states = [encode_hidden(params, x, attend, tower.cfg.encoder) for x in (ids, changed)]
    moved = np.abs(np.asarray(states[0] - states[1])).max(axis=2)[0] > 1e-3
    np.testing.assert_array_equal(moved, [reads_on] * 8 + [True])


def test_texts_longer_than_the_position_table():
    tower = load("siglip-sharded-bf16", "text")
    ids = np.ones((1, 10), np.int32)
    with pytest.raises(ConfigError, match=r"texts of 10 tokens do not fit encoder\.max_positions=9"):
        encode(tower.params, TextInputs(ids, ids > 0, ids > 0), tower.cfg)


# ---- pictures --------------------------------------------------------------------------------------------------


def test_other_sizes_are_refused_unless_asked_for():
    found, tower = golden("clip"), load("clip", "image")
    with pytest.raises(
        ConfigError, match=r"18 x 18 pixels.*encoder's 14 x 14; resize them, or set encoder.interpolate"
    ):
        encode(tower.params, ImageInputs(jnp.asarray(found["larger_pixels"])), tower.cfg)
    with pytest.raises(ConfigError, match="3 x 8 pixels are smaller than a patch of 4"):
        encode(tower.params, ImageInputs(jnp.zeros((1, 3, 8, 3))), allow_sizes(tower).cfg)


def test_bicubic_weights():
    """Rows sum to one, the same size is the identity, and a straight line stays one away from the edges."""
    np.testing.assert_array_equal(bicubic_weights(4, 4), np.eye(4))
    weights = bicubic_weights(8, 16)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    line = weights @ np.arange(8.0)
    # By hand, from the kernel: f(t) - t = -(2 a + 1) t (2 t - 1) (t - 1), with a = -3/4. New places 5 and 6 are at 2.25
    # and 2.75 of the old ones.
    np.testing.assert_allclose(line[5:7], [2.25 + 3 / 64, 2.75 - 3 / 64], atol=1e-6)


@pytest.mark.parametrize("pooling", ["auto", "none", "mean"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_fill_up_a_batch_have_no_vectors_and_no_gradient(name, pooling):
    found, tower = golden(name), load(name, "image", pooling)
    pixels = jnp.asarray(found["own_pixels"]).at[1].set(0.0)

    def loss(params, keep):
        out = encode_tokens(params, ImageInputs(pixels, keep), tower.cfg)
        return jnp.sum(jnp.sin(3 * out.vectors)), out

    step = jax.jit(jax.grad(loss, has_aux=True))
    grads, out = step(tower.params, jnp.array([True, False]))
    assert not out.mask[1].any()
    assert not np.asarray(out.vectors[1]).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(grads))
    none, _ = step(tower.params, jnp.array([False, False]))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(none))


def test_a_late_interaction_head_over_patches():
    """A projection of one's own in place of CLIP's, as a text tower may have, and masses with it."""
    found, tower = golden("clip"), load("clip", "image", "none")
    plain = dataclasses.replace(tower.cfg, head=dataclasses.replace(tower.cfg.head, projection=0))
    cfg = dataclasses.replace(plain, head=dataclasses.replace(plain.head, projection=5, masses="norm"))
    kernel = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
    params = {"encoder": tower.params["encoder"], "head": {"projection": {"kernel": kernel}}}
    pixels = ImageInputs(jnp.asarray(found["own_pixels"]))
    bare = encode({**params, "head": {}}, pixels, plain)
    out = encode(params, pixels, cfg)
    assert out.vectors.shape == (2, 9, 5) == (2, 9, cfg.vector_width)
    expected = np.asarray(bare.vectors) @ kernel  # unit vectors and their projections point where the states' do
    np.testing.assert_allclose(out.vectors, expected / np.linalg.norm(expected, axis=-1, keepdims=True), atol=1e-5)
    assert out.weight is not None
    assert (np.asarray(out.weight) > 0).all()


@pytest.mark.parametrize("name", ["clip", "siglip-sharded-bf16"])
def test_a_mean_of_patches_is_taken_before_the_projection(name):
    found, tower = golden(name), load(name, "image", "mean")
    pixels = jnp.asarray(found["own_pixels"])
    out = encode(tower.params, ImageInputs(pixels), tower.cfg)
    params = jax.tree.map(jnp.asarray, tower.params)
    expected = np.asarray(encode_patches(params["encoder"], pixels, tower.cfg.encoder))[:, -9:].mean(axis=1)
    if tower.cfg.head.projection:
        expected = expected @ params["head"]["projection"]["kernel"]
    expected = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(out.vectors[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["auto", "none"])
def test_arrays_of_numpy_without_jit(pooling):
    found = golden(NAMES[2])
    for part in ("text", "image"):
        tower = load(NAMES[2], part, pooling)
        if part == "text":
            inputs = TextInputs(found["ids"], found["attend"], found["attend"])
        else:
            inputs = ImageInputs(found["own_pixels"], np.array([True, True]))
        out = encode_tokens(jax.tree.map(jnp.asarray, tower.params), inputs, tower.cfg)
        again = encode(tower.params, jax.tree.map(jnp.asarray, inputs), tower.cfg)
        np.testing.assert_allclose(out.vectors, again.vectors, atol=2e-6)


# ---- heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part", "pooling"), [("clip", "text", "last"), ("clip", "image", "map"), (NAMES[2], "image", "cls")]
)
def test_a_head_that_the_encoder_has_not_is_refused(name, part, pooling):
    cfg = load(name, part).cfg
    with pytest.raises(ConfigError, match=f"head.pooling='{pooling}' is not valid for an encoder of family"):
        tower_specs(dataclasses.replace(cfg, head=dataclasses.replace(cfg.head, pooling=pooling)))


def test_an_augmentation_that_cannot_be_left_unread_is_refused():
    cfg = load(NAMES[2], "text", "none").cfg
    with pytest.raises(ConfigError, match=r"set head\.attend_to_augmentation"):
        tower_specs(dataclasses.replace(cfg, head=dataclasses.replace(cfg.head, augment_queries=True)))


def test_texts_and_pictures_do_not_mix():
    text, image, found = load("clip", "text"), load("clip", "image"), golden("clip")
    with pytest.raises(ConfigError, match=r"text tower of family .* cannot encode images"):
        encode(text.params, ImageInputs(jnp.asarray(found["own_pixels"])), text.cfg)
    with pytest.raises(ConfigError, match=r"image tower of family .* cannot encode texts"):
        encode(image.params, text_inputs(found), image.cfg)


def test_a_kernel_that_reads_both_ways_is_refused():
    tower = load("clip", "text")
    cfg = dataclasses.replace(tower.cfg, encoder=dataclasses.replace(tower.cfg.encoder, attention="cudnn"))
    with pytest.raises(ConfigError, match=r"encoder\.attention=cudnn is bidirectional, but clip is causal; use xla"):
        encode(tower.params, text_inputs(golden("clip")), cfg)


# ---- layouts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize("name", ["clip", "siglip-sharded-bf16"])
def test_sharded_equals_one_device(name, part, capfd):
    """Parameters over fsdp and tensor, batch over data and fsdp: the same vectors and gradients."""
    pooling = "none" if name == "clip" else "auto"
    tower, mesh = load(name, part, pooling), make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rng, specs = np.random.default_rng(0), tower_specs(tower.cfg)
    if part == "image":
        inputs = ImageInputs(jnp.asarray(rng.standard_normal((8, 14, 14, 3)), jnp.float32), jnp.ones(8, bool))
    else:
        attend = jnp.asarray(np.arange(9) < rng.integers(1, 10, (8, 1)))
        inputs = TextInputs(jnp.asarray(rng.integers(3, 40, (8, 9)), jnp.int32), attend, attend)

    def loss(params, inputs):
        out = encode_tokens(params, inputs, tower.cfg)
        return jnp.sum(jnp.sin(3 * out.vectors)), out

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, alone), alone_grads = step(jax.tree.map(jnp.asarray, tower.params), inputs)
    placed = jax.device_put(tower.params, params_shardings(specs, mesh))
    assert not placed["encoder"]["layers"]["mlp"]["up"]["kernel"].sharding.is_fully_replicated
    with jax.set_mesh(mesh):
        (_, out), grads = step(placed, jax.device_put(inputs, named_sharding(mesh, ("batch",))))
    np.testing.assert_array_equal(out.mask, alone.mask)
    np.testing.assert_allclose(out.vectors, alone.vectors, atol=1e-5)
    for one, many in zip(jax.tree.leaves(alone_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-4)
    assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_no_gradient(remat):
    found, tower = golden("clip"), load("clip", "image")

    def loss(params, cfg):
        out = encode_tokens(params, ImageInputs(jnp.asarray(found["own_pixels"])), cfg)
        return jnp.sum(jnp.sin(3 * out.vectors))

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    again = dataclasses.replace(tower.cfg, encoder=dataclasses.replace(tower.cfg.encoder, remat=remat))
    for a, b in zip(*(jax.tree.leaves(grad(tower.params, cfg)) for cfg in (tower.cfg, again)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_drawn_towers_in_bfloat16_are_close():
    for part in ("text", "image"):
        cfg, found = load("clip", part).cfg, golden("clip")
        half = dataclasses.replace(cfg, encoder=dataclasses.replace(cfg.encoder, dtype="bfloat16"))
        params = init_params(tower_specs(cfg), jax.random.key(0))
        inputs = text_inputs(found) if part == "text" else ImageInputs(jnp.asarray(found["own_pixels"]))
        exact, rough = encode(params, inputs, cfg), encode(params, inputs, half)
        assert rough.vectors.dtype == jnp.float32
        assert np.sum(exact.vectors * rough.vectors, -1).min() > 0.999
