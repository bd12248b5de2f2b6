"""A tower as a Flax NNX module, a thin wrapper of the pure functions."""

from __future__ import annotations

import jax
from flax import nnx

from optical_jax.config import TowerConfig
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import init_params
from optical_jax.types import ImageInputs, Params, TextInputs, TokenVectors


class TowerModule(nnx.Module):
    """An encoder and its head with the parameters inside, as `nnx.Param`s under `params`.

    Args:
      cfg: the tower's shape.
      rngs: its stream `params` initialises the parameters.

    >>> from optical_jax.config import EncoderConfig, TowerConfig
    >>> cfg = TowerConfig(EncoderConfig(vocab_size=50, width=16, layers=1, heads=2, mlp_width=32, max_positions=8))
    >>> tower = TowerModule(cfg, rngs=nnx.Rngs(0))
    >>> ids = jax.numpy.array([[2, 7, 3]])
    >>> tower(TextInputs(ids, ids > 0, ids > 0)).vectors.shape
    (1, 3, 16)
    """

    def __init__(self, cfg: TowerConfig, *, rngs: nnx.Rngs) -> None:
        self.cfg = cfg
        self.params = nnx.data(jax.tree.map(nnx.Param, init_params(tower_specs(cfg), rngs.params())))

    def __call__(self, inputs: TextInputs | ImageInputs) -> TokenVectors:
        return encode_tokens(self.pure_params(), inputs, self.cfg)

    def pure_params(self) -> Params:
        """Parameters as nested dicts of plain arrays, as `encode_tokens` takes them."""
        return nnx.to_pure_dict(nnx.state(self.params))
