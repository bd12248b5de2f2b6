"""Epsilon over a run: a blurred plan first, a sharp one later."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig, OtConfig


@dataclass(frozen=True)
class OtAtStep(OtConfig):
    """The settings at one step: `epsilon` is traced, and what must be known before is asked of its last value."""

    epsilon: Any = OtConfig.epsilon
    last_epsilon: float = 0.0

    @property
    def smallest_epsilon(self) -> float:
        return self.last_epsilon


def at_step(cfg: LossConfig, step: jax.Array, steps: int) -> LossConfig:
    """The loss as step `step` (from 0) of a run of `steps` computes it; `cfg` itself where epsilon has no schedule.

    From epsilon_start at step 0, epsilon falls by one factor a step to reach its last value at epsilon_until * steps.

    Source: Schmitzer (SIAM J. Sci. Comput. 2019), who scales it within one problem; here it falls over the run.
    """
    ot = cfg.ot
    if ot.epsilon_start == 0.0:
        return cfg
    left = jnp.maximum(1.0 - step.astype(jnp.float32) / (ot.epsilon_until * steps), 0.0)
    epsilon = ot.epsilon * (ot.epsilon_start / ot.epsilon) ** left
    settings = {each.name: getattr(ot, each.name) for each in fields(OtConfig)}
    return replace(cfg, ot=OtAtStep(**{**settings, "epsilon": epsilon}, last_epsilon=ot.epsilon))
