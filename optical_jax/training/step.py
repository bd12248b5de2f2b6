"""One update of the student (`make_train_step`), and of any model (`make_update`). Start reading here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from optical_jax.config import Attention, Config, Remat, TowerConfig
from optical_jax.losses import distillation_loss
from optical_jax.models.attention import choose_attention
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.ot.schedule import at_step
from optical_jax.params import SpecTree
from optical_jax.partitioning import named_sharding, params_shardings, platform
from optical_jax.training.accumulation import mean_over_parts
from optical_jax.training.optimizer import AnyFrozen, Frozen, steps_taken, trained_part, with_trained
from optical_jax.training.state import TrainState, train_state_shardings, update_state
from optical_jax.types import (
    Batch,
    LossOutput,
    Metrics,
    PackedInputs,
    Params,
    Scalar,
    TextInputs,
    TokenVectors,
)

AnyTowerConfig = TypeVar("AnyTowerConfig", bound=TowerConfig)
TrainStep = Callable[..., tuple[TrainState, Metrics]]
"""f(state, *constants, batch): the state after one update, which consumes (donates) the one given, and its metrics."""


def make_train_step(
    cfg: Config, student: TowerConfig, teacher: TowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> TrainStep:
    """Compile one update of the student, f(state, teacher's parameters, batch), once per padded length."""
    frozen = Frozen.of(cfg.student, student.encoder)
    student, teacher = student_and_teacher(cfg, student, teacher)

    def loss_of(params: Params, teacher_params: Params, batch: Batch, step: jax.Array) -> LossOutput:
        with jax.named_scope("teacher"):
            target = teacher_vectors(teacher_params, batch.teacher, teacher, half=bool(cfg.teacher.cache))
        with jax.named_scope("student"):
            vectors = encode_tokens(params, batch.student, student)
        with jax.named_scope("loss"):
            return distillation_loss(vectors, target, at_step(cfg.loss, step, cfg.training.steps))

    def tokens_of(batch: Batch) -> jax.Array:
        return count_tokens(batch.student) + count_tokens(batch.teacher)

    constants = (params_shardings(tower_specs(teacher), mesh),)
    return make_update(
        loss_of, tokens_of, tower_specs(student), mesh, tx, frozen, constants=constants, parts=cfg.training.accumulate
    )


def make_update(
    loss_of: Callable[..., LossOutput],
    tokens_of: Callable[[Any], jax.Array],
    specs: SpecTree,
    mesh: Mesh,
    tx: optax.GradientTransformation,
    frozen: AnyFrozen,
    *,
    constants: tuple[Any, ...] = (),
    parts: int = 1,
) -> TrainStep:
    """Compile one update of any model, f(state, *constants, batch) -> (state, metrics).

    Args:
      loss_of: f(params, *constants, batch, step) -> LossOutput; `step` counts the updates before this one.
      tokens_of: real tokens of a batch, for the metric real_tokens.
      specs: of all parameters.
      mesh: that the batch and the parameters are split over.
      tx: the optimizer, which sees the trained parameters only.
      frozen: which parameters are not trained.
      constants: shardings of what the loss reads and nothing trains, such as a teacher's parameters.
      parts: gradient accumulation: `loss_of` sees one of so many equal parts of the batch at a time.
    """

    def update(state: TrainState, *inputs: Any) -> tuple[TrainState, Metrics]:
        *held, batch = inputs
        trained, step = trained_part(state.params, frozen), steps_taken(state.opt_state)

        def loss_of_part(trained: Params, part: Any) -> tuple[Scalar, Metrics]:
            out = loss_of(with_trained(state.params, trained, frozen), *held, part, step)
            return out.loss, {**out.metrics, "loss": out.loss}

        grad_fn = jax.grad(loss_of_part, has_aux=True)
        grads, metrics = mean_over_parts(lambda part: grad_fn(trained, part), batch, parts)
        state, norms = update_state(state, grads, tx, frozen)
        return state, {**metrics, **norms, "real_tokens": tokens_of(batch)}

    states = train_state_shardings(specs, mesh, tx, frozen)
    ins = (states, *constants, named_sharding(mesh, ("batch",)))
    return jax.jit(update, in_shardings=ins, out_shardings=(states, named_sharding(mesh, ())), donate_argnums=0)


def with_kernels(tower: AnyTowerConfig, attention: Attention, remat: Remat = "none") -> AnyTowerConfig:
    """The tower as a step computes it: attention kernel and remat belong to a run and its devices, not to a model."""
    return replace(tower, encoder=replace(tower.encoder, attention=attention, remat=remat))


def student_and_teacher(cfg: Config, student: TowerConfig, teacher: TowerConfig) -> tuple[TowerConfig, TowerConfig]:
    """Both towers as the step computes them: with the run's kernels, and with norms as masses where the loss wants."""
    student = with_kernels(student, cfg.student.attention, cfg.student.remat)
    teacher = with_kernels(teacher, cfg.teacher.attention)
    if cfg.loss.ot.masses == "norm":
        student, teacher = (replace(one, head=replace(one.head, masses="norm")) for one in (student, teacher))
    return student, teacher


def check_attention(name: str, tower: TowerConfig, lengths: Iterable[int]) -> None:
    """Refuse, before anything compiles, an attention kernel that these devices, towers or row lengths forbid.

    Args:
      name: of the group of settings, such as "student".
      tower: with the kernel of `with_kernels`.
      lengths: tokens of a row.

    Raises:
      ConfigError: names the setting, its value and the remedy.
    """
    for length in lengths:
        choose_attention(tower.encoder, length, platform(), f"{name}.attention")


def teacher_vectors(
    params: Params, side: TextInputs | PackedInputs | TokenVectors, cfg: TowerConfig, *, half: bool
) -> TokenVectors:
    """Teacher targets, computed or read from the cache; no gradient flows into them.

    With `half` both are rounded to float16, as the cache stores them: a run learns the same with or without cache hits.
    """
    out = side if isinstance(side, TokenVectors) else jax.lax.stop_gradient(encode_tokens(params, side, cfg))
    vectors = out.vectors.astype(jnp.float16) if half else out.vectors
    return replace(out, vectors=vectors.astype(jnp.float32))


def count_tokens(side: TextInputs | PackedInputs | TokenVectors) -> jax.Array:
    return (side.mask if isinstance(side, TokenVectors) else side.attend).sum().astype(jnp.float32)
