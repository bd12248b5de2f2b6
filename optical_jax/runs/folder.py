"""Run folder: lock, config, resuming, and the record of inputs and environment."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig, to_json
from optical_jax.errors import ConfigError, MachineError
from optical_jax.files import OWN_CONFIG, PAIR, REFERENCE, locked, read_json, text_fault, write_json
from optical_jax.printing import printable
from optical_jax.runs.metrics import read_metrics

if TYPE_CHECKING:
    from optical_jax.data.text.code_switch import Lexicon
    from optical_jax.towers.pair import TowerPair
    from optical_jax.towers.tower import Tower

FREE_SETTINGS = (
    "run", "resume", "cache_dir", "low_resource", "licences", "teacher.cache_gib", "training.steps",
    "training.log_every", "training.dev_every", "training.tracker", "training.deterministic", "mesh.*",
    "teacher.attention", "student.attention", "student.remat", "encoder.attention", "encoder.remat",
    "text.attention", "text.remat", "image.attention", "image.remat", "data.threads", "data.checks", "data.max_unknown",
    "checkpoint.every", "checkpoint.keep", "checkpoint.keep_best",
)  # fmt: skip
"""Settings that may change when a run is resumed: they affect monitoring and computation, not the result."""
PATH_SETTINGS = (
    "data.bitext", "data.dev", "teacher.path", "student.path", "data.train", "data.collection", "data.queries",
    "encoder.path", "text.path", "image.path", "data.images",
)  # fmt: skip
"""Paths that may change on resuming as long as the files are the same, as on another machine."""
MODEL_PATHS = ("teacher.path", "student.path", "encoder.path", "text.path", "image.path")
"""Paths of the weights that a run starts from."""
BEFORE = {"data.batching": "buckets"}
"""Values of settings in runs older than the setting, if other than its default."""

Inputs = dict[str, dict[str, str]]
"""Kind of input ("bitext", "rankings", "images", "pictures", "teacher.path", ...) -> path -> sha256."""
RunConfig = Config | TeacherStageConfig | ImageStageConfig
"""Config of a student, a text teacher, or an image-text teacher."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def student(self) -> Path:
        return self.path / "student"

    @property
    def teacher(self) -> Path:
        return self.path / "teacher"

    @property
    def model(self) -> Path:
        """The tower or towers of a teacher's training, before its first step."""
        return self.path / "model"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second training out of this folder; kill -9 frees the lock.

        Raises:
          MachineError: another process trains in this folder.
          ConfigError: the path is a file, or not UTF-8.
        """
        # JSON, XLA and tokenizers need such a path.
        if text_fault(whole := str(self.path.absolute())):
            raise ConfigError(
                f"run={printable(whole)} is not valid UTF-8; name another folder, or rename the one it lies in"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(f"run={self.path} is, or lies in, a file; name a folder") from None
        refusal = f"run {self.path} is being trained by another process; wait for it, or name another --run"
        with locked(self.path, MachineError(refusal)):
            yield

    def keep_compiled(self) -> None:
        """Enable JAX's persistent compilation cache in the run folder, so that a resumed run need not compile again.

        JAX_COMPILATION_CACHE_DIR in the environment takes precedence. A read-only folder is left alone.
        """
        import jax

        if not os.environ.get("JAX_COMPILATION_CACHE_DIR") and os.access(self.path, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str((self.path / "compiled").absolute()))
            # All of it: programs that each compile in less than JAX's one second are many.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def saved_config(self) -> dict[str, Any] | None:
        path = self.path / "config.json"
        return read_json(path) if path.is_file() else None

    def holds_run_of(self, cfg: RunConfig) -> bool:
        """Whether to resume: False for a new run, True for one whose config differs in free settings only.

        Raises:
          ConfigError: the folder has a run of another config (the message has the diff), or --resume forbids it.
        """
        saved = self.saved_config()
        if saved is None:
            if cfg.resume == "must":
                raise ConfigError(f"resume=must, but {self.path} holds no run; use --resume auto to start one")
            self._check_free(cfg)
            return False
        if cfg.resume == "never":
            raise ConfigError(f"resume=never, but {self.path} holds a run already; name another --run")
        if kind_of(saved) != kind_of(to_json(cfg)):
            raise ConfigError(f"{self.path} holds a training of {kind_of(saved)}; name another --run")
        differences = diff(saved, cfg)
        if differences:
            remedy = "give the same values, or name another --run"
            changes = f" {differences[0]}; " if len(differences) == 1 else "\n  " + "\n  ".join(differences) + "\n"
            raise ConfigError(f"{self.path} holds a run of another config:{changes}{remedy}")
        return True

    def _check_free(self, cfg: RunConfig) -> None:
        """Refuse to start a run in a folder with anything but leftovers of a failed start.

        Raises:
          ConfigError: with the name of what is in the way.
        """
        for name in ("checkpoints", "metrics.jsonl"):
            if (self.path / name).exists():
                raise ConfigError(
                    f"{self.path} holds {name} without config.json, so it is not a complete run; "
                    "copy the whole folder, or name another --run"
                )
        settings = flatten(to_json(cfg))
        sources = {Path(settings[name]).resolve() for name in MODEL_PATHS if settings.get(name)}
        for part in (self.teacher, self.student, self.model):
            ours = any((part / name).is_file() for name in (OWN_CONFIG, REFERENCE, PAIR))
            if part.resolve() in sources or (part.exists() and not ours):
                raise ConfigError(f"{part} was not written by a run, and would be overwritten; name another --run")

    def begin(
        self,
        cfg: RunConfig,
        towers: Mapping[str, Tower | TowerPair],
        inputs: Inputs,
        records: Mapping[str, Any],
        *,
        references: Mapping[str, str] | None = None,
        lexicons: Mapping[str, Lexicon] | None = None,
    ) -> None:
        """Write the files of a new run, config.json last, so that a failed start does not count as a run.

        Args:
          cfg: the run's settings.
          towers: "teacher" and "student", or "model", before the first step; each is copied. The teacher's image
            tower, if any, as "teacher/image" after it.
          inputs: by kind, path -> sha256 of every input file.
          records: file name -> content, as JSON, such as the report on the data.
          references: towers that are not copied -> path to keep.
          lexicons: by language, for data.code_switch.
        """
        from optical_jax.data.text.code_switch import lexicon_file, write_lexicon
        from optical_jax.runs.load import save_reference
        from optical_jax.towers.pair import TowerPair, save_model

        for leftover in (self.teacher, self.student, self.model):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        for name, tower in towers.items():
            if references and name in references:
                assert not isinstance(tower, TowerPair), "references are to single towers"
                save_reference(tower, references[name], self.path / name, cfg.cache_dir or None)
            else:
                save_model(tower, self.path / name)
        write_json(self.path / "env.json", environment() | {"inputs": inputs, "resumed": []})
        for name, content in records.items():
            write_json(self.path / name, content)
        for language, lexicon in (lexicons or {}).items():
            write_lexicon(lexicon_file(self.path, language), lexicon)
        self.save_config(cfg)

    def save_config(self, cfg: RunConfig) -> None:
        write_json(self.path / "config.json", to_json(cfg))

    def save_licences(self, cfg: RunConfig) -> None:
        """Save licences, which may also be stated after a run is finished, for the export of its weights."""
        saved, stated = self.saved_config() or {}, list(cfg.licences)
        if stated and saved.get("licences") != stated:
            write_json(self.path / "config.json", saved | {"licences": stated})

    def finished(self) -> dict[str, Any] | None:
        """Last metrics line of a finished run, with params_sha256; None if the run is not finished."""
        records = read_metrics(self.metrics)
        return records[-1] if records and "params_sha256" in records[-1] else None

    def resume(self, cfg: RunConfig, inputs: Inputs) -> None:
        """Check that the inputs are those the run started with, at any path, and record the environment.

        Args:
          inputs: data files; and models whose path has changed, as others are in the run.

        Raises:
          ConfigError: a file has changed since.
        """
        env = read_json(self.path / "env.json")
        for kind, files in inputs.items():
            before = env["inputs"].get(kind, {})
            if sorted(files.values()) != sorted(before.values()):
                changed = [path for path in files if files[path] not in before.values()] or list(before)
                raise ConfigError(
                    f"{kind} of run {self.path} is not what it began with ({', '.join(changed)}); "
                    "restore it, or name another --run"
                )
        env["resumed"].append(environment())
        write_json(self.path / "env.json", env)
        # Licences stay until others are stated.
        stated = tuple((self.saved_config() or {}).get("licences", ()))
        self.save_config(dataclasses.replace(cfg, licences=cfg.licences or stated))


def environment() -> dict[str, Any]:
    """Package versions and devices, for env.json."""
    import jax

    packages = ("jax", "jaxlib", "flax", "optax", "ott-jax", "orbax-checkpoint", "grain", "transformers", "tokenizers")
    return {
        "optical_jax": version("optical_jax"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "packages": {name: version(name) for name in packages},
    }


def kind_of(config: Mapping[str, Any]) -> str:
    """What a run with this config trains: "a student", "a teacher" or "an image-text teacher"."""
    return "an image-text teacher" if "image" in config else "a teacher" if "encoder" in config else "a student"


def diff(old: dict[str, Any], new: RunConfig) -> list[str]:
    """Settings whose values differ, as "name: old -> new", without free settings.

    A setting that `old` lacks is newer than its run, and has the value that run used: its default, or BEFORE.
    """
    before = BEFORE if isinstance(new, Config) else {}
    a, b = flatten(to_json(type(new)())) | before | flatten(old), flatten(to_json(new))
    # Any folder will do, but with a cache the teacher's vectors are rounded; likewise any place of images.
    a, b = (tree | {name: bool(tree.get(name)) for name in ("teacher.cache", "data.pictures")} for tree in (a, b))
    return [
        f"{name}: {a.get(name)!r} -> {b.get(name)!r}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name) and not any(fnmatch.fnmatch(name, free) for free in FREE_SETTINGS + PATH_SETTINGS)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def read_run_config(run: Path) -> dict[str, Any]:
    """config.json of a run; empty if there is none."""
    return RunFolder(run).saved_config() or {}
