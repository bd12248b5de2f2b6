"""The train step: the same on 1 device and on 8, in one part and in several, and downhill."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.training.loop import put
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.step import init_train_state, make_train_step
from optical_jax.types import Batch, TextInputs

TOWER = TowerConfig(
    EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=16), HeadConfig(projection=8)
)
CFG = Config(
    data=DataConfig(global_batch=16),
    optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=2),
    training=TrainingConfig(steps=20),
)


def random_batch(step: int) -> Batch:
    """16 pairs of 1 to 8 tokens."""
    rng = np.random.default_rng(step)

    def side() -> TextInputs:
        real = np.arange(8) < rng.integers(1, 9, (16, 1))
        ids = np.where(real, rng.integers(1, 64, (16, 8)), 0).astype(np.int32)
        return TextInputs(ids=ids, attend=real, keep=real)

    return Batch(student=side(), teacher=side())


BATCHES = [random_batch(step) for step in range(20)]


def run_steps(cfg: Config, tower: TowerConfig, devices: int, batches: list[Batch]) -> tuple[list[float], Any, int]:
    """Losses of one run of a drawn student and teacher, its state at the end, and how many steps were compiled."""
    mesh = make_mesh(cfg.mesh, jax.devices()[:devices])
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    student, teacher = (init_params(tower_specs(tower), jax.random.key(seed)) for seed in (1, 2))
    losses = []
    with jax.set_mesh(mesh):
        step: Any = make_train_step(cfg, tower, tower, mesh, tx)
        frozen = jax.device_put(teacher, params_shardings(tower_specs(tower), mesh))
        state = init_train_state(student, tower, mesh, tx)
        for batch in batches:
            state, metrics = step(state, frozen, put(batch, named_sharding(mesh, ("batch",))))
            losses.append(float(metrics["loss"]))
    return losses, state, step._cache_size()


def losses_of(cfg: Config, devices: int, batches: list[Batch]) -> tuple[list[float], dict]:
    """Losses of one run, and its parameters at the end."""
    losses, state, _ = run_steps(cfg, TOWER, devices, batches)
    return losses, jax.device_get(state.params)


@functools.cache
def losses_on_one_device(loss: str) -> tuple[float, ...]:
    return tuple(losses_of(replace(CFG, loss=LossConfig(name=loss)), 1, BATCHES)[0])


@pytest.mark.parametrize(
    ("loss", "mesh"),
    [
        ("transport", MeshConfig()),
        ("transport", MeshConfig(data=2, fsdp=2, tensor=2)),
        ("transport", MeshConfig(data=1, fsdp=8)),
        ("pooled_cosine", MeshConfig(data=2, fsdp=2, tensor=2)),
        ("greedy", MeshConfig(data=2, fsdp=2, tensor=2)),
    ],
)
def test_eight_devices_give_the_losses_of_one(loss, mesh):
    eight, _ = losses_of(replace(CFG, loss=LossConfig(name=loss), mesh=mesh), 8, BATCHES)
    np.testing.assert_allclose(eight, losses_on_one_device(loss), rtol=1e-5)


def test_parts_of_a_batch_give_the_whole_batchs_update():
    whole, params = losses_of(CFG, 1, BATCHES[:5])
    cfg = replace(CFG, training=replace(CFG.training, accumulate=4))
    parts, params_of_parts = losses_of(cfg, 1, BATCHES[:5])
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params_of_parts, params)


def test_parts_on_eight_devices():
    cfg = replace(CFG, training=replace(CFG.training, accumulate=2))
    eight, _ = losses_of(cfg, 8, BATCHES[:5])
    np.testing.assert_allclose(eight, losses_on_one_device("transport")[:5], rtol=1e-5)


@pytest.mark.parametrize("loss", ["transport", "pooled_cosine", "greedy"])
def test_the_loss_goes_down_on_a_batch_seen_again(loss):
    cfg = replace(CFG, loss=LossConfig(name=loss))
    losses, _ = losses_of(cfg, 1, BATCHES[:1] * 20)
    assert losses[-1] < 0.7 * losses[0]


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
    """Pooled cosine between a tower and itself on the same ids is 0 from the first step."""
    batch = random_batch(3)
    same = Batch(student=batch.teacher, teacher=batch.teacher)
    params = init_params(tower_specs(TOWER), jax.random.key(5))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    cfg = replace(CFG, loss=LossConfig(name="pooled_cosine"))
    tx = make_optimizer(cfg.optimizer, 20)
    with jax.set_mesh(mesh):
        step = make_train_step(cfg, TOWER, TOWER, mesh, tx)
        _, metrics = step(init_train_state(params, TOWER, mesh, tx), params, jax.tree.map(jnp.asarray, same))
    assert float(metrics["loss"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["real_tokens"]) == 2 * batch.teacher.attend.sum()
