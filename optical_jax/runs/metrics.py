"""metrics.jsonl, the metrics of a run, one JSON object per line; mirrored to TensorBoard or W&B."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from optical_jax.errors import ConfigError

Tracker = Literal["none", "tensorboard", "wandb"]


class Mirror(Protocol):
    def log(self, step: int, scalars: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Append lines to metrics.jsonl, each flushed, so that a killed run loses none."""

    def __init__(self, path: Path, mirror: Mirror | None = None) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._mirror = mirror

    def write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._mirror is not None:
            self._mirror.log(record["step"], scalars(record))

    def close(self) -> None:
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()


def scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Flatten the numbers of a record to slash-joined names: {"dev": {"sw": {"R@1": x}}} gives "dev/sw/R@1"."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            flat[prefix + name] = value
    return flat


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read all complete lines of metrics.jsonl; a last line cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def cut_after(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again."""
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    new = path.with_suffix(".jsonl.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def check_tracker(tracker: Tracker) -> None:
    """Check that the package of a tracker is installed.

    Raises:
      ConfigError: with what to install.
    """
    if tracker != "none" and importlib.util.find_spec(PACKAGES[tracker]) is None:
        raise ConfigError(
            f"training.tracker={tracker} needs {PACKAGES[tracker]}, which is not installed; "
            "pip install 'optical_jax[tracking]' or use --training.tracker none"
        )


def open_mirror(tracker: Tracker, run: Path, config: dict[str, Any]) -> Mirror | None:
    """Open a tracker; None for "none"."""
    if tracker == "none":
        return None
    return _TensorBoard(run) if tracker == "tensorboard" else _Wandb(run, config)


class _TensorBoard:
    def __init__(self, run: Path) -> None:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(run / "tensorboard"))

    def log(self, step: int, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        # The id is kept in the run folder, so that a resumed run continues the same W&B run.
        id_file = run / "wandb_id"
        if not id_file.is_file():
            id_file.write_text(wandb.util.generate_id())
        self._run = wandb.init(dir=str(run), id=id_file.read_text(), resume="allow", name=run.name, config=config)

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()
