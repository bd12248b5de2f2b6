"""Limits on unknown tokens ([UNK]), which every command that encodes texts shares; standard library and tyro only."""

from __future__ import annotations

from typing import Annotated

import tyro

from optical_jax.errors import ConfigError

MAX_UNKNOWN = 0.2
"""Largest share of unknown tokens that is not refused."""
WARN_UNKNOWN = 0.02
"""Largest share of unknown tokens without a warning."""
MaxUnknown = Annotated[
    float,
    tyro.conf.arg(
        metavar="SHARE",
        help="Largest share (0 to 1) of the texts' tokens that a model's tokenizer may not know ([UNK]); more is an "
        "error.",
    ),
]
"""Type of the flag --max-unknown."""


def check_max_unknown(share: float) -> None:
    """Validate --max-unknown.

    Raises:
      ConfigError: it is not a share.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"max_unknown={share} is not valid; use a share from 0 to 1")
