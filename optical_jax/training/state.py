"""Training state of any model: parameters and optimizer state, their shapes and shardings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from optical_jax.params import SpecTree, abstract_params
from optical_jax.partitioning import named_sharding, params_shardings
from optical_jax.training.optimizer import NOTHING_FROZEN, AnyFrozen, norm_first, trained_part, with_trained
from optical_jax.types import Metrics, Params


@struct.dataclass
class TrainState:
    params: Params
    opt_state: Any


@jax.named_scope("optimizer")
def update_state(
    state: TrainState, grads: Params, tx: optax.GradientTransformation, frozen: AnyFrozen
) -> tuple[TrainState, Metrics]:
    """One optimizer update of the trained parameters; returns also the norms of gradient and parameters."""
    grads, grad_norm = norm_first(grads)
    trained = trained_part(state.params, frozen)
    updates, opt_state = tx.update(grads, state.opt_state, trained)
    trained, opt_state = jax.lax.optimization_barrier((optax.apply_updates(trained, updates), opt_state))
    params = with_trained(state.params, trained, frozen)
    return TrainState(params, opt_state), {"grad_norm": grad_norm, "param_norm": optax.tree.norm(trained)}


def train_state_shardings(
    specs: SpecTree, mesh: Mesh, tx: optax.GradientTransformation, frozen: AnyFrozen = NOTHING_FROZEN
) -> TrainState:
    """Shardings of the training state: moments as their parameters, counters replicated."""
    params, everywhere = params_shardings(specs, mesh), named_sharding(mesh, ())
    opt_state = optax.tree_map_params(
        tx,
        lambda _, sharding: sharding,
        abstract_opt_state(specs, tx, frozen),
        trained_part(params, frozen, uncut=True),
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(params, opt_state)


def abstract_opt_state(specs: SpecTree, tx: optax.GradientTransformation, frozen: AnyFrozen) -> Any:
    return jax.eval_shape(lambda params: tx.init(trained_part(params, frozen)), abstract_params(specs))


def abstract_train_state(
    specs: SpecTree, mesh: Mesh, tx: optax.GradientTransformation, frozen: AnyFrozen = NOTHING_FROZEN
) -> TrainState:
    """Shapes and shardings of the training state, for restoring and for dry runs."""
    shapes = TrainState(abstract_params(specs), abstract_opt_state(specs, tx, frozen))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        train_state_shardings(specs, mesh, tx, frozen),
    )


def init_train_state(
    params: Params, specs: SpecTree, mesh: Mesh, tx: optax.GradientTransformation, frozen: AnyFrozen = NOTHING_FROZEN
) -> TrainState:
    """A new training state from initial weights, placed on the mesh."""
    shardings = train_state_shardings(specs, mesh, tx, frozen)
    placed = jax.device_put(jax.tree.map(_own_copy, params), shardings.params)
    init = jax.jit(lambda params: tx.init(trained_part(params, frozen)), out_shardings=shardings.opt_state)
    return TrainState(placed, init(placed))


def _own_copy(x: Any) -> Any:
    """A copy: the first step donates its state, and the caller's arrays must outlive it.

    NumPy's by NumPy: JAX would compile a program for every shape.
    """
    return jnp.array(x, jnp.float32) if isinstance(x, jax.Array) else np.array(x, np.float32)
