"""Where a step's time goes: JAX's trace of it, summed by the scopes that the step is written in."""

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
"""Name and opcode, behind a type that may be a tuple's."""
OP_NAME = re.compile(r'metadata=\{[^{}]*\bop_name="([^"]*)"')
OPERAND = re.compile(r"%([\w.-]+)")
END = "end: "
HOLDERS = ("while", "conditional", "call")
"""Opcodes whose time is that of the operations they hold, where the trace has those too."""

BLOCKS = {"attention": "attention", "feed_forward": "feed-forward", "embeddings": "embeddings"}
"""Scopes within the student."""
PARTS = (
    "teacher",
    *(f"student {way}: {block}" for way in ("forward", "backward") for block in (*BLOCKS.values(), "rest")),
    "transport",
    "rest of the loss",
    "optimizer",
    "other",
)
"""In the order they are told. The student's rest is its head, its layout and what loops over its layers take beside the
blocks; transport is cost and plan, the rest of the loss its sum, its gradient and the figures of metrics.jsonl; other
is what belongs to no scope, such as copies."""


class Instruction(NamedTuple):
    """What a compiled program's text says of one of its instructions."""

    part: str
    holds: bool
    """It runs others: see `HOLDERS`."""


class Op(NamedTuple):
    """An operation's time in a trace, in microseconds."""

    start: float
    stop: float
    instruction: Instruction


def measure_profile(step: Callable[[], float], program: str, folder: str) -> dict[str, Any] | None:
    """Trace `TRACED_STEPS` steps, and sum what was traced.

    Args:
      step: runs one and gives its seconds.
      program: text of the program that it runs, of `compiled.as_text()`.
      folder: where the trace goes, for xprof too.

    Returns:
      step_seconds: of one step, which tracing slows down. seconds: of them, in each of `PARTS` that took any, as
      `seconds_by_part` shares them out. shares: the same over their sum, so that they add up to one. accounted: their
      sum over step_seconds; what is missing is time in which no operation ran, such as input and starting the program.
      None where the trace has no operation of the program, as of some backends.
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
    """Events of the newest trace under `folder`, as Chrome's trace format has them; none where there is no trace."""
    newest = max((folder / "plugins" / "profile").glob("*"), key=lambda path: path.stat().st_mtime, default=None)
    events: list[dict[str, Any]] = []
    for file in sorted(newest.glob("*.trace.json.gz")) if newest else ():
        with gzip.open(file, "rt", encoding="utf-8") as text:
            events += json.load(text)["traceEvents"]
    return events


def traced_ops(events: Sequence[Mapping[str, Any]], program: str) -> Iterator[Op]:
    """The operations of one compiled program among the events of a trace.

    CPUs and GPUs name module and instruction in an event's arguments. On TPUs an instruction's name is the event's.
    CPUs tell the end of a product by an event of its own: that of its start is over when its pieces are handed out.
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
        # GPUs add a number in brackets to the module's name.
        ours = about["hlo_module"].split("(")[0] == module if "hlo_module" in about else event["pid"] in devices
        op = about.get("hlo_op", name)
        if name.startswith(END):
            ends[name.removeprefix(END)].append(start)
        elif ours and ("hlo_op" in about or op in instructions):
            times[op].append((start, start + float(event.get("dur", 0.0))))
    for op, spans in times.items():
        spans.sort()
        for (start, stop), (following, _) in itertools.pairwise([*spans, (float("inf"), 0.0)]):
            # Traces lose some events, so that the next end may be another run's.
            told = min((end for end in ends[op] if start <= end <= following), default=stop)
            yield Op(start, max(stop, told), instructions.get(op, Instruction("other", holds=False)))


def read_program(text: str) -> dict[str, Instruction]:
    """Instructions of a compiled program by name.

    A fusion is of the part that the compiler names it for. What it names for nothing is of its first operand's part.
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
    # A scope may be inside the transformations it went through.
    scopes = [part.rpartition("(")[2].rstrip(")") for part in op_name.split("/")]
    if "student" in scopes:
        way = "backward" if "transpose(" in op_name else "forward"
        block = next((BLOCKS[scope] for scope in scopes if scope in BLOCKS), "rest")
        return f"student {way}: {block}"
    if "loss" in scopes:
        return "transport" if "transport" in scopes else "rest of the loss"
    return next((scope for scope in ("teacher", "optimizer") if scope in scopes), "other")


def seconds_by_part(ops: Iterable[Op]) -> dict[str, float]:
    """Seconds of each part; every moment in which something runs is counted once.

    A moment is shared evenly by the operations that have begun and not ended, on whatever thread or device. One that
    holds others counts only while no other does. So the sum is the time in which anything ran, and never more than has
    passed.
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
