"""Flags of `bench`, and their validation."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from optical_jax.config import Attention, Remat
from optical_jax.errors import ConfigError

Part = Literal["step", "input", "transport", "encode", "search", "startup", "agreement"]
IN_MEMORY = 20_000
"""Largest number of documents searched in memory: 0.3 GB."""
PARTS: tuple[Part, ...] = ("step", "input", "transport", "encode", "search", "startup")


@dataclass(frozen=True)
class BenchCommand:
    """Benchmark a distillation step, input, transport, encoding, search and start-up. Nothing is downloaded.

    python -m optical_jax bench --preset mini

    python -m optical_jax bench --preset base --dtype bfloat16 --batch 512 --json base.json
    """

    preset: Literal["tiny", "mini", "base", "large"] = "mini"
    """Size of student and teacher. tiny: seconds on a laptop; mini: MiniLM; base, large: XLM-R."""
    bitext: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Bitext, such as sw.train.tsv.gz; empty takes random pairs of typical lengths."""
    teacher: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of the tokenizer for --bitext; preset mini takes its weights too. Other weights are random."""
    run: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Trained run whose student's and teacher's vectors of --bitext are used for the part transport."""
    batch: int = 64
    """Pairs per step, over all devices."""
    steps: int = 8
    """Timed steps, after two of warm-up."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of activations."""
    attention: Attention = "auto"
    """Attention of both towers in the step, as student.attention."""
    remat: Remat = "none"
    """Rematerialisation in the step, as student.remat."""
    batching: Literal["packed", "buckets"] = "packed"
    """Batch layout, as data.batching."""
    row_length: int = 64
    """Tokens per packed row, as data.row_length; at least the length of the longest text."""
    parts: tuple[Part, ...] = PARTS
    """What to measure. agreement, not among the defaults, compares loss curves with and without optimisations."""
    documents: int = 20_000
    """Documents of 64 tokens to search. More than 20,000 are searched on disk only: --from-disk."""
    from_disk: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Search documents on disk too (at most 20,000 in memory): writes 16 KiB per document to the folder for temporary
    files."""
    teacher_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read teacher vectors from disk in the step, as with teacher.cache; filling the cache is timed separately. The
    part input does not use it, and reports no share of the step."""
    collection: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """BEIR folder whose documents and queries are encoded and ranked by --model."""
    language: str = "sw"
    """Language of the collection's queries."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of a late-interaction model for --collection, such as an export; --peer torch reads it too."""
    peer: Annotated[Literal["torch"] | None, tyro.conf.arg(metavar="torch")] = None
    """Interleave the step with a PyTorch one on the same pairs (extra `parity`)."""
    peer_compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Use torch.compile in the peer."""
    trace: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for a profile of two more steps, for xprof, and step.png, the time by part of the step."""
    json: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write all results to this file too."""
    compare: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="A.json B.json")] = None
    """Compare two results files instead of measuring."""
    only_first_step: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run one step, print the time at its end, and stop; used by the part `startup`."""


def check(command: BenchCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if command.compare is not None and len(command.compare) != 2:
        raise ConfigError(f"compare needs two files, not {len(command.compare)}; use --compare A.json B.json")
    for name in ("batch", "steps", "documents", "row_length"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is not valid; use at least 1")
    for name in ("bitext", "teacher", "run", "collection", "model"):
        if getattr(command, name) and not Path(getattr(command, name)).exists():
            raise ConfigError(f"{name}={getattr(command, name)} does not exist; name one that does, or leave it out")
    if bool(command.collection) != bool(command.model):
        raise ConfigError("collection and model go together; set both, or neither")
    if command.bitext and not command.teacher:
        raise ConfigError("bitext is given, but no tokenizer for it; name a model's folder: --teacher DIR")
    if command.attention in ("cudnn", "splash") and command.dtype != "bfloat16":
        raise ConfigError(f"attention={command.attention} needs bfloat16; add --dtype bfloat16")
    if command.run and not command.bitext:
        raise ConfigError("run is given, but no pairs for its towers; name a file of its language: --bitext FILE")
    if not command.parts and not command.collection:
        raise ConfigError(f"parts is empty; use some of {' '.join(PARTS)} agreement, or leave the flag out")
    if "search" in command.parts and command.documents > IN_MEMORY and not command.from_disk:
        raise ConfigError(
            f"documents={command.documents} is too many to search in memory; add --from-disk, or use at most "
            f"{IN_MEMORY}"
        )
    for flag, part in (("trace", "step"), ("teacher_cache", "step"), ("from_disk", "search")):
        if getattr(command, flag) and part not in command.parts:
            raise ConfigError(f"{flag} is for the part {part}, which is not among --parts; add it, or leave {flag} out")
    if command.peer is not None and "step" not in command.parts and not command.collection:
        raise ConfigError("peer=torch is for the part step and for --collection; add one, or leave it out")
    if command.peer_compile and command.peer is None:
        raise ConfigError("peer_compile is for --peer torch; add it")
    if command.trace and Path(command.trace).exists() and not Path(command.trace).is_dir():
        raise ConfigError(f"trace={command.trace} is a file; name a folder")
    if command.json and Path(command.json).is_dir():
        raise ConfigError(f"json={command.json} is a folder; name a file")
    if command.json and not Path(command.json).absolute().parent.is_dir():
        raise ConfigError(f"json={command.json}: no such folder; make it first")


def check_extra(command: BenchCommand) -> None:
    """Raise ConfigError if a library that --peer needs is not installed."""
    for name in ("torch", "sentence_transformers") if command.collection else ("torch",):
        if command.peer is not None and find_spec(name) is None:
            raise ConfigError(
                f"peer={command.peer} needs {name}, which is not installed; "
                "pip install 'optical_jax[parity]', or leave it out"
            )
