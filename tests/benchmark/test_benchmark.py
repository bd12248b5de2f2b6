"""The bench: counts by hand, peaks by name, and one whole run of the smallest preset."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from contextlib import closing

import jax
import numpy as np
import pytest
import tyro
from rich.console import Console

from optical_jax.benchmark import parts, presets
from optical_jax.benchmark.devices import known_peak
from optical_jax.benchmark.options import BenchCommand, check, check_extra
from optical_jax.benchmark.presets import drawn_pairs, first_pairs, preset_tower
from optical_jax.benchmark.profile import PARTS
from optical_jax.benchmark.report import flat, format_value, print_comparison, ratio_of, read_metrics_file
from optical_jax.benchmark.run import check_devices, check_rows, make_work, startup_flags, step_config
from optical_jax.benchmark.step import WARM_UP_STEPS, Runner, bitext_loader, row_metrics
from optical_jax.benchmark.timing import Times, paired_ratio
from optical_jax.benchmark.torch_peer import TorchPeer
from optical_jax.benchmark.transport import vectors_of_run
from optical_jax.commands.bench import main
from optical_jax.errors import ConfigError, MachineError
from optical_jax.partitioning import batch_shards
from optical_jax.training.estimate import parameter_counts
from optical_jax.types import TokenVectors


def test_peaks_by_name():
    assert known_peak("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert known_peak("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert known_peak("NVIDIA H100 NVL", "float32") == 60e12
    assert known_peak("TPU v5 lite", "bfloat16") == 197e12
    assert known_peak("TPU v5", "bfloat16") == 459e12
    assert known_peak("TPU v5", "float32") is None
    assert known_peak("cpu", "float32") is None


def test_presets_are_the_models_they_are_named_for():
    """Parameters that Hugging Face tells: MiniLM-L6 22.7 M, XLM-R base 278 M, large 560 M; the projection apart."""
    for preset, millions in (("mini", 22.6), ("base", 277.5), ("large", 558.8)):
        tower = preset_tower(preset, "float32")
        counts = parameter_counts(tower)
        assert (counts["all"] - 128 * tower.encoder.width) / 1e6 == pytest.approx(millions, rel=0.005)
    with pytest.raises(ConfigError, match="preset=huge"):
        preset_tower("huge", "float32")  # pyright: ignore[reportArgumentType]


def test_drawn_pairs_are_cut_and_repeat():
    tower = preset_tower("tiny", "float32")
    pairs = drawn_pairs(1000, tower.encoder)
    assert pairs.student.lengths.max() <= 64
    assert pairs.student.lengths.mean() == pytest.approx(45, abs=4)
    assert pairs.teacher.lengths.mean() == pytest.approx(30, abs=3)
    assert pairs.student.ids.max() < tower.encoder.vocab_size
    more = first_pairs(pairs, 1003)
    np.testing.assert_array_equal(more.student.lengths[1000:], pairs.student.lengths[:3])


def test_medians_and_ratios():
    assert Times((3.0, 1.0, 2.0)).as_json() == {"seconds": 2.0, "fastest": 1.0, "slowest": 3.0}
    assert paired_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"batch": 0}, "batch=0"),
        ({"bitext": "nowhere.tsv"}, "bitext=nowhere.tsv does not exist"),
        ({"bitext": __file__}, "no tokenizer for it"),
        ({"run": "nowhere"}, "run=nowhere does not exist"),
        ({"run": "."}, "run is given, but no pairs"),
        ({"trace": "x", "parts": ("search",)}, "trace is for the part step"),
        ({"teacher_cache": True, "parts": ("search",)}, "teacher_cache is for the part step"),
        ({"from_disk": True, "parts": ("step",)}, "from_disk is for the part search"),
        ({"peer": "torch", "parts": ("search",)}, "peer=torch is for the part step"),
        ({"peer_compile": True}, "peer_compile is for --peer torch"),
        ({"attention": "cudnn"}, "attention=cudnn needs bfloat16; add --dtype bfloat16"),
        ({"json": "no/such/folder/x.json"}, "no such folder"),
        ({"json": "."}, "json=. is a folder; name a file"),
        ({"trace": __file__}, "is a file; name a folder"),
        ({"parts": ()}, "parts is empty"),
        ({"documents": 20_001}, "documents=20001 is too many to search in memory; add --from-disk"),
        ({"compare": ("a.json",)}, "compare needs two files, not 1"),
    ],
)
def test_impossible_flags(flags, said):
    with pytest.raises(ConfigError, match=said):
        check(BenchCommand(**flags))


def test_what_is_possible_after_all():
    check(BenchCommand(documents=20_001, from_disk=True))
    check(BenchCommand(documents=20_001, parts=("step",)))
    check(BenchCommand(parts=(), collection=".", model="."))


def test_the_other_side_wants_its_extra(monkeypatch):
    there = {"torch"}
    monkeypatch.setattr("optical_jax.benchmark.options.find_spec", lambda name: name if name in there else None)
    check_extra(BenchCommand(peer="torch"))
    with pytest.raises(ConfigError, match=r"needs sentence_transformers, which is not installed; .*parity"):
        check_extra(BenchCommand(peer="torch", collection=".", model="."))
    there.clear()
    with pytest.raises(ConfigError, match="peer=torch needs torch"):
        check_extra(BenchCommand(peer="torch"))
    check_extra(BenchCommand())


def test_the_other_side_is_no_match_for_many_devices():
    """Tests have 8."""
    check_devices(BenchCommand())
    with pytest.raises(
        ConfigError, match=r"8 of them cannot be compared with it; make one visible \(CUDA_VISIBLE_DEVICES=0\)"
    ):
        check_devices(BenchCommand(peer="torch"))
    with pytest.raises(ConfigError, match="--attention=splash runs on TPUs"):
        check_devices(BenchCommand(attention="splash", dtype="bfloat16"))


def test_rows_as_they_are_and_kernels_that_do_not_take_them():
    """Pairs are drawn with texts of 64 tokens among them, to which rows of 32 are lengthened."""
    short = BenchCommand(preset="tiny", batch=64, steps=1, row_length=32, dtype="bfloat16")
    work = make_work(short)
    assert max(work.pairs.student.lengths) == 64
    cfg = step_config(short)
    assert row_metrics(cfg, work, bitext_loader(cfg, work, 1)) == {"row_length": 64, "attention": "xla"}
    splash = dataclasses.replace(short, attention="splash")
    with pytest.raises(ConfigError, match=r"multiple of 128 tokens, not 64; pad them to 128 by --row-length"):
        check_rows(splash, work)
    check_rows(dataclasses.replace(splash, row_length=128), work)


def test_the_process_of_the_first_step_speaks_for_itself(monkeypatch):
    """What it told need not be told again; what it did not tell (a crash) is."""
    ended = subprocess.CompletedProcess([], 0, stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: ended)
    for code in (2, 3, 5):
        ended.returncode = code
        with pytest.raises(SystemExit) as stopped:
            parts.measure_startup([])
        assert stopped.value.code == code
    for code in (1, -9):
        ended.returncode = code
        with pytest.raises(ConfigError, match="leave out the part startup"):
            parts.measure_startup([])


def test_encoding_is_timed_as_towers_encode(monkeypatch):
    """Drawn weights too go over all devices, or lie there in layers: as those that are loaded."""
    seen = []

    def on_device(params, tower):
        seen.extend(jax.tree.leaves(params))
        assert jax.sharding.get_mesh().shape["data"] == 8
        return params

    monkeypatch.setattr(parts, "on_device", on_device)
    monkeypatch.setattr(parts, "encode_batch", lambda params, each, tower: each.ids)
    found = parts.measure_encode(make_work(BenchCommand(preset="tiny", batch=8, steps=1)), 8)
    assert {type(leaf) for leaf in seen} == {np.ndarray}
    assert found["texts_per_second"] * found["seconds"] == pytest.approx(24)


def test_two_files_side_by_side():
    """Settings that differ and figures of one side alone are named; a ratio has only what was measured."""
    name = "transport.0.02: logs, 100, relaxed 1.8.marginal_error_mean"
    a = {"work": {"batch": 8}, "step": {"seconds": 2.0, "share": -0.1}, name: 0.1, "mine": 1}
    b = {"work": {"batch": 16}, "step": {"seconds": 3.0, "share": 0.1}, name: 0.1, "yours": 1}
    console = Console(width=60, record=True, file=io.StringIO())
    print_comparison(a, b, ("one/a.json", "two/b.json"), console)
    text = console.export_text()
    assert "settings that differ: work.batch" in text
    assert "only in a.json: mine" in text
    assert "only in b.json: yours" in text
    assert "…" not in text
    assert [text.count(ratio) for ratio in ("1.500", "1.000", "2.000")] == [1, 1, 0]
    for figure, x, y, said in (
        ("step.seconds", 2.0, 3.0, "1.500"), ("work.batch", 8, 16, ""), ("device.count", 1, 2, ""),
        ("step.share", -0.1, 0.1, ""), ("step.share", -0.1, -0.2, "2.000"), ("step.waste", 0, 1, ""),
        ("step.seconds", None, 1.0, ""), ("work.teacher_cache", True, True, ""),
    ):  # fmt: skip
        assert ratio_of(figure, x, y) == said, figure


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"versions": {}, "device": {}, "work": "none"}')
    (tmp_path / "b.json").write_text("no")
    for name, said in (("a", "is not a results file"), ("b", "is not JSON"), ("c", "no such file")):
        with pytest.raises(ConfigError, match=said):
            read_metrics_file(str(tmp_path / f"{name}.json"))


def test_figures_are_told_shortly():
    assert dict(flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3})) == {"a.b": 1, "a.c.d": 2, "e": 3}
    assert [format_value(x) for x in (1234567, 1234.5, 0.01234, None, "cpu", True)] == [
        "1,234,567", "1,234", "0.01234", "-", "cpu", "True",
    ]  # fmt: skip


def test_a_trained_runs_vectors_are_cut_and_padded_to_one_length(tmp_path, monkeypatch):
    """Students make the foreign side's, teachers the English; pairs are spread over the file."""
    asked = []

    def encode(side, texts):
        asked.append((side, list(texts)))
        length = 70 if side == "query" else 5
        return TokenVectors(np.ones((2, length, 3), np.float32), np.ones((2, length), bool))  # pyright: ignore

    monkeypatch.setattr("optical_jax.runs.load.load", lambda run, side: side)
    monkeypatch.setattr("optical_jax.towers.tower.encode", encode)
    (tmp_path / "sw.train.tsv").write_text("".join(f"water {n}\tmaji {n}\n" for n in range(6)))
    student, teacher = vectors_of_run("a run", str(tmp_path / "sw.train.tsv"), batch=2)
    assert asked == [("query", ["maji 0", "maji 3"]), ("document", ["water 0", "water 3"])]
    assert student.vectors.shape == teacher.vectors.shape == (2, 64, 3)
    assert student.mask.sum() == 2 * 64
    assert teacher.mask.sum() == teacher.mask[:, :5].sum() == 2 * 5


def bench(*flags, **environ):
    command = [sys.executable, "-m", "optical_jax", "bench", *map(str, flags)]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_whole_bench(tmp_path, capsys):
    """Every part on the tiny preset: the keys that scripts read are there, and are numbers that can be."""
    out = tmp_path / "out.json"
    small = ["--preset", "tiny", "--batch", 8, "--steps", 2, "--documents", 300, "--from-disk"]
    small += ["--parts", "step", "input", "transport", "encode", "search", "agreement", "--remat", "dots"]
    done = bench(*small, "--teacher-cache", "--trace", tmp_path / "trace", "--json", out, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    step = figures["step"]
    for key in ("pairs_per_second", "seconds", "mfu", "real_tokens_per_second"):
        assert step[key] > 0, key
    assert step["pairs_per_second"] == pytest.approx(8 / step["seconds"], rel=0.5)
    assert 0 <= step["padding_waste"] < 0.5
    assert step["transport_share"] < 1
    assert step["shapes"] == 1
    profile = figures["profile"]
    # The teacher's vectors are read.
    assert set(profile["shares"]) >= set(PARTS) - {"teacher", "other"}
    assert sum(profile["shares"].values()) == pytest.approx(1.0)
    assert 0.1 < profile["accounted"] <= 1.0
    assert (tmp_path / "trace" / "step.png").stat().st_size > 5000
    transport = figures["transport"]
    assert transport["pairs"]["source"] == "drawn"
    assert transport["50"]["seconds"] / step["seconds"] == pytest.approx(transport["50"]["share_of_step"])
    assert transport["50, relaxed 1.8"]["marginal_error"] < 0.3 * transport["50"]["marginal_error"]
    assert transport["ott 50"]["marginal_error"] == pytest.approx(transport["50"]["marginal_error"], rel=0.01)
    for name in ("stops", "ott stops"):
        assert transport[name]["marginal_error"] < 1.01e-3
        assert transport[name]["iterations"] <= transport[name]["iterations_most"] < 1000
    for one in transport.values():
        assert one is transport["pairs"] or 0 <= one["off_mean"] <= one["off"] < 0.1
    agreement = figures["agreement"]
    assert agreement["loss_last"] < agreement["loss_first"] - 0.01
    apart = {name: one["most_apart"] for name, one in agreement.items() if isinstance(one, dict) and name != "plain"}
    assert len(apart) == 4
    assert max(apart.values()) < 1e-3
    assert figures["search"]["queries_per_second"] > 0
    assert figures["search_on_disk"]["anonymous_bytes"] > 0
    assert figures["encode"]["tokens_per_second"] > 0
    assert figures["device"]["platform"] == "cpu"
    assert set(figures["versions"]) >= {"python", "jax", "optical_jax"}
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert main(["--compare", str(out), str(out)]) == 0
    both = capsys.readouterr().out
    assert "step.pairs_per_second" in both
    assert "1.000" in both


def test_the_step_is_measured_as_it_was_asked_for():
    cfg = step_config(BenchCommand(dtype="bfloat16", attention="splash", remat="dots", row_length=128, steps=3))
    assert (cfg.student.attention, cfg.teacher.attention, cfg.student.remat) == ("splash", "splash", "dots")
    assert (cfg.data.row_length, cfg.training.steps) == (128, 3 + WARM_UP_STEPS)


def test_what_is_started_again_is_the_same_bench():
    command = BenchCommand(dtype="bfloat16", attention="cudnn", remat="full", batching="buckets", batch=8, peer="torch")
    again = tyro.cli(BenchCommand, args=startup_flags(command))
    assert again == command


def test_a_kernel_of_another_device_is_refused(capsys):
    flags = ["--preset", "tiny", "--batch", "8", "--steps", "1", "--parts", "step", "--dtype", "bfloat16"]
    assert main([*flags, "--attention", "cudnn"]) == 2
    assert "--attention=cudnn runs on NVIDIA GPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"), [(AssertionError(), "such device;"), (RuntimeError("no plugin"), "(no plugin)")]
)
def test_a_platform_without_devices_is_one_line(monkeypatch, error, said):
    """JAX says nothing at all of some."""

    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(MachineError) as caught:
        check_devices(BenchCommand())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_first_error_is_told_once():
    done = bench("--preset", "tiny", "--batch", 8, "--steps", 1, "--parts", "startup", JAX_PLATFORMS="nowhere")
    assert done.returncode == 5
    assert [line[:28] for line in done.stderr.splitlines() if "rror" in line] == ["error: JAX_PLATFORMS=nowhere"]


@pytest.mark.slow
def test_the_first_step_says_when_it_was_done():
    before = time.time()
    done = bench("--preset", "tiny", "--batch", 8, "--steps", 1, "--only-first-step")
    assert done.returncode == 0, done.stderr
    assert before < json.loads(done.stdout)["at"] < time.time()


@pytest.mark.parity
def test_the_other_side_does_the_same_step(data_dir, minilm_dir):
    """Sixteen pairs, one batch: the loss of either side, from the same weights, and again after its update."""
    bitext = str(next((data_dir / "bitext" / "tico19").glob("sw.train.tsv*")))
    work = presets.make_work("mini", "float32", bitext, str(minilm_dir), 16)
    cfg = step_config(BenchCommand(batch=16))
    ours = Runner(cfg, work)
    batch = next(bitext_loader(cfg, work, batch_shards(ours.mesh)))
    losses: dict[str, list[float]] = {"ours": [], "theirs": []}
    with closing(TorchPeer(work, str(minilm_dir), 16, cfg.loss.ot, "cpu", compiled=False)) as peer:
        for _ in range(2):
            ours.run(batch)
            losses["ours"].append(ours.loss)
            losses["theirs"].append(peer(0)["loss"])
    assert losses["ours"] == pytest.approx(losses["theirs"], abs=2e-5)
    # The update of 1e-5 a parameter is seen at all.
    assert abs(losses["ours"][1] - losses["ours"][0]) > 1e-3


@pytest.mark.parity
def test_the_other_side_runs_in_turns():
    done = bench("--preset", "tiny", "--batch", 8, "--steps", 2, "--parts", "step", "--peer", "torch")
    assert done.returncode == 0, done.stderr
    assert "median_ratio" in done.stdout
