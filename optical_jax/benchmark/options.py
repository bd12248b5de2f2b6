"""Flags of `bench`, and their checks."""

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
"""Documents that are searched in memory at most: 0.3 GB."""
PARTS: tuple[Part, ...] = ("step", "input", "transport", "encode", "search", "startup")


@dataclass(frozen=True)
class BenchCommand:
    """Time a distillation step and what lies around it, on the devices found. Nothing is downloaded.

    python -m optical_jax bench --preset mini

    python -m optical_jax bench --preset base --dtype bfloat16 --batch 512 --json base.json
    """

    preset: Literal["tiny", "mini", "base", "large"] = "mini"
    """tiny: seconds on a laptop; mini: MiniLM; base, large: XLM-R. Teacher and student alike."""
    bitext: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Pairs to work on, such as sw.train.tsv.gz; empty draws some of usual lengths."""
    teacher: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of the tokenizer for --bitext; preset mini takes its weights too. The others draw theirs."""
    run: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Trained run: transport is measured on its student's and its teacher's vectors of --bitext."""
    batch: int = 64
    """Pairs a step, over all devices."""
    steps: int = 8
    """Steps that are timed, after two of warm-up."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations."""
    attention: Attention = "auto"
    """How tokens read each other in the step, as student.attention; of both towers."""
    remat: Remat = "none"
    """What the step's backward pass computes again, as student.remat."""
    batching: Literal["packed", "buckets"] = "packed"
    """How batches are laid out, as data.batching."""
    row_length: int = 64
    """Tokens of a packed row, as data.row_length; at least as many as the longest text has."""
    parts: tuple[Part, ...] = PARTS
    """What to measure. agreement, which is not among the usual: loss curves with and without what makes steps fast."""
    documents: int = 20_000
    """Documents of 64 tokens to search. More than 20,000 are searched on disk alone: --from-disk."""
    from_disk: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Search them on disk too (20,000 at most in memory): 16 KiB a document in the folder for temporary files, and time
    to write them."""
    teacher_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read the teacher's vectors from disk, as every step with teacher.cache does; filling it is timed apart. The
    part input makes its batches without it, so tells no share of the step."""
    collection: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """BEIR folder whose documents and queries are encoded and ranked by --model."""
    language: str = "sw"
    """Of the collection's queries."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of a late-interaction model for --collection, such as an export; --peer torch reads it too."""
    peer: Annotated[Literal["torch"] | None, tyro.conf.arg(metavar="torch")] = None
    """Interleave the step with a PyTorch one on the same pairs (extra `parity`)."""
    peer_compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """torch.compile on the other side."""
    trace: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Write a profile of two more steps there, for xprof, and step.png: where their time goes."""
    json: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write all figures here too."""
    compare: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="A.json B.json")] = None
    """Measure nothing; put two files of figures side by side."""
    only_first_step: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do one step, print when it was done, and stop: what the part `startup` starts."""


def check(command: BenchCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if command.compare is not None and len(command.compare) != 2:
        raise ConfigError(f"compare takes two files, and here are {len(command.compare)}: --compare A.json B.json")
    for name in ("batch", "steps", "documents", "row_length"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is impossible; give at least 1")
    for name in ("bitext", "teacher", "run", "collection", "model"):
        if getattr(command, name) and not Path(getattr(command, name)).exists():
            raise ConfigError(f"{name}={getattr(command, name)} does not exist; name one that does, or leave it out")
    if bool(command.collection) != bool(command.model):
        raise ConfigError("collection and model go together; give both, or neither")
    if command.bitext and not command.teacher:
        raise ConfigError("bitext is given, but no tokenizer for it; name a model's folder: --teacher DIR")
    if command.attention in ("cudnn", "splash") and command.dtype != "bfloat16":
        raise ConfigError(f"attention={command.attention} works in bfloat16; add --dtype bfloat16")
    if command.run and not command.bitext:
        raise ConfigError("run is given, but no pairs for its towers; name a file of its language: --bitext FILE")
    if not command.parts and not command.collection:
        raise ConfigError(f"parts names none; give some of {' '.join(PARTS)} agreement, or leave the flag out")
    if "search" in command.parts and command.documents > IN_MEMORY and not command.from_disk:
        raise ConfigError(
            f"documents={command.documents} are more than are searched in memory; add --from-disk, or give at most "
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
    """Raise ConfigError where PyTorch, or what else the other side needs, is not installed."""
    for name in ("torch", "sentence_transformers") if command.collection else ("torch",):
        if command.peer is not None and find_spec(name) is None:
            raise ConfigError(
                f"peer={command.peer} needs {name}, which is not installed; pip install '.[parity]', or leave it out"
            )
