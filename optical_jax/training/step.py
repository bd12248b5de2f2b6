"""One update of the student. Start reading here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from optical_jax.config import Config, TowerConfig
from optical_jax.losses import LOSSES
from optical_jax.models.attention import choose_attention, platform
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.partitioning import constrain, named_sharding, params_shardings
from optical_jax.training.optimizer import norm_first
from optical_jax.types import Batch, Metrics, PackedInputs, Params, Scalar, TextInputs, TokenVectors


@struct.dataclass
class TrainState:
    params: Params
    opt_state: Any


TrainStep = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    cfg: Config, student_cfg: TowerConfig, teacher_cfg: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> TrainStep:
    """Compile one update (once per padded length). The function returned consumes (donates) the state it is given."""
    loss_fn, parts = LOSSES[cfg.loss.name], cfg.training.accumulate
    student_cfg, teacher_cfg = as_trained(cfg, student_cfg, teacher_cfg)

    def distillation_loss(params: Params, teacher: Params, batch: Batch) -> tuple[Scalar, Metrics]:
        with jax.named_scope("teacher"):
            target = teacher_vectors(teacher, batch.teacher, teacher_cfg, half=bool(cfg.teacher.cache))
        with jax.named_scope("student"):
            vectors = encode_tokens(params, batch.student, student_cfg)
        with jax.named_scope("loss"):
            out = loss_fn(vectors, target, cfg.loss)
        return out.loss, {**out.metrics, "loss": out.loss}

    grad_fn = jax.grad(distillation_loss, has_aux=True)

    def train_step(state: TrainState, teacher: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics = mean_over_parts(lambda part: grad_fn(state.params, teacher, part), batch, parts)
        with jax.named_scope("optimizer"):
            grads, grad_norm = norm_first(grads)
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params, opt_state = jax.lax.optimization_barrier((optax.apply_updates(state.params, updates), opt_state))
            norms = {"grad_norm": grad_norm, "param_norm": optax.tree.norm(params)}
        real_tokens = sum(count_tokens(side) for side in (batch.student, batch.teacher))
        metrics = {**metrics, **norms, "real_tokens": real_tokens}
        return TrainState(params, opt_state), metrics

    states = train_state_shardings(student_cfg, mesh, tx)
    ins = (states, params_shardings(tower_specs(teacher_cfg), mesh), named_sharding(mesh, ("batch",)))
    return jax.jit(train_step, in_shardings=ins, out_shardings=(states, named_sharding(mesh, ())), donate_argnums=0)


def as_trained(cfg: Config, student: TowerConfig, teacher: TowerConfig) -> tuple[TowerConfig, TowerConfig]:
    """Both towers as the step computes them: attention and remat are of a run and its devices, not of the tower."""
    return (
        replace(student, encoder=replace(student.encoder, attention=cfg.student.attention, remat=cfg.student.remat)),
        replace(teacher, encoder=replace(teacher.encoder, attention=cfg.teacher.attention)),
    )


def check_attention(cfg: Config, student: TowerConfig, teacher: TowerConfig, lengths: Iterable[int]) -> None:
    """Refuse, before anything compiles, a kernel that these devices, towers or lengths of rows forbid.

    Raises:
      ConfigError: names the setting, its value and the remedy.
    """
    both = zip(("student", "teacher"), as_trained(cfg, student, teacher), strict=True)
    for (name, tower), length in itertools.product(both, lengths):
        choose_attention(tower.encoder, length, platform(), f"{name}.attention")


def teacher_vectors(
    params: Params, side: TextInputs | PackedInputs | TokenVectors, cfg: TowerConfig, *, half: bool
) -> TokenVectors:
    """What the student is to come close to: encoded now, or before. A constant to differentiation.

    With `half` both are rounded to float16, as the cache keeps them: a run learns the same whether a text was there.
    """
    out = side if isinstance(side, TokenVectors) else jax.lax.stop_gradient(encode_tokens(params, side, cfg))
    vectors = out.vectors.astype(jnp.float16) if half else out.vectors
    return replace(out, vectors=vectors.astype(jnp.float32))


def count_tokens(side: TextInputs | PackedInputs | TokenVectors) -> jax.Array:
    return (side.mask if isinstance(side, TokenVectors) else side.attend).sum().astype(jnp.float32)


def mean_over_parts(f: Callable[[Batch], Any], batch: Batch, parts: int) -> Any:
    """Mean of `f` over equal parts of the batch, one part in memory at a time (gradient accumulation)."""
    if parts == 1:
        return f(batch)

    def split(x: jax.Array) -> jax.Array:
        # Row i goes to part i % parts: every device keeps its own rows, and nothing travels between devices.
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return constrain(x, (None, "batch") + (None,) * (x.ndim - 2))

    pieces = jax.tree.map(split, batch)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, jax.tree.map(lambda x: x[0], pieces)))
    total, _ = jax.lax.scan(lambda acc, piece: (jax.tree.map(jnp.add, acc, f(piece)), None), zero, pieces)
    return jax.tree.map(lambda x: x / parts, total)


def train_state_shardings(cfg: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation) -> TrainState:
    """Where each array of the state lives: moments beside their parameters, counters everywhere."""
    specs = tower_specs(cfg)
    params, everywhere = params_shardings(specs, mesh), named_sharding(mesh, ())
    opt_state = optax.tree_map_params(
        tx,
        lambda _, sharding: sharding,
        jax.eval_shape(tx.init, abstract_params(specs)),
        params,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(params, opt_state)


def abstract_train_state(cfg: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation) -> TrainState:
    """Shapes and shardings of the state without its memory, for restoring and for dry runs."""
    params = abstract_params(tower_specs(cfg))
    shapes = TrainState(params, jax.eval_shape(tx.init, params))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        train_state_shardings(cfg, mesh, tx),
    )


def init_train_state(params: Params, cfg: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation) -> TrainState:
    """A fresh state around starting weights, placed on the mesh."""
    shardings = train_state_shardings(cfg, mesh, tx)
    placed = jax.device_put(jax.tree.map(_own_copy, params), shardings.params)
    return TrainState(placed, jax.jit(tx.init, out_shardings=shardings.opt_state)(placed))


def _own_copy(x: Any) -> Any:
    """A copy: the first step donates its state, and the caller's arrays must outlive it.

    NumPy's by NumPy: JAX would compile a program for every shape.
    """
    return jnp.array(x, jnp.float32) if isinstance(x, jax.Array) else np.array(x, np.float32)
