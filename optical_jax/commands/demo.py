"""`python -m optical_jax demo`: names as bitext, training, evaluation and a plot, each step shown as its command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from optical_jax.commands import evaluate, names, train
from optical_jax.commands.entry import as_main
from optical_jax.config import Config
from optical_jax.config.files import load_config_file
from optical_jax.invocation import program

if TYPE_CHECKING:
    from optical_jax.evaluation.retrieval import Evaluation
    from optical_jax.evaluation.texts import TextTask
    from optical_jax.plots.plans import WordPlan

CONFIG = "demo"
"""A recipe, or the path of a config file."""
DRAWN_WORDS = range(3, 5)
"""Numbers of English words of a phrase that is drawn: enough to show a matching, and room for two panels in a row."""
CLEAR = 0.8
"""A plan with at least this `one_to_one_share` counts as one-to-one."""
PARTICLE = 2


@dataclass(frozen=True)
class DemoCommand:
    """Train one small student for six languages in a minute or two, without a network, and show its results.

    Every step is shown as a command. It needs the extra `demo`.
    """

    run: str = "runs/demo"
    """Run folder for all files."""


def run_command(argv: Sequence[str]) -> None:
    """Names, training, evaluation, plot, table. A stopped training is resumed, a finished one is not repeated.

    Raises:
      OpticalError: as the commands it runs.
    """
    command = tyro.cli(DemoCommand, args=list(argv), prog=program("demo"))
    run, cfg = Path(command.run), load_config_file(CONFIG, Config)
    files = [Path(path) for path in cfg.data.bitext]
    folder = run / "names"

    flags = ["--lang", *(file.name.split(".")[0] for file in files), "--out", str(folder)]
    show(program("names"), flags)
    names.run_command(flags)

    flags = ["--config", CONFIG, "--run", str(run)]
    if folder != files[0].parent:
        flags += ["--data.bitext", *(str(folder / file.name) for file in files)]
    show(program("train"), flags)
    train.run_command(flags)

    flags = ["--run", str(run), "--collection", str(folder), "--split", "test"]
    show(program("eval"), flags)
    from optical_jax.evaluation.evaluate import evaluate_run
    from optical_jax.evaluation.texts import read_task

    asked = evaluate.parse(flags)
    task = read_task(asked)
    evaluation = evaluate_run(asked, task, run)

    plot = draw_examples(run, cfg, evaluation, task)
    print_result(evaluation)
    print(f"\npicture:     {plot}  (which English word each foreign word is matched to)")
    print(f"checkpoint:  {run / 'checkpoints' / str(evaluation.origin['checkpoint'])}")
    query = next(iter(next(iter(task.collection.queries.values())).values()))
    ask = ["--run", str(run), "--docs", str(folder / "en.txt"), query]
    print(f"ask it:      {program('search')} {shlex.join(ask)}")
    print(f"your pairs:  {program('train')} --config own_language --run runs/mine --data.bitext xx=PAIRS.tsv")


main = as_main(run_command)


def show(program: str, flags: Sequence[str]) -> None:
    print(f"\n$ {program} {shlex.join(flags)}", flush=True)


def draw_examples(run: Path, cfg: Config, evaluation: Evaluation, task: TextTask) -> Path:
    """Plot the plans of one unseen phrase a language. Returns the plot's path."""
    from optical_jax.alignment.plans import align_texts
    from optical_jax.data.text.names import LOCALES, read_names
    from optical_jax.plots.plans import draw_plans
    from optical_jax.runs.load import load

    collection, found = task.collection, found_phrases(evaluation, task)
    pairs = [(collection.queries[language][query], collection.documents[query]) for language, query in found]
    plans = align_texts(load(run), load(run, side="document"), pairs, cfg.loss)
    examples = choose_examples(evaluation, task, dict(zip(found, plans, strict=True)))
    english_names = read_names("en")
    titles = [english_names.get(f"languages.{LOCALES.get(language, language)}", language) for language in examples]
    path = run / "plans.png"
    draw_plans(list(examples.values()), path, titles)
    return path


def found_phrases(evaluation: Evaluation, task: TextTask) -> list[tuple[str, str]]:
    """(language, query) of the phrases of `DRAWN_WORDS` that the student ranks first; of all, if there is none."""
    from optical_jax.data.text.names import words

    collection, (direction,), ranked = task.collection, task.directions, evaluation.found["student"]
    every = [(language, query) for language, queries in collection.queries.items() for query in queries]
    found = [
        (language, query)
        for language, query in every
        if ranked[language][direction].per_query[query]["R@1"] == 1
        and len(words(collection.documents[query])) in DRAWN_WORDS
    ]
    return found or every


def choose_examples(
    evaluation: Evaluation, task: TextTask, plans: Mapping[tuple[str, str], WordPlan]
) -> dict[str, WordPlan]:
    """Language -> the plan of one phrase that is worth looking at; no English phrase twice.

    Preferred in this order: a one-to-one plan (`one_to_one_share` of `CLEAR` or more), few words spelled the same on
    both sides, not found before training, as many words on both sides and short ones, a high share. A language without
    a one-to-one plan is left out, unless none has one.

    Args:
      plans: (language, query) -> plan, of the phrases to choose from.
    """
    (direction,) = task.directions
    chosen: dict[str, tuple[bool, WordPlan]] = {}
    taken: set[str] = set()
    for language in dict.fromkeys(language for language, _ in plans):

        def worth(query: str, language: str = language) -> tuple[bool, int, bool, int, float]:
            plan = plans[language, query]
            ours, theirs = ([word.casefold() for word in side] for side in (plan.foreign, plan.english))
            before = evaluation.found["untrained"][language][direction].per_query[query]["R@1"]
            uneven = 4 * abs(len(ours) - len(theirs)) + max(map(len, (*ours, *theirs)))
            share = one_to_one_share(plan)
            return share >= CLEAR, -len({*ours} & {*theirs}), before < 1, -uneven, share

        free = [q for lang, q in plans if lang == language and task.collection.documents[q] not in taken]
        if free:
            best = max(free, key=worth)
            chosen[language] = worth(best)[0], plans[language, best]
            taken.add(task.collection.documents[best])
    clear = {language: plan for language, (is_clear, plan) in chosen.items() if is_clear}
    return clear or {language: plan for language, (_, plan) in chosen.items()}


def one_to_one_share(plan: WordPlan) -> float:
    """Least share of a foreign word's mass that goes to English words of its own, 0 to 1.

    An English word belongs to the foreign word that gives it most. Words of at most `PARTICLE` letters are left out:
    in the demo's languages these are particles and articles, and the plan must put their mass somewhere. 0 for fewer
    than two words.
    """
    shares = plan.shares()
    content = [n for n, word in enumerate(plan.foreign) if sum(map(str.isalnum, word)) > PARTICLE]
    if len(content) < 2:
        return 0.0
    owner = shares[content].argmax(axis=0)  # [T]
    return min(float(shares[row, owner == n].sum()) for n, row in enumerate(content))


def print_result(evaluation: Evaluation) -> None:
    """Table of R@1 by language: before training, after it, and of BM25."""
    from optical_jax.evaluation.report import make_console, make_table, say

    console = make_console()
    documents = len(evaluation.task.documents)
    say(console, f"\nunseen phrases, each to be found among {documents:,} English names; share found first (R@1):")
    table = make_table(console, "lang", "phrases", "untrained", "trained", "BM25", left=1)
    means = {system: evaluation.means(system) for system in ("untrained", "student", "bm25")}
    for language, figures in means["student"].items():
        shares = [f"{means[system][language]['R@1']:.3f}" for system in means]
        table.add_row(language, str(figures["queries"]), *shares)
    console.print(table)
