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
    StudentConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.losses.ot_distillation import transport_loss
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.training.loop import put
from optical_jax.training.optimizer import Frozen, make_optimizer
from optical_jax.training.state import abstract_train_state, init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.types import Batch, TextInputs

TOWER = TowerConfig(
    EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=16), HeadConfig(projection=8)
)
CFG = Config(
    data=DataConfig(global_batch=16),
    loss=LossConfig("transport"),
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


@functools.cache
def made_step(cfg: Config, tower: TowerConfig, devices: int) -> tuple[jax.sharding.Mesh, Any, Any]:
    """Mesh, optimizer and step of a config; kept, so that runs of one config compile it once."""
    mesh = make_mesh(cfg.mesh, jax.devices()[:devices])
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    with jax.set_mesh(mesh):
        return mesh, tx, make_train_step(cfg, tower, tower, mesh, tx)


def drawn(tower: TowerConfig, seed: int) -> Any:
    return init_params(tower_specs(tower), jax.random.key(seed))


def run_steps(cfg: Config, tower: TowerConfig, devices: int, batches: list[Batch]) -> tuple[list[float], Any, int]:
    """Losses of one run of a drawn student and teacher, its state at the end, and how many steps it compiled."""
    mesh, tx, step = made_step(cfg, tower, devices)
    before, losses = step._cache_size(), []
    with jax.set_mesh(mesh):
        teacher = jax.device_put(drawn(tower, 2), params_shardings(tower_specs(tower), mesh))
        state = init_train_state(drawn(tower, 1), tower_specs(tower), mesh, tx, Frozen.of(cfg.student, tower.encoder))
        for batch in batches:
            state, metrics = step(state, teacher, put(batch, named_sharding(mesh, ("batch",))))
            losses.append(float(metrics["loss"]))
    return losses, state, step._cache_size() - before


def losses_of(cfg: Config, devices: int, batches: list[Batch]) -> tuple[list[float], dict]:
    """Losses of one run, and its parameters at the end."""
    losses, state, _ = run_steps(cfg, TOWER, devices, batches)
    return losses, jax.device_get(state.params)


@functools.cache
def losses_on_one_device(loss: str) -> tuple[float, ...]:
    return tuple(losses_of(replace(CFG, loss=LossConfig(name=loss)), 1, BATCHES)[0])


@pytest.mark.parametrize("loss", ["transport", "greedy"])
def test_eight_devices_give_the_losses_of_one(loss):
    """Sharded in every way at once; over data alone, and weights alone, in parts and packed: below and in packing."""
    mesh = MeshConfig(data=2, fsdp=2, tensor=2)
    eight, _ = losses_of(replace(CFG, loss=LossConfig(name=loss), mesh=mesh), 8, BATCHES[:10])
    np.testing.assert_allclose(eight, losses_on_one_device(loss)[:10], rtol=1e-5)


def test_a_sum_with_a_loss_among_texts_is_on_eight_devices_that_of_one():
    """Negatives come from all devices."""
    cfg = replace(CFG, loss=LossConfig(name="pooled_cosine", add=("contrastive=0.1",)))
    one, _ = losses_of(cfg, 1, BATCHES[:3])
    eight, _ = losses_of(replace(cfg, mesh=MeshConfig(data=2, fsdp=2, tensor=2)), 8, BATCHES[:3])
    np.testing.assert_allclose(eight, one, rtol=1e-5)


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
    mesh, tx, step = made_step(replace(CFG, loss=LossConfig(name="pooled_cosine")), TOWER, 1)
    with jax.set_mesh(mesh):
        params = drawn(TOWER, 5)
        _, metrics = step(
            init_train_state(params, tower_specs(TOWER), mesh, tx),
            jax.device_put(params, params_shardings(tower_specs(TOWER), mesh)),
            put(same, named_sharding(mesh, ("batch",))),
        )
    assert float(metrics["loss"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["real_tokens"]) == 2 * batch.teacher.attend.sum()


# ---- freezing ----------------------------------------------------------------------------------------------------


def paths(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


FREEZING = {
    "positions": StudentConfig(word_order=False),
    "all layers": StudentConfig(freeze_layers=2),
    "embeddings and a layer": StudentConfig(freeze_embeddings=True, freeze_layers=1),
}


@pytest.mark.parametrize("student", FREEZING.values(), ids=FREEZING)
def test_what_is_frozen_stays_and_costs_nothing(student):
    """Frozen arrays are bit for bit those of the start, all others move; moments are kept of the others alone."""
    start = paths(drawn(TOWER, 1))
    _, state, _ = run_steps(replace(CFG, student=student), TOWER, 1, BATCHES[:2])
    trained = 0
    for name, after in paths(jax.device_get(state.params)).items():
        before = np.asarray(start[name])
        frozen = (
            (student.freeze_embeddings and "embeddings" in name) or (not student.word_order and "position" in name)
        ) and len(before)
        rows = student.freeze_layers if "layers" in name else frozen
        np.testing.assert_array_equal(after[:rows], before[:rows], err_msg=name)
        if rows < len(before) and "token_type" not in name:
            assert (after[rows:] != before[rows:]).any(), name
        trained += before[rows:].size
    sizes = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.size > 1]
    assert sum(sizes) == 2 * trained


def test_the_norm_counts_what_is_trained_alone():
    """By the gradient of the whole: its squares over the frozen arrays are what the step's norm lacks."""
    cfg = replace(CFG, student=FREEZING["embeddings and a layer"])
    mesh, tx, step = made_step(cfg, TOWER, 1)
    params, teacher = drawn(TOWER, 1), drawn(TOWER, 2)
    with jax.set_mesh(mesh):
        state = init_train_state(params, tower_specs(TOWER), mesh, tx, Frozen.of(cfg.student, TOWER.encoder))
        taught = jax.device_put(teacher, params_shardings(tower_specs(TOWER), mesh))
        _, metrics = step(state, taught, put(BATCHES[0], named_sharding(mesh, ("batch",))))
    batch = jax.tree.map(jnp.asarray, BATCHES[0])

    def loss(params: Any) -> jax.Array:
        vectors, target = encode_tokens(params, batch.student, TOWER), encode_tokens(teacher, batch.teacher, TOWER)
        return transport_loss(vectors, target, CFG.loss).loss

    squares = {name: np.square(np.asarray(g)) for name, g in paths(jax.jit(jax.grad(loss))(params)).items()}
    kept = {name: s[1:] if "layers" in name else s for name, s in squares.items() if "embeddings" not in name}
    norm, whole = (np.sqrt(sum(s.sum() for s in each.values())) for each in (kept, squares))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)
    assert norm < 0.999 * whole


def test_freezing_over_eight_devices():
    """The losses of one device; and what a checkpoint is restored into has the state's shapes and places."""
    cfg = replace(CFG, student=FREEZING["embeddings and a layer"], mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    one, _, _ = run_steps(replace(cfg, mesh=MeshConfig()), TOWER, 1, BATCHES[:5])
    eight, state, _ = run_steps(cfg, TOWER, 8, BATCHES[:5])
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    frozen, tx = Frozen.of(cfg.student, TOWER.encoder), make_optimizer(cfg.optimizer, cfg.training.steps)
    abstract = abstract_train_state(tower_specs(TOWER), make_mesh(cfg.mesh, jax.devices()[:8]), tx, frozen)
    told, there = paths(abstract), paths(state)
    assert told.keys() == there.keys()
    for name, x in told.items():
        assert (x.shape, x.sharding) == (there[name].shape, there[name].sharding), name
