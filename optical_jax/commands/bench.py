"""`python -m optical_jax bench`: how fast this machine distils, encodes and searches."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from optical_jax.commands.curves import try_to_draw
from optical_jax.commands.entry import open_door
from optical_jax.config import Attention, Config, DataConfig, Remat
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


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(list(sys.argv[1:] if argv is None else argv)))


def run_command(argv: list[str]) -> None:
    command = tyro.cli(BenchCommand, args=argv, prog="python -m optical_jax bench")
    check(command)
    if command.compare is not None:
        compare((command.compare[0], command.compare[1]))
    elif command.only_first_step:
        only_first_step(command)
    else:
        measure(command)


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


def check_devices(command: BenchCommand) -> None:
    """Refuse what the devices here cannot do, before anything is read.

    Raises:
      MachineError: there are none of the platform that was asked for.
      ConfigError: names the flag, its value and the remedy.
    """
    from optical_jax.models.attention import check_platform
    from optical_jax.partitioning import find_devices, platform

    count = len(find_devices())
    if command.peer is not None and count > 1:
        raise ConfigError(
            f"peer={command.peer} runs on one device, and {count} of them are no match for it; show one "
            "(CUDA_VISIBLE_DEVICES=0), or leave the peer out"
        )
    check_platform(command.attention, platform(), "--attention")


def check_rows(command: BenchCommand, work: Any) -> None:
    """Raise ConfigError where the kernel that --attention names does not take the rows of these pairs."""
    from optical_jax.benchmark.step import bitext_loader
    from optical_jax.models.attention import find_obstacle

    if command.attention == "auto" or command.attention == "xla":
        return
    for length in bitext_loader(step_config(command), work, shards=1).layout.row_lengths:
        obstacle = find_obstacle(command.attention, work.tower.encoder, length)
        if obstacle:
            raise ConfigError(
                f"--attention={command.attention} {obstacle} by --row-length, which --batching packed goes by; or take "
                "--attention xla"
            )


def compare(paths: tuple[str, str]) -> None:
    from rich.console import Console

    from optical_jax.benchmark.report import print_comparison, read_figures

    a, b = (read_figures(path) for path in paths)
    # A file or a pipe has room for every line.
    print_comparison(a, b, paths, Console(width=None if sys.stdout.isatty() else 200))


def step_config(command: BenchCommand) -> Config:
    """The settings of the step that is measured."""
    from optical_jax.benchmark import step

    data = DataConfig(batching=command.batching, row_length=command.row_length)
    return step.step_config(command.batch, command.steps, data, command.attention, command.remat)


def make_work(command: BenchCommand) -> Any:
    from optical_jax.benchmark import presets
    from optical_jax.benchmark.step import WARM_UP_STEPS

    pairs = command.batch * (command.steps + WARM_UP_STEPS)
    work = presets.make_work(command.preset, command.dtype, command.bitext, command.teacher, pairs)
    check_rows(command, work)
    return work


def only_first_step(command: BenchCommand) -> None:
    from optical_jax.benchmark.parts import first_step

    check_devices(command)
    first_step(lambda: make_work(command), step_config(command))


def measure(command: BenchCommand) -> None:
    """All parts; a table of each, and the JSON anew, as soon as it is there."""
    from rich.console import Console

    from optical_jax.benchmark import parts
    from optical_jax.benchmark.devices import describe_device, describe_versions
    from optical_jax.benchmark.report import print_figures

    check_extra(command)
    if command.peer is not None:
        # Read when the first device is asked for: two frameworks are to share a GPU's memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console, figures = Console(), dict[str, Any]()

    def take(found: dict[str, Any]) -> None:
        figures.update(found)
        print_figures(found, console)
        if command.json:
            Path(command.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    if "startup" in command.parts:
        # First, before even the devices are looked at, which it does itself: a process that has an accelerator does not
        # share it with the one that is measured.
        take({"startup": parts.measure_startup(startup_flags(command))})
    check_devices(command)
    work = make_work(command)
    about = {"preset": command.preset, "dtype": command.dtype, "batch": command.batch, "steps": command.steps}
    about |= {"attention": command.attention, "remat": command.remat}
    about |= {"batching": command.batching, "pairs": work.source, "teacher_cache": command.teacher_cache}
    take({"device": describe_device(), "versions": describe_versions(), "work": about})
    step_seconds: float | None = None
    if "step" in command.parts:
        found = measure_step(command, work)
        step_seconds = found["step"]["seconds"]
        take(found)
        if "profile" in found:
            picture = Path(command.trace) / "step.png"
            if try_to_draw(lambda path: draw_step(found["profile"], path), picture):
                console.print(f"picture: {picture}")
    if "input" in command.parts:
        beside = None if command.teacher_cache else step_seconds
        take({"input": parts.measure_input(work, step_config(command), beside)})
    if "transport" in command.parts:
        take({"transport": measure_transport(command, work, step_seconds)})
    if "agreement" in command.parts:
        from optical_jax.benchmark.agreement import measure_agreement

        take({"agreement": measure_agreement(work, step_config(command))})
    if "encode" in command.parts:
        take({"encode": parts.measure_encode(work, command.batch)})
    if "search" in command.parts:
        take({"search": parts.measure_search(min(command.documents, IN_MEMORY))})
        if command.from_disk:
            take({"search_on_disk": parts.measure_search_on_disk(command.documents)})
    if command.collection:
        from optical_jax.benchmark.retrieval import measure_retrieval

        peer = command.peer is not None
        take({"retrieval": measure_retrieval(command.collection, command.language, command.model, peer=peer)})
    if command.json:
        console.print(f"figures: {command.json}")


def draw_step(profile: dict[str, Any], path: Path) -> None:
    from optical_jax.plots.style import draw_profile

    draw_profile(profile, path)


def measure_transport(command: BenchCommand, work: Any, step_seconds: float | None) -> dict[str, Any]:
    """On the vectors of towers with real weights where there are any, else on drawn ones."""
    from optical_jax.benchmark import transport

    if command.run:
        sides, source = transport.vectors_of_run(command.run, command.bitext, command.batch), command.run
    elif command.bitext and command.preset == "mini":
        sides, source = transport.vectors_of(work, command.batch), command.teacher
    else:
        sides, source = transport.drawn_vectors(command.batch), "drawn"
    return transport.measure_transport(*sides, source, step_seconds)


def measure_step(command: BenchCommand, work: Any) -> dict[str, Any]:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        return measure_with_peer(command, work, folder if command.teacher_cache else "", say)


def measure_with_peer(command: BenchCommand, work: Any, cache: str, say: Callable[[str], None]) -> dict[str, Any]:
    import jax

    from optical_jax.benchmark import step
    from optical_jax.benchmark.torch_peer import TorchPeer

    cfg = step_config(command)
    if command.peer is None:
        return step.measure_step(work, cfg, cache=cache, trace=command.trace, say=say)
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    weights = command.teacher if command.preset == "mini" else ""
    with closing(TorchPeer(work, weights, command.batch, cfg.loss.ot, device, command.peer_compile)) as peer:
        say(f"the other side: {peer.about}")
        found = step.measure_step(work, cfg, cache=cache, trace=command.trace, peer=peer, say=say)
        return found | {"peer": peer.about | found["peer"]}


def startup_flags(command: BenchCommand) -> list[str]:
    """The flags of a bench that does the first step of this one."""
    flags = ["--preset", command.preset, "--dtype", command.dtype, "--batch", str(command.batch)]
    flags += ["--steps", str(command.steps), "--batching", command.batching, "--row-length", str(command.row_length)]
    flags += ["--attention", command.attention, "--remat", command.remat]
    for name in ("bitext", "teacher", "peer"):
        if getattr(command, name):
            flags += [f"--{name}", getattr(command, name)]
    return flags
