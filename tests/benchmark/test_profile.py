"""The profile of a step: a trace and a program written by hand, their sums by hand, and the picture of them."""

import gzip
import json
import os
from contextlib import nullcontext

import pytest
from matplotlib.image import imread
from rich.console import Console

from optical_jax.benchmark.profile import (
    Instruction,
    Op,
    measure_profile,
    part_of,
    read_program,
    read_trace,
    seconds_by_part,
    traced_ops,
)
from optical_jax.benchmark.report import print_metrics
from optical_jax.plots.curves import draw_profile

PROGRAM = """\
HloModule jit_train_step, is_scheduled=true

%fused_computation (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %mul.9 = f32[8]{0} multiply(%p, %p), metadata={op_name="jit(train_step)/optimizer/mul"}
}

ENTRY %main (w: f32[8]) -> (f32[8], s32[]) {
  %w = f32[8]{0:T(256)} parameter(0), metadata={op_name="state.params['encoder']"}
  %fusion.1 = f32[8]{0} fusion(%w), kind=kLoop, calls=%fused_computation, metadata={op_name="jit(train_step)/jvp(teacher)/attention/mul" stack_frame_id=3}
  %dot.2 = f32[8,8]{1,0} dot(%w, %fusion.1), metadata={op_name="jit(train_step)/jvp(student)/closed_call/attention/dot"}
  %dot.3 = f32[8,8]{1,0} dot(%w, %dot.2), metadata={op_name="jit(train_step)/transpose(jvp(student))/feed_forward/transpose"}
  %while.4 = (f32[8]{0:T(256)}, s32[]) while(%dot.3), body=%fused_computation, metadata={op_name="jit(train_step)/jvp(loss)/transport/while"}
  %adam.5 = f32[8]{0} add(%w, %w), metadata={op_name="jit(train_step)/optimizer/add"}
  %copy.6 = f32[8]{0} copy(%adam.5)
  ROOT %copy.7 = f32[8]{0} copy(%w)
}
"""  # noqa: E501


def event(name: str, thread: int, start: float, took: float, module: str = "jit_train_step") -> dict:
    args = {"args": {"hlo_op": name, "hlo_module": module}} if module else {}
    return {"ph": "X", "pid": 7, "tid": thread, "ts": start, "dur": took, "name": name, **args}


EVENTS = [
    {"ph": "M", "pid": 7, "name": "process_name", "args": {"name": "/host:CPU"}},
    {"ph": "X", "pid": 7, "tid": 3, "ts": 0.0, "dur": 400.0, "name": "python"},
    {"ph": "X", "pid": 7, "tid": 3, "ts": 0.0, "dur": 400.0, "name": "dot.2"},
    {"ph": "X", "pid": 7, "tid": 3, "ts": 0.0},
    event("fusion.1", 1, 0.0, 100.0),
    event("dot.2", 2, 50.0, 50.0),
    event("dot.3", 1, 100.0, 10.0),
    event("end: dot.3", 2, 200.0, 0.3, module=""),
    event("while.4", 1, 200.0, 60.0),
    event("copy.6", 1, 260.0, 40.0, module="jit_train_step(12)"),
    event("copy.7", 1, 320.0, 10.0),
    event("fusion.1", 1, 330.0, 50.0, module="jit_something_else"),
    {},
]
SUMS = {
    "teacher": 75e-6,  # 50 alone, and half of 50
    "student forward: attention": 25e-6,
    "student backward: feed-forward": 100e-6,  # until its end, not until its pieces were handed out
    "transport": 60e-6,
    "optimizer": 40e-6,  # copy.6 has no name; its operand has
    "other": 10e-6,
}


def test_a_trace_of_a_cpu_is_summed_by_part():
    assert seconds_by_part(traced_ops(EVENTS, PROGRAM)) == pytest.approx(SUMS)


def test_an_end_that_was_lost_is_not_the_next_runs():
    events = [event("dot.3", 1, 0.0, 10.0), event("dot.3", 1, 100.0, 10.0), event("end: dot.3", 2, 150.0, 0.3, "")]
    assert [(op.start, op.stop) for op in traced_ops(events, PROGRAM)] == [(0.0, 10.0), (100.0, 150.0)]


def test_tpus_name_instructions_in_the_lanes_of_devices():
    events = [
        {"ph": "M", "pid": 3, "name": "process_name", "args": {"name": "/device:TPU:0"}},
        {"ph": "X", "pid": 3, "tid": 1, "ts": 0.0, "dur": 50.0, "name": "jit_train_step(12)"},
        {"ph": "X", "pid": 3, "tid": 2, "ts": 5.0, "dur": 20.0, "name": "adam.5"},
        {"ph": "X", "pid": 7, "tid": 2, "ts": 5.0, "dur": 20.0, "name": "dot.2"},
    ]
    assert seconds_by_part(traced_ops(events, PROGRAM)) == pytest.approx({"optimizer": 20e-6})


def test_what_holds_others_counts_while_no_other_runs():
    """Of 120 us a loop alone has 60, what it holds 30; the last 30 are shared by a kernel told twice and another."""
    loop, inner = Instruction("transport", holds=True), Instruction("optimizer", holds=False)
    kernel = Instruction("teacher", holds=False)
    ops = [Op(0, 90, loop), Op(10, 40, inner), Op(90, 120, kernel), Op(90, 120, kernel), Op(90, 120, inner)]
    found = seconds_by_part(ops)
    assert found == pytest.approx({"transport": 60e-6, "optimizer": 40e-6, "teacher": 20e-6})


def test_instructions_of_tuples_and_layouts_are_read():
    found = read_program(PROGRAM)
    assert found["while.4"] == Instruction("transport", holds=True)
    assert found["w"] == found["copy.7"] == Instruction("other", holds=False)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("jit(train_step)/jvp(student)/closed_call/feed_forward/MI,IO->MO/transpose", "student forward: feed-forward"),
        ("jit(f)/transpose(jvp(student))/while/body/checkpoint/rematted_computation/attention/exp",
         "student backward: attention"),
        ("jit(f)/while/body/jvp(student)/embeddings/gather", "student forward: embeddings"),
        ("jit(f)/transpose(jvp(student))/BLD,DE->BLE/transpose", "student backward: rest"),
        ("jit(f)/jvp(teacher)/feed_forward/add", "teacher"),
        ("jit(f)/transpose(jvp(loss))/mul", "rest of the loss"),
        ("jit(f)/transpose(jvp(loss))/transpose(jvp(transport))/mul", "transport"),
        ("jit(f)/optimizer/sqrt", "optimizer"),
        ("state.params['student']", "other"),
        ("", "other"),
    ],
)  # fmt: skip
def test_names_of_operations(name, part):
    assert part_of(name) == part


def write_trace(folder, run: str, events, at: float) -> None:
    run_folder = folder / "plugins" / "profile" / run
    run_folder.mkdir(parents=True)
    with gzip.open(run_folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)
    os.utime(run_folder, (at, at))


def test_the_newest_trace_is_read_and_told_by_step(tmp_path, monkeypatch, capsys):
    """Two steps of 200 us, of which 155 are accounted for."""
    monkeypatch.setattr("jax.profiler.trace", lambda folder: nullcontext())
    write_trace(tmp_path, "2030", EVENTS, at=2e9)
    write_trace(tmp_path, "2031", [], at=1e9)
    assert read_trace(tmp_path) == EVENTS
    profile = measure_profile(lambda: 200e-6, PROGRAM, str(tmp_path))
    assert profile is not None
    assert profile["step_seconds"] == pytest.approx(200e-6)
    assert profile["accounted"] == pytest.approx(155 / 200)
    assert profile["seconds"] == pytest.approx({part: seconds / 2 for part, seconds in SUMS.items()})
    assert profile["shares"]["student backward: feed-forward"] == pytest.approx(100 / 310)
    print_metrics({"profile": profile}, Console(width=80))
    told = capsys.readouterr().out
    assert "32.3%" in told
    assert "77.5%" in told
    draw_profile(profile, tmp_path / "step.png")
    assert imread(tmp_path / "step.png").std() > 0


def test_a_trace_without_operations_gives_no_profile(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.profiler.trace", lambda folder: nullcontext())
    assert measure_profile(lambda: 1.0, PROGRAM, str(tmp_path)) is None
    write_trace(tmp_path, "2030", EVENTS[:3], at=2e9)
    assert measure_profile(lambda: 1.0, PROGRAM, str(tmp_path)) is None
