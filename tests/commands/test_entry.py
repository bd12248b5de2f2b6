"""What an impatient user meets: bare and mistyped commands, wrong labels, stops, pipes, and lines that fit."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optical_jax import __main__ as package_main
from optical_jax.commands import align, entry, evaluate, export, names, search, train
from optical_jax.config import Config, DataConfig, OptimizerConfig, to_json
from optical_jax.config.files import load_config_file
from optical_jax.data.text.bitext import load_bitext
from optical_jax.errors import ConfigError, Interrupted, MachineError
from optical_jax.invocation import program, typed_command
from optical_jax.progress import ProgressReport
from optical_jax.runs.checkpoint import as_machine_errors
from optical_jax.runs.folder import RunFolder
from optical_jax.training.loop import catch_signals, dev_lines
from tests import ROOT

HEAVY = {"jax", "flax", "numpy", "matplotlib", "transformers", "orbax", "grain"}


@pytest.mark.parametrize("command", [train, evaluate, align, names, search, export])
def test_a_bare_command_answers_with_one_that_its_own_parser_takes(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    name, *flags = shlex.split(command.EXAMPLE)
    assert f"\n  {program(name)} {shlex.join(flags)}\n" in said
    for path in (word for word in flags if word.startswith("configs/")):
        assert Path(path).exists()
    if command in (evaluate, align, search):
        command.parse(flags)


def test_a_mistyped_command_and_config_are_guessed(capsys, monkeypatch):
    assert package_main.main(["exprot"]) == 2
    assert "did you mean export?" in capsys.readouterr().err
    assert package_main.main(["qqqqq"]) == 2
    assert "did you mean" not in capsys.readouterr().err
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"did you mean configs/tiny\.py\?"):
        load_config_file("configs/tny.py", Config)
    with pytest.raises(ConfigError, match="configs is a folder; available"):
        load_config_file("configs", Config)


SHOWN = {
    "train": "--training.steps", "eval": "--compare", "export": "--checkpoint", "search": "QUERY", "phrases": "--boxes",
    "mine": "--depth", "names": "--lang", "align": "--run",
}  # fmt: skip


@pytest.mark.parametrize("command", SHOWN)
def test_help_imports_nothing_heavy(command):
    words = [f"{command}.py"] if command in ("train", "eval") else ["-m", "optical_jax", command]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tyro" in imported
    assert not imported & HEAVY
    assert SHOWN[command] in done.stdout


@pytest.mark.parametrize("label", ["swahili", "s", "sw-swahili-x", "SW", "sw1"])
def test_a_label_that_no_language_can_have_is_refused(label, tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("a cat\tpaka\n")
    with pytest.raises(ConfigError, match="not in lower case" if label == "SW" else f"{label} is not a language code"):
        load_bitext(DataConfig(bitext=(f"{label}={file}",)))


@pytest.mark.parametrize("label", ["sw", "bem", "swh_Latn", "pt-BR", "zh-Hant-TW", "es-419"])
def test_labels_of_iso_639_are_taken(label, tmp_path):
    file = tmp_path / "a=b.tsv"
    file.write_text("a cat\tpaka\n")
    assert list(load_bitext(DataConfig(bitext=(f"{label}={file}",))).train) == [label]


def test_a_stopped_command_tells_what_to_type(capsys, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "configs/tiny.py", "--run", "runs/my run"])
    assert entry.run_command_line(stopped) == Interrupted.exit_code
    last = capsys.readouterr().err.splitlines()[-1].strip()
    assert shlex.split(last) == ["python", *sys.argv]
    monkeypatch.setattr(sys, "argv", ["/x/optical_jax/__main__.py", "eval", "--run", "a"])
    assert typed_command() == ["python", "-m", "optical_jax", "eval", "--run", "a"]
    monkeypatch.setattr(sys, "argv", ["/x/pytest/__main__.py", "tests"])
    assert typed_command() == []


def test_dev_lines_fit_a_terminal_and_say_the_mean():
    figures = {"R@1": 0.5, "R@10": 0.75, "RR@10": 0.625}
    assert dev_lines(200, {"sw": figures}, "RR@10") == ["step    200  dev  sw R@1 0.500 R@10 0.750 RR@10 0.625"]
    six = {lang: dict(figures, **{"R@1": 0.1 * n}) for n, lang in enumerate(("de", "fr", "ha", "ru", "so", "bem"))}
    lines = dev_lines(200, six, "R@1")
    assert max(map(len, lines)) <= 80
    assert "mean of 6 R@1 0.250 R@10 0.750" in lines[0]
    assert "ha 0.200" in "".join(lines)
    assert "bem 0.500" in "".join(lines)


def test_several_differences_stand_one_a_line(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_json(Config(run=str(tmp_path)))))
    other = Config(run=str(tmp_path), seed=1, optimizer=OptimizerConfig(peak_lr=1e-3))
    with pytest.raises(ConfigError) as caught:
        folder.holds_run_of(other)
    assert "\n  optimizer.peak_lr: 0.0005 -> 0.001\n  seed: 0 -> 1\n" in str(caught.value)
    with pytest.raises(ConfigError, match=r"another config: seed: 0 -> 1; give the same"):
        folder.holds_run_of(Config(run=str(tmp_path), seed=1))


def test_a_dumb_terminal_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with ProgressReport("training", 2, "steps") as progress:
        progress.say("news")
        progress.advance()
    assert capsys.readouterr().err == "news\n"


def test_no_rate_is_told_before_there_is_one():
    """The first step holds the compilation; a rate that counts it would promise hours."""
    with ProgressReport("training", 10, "steps") as progress:
        assert progress.eta() == "?"
        progress.advance()
        assert progress.rate() == 0
        progress.advance()
        assert progress.rate() > 0


def test_a_full_disk_is_one_line(caplog):
    """Orbax's threads log their own tracebacks of it through absl; the error itself still arrives."""
    log = logging.getLogger("absl")
    for words, heard in (("No space left on device", False), ("a bug", True)):
        caplog.clear()
        try:
            raise OSError(words)
        except OSError:
            log.exception("a thread failed")
        assert bool(caplog.records) == heard
    with pytest.raises(MachineError, match="No space left; the last complete one is kept"), as_machine_errors():
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 3 bytes to file 28: No space left on device")


def test_a_signal_is_noted_though_nobody_can_be_told(monkeypatch):
    """Ctrl-C stops the tee behind a pipe too; the save must come all the same, and a second Ctrl-C be free."""

    def broken(*arguments):
        raise BrokenPipeError

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(os, "write", broken)
    with catch_signals() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == ["SIGINT"]
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "--xla_a=1"),
        ("--xla_b", "--xla_b --xla_a=1"),
        ("--xla_a=2 --xla_b", "--xla_a=2 --xla_b"),
        ("--xla_ab=2", "--xla_ab=2 --xla_a=1"),
    ],
)
def test_a_users_own_xla_flags_stay(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    entry.add_xla_flag("--xla_a=1")
    assert os.environ["XLA_FLAGS"] == expected


def test_the_products_of_a_command_are_eigens():
    program = """
import jax, jax.numpy as jnp
from optical_jax.commands.entry import run_command_line
compiled = lambda: jax.jit(lambda x: x @ x).lower(jnp.ones((256, 256))).compile().as_text()
run_command_line(lambda: print("ynn_fusion" in compiled()))
"""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True)
    assert done.stdout == b"False\n"
