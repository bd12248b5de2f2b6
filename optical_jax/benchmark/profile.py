"""Profile of a training step: time by part, from a JAX trace and the named scopes of the step."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

TRACED_STEPS = 2

INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (?:\(.*?\)|\S+) ([\w-]+)\(")
"""Name and opcode of an instruction, after its type, which may be a tuple."""
OP_NAME = re.compile(r'metadata=\{[^{}]*\bop_name="([^"]*)"')
OPERAND = re.compile(r"%([\w.-]+)")
END = "end: "
HOLDERS = ("while", "conditional", "call")
"""Opcodes whose time includes that of nested operations."""

BLOCKS = {"attention": "attention", "feed_forward": "feed-forward", "embeddings": "embeddings"}
"""Named scopes of the student -> part names."""
PARTS = (
    "teacher",
    *(f"student {way}: {block}" for way in ("forward", "backward") for block in (*BLOCKS.values(), "rest")),
    "transport",
    "rest of the loss",
    "optimizer",
    "other",
)
"""Parts in the order of reports. The student's rest is its head, unpacking and the overhead of loops over layers;
transport is cost and plan, the rest of the loss its sum, its gradient and the metrics; other is what has no scope, such
as copies."""


class Instruction(NamedTuple):
    """One instruction of a compiled program."""

    part: str
    holds: bool
    """True if it contains other operations (`HOLDERS`)."""


class Op(NamedTuple):
    """An operation's time in a trace, in microseconds."""

    start: float
    stop: float
    instruction: Instruction


def measure_profile(step: Callable[[], float], program: str, folder: str) -> dict[str, Any] | None:
    """Trace `TRACED_STEPS` steps, and sum the time by part.

    Args:
      step: runs one step and returns its seconds.
      program: text of the compiled program, `compiled.as_text()`.
      folder: for the trace, which xprof reads too.

    Returns:
      step_seconds: of one step, including the overhead of tracing. seconds: by part (of `PARTS`, those above zero), as
      of `seconds_by_part`. shares: seconds over their sum. accounted: their sum over step_seconds; the rest is time in
      which no operation ran, such as input and dispatch. None if the trace has no operation of the program, as on some
      backends.
    """
    with jax.profiler.trace(folder):
        seconds = sum(step() for _ in range(TRACED_STEPS)) / TRACED_STEPS
    found = seconds_by_part(traced_ops(read_trace(Path(folder)), program))
    parts = {part: found[part] / TRACED_STEPS for part in PARTS if found.get(part)}
    if not parts:
        return None
    total = sum(parts.values())
    shares = {part: value / total for part, value in parts.items()}
    return {"step_seconds": seconds, "accounted": total / seconds, "seconds": parts, "shares": shares}


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Events of the newest trace under `folder`, in Chrome's trace format; empty without a trace."""
    newest = max((folder / "plugins" / "profile").glob("*"), key=lambda path: path.stat().st_mtime, default=None)
    events: list[dict[str, Any]] = []
    for file in sorted(newest.glob("*.trace.json.gz")) if newest else ():
        with gzip.open(file, "rt", encoding="utf-8") as text:
            events += json.load(text)["traceEvents"]
    return events


def traced_ops(events: Sequence[Mapping[str, Any]], program: str) -> Iterator[Op]:
    """Operations of one compiled program among the events of a trace.

    CPUs and GPUs have module and instruction in an event's arguments; on TPUs the event has the instruction's name. On
    CPUs the end of a matrix product is an event of its own, as the first one ends when the work is dispatched.
    """
    instructions, module = read_program(program), program.removeprefix("HloModule ").partition(",")[0]
    devices = {
        event["pid"]
        for event in events
        if event.get("name") == "process_name" and event["args"]["name"].startswith("/device:")
    }
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ends: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        name, about, start = event.get("name", ""), event.get("args", {}), float(event["ts"])
        # GPUs append a number in brackets to the module's name.
        ours = about["hlo_module"].split("(")[0] == module if "hlo_module" in about else event["pid"] in devices
        op = about.get("hlo_op", name)
        if name.startswith(END):
            ends[name.removeprefix(END)].append(start)
        elif ours and ("hlo_op" in about or op in instructions):
            times[op].append((start, start + float(event.get("dur", 0.0))))
    for op, spans in times.items():
        spans.sort()
        for (start, stop), (following, _) in itertools.pairwise([*spans, (float("inf"), 0.0)]):
            # Traces may lack events, so the next end may be that of another run.
            ended = min((end for end in ends[op] if start <= end <= following), default=stop)
            yield Op(start, max(stop, ended), instructions.get(op, Instruction("other", holds=False)))


def read_program(text: str) -> dict[str, Instruction]:
    """Instructions of a compiled program by name.

    A fusion belongs to the part in its op_name; an instruction without one to the part of its first operand.
    """
    found: dict[str, Instruction] = {}
    for line in text.splitlines():
        if named := INSTRUCTION.match(line):
            op_name = OP_NAME.search(line)
            operands = (found[name].part for name in OPERAND.findall(line, named.end()) if name in found)
            part = part_of(op_name[1]) if op_name else next((part for part in operands if part != "other"), "other")
            found[named[1]] = Instruction(part, named[2] in HOLDERS)
    return found


def part_of(op_name: str) -> str:
    """One of `PARTS`, by the scopes in an operation's name, such as jit(f)/transpose(jvp(student))/attention/mul."""
    # Scopes may be nested in names of transformations.
    scopes = [part.rpartition("(")[2].rstrip(")") for part in op_name.split("/")]
    if "student" in scopes:
        way = "backward" if "transpose(" in op_name else "forward"
        block = next((BLOCKS[scope] for scope in scopes if scope in BLOCKS), "rest")
        return f"student {way}: {block}"
    if "loss" in scopes:
        return "transport" if "transport" in scopes else "rest of the loss"
    return next((scope for scope in ("teacher", "optimizer") if scope in scopes), "other")


def seconds_by_part(ops: Iterable[Op]) -> dict[str, float]:
    """Seconds of each part, with every moment in which something runs counted once.

    Time is divided evenly among the operations running at a moment, on any thread or device; containers (`HOLDERS`)
    count only while nothing else runs. So the sum is the time in which anything ran, at most the wall time.
    """
    edges: list[tuple[float, int, Instruction]] = []
    for op in ops:
        edges += [(op.start, 1, op.instruction), (op.stop, -1, op.instruction)]
    seconds: dict[str, float] = defaultdict(float)
    running: Counter[Instruction] = Counter()
    before = 0.0
    for now, change, instruction in sorted(edges, key=lambda edge: edge[0]):
        if now > before:
            active = {one: count for one, count in running.items() if count}
            inner = {one: count for one, count in active.items() if not one.holds} or active
            for one, count in inner.items():
                seconds[one.part] += 1e-6 * (now - before) * count / sum(inner.values())
        running[instruction] += change
        before = now
    return dict(seconds)
