"""`python -m optical_jax study`: a grid of training runs with equal tuning, its tables, tests and report page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.config.files import call_in_file, find_config
from optical_jax.errors import ConfigError
from optical_jax.invocation import program

if TYPE_CHECKING:
    from optical_jax.studies.design import Study


@dataclass(frozen=True)
class StudyCommand:
    """Run a study: every arm tuned with the same number of trials, then trained in every language with every seed.

    The same command resumes an unfinished study. Results: FOLDER/table.csv, tests.csv, report.html.
    """

    config: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """Python file with get_study() -> Study, such as configs/studies/losses.py; or the recipe tiny_losses."""
    folder: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of its runs and results; empty takes the study's own."""
    workers: int = 1
    """Number of parallel runs, each in a process with its share of the cores."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the number of runs, and stop."""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the results of the finished runs, and stop."""


EXAMPLE = "study tiny_losses"


def run_command(argv: Sequence[str]) -> None:
    """Run the missing runs of a study, and write its results.

    Raises:
      ConfigError: no such study, or its arms cannot be compared.
      MachineError: another process is running it.
    """
    refuse_no_flags(argv, "name a study", EXAMPLE)
    command = tyro.cli(StudyCommand, args=list(argv), prog=program("study"))
    if command.workers < 1:
        raise ConfigError(f"workers={command.workers} is not valid; use at least 1")
    study = load_study(command.config)
    if command.folder:
        study = replace(study, folder=command.folder)

    from optical_jax.studies.design import check_study

    check_study(study)
    if command.dry_run:
        print_size(study)
        return
    if not command.report:
        from optical_jax.studies.runner import run_study

        run_study(study, command.workers)
    from optical_jax.studies.report import write_results
    from optical_jax.studies.results import collect_results
    from optical_jax.studies.terminal import print_study

    results = collect_results(study)
    paths = write_results(study, results)
    print_study(study, results)
    print(f"page: {paths[-1]}; tables beside it: {', '.join(path.name for path in paths[:-1])}")


main = as_main(run_command)


def print_size(study: Study) -> None:
    """Print the size of the study."""
    from optical_jax.studies.design import pairs_seen, tuning_tasks

    first = study.tuned_arms[0]
    tuning, final = len(tuning_tasks(study)), len(study.arms) * len(study.languages) * len(study.seeds)
    config = next(iter(first.trials.values()))
    print(f"{study.title}")
    print(f"arms: {', '.join(arm.name for arm in study.arms)}")
    print(f"tuning: {tuning} runs ({len(first.trials)} trials an arm, {' '.join(study.tuning_languages)})")
    print(f"final: {final} runs ({len(study.languages)} languages, {len(study.seeds)} seeds)")
    print(f"each run: {config.training.steps} steps, {pairs_seen(config):,} pairs")


def load_study(path: str) -> Study:
    """Load a Python study file: the Study that its get_study() returns.

    Raises:
      ConfigError: no such file, no get_study in it, or it fails.
    """
    from optical_jax.studies.design import Study

    file = find_config(path, "study")
    # It may import configs from the folder above, and other studies.
    study = call_in_file(file, "get_study", "configs/studies", imports=("..", "."))
    if not isinstance(study, Study):
        raise ConfigError(f"config={path}: get_study() returned {type(study).__name__}; return an optical_jax Study")
    return replace(study, file=file)
