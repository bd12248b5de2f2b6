"""One update of the student. Start reading here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from optical_jax.config import Config, LossConfig, TowerConfig
from optical_jax.losses import distillation_loss
from optical_jax.models.attention import choose_attention
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.ot.schedule import at_step
from optical_jax.partitioning import constrain, named_sharding, params_shardings, platform
from optical_jax.training.optimizer import Frozen, steps_taken, trained_part, with_trained
from optical_jax.training.state import TrainState, train_state_shardings, update_state
from optical_jax.types import Batch, ImageInputs, Metrics, PackedInputs, Params, Scalar, TextInputs, TokenVectors

TrainStep = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    cfg: Config, student_cfg: TowerConfig, teacher_cfg: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> TrainStep:
    """Compile one update (once per padded length). The function returned consumes (donates) the state it is given."""
    parts, frozen = cfg.training.accumulate, Frozen.of(cfg.student, student_cfg.encoder)
    student_cfg, teacher_cfg = as_trained(cfg, student_cfg, teacher_cfg)

    def loss_of_params(
        trained: Params, params: Params, teacher: Params, batch: Batch, loss: LossConfig
    ) -> tuple[Scalar, Metrics]:
        params = with_trained(params, trained, frozen)
        with jax.named_scope("teacher"):
            target = teacher_vectors(teacher, batch.teacher, teacher_cfg, half=bool(cfg.teacher.cache))
        with jax.named_scope("student"):
            vectors = encode_tokens(params, batch.student, student_cfg)
        with jax.named_scope("loss"):
            out = distillation_loss(vectors, target, loss)
        return out.loss, {**out.metrics, "loss": out.loss}

    grad_fn = jax.grad(loss_of_params, has_aux=True)

    def train_step(state: TrainState, teacher: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        trained = trained_part(state.params, frozen)
        loss = at_step(cfg.loss, steps_taken(state.opt_state), cfg.training.steps)
        grads, metrics = mean_over_parts(lambda part: grad_fn(trained, state.params, teacher, part, loss), batch, parts)
        state, norms = update_state(state, grads, tx, frozen)
        real_tokens = count_tokens(batch.student) + count_tokens(batch.teacher)
        return state, {**metrics, **norms, "real_tokens": real_tokens}

    states = train_state_shardings(tower_specs(student_cfg), mesh, tx, frozen)
    ins = (states, params_shardings(tower_specs(teacher_cfg), mesh), named_sharding(mesh, ("batch",)))
    return jax.jit(train_step, in_shardings=ins, out_shardings=(states, named_sharding(mesh, ())), donate_argnums=0)


def as_trained(cfg: Config, student: TowerConfig, teacher: TowerConfig) -> tuple[TowerConfig, TowerConfig]:
    """Both towers as the step computes them: attention and remat are of a run and its devices, not of the tower, as is
    whether vectors come with their lengths."""
    student = replace(
        student, encoder=replace(student.encoder, attention=cfg.student.attention, remat=cfg.student.remat)
    )
    teacher = replace(teacher, encoder=replace(teacher.encoder, attention=cfg.teacher.attention))
    if cfg.loss.ot.masses == "norm":
        student, teacher = (replace(one, head=replace(one.head, masses="norm")) for one in (student, teacher))
    return student, teacher


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

    pieces = split_in_parts(batch, parts)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, jax.tree.map(lambda x: x[0], pieces)))
    total, _ = jax.lax.scan(lambda acc, piece: (jax.tree.map(jnp.add, acc, f(piece)), None), zero, pieces)
    return jax.tree.map(lambda x: x / parts, total)


def split_in_parts(batch: Any, parts: int) -> Any:
    """The arrays [B, ...] of a batch as [parts, B / parts, ...].

    Row i goes to part i % parts: every device keeps its own rows, and nothing travels between devices.
    """

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return constrain(x, (None, "batch") + (None,) * (x.ndim - 2))

    return jax.tree.map(split, batch)


def join_parts(x: jax.Array) -> jax.Array:
    """The rows of `split_in_parts` in their order again."""
    return constrain(x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), ("batch",) + (None,) * (x.ndim - 2))


def encode_in_parts(
    params: Params, inputs: TextInputs | PackedInputs | ImageInputs, tower: TowerConfig, parts: int
) -> TokenVectors:
    """Encode a batch part by part; the backward pass computes each part again, so that one is in memory at a time.

    The vectors are those of the whole batch, so a loss sees all its negatives, however many parts there are.
    """
    if parts == 1:
        return encode_tokens(params, inputs, tower)

    def encode(part: Any) -> TokenVectors:
        return encode_tokens(params, part, tower)

    pieces = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), split_in_parts(inputs, parts))
    return jax.tree.map(join_parts, pieces)
