"""Pictures that commands leave beside their results. A picture that fails never takes a result with it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optical_jax.errors import MACHINE_ERRNOS

log = logging.getLogger(__name__)


def draw_training_curves(run: Path) -> bool:
    """RUN/curves.png from the run's metrics.jsonl, as far as it goes. True if it was drawn."""

    def draw(path: Path) -> None:
        from optical_jax.plots.curves import draw_training
        from optical_jax.runs.metrics import read_metrics

        draw_training(read_metrics(run / "metrics.jsonl"), path)

    return try_to_draw(draw, run / "curves.png")


def draw_evaluation_curves(folder: Path, figures: Mapping[str, Any]) -> bool:
    """curves.png in the folder of an evaluation, from the content of its metrics.json. True if it was drawn."""

    def draw(path: Path) -> None:
        from optical_jax.plots.curves import draw_evaluation

        draw_evaluation(figures, path)

    return try_to_draw(draw, folder / "curves.png")


def draw_picture_evaluation(folder: Path, figures: Mapping[str, Any]) -> bool:
    """Likewise, of an evaluation on pictures."""

    def draw(path: Path) -> None:
        from optical_jax.recall_charts import draw_recalls

        draw_recalls(figures, path)

    return try_to_draw(draw, folder / "curves.png")


def try_to_draw(draw: Callable[[Path], None], path: Path) -> bool:
    """Draw; where that fails, tell why in one line and go on without.

    Raises:
      OSError: the disk is full or read-only, which ends every command the same way.
    """
    try:
        draw(path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
            raise
        # An older picture would show something else.
        with contextlib.suppress(OSError):
            path.unlink()
        log.warning("%s could not be drawn, all else is there: %s: %s", path, type(error).__name__, error)
        return False
    return True
