"""The step of an image-text teacher: the same on 1 device and on 8, in one part and in several."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from optical_jax.config import (
    EncoderConfig,
    HeadConfig,
    ImageDataConfig,
    ImageEncoderConfig,
    ImageSideConfig,
    ImageStageConfig,
    ImageTextLossConfig,
    ImageTowerConfig,
    OptimizerConfig,
    TextSideConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.losses.image_text import image_text_loss
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.params import count_params, init_params
from optical_jax.partitioning import make_mesh, named_sharding
from optical_jax.training.image_teacher.step import frozen_parts, make_image_text_step, pair_specs
from optical_jax.training.loop import put
from optical_jax.training.optimizer import FrozenParts, make_optimizer, trained_part, with_trained
from optical_jax.training.state import init_train_state
from optical_jax.types import ImageInputs, ImageTextBatch, TextInputs, TokenVectors

TEXT = TowerConfig(
    EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=16), HeadConfig(projection=8)
)
IMAGE = ImageTowerConfig(
    ImageEncoderConfig(image_size=8, patch_size=4, width=16, layers=2, heads=2, mlp_width=32), HeadConfig(projection=8)
)
CFG = ImageStageConfig(
    text=TextSideConfig(locked=False),
    data=ImageDataConfig(global_batch=16),
    optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=2),
    training=TrainingConfig(steps=20),
)


encode = jax.jit(encode_tokens, static_argnums=2)


def random_batch(step: int) -> ImageTextBatch:
    """16 pictures with captions of 1 to 8 tokens; one of the pictures stands twice."""
    rng = np.random.default_rng(step)
    real = np.arange(8) < rng.integers(1, 9, (16, 1))
    ids = np.where(real, rng.integers(1, 64, (16, 8)), 0).astype(np.int32)
    picture = np.array([*range(15), 3], np.int32)
    pixels = rng.standard_normal((15, 8, 8, 3)).astype(np.float32)[picture % 15]
    return ImageTextBatch(ImageInputs(pixels), TextInputs(ids=ids, attend=real, keep=real), picture)


BATCHES = [random_batch(step) for step in range(20)]


def run_steps(cfg, devices, batches, text=TEXT, image=IMAGE):
    """Losses of one run of drawn towers, and its state at the end."""
    mesh = make_mesh(cfg.mesh, jax.devices()[:devices])
    tx, frozen, specs = make_optimizer(cfg.optimizer, cfg.training.steps), frozen_parts(cfg), None
    specs = pair_specs(text, image, cfg.loss)
    losses = []
    with jax.set_mesh(mesh):
        step = make_image_text_step(cfg, text, image, mesh, tx)
        state = init_train_state(init_params(specs, jax.random.key(1)), specs, mesh, tx, frozen)
        for batch in batches:
            state, metrics = step(state, put(batch, named_sharding(mesh, ("batch",))))
            losses.append({name: float(value) for name, value in metrics.items()})
    return losses, jax.device_get(state)


@pytest.mark.parametrize(
    "loss", [ImageTextLossConfig(), ImageTextLossConfig("sigmoid", "tokens")], ids=lambda one: one.name
)
def test_eight_devices_are_one(loss):
    cfg = replace(CFG, loss=loss)
    alone, spread = run_steps(cfg, 1, BATCHES[:10])[0], run_steps(cfg, 8, BATCHES[:10])[0]
    for one, other in zip(alone, spread, strict=True):
        for name in ("loss", "grad_norm", "scale"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5)


def test_parts_are_the_whole():
    """The negatives are those of the whole batch, in however many parts it is encoded."""
    whole = run_steps(CFG, 1, BATCHES[:4])[0]
    parts = run_steps(replace(CFG, training=TrainingConfig(steps=20, accumulate=4)), 1, BATCHES[:4])[0]
    np.testing.assert_allclose([one["loss"] for one in parts], [one["loss"] for one in whole], rtol=1e-5)


def test_the_loss_is_that_of_the_losses_module_and_goes_down():
    cfg = replace(CFG, loss=ImageTextLossConfig(interaction="tokens"))
    specs, batch = pair_specs(TEXT, IMAGE, cfg.loss), BATCHES[0]
    params = init_params(specs, jax.random.key(1))
    text, image = encode(params["text"], batch.texts, TEXT), encode(params["image"], batch.images, IMAGE)
    ids, loss_params = jax.numpy.asarray(batch.picture), (params["log_scale"], params["bias"])
    expected = image_text_loss(text, image, ids, *loss_params, cfg.loss).loss
    losses, _ = run_steps(cfg, 1, [batch] * 20)
    np.testing.assert_allclose(losses[0]["loss"], expected, rtol=1e-5)
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]


def test_what_is_locked_stays_and_has_no_optimizer_state():
    cfg = replace(CFG, text=TextSideConfig(locked=True))
    specs = pair_specs(TEXT, IMAGE, cfg.loss)
    _, state = run_steps(cfg, 8, BATCHES[:3])
    start = jax.device_get(init_params(specs, jax.random.key(1)))
    jax.tree.map(np.testing.assert_array_equal, state.params["text"], start["text"])
    assert state.params["bias"] == start["bias"]  # softmax does not see it
    assert state.params["log_scale"] != start["log_scale"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params["image"], start["image"])
    assert all(jax.tree.leaves(moved))
    of_adam = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert of_adam == 2 * (count_params(specs["image"]))  # beside two moments of the scale, which has no dimension


def test_vectors_that_were_held_teach_as_the_tower_does():
    cfg = replace(CFG, text=TextSideConfig(locked=True))
    params = init_params(pair_specs(TEXT, IMAGE, cfg.loss), jax.random.key(1))

    def held(batch):
        found = encode(params["text"], batch.texts, TEXT)
        vectors, mask = np.asarray(found.vectors, np.float16), np.asarray(found.mask)
        return replace(batch, texts=TokenVectors(vectors, mask))

    now = run_steps(cfg, 1, BATCHES[:3])[0]
    before = run_steps(cfg, 1, [held(batch) for batch in BATCHES[:3]])[0]
    # Rounded to float16.
    np.testing.assert_allclose([one["loss"] for one in before], [one["loss"] for one in now], rtol=2e-3)


def test_frozen_parts_of_settings():
    sigmoid = ImageTextLossConfig("sigmoid")
    cases = [
        (ImageStageConfig(), {("text",), ("bias",)}),
        (ImageStageConfig(text=TextSideConfig(projection=8), loss=sigmoid), {("text", "encoder")}),
        (
            ImageStageConfig(
                text=TextSideConfig(locked=False), image=ImageSideConfig(path="x", locked=True), loss=sigmoid
            ),
            {("image", "encoder")},
        ),
        (
            ImageStageConfig(text=TextSideConfig(locked=False), loss=ImageTextLossConfig(learn_scale=False)),
            {("bias",), ("log_scale",)},
        ),
    ]
    for cfg, expected in cases:
        assert set(frozen_parts(cfg).paths) == expected


def test_parts_are_taken_out_and_put_back():
    tree = {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4, "g": {}}
    frozen = FrozenParts((("a", "c", "d"), ("f",)))
    assert trained_part(tree, frozen) == {"a": {"b": 1, "c": {"e": 3}}, "g": {}}
    found = with_trained(tree, {"a": {"b": 10, "c": {"e": 30}}, "g": {}}, frozen)
    assert found == {"a": {"b": 10, "c": {"d": 2, "e": 30}}, "f": 4, "g": {}}
