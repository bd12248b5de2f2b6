"""metrics.jsonl: the record of a run, one JSON object a line; TensorBoard and W&B only mirror it."""

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
    """Appends lines to metrics.jsonl and flushes each, so that a killed run loses none it has printed."""

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
    """The numbers of a record under slash-joined names: {"dev": {"sw": {"R@1": x}}} gives "dev/sw/R@1"."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            flat[prefix + name] = value
    return flat


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics.jsonl; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def cut_after(path: Path, step: int) -> None:
    """Drop the lines written after `step`: a resumed run writes them again."""
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    new = path.with_suffix(".jsonl.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def check_tracker(tracker: Tracker) -> None:
    """Refuse a tracker whose package is missing, before anything else is done.

    Raises:
      ConfigError: tells what to install.
    """
    if tracker != "none" and importlib.util.find_spec(PACKAGES[tracker]) is None:
        raise ConfigError(
            f"training.tracker={tracker} needs {PACKAGES[tracker]}, which is not installed; "
            "pip install -e '.[tracking]' or use --training.tracker none"
        )


def open_mirror(tracker: Tracker, run: Path, config: dict[str, Any]) -> Mirror | None:
    """The tracker asked for; None for none."""
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

        # The id lives in the run folder, so that a resumed run goes on in the same place.
        id_file = run / "wandb_id"
        if not id_file.is_file():
            id_file.write_text(wandb.util.generate_id())
        self._run = wandb.init(dir=str(run), id=id_file.read_text(), resume="allow", name=run.name, config=config)

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()
