"""Epsilon schedule of optimal transport over a run (annealing)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig, OtConfig


@dataclass(frozen=True)
class OtAtStep(OtConfig):
    """Transport settings at one step: `epsilon` is traced; choices at compile time use its last value."""

    epsilon: Any = OtConfig.epsilon
    last_epsilon: float = 0.0

    @property
    def smallest_epsilon(self) -> float:
        return self.last_epsilon


def at_step(cfg: LossConfig, step: jax.Array, steps: int) -> LossConfig:
    """Loss settings at `step` (from 0) of a run of `steps`; `cfg` itself where epsilon has no schedule.

    Epsilon decays exponentially from epsilon_start at step 0 to its last value at epsilon_until * steps.

    Source: Schmitzer (SIAM J. Sci. Comput. 2019), who scales it within one problem; here it falls over the run.
    """
    ot = cfg.ot
    if ot.epsilon_start == 0.0:
        return cfg
    left = jnp.maximum(1.0 - step.astype(jnp.float32) / (ot.epsilon_until * steps), 0.0)
    epsilon = ot.epsilon * (ot.epsilon_start / ot.epsilon) ** left
    settings = {each.name: getattr(ot, each.name) for each in fields(OtConfig)}
    return replace(cfg, ot=OtAtStep(**{**settings, "epsilon": epsilon}, last_epsilon=ot.epsilon))
