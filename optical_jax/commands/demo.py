"""`python -m optical_jax demo`: from bitext to a student that searches, each step a command to type oneself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from optical_jax.commands import evaluate, names, train
from optical_jax.commands.entry import open_door
from optical_jax.config import Config
from optical_jax.config.files import load_config_file
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from optical_jax.evaluation.retrieval import Evaluation
    from optical_jax.evaluation.texts import TextTask

CONFIG, OWN_CONFIG = "configs/demo.py", "configs/own_language.py"
DRAWN_WORDS = range(3, 5)
"""Phrases of so many English words make a picture worth looking at, and leave room for another beside it."""


@dataclass(frozen=True)
class DemoCommand:
    """Teach one small student six languages in a minute or two, without a network, and show what it learned.

    Run from a clone of the repository. Every step is shown as the command that does it.
    """

    run: str = "runs/demo"
    """Run folder; everything goes there."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Names, training, evaluation, picture, table. A training that was stopped goes on, a finished one is not repeated.

    Raises:
      OpticalError: as the steps.
    """
    command = tyro.cli(DemoCommand, args=list(argv), prog="python -m optical_jax demo")
    if not Path(CONFIG).is_file():
        raise ConfigError(f"{CONFIG} is not here; run the demo from the folder of a clone of the repository")
    run, cfg = Path(command.run), load_config_file(CONFIG, Config)
    files = [Path(path) for path in cfg.data.bitext]
    folder = run / "names"

    flags = ["--lang", *(file.name.split(".")[0] for file in files), "--out", str(folder)]
    show("python -m optical_jax names", flags)
    names.run_command(flags)

    flags = ["--config", CONFIG, "--run", str(run)]
    if folder != files[0].parent:
        flags += ["--data.bitext", *(str(folder / file.name) for file in files)]
    show("python train.py", flags)
    train.run_command(flags)

    flags = ["--run", str(run), "--collection", str(folder), "--split", "test"]
    show("python eval.py", flags)
    from optical_jax.evaluation.evaluate import evaluate_run
    from optical_jax.evaluation.texts import read_task

    asked = evaluate.parse(flags)
    task = read_task(asked)
    evaluation = evaluate_run(asked, task, run)

    picture = draw_examples(run, cfg, evaluation, task)
    print_result(evaluation)
    print(f"\npicture:     {picture}  (which English word each foreign word is matched to)")
    print(f"checkpoint:  {run / 'checkpoints' / str(evaluation.origin['checkpoint'])}")
    query = next(iter(next(iter(task.collection.queries.values())).values()))
    ask = ["--run", str(run), "--docs", str(folder / "en.txt"), query]
    print(f"ask it:      python -m optical_jax search {shlex.join(ask)}")
    print(f"your pairs:  python train.py --config {OWN_CONFIG} --run runs/mine --data.bitext xx=PAIRS.tsv")


def show(program: str, flags: Sequence[str]) -> None:
    print(f"\n$ {program} {shlex.join(flags)}", flush=True)


def draw_examples(run: Path, cfg: Config, evaluation: Evaluation, task: TextTask) -> Path:
    """The plans of one unseen phrase a language, in one picture."""
    from optical_jax.alignment.plans import align_texts
    from optical_jax.data.text.names import LOCALES, read_names
    from optical_jax.plots.plans import draw_plans
    from optical_jax.runs.load import load

    examples = choose_examples(evaluation, task)
    english_names = read_names("en")
    titles = [english_names.get(f"languages.{LOCALES.get(language, language)}", language) for language in examples]
    student, teacher = load(run), load(run, side="document")
    plans = align_texts(student, teacher, list(examples.values()), cfg.loss)
    path = run / "plans.png"
    draw_plans(plans, path, titles)
    return path


def choose_examples(evaluation: Evaluation, task: TextTask) -> dict[str, tuple[str, str]]:
    """Language -> (foreign phrase, English phrase), one that the student finds and did not before training.

    Of those one that is worth looking at: within `DRAWN_WORDS`, no word the same on both sides, about as many words on
    each, none of them long. No English phrase is taken twice.
    """
    from optical_jax.data.text.names import words

    collection, (direction,), examples = task.collection, task.directions, {}
    for language, queries in collection.queries.items():
        taken = {english for _, english in examples.values()}

        def worth(query: str, language: str = language, taken: set[str] = taken) -> tuple[bool, bool, bool, bool, int]:
            foreign, english = collection.queries[language][query], collection.documents[query]
            now, before = (
                evaluation.found[name][language][direction].per_query[query]["R@1"] for name in ("student", "untrained")
            )
            ours, theirs = words(foreign), words(english)
            fits = len(theirs) in DRAWN_WORDS and not set(ours) & set(theirs)
            uneven = 4 * abs(len(ours) - len(theirs)) + max(map(len, (*ours, *theirs)))
            return english not in taken, now == 1, fits, before < 1, -uneven

        best = max(queries, key=worth)
        examples[language] = (queries[best], collection.documents[best])
    return examples


def print_result(evaluation: Evaluation) -> None:
    """The question asked, and R@1 before training, after it, and of BM25."""
    from rich.console import Console

    from optical_jax.evaluation.report import make_table, say

    console = Console()
    documents = len(evaluation.task.documents)
    say(console, f"\nunseen phrases, each to be found among {documents:,} English names; share found first (R@1):")
    table = make_table(console, "lang", "phrases", "untrained", "trained", "BM25", left=1)
    means = {system: evaluation.means(system) for system in ("untrained", "student", "bm25")}
    for language, figures in means["student"].items():
        shares = [f"{means[system][language]['R@1']:.3f}" for system in means]
        table.add_row(language, str(figures["queries"]), *shares)
    console.print(table)
