"""Somali alone, from all the bitext at hand, which may ship; the recipe of configs/own_language.py.

python train.py --config configs/somali.py --run runs/so

What to expect: docs/results.md.
"""

import low_resource

from optical_jax.config import Config


def get_config() -> Config:
    return low_resource.alone("so")
