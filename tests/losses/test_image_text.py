"""Losses between captions and pictures: by hand, by NumPy, as transformers', by finite differences, on 8 devices."""

import functools
import math
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import ImageTextLossConfig, MeshConfig
from optical_jax.config.validation import check_image_text_loss
from optical_jax.errors import ConfigError
from optical_jax.losses import batch_scores
from optical_jax.losses.image_text import at_most_largest, image_text_loss, image_text_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, named_sharding
from optical_jax.types import TokenVectors
from tests import REFERENCE
from tests.losses.test_losses import E1, E2, assert_same_metrics, pad_pairs, pad_tokens, random_tokens, tokens

CONFIGS = {
    f"{name}, {interaction}": ImageTextLossConfig(name, interaction)
    for name in ("softmax", "sigmoid")
    for interaction in ("pooled", "tokens")
}
every_loss = pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
PAIRS = random_tokens(40, [5, 1, 3, 4]), random_tokens(41, [4, 6, 1, 7])
"""Four captions and their pictures; the second and the last are of one picture."""
IDS = jnp.array([3, 5, 1, 5])
LOG_SCALE, BIAS = 1.2, -0.7


@functools.partial(jax.jit, static_argnames="cfg")
def evaluate(text, image, ids, cfg, log_scale=LOG_SCALE, bias=BIAS):
    """(loss, metrics, gradients by the vectors of both sides, the scale and the bias)."""

    def loss(text_vectors, image_vectors, log_scale, bias):
        sides = text.replace(vectors=text_vectors), image.replace(vectors=image_vectors)
        out = image_text_loss(*sides, ids, log_scale, bias, cfg)
        return out.loss, out.metrics

    of = text.vectors, image.vectors, jnp.asarray(log_scale, jnp.float32), jnp.asarray(bias, jnp.float32)
    (value, metrics), grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*of)
    return value, metrics, grads


# ---- by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interaction", ["pooled", "tokens"])
def test_softmax_by_hand(interaction):
    """Own at cosine 1, the other at 0, a scale of 2: log(1 + exp(-2)) for each of two, both ways."""
    side, cfg = tokens([E1], [E2]), ImageTextLossConfig("softmax", interaction)
    loss, metrics, _ = evaluate(side, side, jnp.arange(2), cfg, log_scale=math.log(2.0))
    assert loss == pytest.approx(math.log1p(math.exp(-2.0)), abs=1e-6)
    assert metrics["scale"] == pytest.approx(2.0)
    assert metrics["pair_cosine"] == pytest.approx(1.0)
    assert metrics["text_first_rank"] == metrics["image_first_rank"] == 1.0


@pytest.mark.parametrize("interaction", ["pooled", "tokens"])
def test_sigmoid_by_hand(interaction):
    """Scale 2, bias -1: the own logit is 1, the other's -1, and both are right: 2 log(1 + exp(-1)) a row."""
    side, cfg = tokens([E1], [E2]), ImageTextLossConfig("sigmoid", interaction)
    loss = evaluate(side, side, jnp.arange(2), cfg, log_scale=math.log(2.0), bias=-1.0)[0]
    assert loss == pytest.approx(2 * math.log1p(math.exp(-1.0)), abs=1e-6)


def test_each_direction_takes_the_mean_over_its_own_tokens():
    """Captions (E1, E2) and (E1), pictures the same two patches and one. From the captions: 1 and 1/2; 1 and 1, a tie.
    From the pictures, which hold the same: so too. Ties are no first ranks."""
    side = tokens([E1, E2], [E1])
    loss, metrics, _ = evaluate(side, side, jnp.arange(2), CONFIGS["softmax, tokens"], log_scale=0.0)
    assert loss == pytest.approx((math.log1p(math.exp(-0.5)) + math.log(2.0)) / 2, abs=1e-6)
    assert metrics["text_first_rank"] == metrics["image_first_rank"] == 0.5
    # A caption of one token against a picture of two patches: 1 from the caption, 1/2 from the picture.
    metrics = evaluate(tokens([E1]), tokens([E1, E2]), jnp.arange(1), CONFIGS["softmax, tokens"])[1]
    assert metrics["pair_cosine"] == pytest.approx(0.75, abs=1e-6)


@every_loss
def test_two_captions_of_one_picture_are_no_negatives(cfg):
    """Three pairs, two of one picture: the two have one negative, the third has two."""
    side = tokens([E1], [E1], [E2])
    loss = evaluate(side, side, jnp.array([7, 7, 2]), cfg, log_scale=0.0, bias=-1.0)[0]
    if cfg.name == "softmax":
        one, two = math.log1p(math.exp(-1.0)), math.log1p(2 * math.exp(-1.0))
    else:  # own logits are 0, the others' -1
        one, two = (math.log(2.0) + n * math.log1p(math.exp(-1.0)) for n in (1, 2))
    assert loss == pytest.approx((2 * one + two) / 3, abs=1e-6)


# ---- oracles -----------------------------------------------------------------------------------------------------


def by_definition(text, image, ids, cfg, scale, bias):
    """In NumPy, float64, a pair at a time."""
    pairs = range(len(ids))
    t, v = ([np.float64(side.vectors[i][side.mask[i]]) for i in pairs] for side in (text, image))
    if cfg.interaction == "pooled":
        t, v = ([x.mean(axis=0, keepdims=True) / np.linalg.norm(x.mean(axis=0)) for x in side] for side in (t, v))

    def best(a, b):
        return (a @ b.T).max(axis=1).mean()

    total = 0.0
    for i in pairs:
        others = [j for j in pairs if ids[j] != ids[i]]
        for score in (lambda j, i=i: best(t[i], v[j]), lambda j, i=i: best(v[i], t[j])):
            if cfg.name == "softmax":
                total -= math.log(math.exp(scale * score(i)) / sum(math.exp(scale * score(j)) for j in [i, *others]))
            else:
                signed = [scale * score(i) + bias, *(-scale * score(j) - bias for j in others)]
                total -= sum(math.log(1 / (1 + math.exp(-x))) for x in signed)
    return total / 2 / len(ids)


@every_loss
def test_is_the_definition(cfg):
    expected = by_definition(*PAIRS, IDS.tolist(), cfg, math.exp(LOG_SCALE), BIAS)
    assert evaluate(*PAIRS, IDS, cfg)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("interaction", ["pooled", "tokens"])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_is_that_of_transformers(name, interaction):
    """Golden numbers of CLIPModel and SiglipModel; with one vector a side both interactions are theirs."""
    golden = {key: np.squeeze(value) for key, value in np.load(REFERENCE / "image_text_losses.npz").items()}
    text, image = (TokenVectors(golden[f"{name}_{side}"][:, None], np.ones((6, 1), bool)) for side in ("text", "image"))
    cfg = ImageTextLossConfig(name, interaction)
    start = golden[f"{name}_log_scale"], golden.get(f"{name}_bias", 0.0)
    loss, metrics, grads = evaluate(text, image, jnp.arange(6), cfg, *start)
    assert loss == pytest.approx(golden[f"{name}_loss"], rel=1e-5)
    assert grads[2] == pytest.approx(golden[f"{name}_log_scale_grad"], rel=1e-4)
    assert grads[3] == pytest.approx(golden.get(f"{name}_bias_grad", 0.0), rel=1e-4)
    cosines = golden[f"{name}_text"] @ golden[f"{name}_image"].T
    assert metrics["text_first_rank"] == pytest.approx((cosines.argmax(axis=1) == np.arange(6)).mean())
    assert metrics["image_first_rank"] == pytest.approx((cosines.argmax(axis=0) == np.arange(6)).mean())


@pytest.mark.parity
def test_golden_numbers_are_those_of_the_transformers_installed():
    pytest.importorskip("torch")
    golden = np.load(REFERENCE / "image_text_losses.npz")
    made = runpy.run_path(str(REFERENCE / "make_image_text_losses.py"))["of_models"]()
    assert set(made) == set(golden)
    for name, value in made.items():
        np.testing.assert_allclose(golden[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


# ---- properties --------------------------------------------------------------------------------------------------


@every_loss
def test_padding_changes_nothing(cfg):
    loss, metrics, grads = evaluate(*PAIRS, IDS, cfg)
    padded = pad_pairs(pad_tokens(PAIRS[0], 2), 3), pad_pairs(pad_tokens(PAIRS[1], 5), 3)
    padded_loss, padded_metrics, padded_grads = evaluate(*padded, jnp.pad(IDS, (0, 3)), cfg)
    np.testing.assert_allclose(padded_loss, loss, rtol=1e-5)
    assert_same_metrics(padded_metrics, metrics, rtol=1e-5)
    for got, expected in zip(padded_grads, grads, strict=True):
        extra = [(0, a - b) for a, b in zip(got.shape, expected.shape, strict=True)]
        np.testing.assert_allclose(got, np.pad(expected, extra) if extra else expected, atol=1e-6)


@every_loss
def test_gradients_by_finite_differences(cfg):
    with jax.enable_x64():
        text, image = (TokenVectors(jnp.asarray(side.vectors, jnp.float64), side.mask) for side in PAIRS)

        @jax.jit
        def loss(x):
            sides = text.replace(vectors=x[0]), image.replace(vectors=x[1])
            return image_text_loss(*sides, IDS, x[2], x[3], cfg).loss

        at = text.vectors, image.vectors, jnp.asarray(LOG_SCALE), jnp.asarray(BIAS)
        grads = jax.jit(jax.grad(loss))(at)
        assert {grad.dtype for grad in grads} == {jnp.dtype("float64")}
        rng = np.random.default_rng(0)
        for _ in range(3):
            direction = [rng.normal(size=x.shape) for x in at]
            up, down = ([x + step * d for x, d in zip(at, direction, strict=True)] for step in (1e-6, -1e-6))
            slope = (loss(tuple(up)) - loss(tuple(down))) / 2e-6
            got = sum((grad * d).sum() for grad, d in zip(grads, direction, strict=True))
            np.testing.assert_allclose(got, slope, rtol=1e-6, atol=1e-8)


@every_loss
def test_eight_devices_give_the_numbers_of_one(cfg):
    rng = np.random.default_rng(0)
    text, image = (random_tokens(seed, [*rng.integers(1, 7, 13), 0, 0, 0]) for seed in (42, 43))
    ids = jnp.asarray(rng.integers(0, 9, 16))
    loss, metrics, grads = evaluate(text, image, ids, cfg)
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    sharded = jax.device_put((text, image, ids), named_sharding(mesh, ("batch",)))
    assert len(sharded[0].vectors.sharding.device_set) == 8
    with jax.set_mesh(mesh):
        sharded_loss, sharded_metrics, sharded_grads = evaluate(*sharded, cfg)
    np.testing.assert_allclose(sharded_loss, loss, rtol=1e-5)
    assert_same_metrics(sharded_metrics, metrics, rtol=1e-5, atol=1e-6)
    for got, expected in zip(sharded_grads, grads, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numbers", [1, 300], ids=["a row a block", "a remainder"])
def test_blocks_change_neither_loss_nor_gradient(numbers, monkeypatch):
    cfg = CONFIGS["softmax, tokens"]
    loss, _, grads = evaluate(*PAIRS, IDS, cfg)
    monkeypatch.setattr(batch_scores, "platform", lambda: "gpu")  # a CPU takes a row at a time
    monkeypatch.setattr(batch_scores, "BLOCK_NUMBERS", numbers)
    monkeypatch.setattr(batch_scores, "KEPT_NUMBERS", 0)
    by_block, _, grads_by_block = jax.jit(evaluate.__wrapped__, static_argnames="cfg")(*PAIRS, IDS, cfg)
    np.testing.assert_allclose(by_block, loss, rtol=1e-5)
    for got, expected in zip(grads_by_block, grads, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_half_precision_vectors_give_float32():
    half = [side.replace(vectors=side.vectors.astype(jnp.float16)) for side in PAIRS]
    rounded = [side.replace(vectors=side.vectors.astype(jnp.float32)) for side in half]
    of_half = evaluate(*half, IDS, CONFIGS["sigmoid, tokens"])[0]
    assert of_half.dtype == jnp.float32
    assert of_half == pytest.approx(float(evaluate(*rounded, IDS, CONFIGS["sigmoid, tokens"])[0]), rel=1e-6)


@every_loss
def test_a_vector_that_is_not_a_number_makes_the_loss_not_a_number(cfg):
    text, image = PAIRS
    broken = text.replace(vectors=text.vectors.at[2, 1].set(jnp.nan))
    assert np.isnan(evaluate(broken, image, IDS, cfg)[0])


# ---- scale and settings ------------------------------------------------------------------------------------------


def test_the_scale_is_at_most_100_and_comes_back():
    bound = math.log(100.0)
    at = jax.value_and_grad(lambda x, sign: sign * at_most_largest(jnp.asarray(x)))
    assert at(bound - 1, 1.0) == (pytest.approx(bound - 1), 1.0)
    assert at(bound - 1, -1.0)[1] == -1.0
    # Beyond: descent would raise it further where the gradient is negative, and lower it where it is positive.
    assert at(bound + 1, -1.0) == (pytest.approx(-bound), 0.0)
    assert at(bound + 1, 1.0) == (pytest.approx(bound), 1.0)
    assert evaluate(*PAIRS, IDS, CONFIGS["softmax, pooled"], log_scale=9.0)[1]["scale"] == pytest.approx(
        100.0, rel=1e-5
    )


def test_parameters_start_as_the_config_says():
    params = init_params(image_text_specs(ImageTextLossConfig("sigmoid", bias=-5.0)), jax.random.key(0))
    assert np.exp(params["log_scale"]) == pytest.approx(10.0)
    assert params["bias"] == -5.0
    params = init_params(image_text_specs(ImageTextLossConfig(temperature=0.5)), jax.random.key(0))
    assert np.exp(params["log_scale"]) == pytest.approx(2.0)
    assert np.exp(image_text_specs(ImageTextLossConfig())["log_scale"].init(None, ())) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_a_scale_that_is_not_learned_has_no_gradient(name):
    loss, _, grads = evaluate(*PAIRS, IDS, ImageTextLossConfig(name, learn_scale=False))
    learned_loss, _, learned = evaluate(*PAIRS, IDS, ImageTextLossConfig(name))
    assert loss == learned_loss
    assert grads[2] == grads[3] == 0.0
    assert learned[2] != 0.0
    np.testing.assert_array_equal(grads[0], learned[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.001}, r"loss.temperature=0.001 is not valid; use at least 0.01"),
        ({"temperature": math.nan}, r"loss.temperature=nan"),
        ({"bias": math.inf}, r"loss.bias=inf"),
        ({"interaction": "patches"}, r"loss.interaction='patches' is not valid; use one of pooled, tokens"),
    ],
)
def test_settings_that_cannot_be(change, said):
    with pytest.raises(ConfigError, match=said):
        check_image_text_loss(ImageTextLossConfig(**change))
    check_image_text_loss(ImageTextLossConfig(temperature=0.01))
