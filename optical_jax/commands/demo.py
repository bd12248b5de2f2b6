"""`python -m optical_jax demo`: train, evaluate and search with a small student, each step shown as a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from optical_jax.commands import evaluate, names, train
from optical_jax.commands.entry import run_command_line
from optical_jax.config import Config
from optical_jax.config.files import load_config_file
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from optical_jax.evaluation.text_report import Evaluation

CONFIG, OWN_CONFIG = "configs/demo.py", "configs/own_language.py"
DRAWN_WORDS = range(3, 5)
"""Number of English words of the phrases that are plotted, so that several plans fit side by side."""


@dataclass(frozen=True)
class DemoCommand:
    """Train one small student for six languages in a minute or two, without a network, and show its results.

    Run from a clone of the repository. Every step is shown as a command.
    """

    run: str = "runs/demo"
    """Run folder for all files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Write names, train, evaluate, plot and print. A stopped training is resumed, a finished one is not repeated.

    Raises:
      OpticalError: as the commands it runs.
    """
    from optical_jax.evaluation.texts import evaluate_run

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
    evaluation = evaluate_run(evaluate.parse(flags), run)

    picture = draw_examples(run, cfg, evaluation)
    print_result(evaluation)
    print(f"\npicture:     {picture}  (which English word each foreign word is matched to)")
    print(f"checkpoint:  {run / 'checkpoints' / str(evaluation.origin['checkpoint'])}")
    query = next(iter(next(iter(evaluation.collection.queries.values())).values()))
    ask = ["--run", str(run), "--docs", str(folder / "en.txt"), query]
    print(f"ask it:      python -m optical_jax search {shlex.join(ask)}")
    print(f"your pairs:  python train.py --config {OWN_CONFIG} --run runs/mine --data.bitext xx=PAIRS.tsv")


def show(program: str, flags: Sequence[str]) -> None:
    print(f"\n$ {program} {shlex.join(flags)}", flush=True)


def draw_examples(run: Path, cfg: Config, evaluation: Evaluation) -> Path:
    """Plot the transport plans of one unseen phrase per language."""
    from optical_jax.alignment.plans import align_texts
    from optical_jax.data.text.names import LOCALES, read_names
    from optical_jax.plots.plans import draw_plans
    from optical_jax.runs.load import load

    examples = choose_examples(evaluation)
    english_names = read_names("en")
    titles = [english_names.get(f"languages.{LOCALES.get(language, language)}", language) for language in examples]
    student, teacher = load(run), load(run, side="document")
    plans = align_texts(student, teacher, list(examples.values()), cfg.loss)
    path = run / "plans.png"
    draw_plans(plans, path, titles)
    return path


def choose_examples(evaluation: Evaluation) -> dict[str, tuple[str, str]]:
    """Language -> (foreign phrase, English phrase), preferably one that is found only after training.

    Preferred among those: within `DRAWN_WORDS`, no word equal on both sides, similar numbers of words, short words. No
    English phrase is used twice.
    """
    from optical_jax.data.text.names import words

    collection, examples = evaluation.collection, {}
    for language, queries in collection.queries.items():
        taken = {english for _, english in examples.values()}

        def worth(query: str, language: str = language, taken: set[str] = taken) -> tuple[bool, bool, bool, bool, int]:
            foreign, english = collection.queries[language][query], collection.documents[query]
            now, before = (evaluation.per_query[name][language][query]["R@1"] for name in ("student", "untrained"))
            ours, theirs = words(foreign), words(english)
            fits = len(theirs) in DRAWN_WORDS and not set(ours) & set(theirs)
            uneven = 4 * abs(len(ours) - len(theirs)) + max(map(len, (*ours, *theirs)))
            return english not in taken, now == 1, fits, before < 1, -uneven

        best = max(queries, key=worth)
        examples[language] = (queries[best], collection.documents[best])
    return examples


def print_result(evaluation: Evaluation) -> None:
    """Print R@1 before and after training, and of BM25."""
    from rich.console import Console

    from optical_jax.evaluation.text_report import make_table, say

    console = Console()
    documents = len(evaluation.collection.documents)
    say(console, f"\nunseen phrases, each to be found among {documents:,} English names; share found first (R@1):")
    table = make_table(console, "lang", "phrases", "untrained", "trained", "BM25", left=1)
    means = {system: evaluation.means(system) for system in ("untrained", "student", "bm25")}
    for language, figures in means["student"].items():
        shares = [f"{means[system][language]['R@1']:.3f}" for system in means]
        table.add_row(language, str(figures["queries"]), *shares)
    console.print(table)
