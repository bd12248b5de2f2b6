"""README and docs hold what they promise: examples are run, commands parse, files are read, links lead somewhere."""

import doctest
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tyro

from optical_jax.commands import align, bench, collect, lexicon, phrases
from optical_jax.commands import mine as mining
from optical_jax.commands.check import CheckCommand
from optical_jax.commands.names import NamesCommand
from optical_jax.commands.settings import ImageTeacherCommand, TeacherCommand, TrainCommand, parse_command
from optical_jax.commands.study import StudyCommand, load_study
from optical_jax.config.validation import validate, validate_image_teacher, validate_teacher
from optical_jax.data.text.bitext import load_bitext
from optical_jax.data.text.names import split_names
from optical_jax.errors import DataError
from optical_jax.evaluation.options import EvalCommand, check
from optical_jax.export.options import ExportCommand
from optical_jax.index.options import SearchCommand
from optical_jax.index.options import check as check_search
from optical_jax.studies.design import check_study
from tests import ROOT

FIRST = ("README.md", "docs/getting_started.md")
PAGES = (*FIRST, *sorted({f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - {*FIRST}))
"""In the order in which someone reads them: what a page shows stands on the runs of those before."""
BLOCK = re.compile(r"^ *```(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\b[0-9a-f]{64}\b|[-+]?\d[\d.,:]*(e[-+]?\d+)?")
TRAIN = (["train.py"], ["-m", "optical_jax", "train"])
EVAL = (["eval.py"], ["-m", "optical_jax", "eval"])
EXPORT = (["-m", "optical_jax", "export"],)
SEARCH = (["-m", "optical_jax", "search"],)
ALIGN = (["-m", "optical_jax", "align"],)
LEXICON = (["-m", "optical_jax", "lexicon"],)
CHECK = (["-m", "optical_jax", "check"],)
NAMES = (["-m", "optical_jax", "names"],)
BENCH = (["-m", "optical_jax", "bench"],)
TEACHER = (["-m", "optical_jax", "teacher"],)
IMAGE_TEACHER = (["-m", "optical_jax", "image_teacher"],)
MINE = (["-m", "optical_jax", "mine"],)
COLLECT = (["-m", "optical_jax", "collect"],)
STUDY = (["-m", "optical_jax", "study"],)
PHRASES = (["-m", "optical_jax", "phrases"],)


class Block(NamedTuple):
    info: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count("```") % 2 == 0, f"{page}: a code block is not closed"
    return [Block(match["info"].strip(), match["text"]) for match in BLOCK.finditer(text)]


def commands(block: Block) -> list[list[str]]:
    """The words behind `python` of every such line of a shell block; `optical_jax` is `python -m optical_jax`."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.info == "sh" else []
    words = [shlex.split(line, comments=True) for line in lines]
    starts = {"python": [], "optical_jax": ["-m", "optical_jax"]}
    return [[*starts[first], *rest] for first, *rest in filter(None, words) if first in starts]


def arguments(command: list[str], heads: tuple[list[str], ...]) -> list[str] | None:
    return next((command[len(head) :] for head in heads if command[: len(head)] == head), None)


ALL_COMMANDS = [(page, command) for page in PAGES for block in blocks(page) for command in commands(block)]


# ---- examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.info == "python" for block in blocks(page))])
def test_python_examples_of_a_page(page, monkeypatch):
    """All blocks of a page in one session, from the repository's root."""
    monkeypatch.chdir(ROOT)
    source = "\n".join(block.text for block in blocks(page) if block.info == "python")
    assert ">>>" in source, f"{page}: a python block without >>> would not be run"
    test = doctest.DocTestParser().get_doctest(source, {}, page, page, 0)
    doctest.DebugRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)


EXAMPLES = (
    "towers.tower",
    "data.text.folding",
    "data.text.names",
    "data.text.words",
    "retrieval.scoring",
    "models.nnx_module",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"optical_jax.{name}"), raise_on_error=True)
    assert found.attempted > 0


def test_every_module_with_examples_is_named_above():
    modules = {
        ".".join(path.relative_to(ROOT / "optical_jax").with_suffix("").parts)
        for path in (ROOT / "optical_jax").rglob("*.py")
        if re.search(r">>> (?!.*doctest: \+SKIP)", path.read_text(encoding="utf-8"))
    }
    assert modules == set(EXAMPLES)


# ---- commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS, ids=[f"{p}: {' '.join(c)}"[:90] for p, c in ALL_COMMANDS])
def test_commands_are_understood(page, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    if (train := arguments(command, TRAIN)) is not None:
        parsed = parse_command(TrainCommand, train)
        validate(parsed.settings, needs_run=not parsed.dry_run)
    elif (evaluate := arguments(command, EVAL)) is not None:
        check(tyro.cli(EvalCommand, args=evaluate))
    elif (export := arguments(command, EXPORT)) is not None:
        tyro.cli(ExportCommand, args=export)
    elif (search := arguments(command, SEARCH)) is not None:
        check_search(tyro.cli(SearchCommand, args=search))
    elif (aligned := arguments(command, ALIGN)) is not None:
        align.check(tyro.cli(align.AlignCommand, args=aligned))
    elif (found := arguments(command, LEXICON)) is not None:
        lexicon.check(tyro.cli(lexicon.LexiconCommand, args=found))
    elif (checked := arguments(command, CHECK)) is not None:
        tyro.cli(CheckCommand, args=checked)
    elif (named := arguments(command, NAMES)) is not None:
        split_names(tyro.cli(NamesCommand, args=named).lang)
    elif (timed := arguments(command, BENCH)) is not None:
        bench.check(tyro.cli(bench.BenchCommand, args=timed))
    elif (taught := arguments(command, TEACHER)) is not None:
        parsed = parse_command(TeacherCommand, taught)
        validate_teacher(parsed.settings, needs_run=not parsed.dry_run)
    elif (shown := arguments(command, IMAGE_TEACHER)) is not None:
        parsed = parse_command(ImageTeacherCommand, shown)
        validate_image_teacher(parsed.settings, needs_run=not parsed.dry_run)
    elif (mined := arguments(command, MINE)) is not None:
        mining.check(tyro.cli(mining.MineCommand, args=mined))
    elif (collected := arguments(command, COLLECT)) is not None:
        collect.check(tyro.cli(collect.CollectCommand, args=collected))
    elif (asked := arguments(command, PHRASES)) is not None:
        phrases.check(tyro.cli(phrases.PhrasesCommand, args=asked))
    elif (studied := arguments(command, STUDY)) is not None:
        check_study(load_study(tyro.cli(StudyCommand, args=studied).config))
    else:
        pytest.fail(f"{page}: python {' '.join(command)} is not a command")


def test_settings_that_pages_name_exist():
    """`data.max_chars` and the like; flags are met by parsing them. Those of docs/teacher.md are a teacher's, and of
    docs/images.md some an image-text teacher's."""
    student, teacher = parse_command(TrainCommand, []).settings, parse_command(TeacherCommand, []).settings
    pictures = parse_command(ImageTeacherCommand, []).settings
    named = re.compile(
        r"`((?:encoder|text|image|augmentation|teacher|student|data|loss|optimizer|training|mesh|checkpoint)\.[a-z0-9_.]+)"
    )
    found = {(page, name) for page in PAGES for name in named.findall((ROOT / page).read_text(encoding="utf-8"))}
    assert len(found) > 15
    for page, name in found:
        # A student's run has the teacher as one of its settings, wherever it is named.
        kinds: list[Any] = [teacher if page == "docs/teacher.md" and not name.startswith("teacher.") else student]
        if page in ("docs/images.md", "docs/formats.md"):
            kinds.append(pictures)
        if page == "docs/settings.md":
            kinds += [teacher, pictures]
        assert any(has_setting(cfg, name) for cfg in kinds), name


def has_setting(cfg: Any, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(cfg, part):
            return False
        cfg = getattr(cfg, part)
    return True


def tiny_commands() -> Iterator[tuple[str, list[str], str]]:
    """(page, command, the output shown below it) of every command that needs nothing but configs/tiny.py, each once."""
    seen = []
    for page in PAGES:
        all_blocks = blocks(page)
        for block, following in itertools.pairwise([*all_blocks, Block("", "")]):
            found = commands(block)
            for command in found:
                words = " ".join(command)
                runs = re.findall(r"runs/\w+", words)
                of_the_tiny_run = "configs/tiny.py" in words or any(run.startswith("runs/tiny") for run in runs)
                shown = following.text if following.info == "text output" and command == found[-1] else ""
                if page == "docs/data.md" or not of_the_tiny_run or (command in seen and not shown):
                    continue
                seen.append(command)
                yield page, command, shown


def not_printed(shown: str, output: str) -> list[str]:
    """Lines of `shown` that `output` lacks; numbers and spaces may differ."""

    def plain(line: str) -> str:
        return " ".join(NUMBER.sub("#", line).split())

    printed = {"", "...", *map(plain, output.splitlines())}
    return [line for line in shown.splitlines() if plain(line) not in printed]


ONE_AFTER_ANOTHER = """
import json, os, runpy, sys, traceback

asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in asked:
    words = json.loads(line)
    with open("printed.txt", "wb") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    code = 0
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    except Exception:
        # As python does: the traceback goes where the output goes, and the test checks the exit code.
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    print(code, file=answers, flush=True)
"""
"""What `python` would do with the words of each line, in one process, which imports and compiles once for all."""


@pytest.mark.slow
def test_the_tiny_run_from_page_to_page(tmp_path):
    """In the order of the pages, from an empty folder; the output is what the page shows, but for numbers."""
    for name in ("train.py", "eval.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    environ = {name: value for name, value in os.environ.items() if name != "OPTICAL_DATA"}
    environ |= {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    outputs: dict[str, str] = {}
    python = subprocess.Popen(
        [sys.executable, "-c", ONE_AFTER_ANOTHER],
        cwd=tmp_path, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with python:
        assert python.stdin is not None
        assert python.stdout is not None
        for page, words, shown in tiny_commands():
            command = f"python {' '.join(words)}"
            # A command that several pages show is run once, unless a page shows what it prints the second time.
            if command not in outputs or not_printed(shown, outputs[command]):
                print(json.dumps(words), file=python.stdin, flush=True)
                code = python.stdout.readline().strip()
                outputs[command] = (tmp_path / "printed.txt").read_text("utf-8")
                assert code == "0", f"{page}: {command}\n{outputs[command]}"
            missing = not_printed(shown, outputs[command])
            assert not missing, f"{page}: {command} does not print {missing} but\n{outputs[command]}"
    assert (tmp_path / "runs" / "tiny" / "export" / "model.safetensors").is_file()


# ---- files and links ---------------------------------------------------------------------------------------------


def test_the_study_of_the_page_is_one(tmp_path):
    """As configs/studies/mine.py, beside the configs it builds on."""
    (code,) = (block.text for block in blocks("docs/studies.md") if block.info == "py study")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.py").write_text(code)
    shutil.copy(ROOT / "configs" / "own_language.py", tmp_path)
    study = load_study(str(tmp_path / "studies" / "mine.py"))
    check_study(study)
    assert [arm.name for arm in study.arms] == ["contrastive", "transport"]


def test_bitext_forms_are_read_as_shown(tmp_path, monkeypatch):
    """The files that docs/data.md shows, read by the commands it shows."""
    page = "docs/data.md"
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for block in blocks(page):
        if named := re.search(r" file=(\S+)", block.info):
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    kept = {}
    for _, command in (found for found in ALL_COMMANDS if found[0] == page):
        if (flags := arguments(command, TRAIN)) is None:
            continue
        settings = parse_command(TrainCommand, flags).settings
        train = load_bitext(settings.data).train
        kept[settings.run] = {language: list(zip(b.english, b.foreign, strict=True)) for language, b in train.items()}
    german = [("The rain falls", "Der Regen fällt"), ("The child sleeps", "Das Kind schläft")]
    swahili = [("The rain falls", "Mvua inanyesha"), ("The child sleeps", "Mtoto analala")]
    quoted = [("The rain falls", "Mvua inanyesha"), ("Sleep, child!", "Mtoto, lala!")]
    assert kept == {
        "runs/tsv": {"de": german},
        "runs/scored": {"de": german[:1]},
        "runs/csv": {"sw": quoted},
        "runs/csv_named": {"sw": quoted},
        "runs/moses": {"sw": swahili},
        "runs/jsonl": {"sw": swahili},
        "runs/questions": {"sw": [("When does it rain?", "Mvua inanyesha lini?"), ("Who sleeps?", "Nani analala?")]},
        "runs/two": {"de": german, "sw": swahili},
    }


def test_a_bad_line_is_told_as_shown(tmp_path, monkeypatch):
    (shown,) = (block.text for block in blocks("docs/data.md") if block.text.startswith("error: "))
    monkeypatch.chdir(tmp_path)
    Path("de.train.tsv").write_text("The rain falls\tDer Regen fällt\nIt is late\tEs ist spät\nno pair\n", "utf-8")
    command = parse_command(TrainCommand, ["--data.bitext", "de.train.tsv"])
    with pytest.raises(DataError) as error:
        load_bitext(command.settings.data)
    assert f"error: {error.value}\n" == shown


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_to_files_and_headings(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        file = ROOT / page if not name else (ROOT / page).parent / name
        assert file.is_file(), f"{page}: {target}"
        if heading:
            lines = file.read_text(encoding="utf-8").splitlines()
            headings = [line.lstrip("# ").lower() for line in lines if line.startswith("#")]
            slugs = {re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in headings}
            assert heading in slugs, f"{page}: {target}"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_prose_is_no_longer_than_a_line(page):
    """Tables, HTML and what stands in code blocks may be."""
    text = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), (ROOT / page).read_text(encoding="utf-8"))
    lines = enumerate(text.splitlines(), start=1)
    assert not [number for number, line in lines if len(line) > 120 and not re.match(r" *[|<]", line)]


def test_the_map_of_the_code_names_what_is_there():
    """Every `folder/file.py`, `folder/` and table in capitals."""
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", text)
    assert len(paths) > 30
    for path in paths:
        assert any((ROOT / top / path).exists() for top in ("", "optical_jax")), path
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "optical_jax").rglob("*.py"))
    for name in set(re.findall(r"`([A-Z_]{4,})`", text)) - {"NAME"}:
        assert re.search(rf"^{name}\b.* = ", code, flags=re.M), name
