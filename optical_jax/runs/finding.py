"""Find run folders; nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path

from optical_jax.errors import ConfigError


def is_run(path: Path) -> bool:
    """True for a run folder, also before its first checkpoint."""
    return (path / "config.json").is_file() and any((path / p).is_dir() for p in ("checkpoints", "student", "model"))


def check_run(path: str | Path, remedy: str = "") -> None:
    """Check that a run folder is one.

    Raises:
      ConfigError: it is not; the message ends in `remedy`.
    """
    if not is_run(Path(path)):
        raise ConfigError(f"run={path} is not a run folder; name the --run folder of a training{remedy}")


OR_A_MODEL = ", or give --model"
"""Remedy where a model can take the place of a run."""
