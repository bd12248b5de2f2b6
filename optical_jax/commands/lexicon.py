"""`python -m optical_jax lexicon`: induce a bilingual lexicon from a student's transport plans over its bitext."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.config import DataConfig, OtConfig
from optical_jax.config.vocabulary import MAX_UNKNOWN, MaxUnknown, check_max_unknown
from optical_jax.errors import ConfigError
from optical_jax.invocation import program
from optical_jax.runs.bitext import saved_data
from optical_jax.runs.finding import check_run


@dataclass(frozen=True)
class LexiconCommand:
    """Induce a bilingual lexicon for each language of a run, by transport plans over its bitext.

    Lines of lexicon.<lang>.tsv: word, English word, share of the word's mass on it, occurrences. Another run can use
    them with --data.lexicon.
    """

    run: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Checkpoint of the student."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Output folder; empty writes RUN/lexicon."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    min_count: int = 3
    """Smallest number of occurrences of a word."""
    min_share: float = 0.3
    """Smallest share (0 to 1) of a word's mass on its translation; lower values give more words, and more wrong
    ones."""


EXAMPLE = "lexicon --run runs/tiny"


def run_command(argv: Sequence[str]) -> None:
    """Induce and write the lexicons of a run.

    Raises:
      ConfigError: no such run or checkpoint, pooled towers, or flags that are not valid.
      DataError: the run's bitext cannot be read.
    """
    refuse_no_flags(argv, "name a run", EXAMPLE)
    command = tyro.cli(LexiconCommand, args=list(argv), prog=program("lexicon"))
    check(command)
    check_run(command.run)
    # Here, so that --help does not import jax.
    from optical_jax.alignment.lexicon import MOST_PAIRS, lexicon_of_plans
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.data.text.code_switch import lexicon_file, share_of_words, write_lexicon
    from optical_jax.progress import ProgressReport
    from optical_jax.runs.folder import RunFolder
    from optical_jax.runs.load import load, sides_of
    from optical_jax.towers.texts import STUDENT_REMEDY, TEACHER_REMEDY, check_texts

    run = Path(command.run)
    data, ot, lengths = read_settings(RunFolder(run).saved_config() or {}, run)
    student = load(run, sides_of(run)[0], command.checkpoint, part="student")
    teacher = load(run, part="teacher")
    out = Path(command.out) if command.out else run / "lexicon"
    for language, one in load_bitext(data).train.items():
        for tower, texts, remedy in ((student, one.foreign, STUDENT_REMEDY), (teacher, one.english, TEACHER_REMEDY)):
            what = f"{language}, {'foreign' if tower is student else 'English'} texts"
            check_texts(tower, texts, what, at_most=command.max_unknown, remedy=remedy)
        with ProgressReport(f"plans of {language}", min(len(one), MOST_PAIRS), "pairs") as progress:
            lexicon = lexicon_of_plans(
                student,
                teacher,
                one.foreign,
                one.english,
                ot,
                lengths,
                min_count=command.min_count,
                min_share=command.min_share,
                advance=progress.advance,
            )
        out.mkdir(parents=True, exist_ok=True)
        write_lexicon(lexicon_file(out, language), lexicon)
        covered = share_of_words(one.foreign, lexicon)
        print(f"{lexicon_file(out, language)}: {len(lexicon):,} words, which are {covered:.0%} of the text")


main = as_main(run_command)


def check(command: LexiconCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    check_max_unknown(command.max_unknown)
    if command.min_count < 1:
        raise ConfigError(f"min_count={command.min_count} is not valid; use at least 1")
    if not 0 <= command.min_share <= 1:
        raise ConfigError(f"min_share={command.min_share} is not valid; use a share from 0 to 1")
    if command.out and Path(command.out).exists() and not Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a file; name a folder")


def read_settings(saved: dict[str, Any], run: Path) -> tuple[DataConfig, OtConfig, tuple[int, int]]:
    """The run's bitext, transport settings, and maximum lengths of the student's and the teacher's texts.

    Raises:
      ConfigError: a run of another version.
    """
    try:
        lengths = saved["student"]["max_length"], saved["teacher"]["max_length"]
        return saved_data(saved), OtConfig(**saved["loss"]["ot"]), lengths
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{run / 'config.json'} is from another version ({error}); use the version it was written by"
        ) from None
