"""Output and arguments in any encoding, on any terminal; progress lines."""

import io
import json
import os
import subprocess
import sys

import pytest

from optical_jax import __main__ as package_main
from optical_jax import progress as progress_module
from optical_jax.commands import entry
from optical_jax.errors import ConfigError
from optical_jax.evaluation.report import make_console
from optical_jax.files import text_fault
from optical_jax.printing import printable
from optical_jax.progress import ProgressReport
from tests import ROOT

NOT_UTF8 = "caf\udce9 maji"
"""As Python hands on the bytes of "café maji" in Latin-1."""


@pytest.mark.parametrize("command", package_main.COMMANDS)
@pytest.mark.parametrize("words", [[NOT_UTF8], ["--run", NOT_UTF8], [f"--out={NOT_UTF8}"], ["--run", "a", "\ud800"]])
def test_arguments_that_are_not_utf8_are_refused_by_every_command(command, words, capsys):
    assert package_main.main([command, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: argument {len(words)}, ")
    assert said.count("\n") == 1
    assert ("caf\\xe9 maji" in said) or ("\\ud800" in said)
    assert "set a UTF-8 locale" in said


def test_a_command_name_that_is_not_utf8(capsys):
    assert package_main.main(["sea\udce9rch"]) == 2
    assert "no command sea\\xe9rch; did you mean search?" in capsys.readouterr().err


def test_a_current_folder_that_is_not_utf8_or_gone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "getcwd", lambda: "/data/caf\udce9")
    assert package_main.main(["names", "--lang", "sw", "--out", "x"]) == 2
    assert "the current folder, '/data/caf\\xe9', is not UTF-8" in capsys.readouterr().err

    def gone():
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert package_main.main(["names", "--lang", "sw", "--out", "x"]) == 2
    assert "does not exist any more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("maji ሰላም é", "maji ሰላም é"),
        ("क\u200cष", "क\u200cष"),  # a zero-width non-joiner is part of a word
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800x", "\\ud800x"),
        ("a\u2028b\x85", "a\\u2028b\\x85"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
    assert not text_fault(shown)


def test_control_characters_in_a_message_do_nothing(capsys):
    def fails():
        raise ConfigError("run=\x1b[2Jx is not valid; use another:\n  seed: 0 -> 1")

    assert entry.run_command_line(fails) == 2
    assert capsys.readouterr().err == "error: run=\\x1b[2Jx is not valid; use another:\n  seed: 0 -> 1\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["train", "--help"], 0),
        (["names", "--lang", "fr", "--out", "OUT/naïf ሰ"], 0),
        (["search", "--run", "näher ሰ", "--docs", "x", "ሰላም"], 2),
        (["eval", "--model", "optical_jax/english_teacher", "--collection", "nirgends é—"], 3),
        (["train", "--config", "größe—"], 2),
        (["check", "OUT/de.train.tsv"], 0),
        (["zuöst"], 2),
    ],
)
def test_any_encoding_of_stdout_takes_any_text(encoding, words, code, tmp_path):
    """Escaped where the encoding lacks a character; nothing fails."""
    pairs = (f"The house {n} is old — very\tDas Haus {n} ist sehr alt, größer als ሰላም" for n in range(20))
    (tmp_path / "de.train.tsv").write_text("\n".join(pairs) + "\n", "utf-8")
    words = [word.replace("OUT", str(tmp_path)) for word in words]
    env = {**os.environ, "PYTHONIOENCODING": encoding, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "optical_jax", *words], cwd=tmp_path, env=env, capture_output=True)
    assert b"Traceback" not in done.stderr
    assert done.returncode == code, done.stderr.decode(encoding)
    printed = (done.stdout + done.stderr).decode(encoding)
    if words[-1] == "nirgends é—":
        assert ("é" in printed) == (encoding != "ascii")
        assert ("\\xe9" in printed) == (encoding == "ascii")


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", '"\\u00e9 \\u1230"'), ("utf-8", '"é ሰ"')])
def test_json_lines_stay_json_in_any_encoding(encoding, printed, monkeypatch):
    from optical_jax.commands.terminal import print_json

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    print_json({"text": "é ሰ"})
    sys.stdout.flush()
    assert printed in written.getvalue().decode(encoding)
    assert json.loads(written.getvalue().decode(encoding)) == {"text": "é ሰ"}


# ---- progress ----------------------------------------------------------------------------------------------------


def simulated_time(monkeypatch) -> list[float]:
    """The seconds that progress lines are timed by, to be moved on by hand."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_module, "PLAIN_LINE_SECONDS", 10.0)
    return now


def test_the_last_progress_line_is_of_the_end(monkeypatch, capsys):
    now = simulated_time(monkeypatch)
    with ProgressReport("encoding lines", 1342, "lines") as progress:
        for _ in range(1342):
            now[0] += 0.02
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # after 10 s, 20 s, and at the end
    assert lines[-1] == "encoding lines 1342/1342 lines"


def test_a_short_or_a_failed_work_prints_no_last_line(monkeypatch, capsys):
    with ProgressReport("encoding lines", 3, "lines") as progress:
        progress.advance(3)
    assert capsys.readouterr().err == ""
    now = simulated_time(monkeypatch)

    def work():
        with ProgressReport("encoding lines", 30, "lines") as progress:
            for _ in range(2):
                now[0] += 11
                progress.advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert "30/30" not in capsys.readouterr().err


def test_lines_with_an_eta_are_the_only_ones(monkeypatch, capsys):
    """A training's own lines have it; the lines between them leave it out."""
    now = simulated_time(monkeypatch)
    with ProgressReport("training", 100, "steps") as progress:
        for step in range(1, 61):
            now[0] += 1
            progress.advance()
            if step % 20 == 0:
                progress.say(f"step {step}{progress.eta_of_line('  ')}")
    lines = capsys.readouterr().err.splitlines()
    after = lines[lines.index("step 20  eta 0:01:20") + 1 :]
    assert [line for line in after if "eta" in line] == ["step 40  eta 0:01:00", "step 60  eta 0:00:40"]
    assert any(line.startswith("training 31/100 steps") for line in after)


@pytest.mark.parametrize("width", [40, 100])
def test_a_bar_fits_the_terminal_and_has_the_only_eta(width, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(width), "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    with ProgressReport("encoding and ranking lines", 20, "lines") as progress:
        for _ in range(20):
            progress.advance()
        assert progress.eta_of_line("  ") == ""
    lines = [line.split("\x1b[2K")[-1] for line in shown.getvalue().replace("\r", "\n").split("\n")]
    last = [line for line in lines if "20/20" in line][-1]
    assert "eta" not in last
    assert len(last.replace("\x1b[?25h", "").rstrip()) <= width


def test_tables_keep_their_digits_on_a_small_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert make_console().width == 64
    monkeypatch.setenv("COLUMNS", "100")
    assert make_console().width == 100
