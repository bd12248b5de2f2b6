"""Runs the parts of a benchmark in sequence."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from optical_jax.benchmark.options import IN_MEMORY, BenchCommand, check_extra
from optical_jax.config import Config, DataConfig
from optical_jax.errors import ConfigError
from optical_jax.plots.curves import draw_profile, try_to_draw


def check_devices(command: BenchCommand) -> None:
    """Validate the flags for the devices at hand, before anything is read.

    Raises:
      MachineError: no device of the platform in JAX_PLATFORMS.
      ConfigError: names the flag, its value and the remedy.
    """
    from optical_jax.models.attention import check_platform
    from optical_jax.partitioning import find_devices, platform

    count = len(find_devices())
    if command.peer is not None and count > 1:
        raise ConfigError(
            f"peer={command.peer} runs on one device, so {count} of them cannot be compared with it; make one visible "
            "(CUDA_VISIBLE_DEVICES=0), or leave the peer out"
        )
    check_platform(command.attention, platform(), "--attention")


def check_rows(command: BenchCommand, work: Any) -> None:
    """Raise ConfigError if the kernel of --attention does not support the row length of these pairs."""
    from optical_jax.benchmark.step import bitext_loader
    from optical_jax.models.attention import find_obstacle

    if command.attention == "auto" or command.attention == "xla":
        return
    for length in bitext_loader(step_config(command), work, shards=1).layout.row_lengths:
        obstacle = find_obstacle(command.attention, work.tower.encoder, length)
        if obstacle:
            raise ConfigError(
                f"--attention={command.attention} {obstacle} by --row-length, for --batching packed, or use "
                "--attention xla"
            )


def compare(paths: tuple[str, str]) -> None:
    from rich.console import Console

    from optical_jax.benchmark.report import print_comparison, read_metrics_file

    a, b = (read_metrics_file(path) for path in paths)
    # A file or a pipe is not limited to the width of a terminal.
    print_comparison(a, b, paths, Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False))


def step_config(command: BenchCommand) -> Config:
    """Config of the benchmarked step."""
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
    """Measure all parts; after each, prints its table and rewrites the JSON file."""
    from rich.console import Console

    from optical_jax.benchmark import parts
    from optical_jax.benchmark.devices import describe_device, describe_versions
    from optical_jax.benchmark.report import print_metrics

    check_extra(command)
    if command.peer is not None:
        # Read when JAX is initialised: two frameworks have to share a GPU's memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console, figures = Console(markup=False, emoji=False), dict[str, Any]()

    def take(found: dict[str, Any]) -> None:
        figures.update(found)
        print_metrics(found, console)
        if command.json:
            Path(command.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    if "startup" in command.parts:
        # First, before JAX is initialised here: a process that holds an accelerator does not share it with the one
        # being measured.
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
            if try_to_draw(draw_profile, found["profile"], picture):
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


def measure_transport(command: BenchCommand, work: Any, step_seconds: float | None) -> dict[str, Any]:
    """Benchmark solvers on vectors of trained towers if available, else on random ones."""
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
        say(f"peer: {peer.about}")
        found = step.measure_step(work, cfg, cache=cache, trace=command.trace, peer=peer, say=say)
        return found | {"peer": peer.about | found["peer"]}


def startup_flags(command: BenchCommand) -> list[str]:
    """Flags of a benchmark process that runs the first step of this one."""
    flags = ["--preset", command.preset, "--dtype", command.dtype, "--batch", str(command.batch)]
    flags += ["--steps", str(command.steps), "--batching", command.batching, "--row-length", str(command.row_length)]
    flags += ["--attention", command.attention, "--remat", command.remat]
    for name in ("bitext", "teacher", "peer"):
        if getattr(command, name):
            flags += [f"--{name}", getattr(command, name)]
    return flags
