"""Training bitext of a run, from its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optical_jax.config import DataConfig
from optical_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from optical_jax.data.text.bitext import Bitext


def saved_data(saved: Mapping[str, Any]) -> DataConfig:
    """Data settings of a run.

    Raises:
      ConfigError: a run of another version.
    """
    try:
        settings: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in saved["data"].items()}
        # Its pairs were checked before it was trained.
        return replace(DataConfig(**settings), checks="warn")
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config.json is not of this version ({error}); use the version that wrote it") from None


def read_training_text(saved: Mapping[str, Any], lost: str) -> dict[str, Bitext] | None:
    """Training pairs of a run. None if the files are gone; then `lost`, the consequence, is printed with the reason."""
    from optical_jax.data.text.bitext import load_bitext

    try:
        return load_bitext(saved_data(saved)).train
    except (ConfigError, DataError) as error:
        print(f"{lost}: {error}")
        return None
