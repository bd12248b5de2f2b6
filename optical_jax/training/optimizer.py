"""AdamW with warm-up, learning-rate decay, gradient clipping, weight decay on matrices only, and freezing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optical_jax.config import EncoderConfig, OptimizerConfig, StudentConfig
from optical_jax.types import Params


def learning_rate(cfg: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up to `peak_lr` at step `warmup_steps`, then the chosen decay, to end one step after the last."""
    warmup = min(cfg.warmup_steps, steps)
    rest, final = max(steps - warmup, 1), cfg.peak_lr * cfg.final_lr_fraction
    decays = {
        "linear": optax.linear_schedule(cfg.peak_lr, final, rest),
        "cosine": optax.cosine_decay_schedule(cfg.peak_lr, rest, alpha=cfg.final_lr_fraction),
        "constant": optax.constant_schedule(cfg.peak_lr),
    }
    # Updates count from 0; counted from 1 here, so that no update is spent at a learning rate of 0.
    ramp = optax.linear_schedule(cfg.peak_lr / max(warmup, 1), cfg.peak_lr, max(warmup - 1, 1))
    return optax.join_schedules([ramp, decays[cfg.schedule]], [warmup])


def decay_mask(params: Params) -> Any:
    """True for kernels and embeddings; biases and norm scales are not decayed."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ("kernel", "embedding"), params)


@dataclass(frozen=True)
class Frozen:
    """Frozen parameters of a tower: no gradient, no weight decay, no optimizer state, not in any norm."""

    embeddings: bool = False
    """Those of words, positions and types, and their norm."""
    positions: bool = False
    layers: int | None = 0
    """The first so many; None for all."""

    @classmethod
    def of(cls, cfg: StudentConfig, encoder: EncoderConfig) -> Frozen:
        layers = cfg.freeze_layers if cfg.freeze_layers < encoder.layers else None
        return cls(cfg.freeze_embeddings, not cfg.word_order, layers)


NOTHING_FROZEN = Frozen()


@dataclass(frozen=True)
class FrozenParts:
    """Frozen subtrees of any parameter tree."""

    paths: tuple[tuple[str, ...], ...]
    """Keys from the root to each; none lies in another."""


AnyFrozen = Frozen | FrozenParts


def trained_part(params: Params, frozen: AnyFrozen, *, uncut: bool = False) -> Params:
    """The trained parameters as a tree of their own, the only one that gradients and optimizer see.

    Args:
      params: a tree of `tower_specs`, or of something else by the same names.
      frozen: what is left out. Layers lie stacked, so that those left out are rows of every array.
      uncut: keep stacked leaves whole, where they are no arrays: a sharding is that of any number of layers.
    """
    if frozen == NOTHING_FROZEN:
        return params
    if isinstance(frozen, FrozenParts):
        return _without(params, frozen.paths)
    encoder = dict(params["encoder"])
    if frozen.embeddings:
        del encoder["embeddings"]
    elif frozen.positions:
        encoder["embeddings"] = {name: x for name, x in encoder["embeddings"].items() if name != "position"}
    if frozen.layers is None:
        del encoder["layers"]
    elif frozen.layers and not uncut:
        encoder["layers"] = jax.tree.map(lambda x: x[frozen.layers :], encoder["layers"])
    return {**params, "encoder": encoder}


def with_trained(params: Params, trained: Params, frozen: AnyFrozen) -> Params:
    """The inverse of `trained_part`: `params` with the trained parameters replaced."""
    if frozen == NOTHING_FROZEN:
        return trained
    if isinstance(frozen, FrozenParts):
        return _over(params, trained)
    before, now = params["encoder"], trained["encoder"]
    encoder = {**before, **now, "embeddings": {**before["embeddings"], **now.get("embeddings", {})}}
    if frozen.layers:
        encoder["layers"] = jax.tree.map(lambda x, y: x.at[frozen.layers :].set(y), before["layers"], now["layers"])
    return {**trained, "encoder": encoder}


def _without(tree: Params, paths: Iterable[tuple[str, ...]]) -> Params:
    whole, deeper = {path[0] for path in paths if len(path) == 1}, [path for path in paths if len(path) > 1]
    found = {name: part for name, part in tree.items() if name not in whole}
    for name in {path[0] for path in deeper}:
        found[name] = _without(tree[name], [path[1:] for path in deeper if path[0] == name])
    return found


def _over(tree: Params, trained: Params) -> Params:
    """A tree whose leaves are replaced where the second tree has them."""
    if not isinstance(tree, dict):
        return trained
    return {name: _over(part, trained[name]) if name in trained else part for name, part in tree.items()}


def make_optimizer(cfg: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optax transformation of the trained parameters: clipping, then AdamW.

    Args:
      cfg: its settings.
      steps: length of the whole run.
    """
    adamw = optax.adamw(
        learning_rate(cfg, steps),
        b1=cfg.b1,
        b2=cfg.b2,
        eps=cfg.eps,
        weight_decay=cfg.weight_decay,
        mask=decay_mask,
    )
    return optax.chain(clip(cfg.clip_norm), adamw) if cfg.clip_norm > 0 else adamw


def clip(most: float) -> optax.GradientTransformation:
    """Clip gradients by their global norm: `optax.clip_by_global_norm`, by `norm_first`."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, norm = norm_first(updates)
        return jax.tree.map(lambda g: g * (most / jnp.maximum(norm, most)), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def steps_taken(opt_state: Any) -> jax.Array:
    """The optimizer's own count of updates, which a resumed run restores."""
    return optax.tree.get_all_with_path(opt_state, "count")[0][1]


def norm_first(tree: Any) -> tuple[Any, jax.Array]:
    """The tree and its global norm, computed before the tree is used.

    Without the barrier XLA on CPU computes the norm in one loop with what follows, which is slower than both: 35 ms
    instead of 3 for 23 M parameters.
    """
    return jax.lax.optimization_barrier((tree, optax.tree.norm(tree)))
