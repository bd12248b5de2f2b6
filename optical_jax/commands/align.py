"""`python -m optical_jax align`: plot word alignments by transport plans, or evaluate them against gold links."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.commands.inputs import check_file, check_model
from optical_jax.config import LossConfig, OtConfig
from optical_jax.config.vocabulary import MAX_UNKNOWN, MaxUnknown, check_max_unknown
from optical_jax.data.characters import is_blank
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.word_alignment import sources_of
from optical_jax.files import slug
from optical_jax.invocation import program
from optical_jax.printing import printable
from optical_jax.runs.bitext import saved_data
from optical_jax.runs.finding import check_run

if TYPE_CHECKING:
    from rich.console import Console

    from optical_jax.alignment.images import ImagePlan
    from optical_jax.alignment.plans import AlignedPlan, IdfTables
    from optical_jax.alignment.quality import AlignmentQuality
    from optical_jax.towers.tower import Tower

CELL = 7
"""Smallest width of a cell, in terminal columns."""
LONGEST_WORD = 24


@dataclass(frozen=True)
class AlignCommand:
    """Plot the transport plan between a foreign text and its English translation, as training computes it.

    Rows are foreign words, columns English words, and cells the share of the row's mass in per cent. Printed, and
    plotted to a PNG.

    With --image and one text: between the words of a caption and the patches of an image, plotted over the image.

    With --bitext instead of texts: word alignment quality of the plans of its pairs. Printed, and written to
    RUN/align/quality.json.
    """

    run: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    foreign: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOREIGN")] = ""
    """The foreign text, in quotes; with --image the caption."""
    english: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENGLISH")] = ""
    """Its English translation, in quotes."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Checkpoint of the student."""
    image: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """An image, instead of the English text."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """Dual encoder (folder, hub name or run) whose image tower encodes --image; empty takes the run's own."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG to write, or with --bitext JSON; empty writes RUN/align/<texts>.png or RUN/align/quality.json."""
    pieces: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show word pieces and special tokens instead of words."""
    epsilon: Annotated[float | None, tyro.conf.arg(metavar="EPSILON")] = None
    """Entropic regularisation of the plan; default: the run's."""
    bitext: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG=FILE ...")] = ()
    """Pairs to align, one file per language, in the form of data.bitext."""
    gold: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[LANG=]FILE ...")] = ()
    """Gold links of the bitext's lines (Pharaoh or NAACL); the bitext's words must be separated by spaces."""
    foreign_first: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The gold links have the foreign word first, not the English one."""
    gold_first: Annotated[Literal[0, 1] | None, tyro.conf.arg(metavar="0|1")] = None
    """Number of a text's first word in the gold links; default: 0 in Pharaoh files, 1 in NAACL files."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    pairs: int = 500
    """Largest number of pairs per bitext, evenly spaced."""
    rule: Literal["forward", "backward", "intersection", "union", "grow-diag", "grow-diag-final-and", "share"] = (
        "forward"
    )
    """Rule that extracts links from a plan: each foreign word's largest cell (forward), each English word's (backward),
    their symmetrisation (intersection, union, grow-diag, ...), or cells with a share of both words' mass (share)."""


EXAMPLE = 'align --run runs/tiny "Mwalimu ananunua maji" "The teacher buys water"'


def parse(argv: Sequence[str]) -> AlignCommand:
    """Parse the flags; tyro handles --help (exit 0) and unknown flags (exit 2)."""
    refuse_no_flags(argv, "name a run, a foreign text and its English translation", EXAMPLE)
    command = tyro.cli(AlignCommand, args=list(argv), prog=program("align"))
    check(command)
    return command


def run_command(argv: Sequence[str]) -> None:
    """Compute, print and plot a plan; or evaluate the plans of a bitext as word alignments.

    Raises:
      ConfigError: no such run or checkpoint, pooled towers, or flags that are not valid.
      DataError: a text without words; a bitext or gold file that is missing or malformed.
    """
    command = parse(argv)
    check_inputs(command)
    # Here, so that --help does not import jax or matplotlib.
    from rich.console import Console

    from optical_jax.evaluation.report import say
    from optical_jax.evaluation.word_alignment import measure
    from optical_jax.files import write_json
    from optical_jax.runs.folder import RunFolder
    from optical_jax.runs.load import load, sides_of

    run = Path(command.run)
    saved = RunFolder(run).saved_config() or {}
    if command.image:
        align_image(command, saved, Console(markup=False, emoji=False))
        return
    try:
        cfg = LossConfig(name=saved["loss"]["name"], ot=OtConfig(**saved["loss"]["ot"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{run / 'config.json'} is from another version ({error}); use the version it was written by"
        ) from None
    if command.epsilon is not None:
        cfg = replace(cfg, ot=replace(cfg.ot, epsilon=command.epsilon))
    sources = sources_of(command.bitext, command.gold)
    student = load(run, sides_of(run)[0], command.checkpoint, part="student")
    teacher = load(run, part="teacher")
    idf = try_count_idf(saved, student, teacher) if cfg.ot.masses == "idf" else None
    if cfg.ot.masses == "norm":
        print("masses are uniform here, not norm as in training, which has the vectors before normalisation")
    console = Console(markup=False, emoji=False)
    if not sources:
        draw(command, student, teacher, cfg, idf, console)
        return
    found = measure(
        student,
        teacher,
        cfg.ot,
        sources,
        saved=saved,
        pairs=command.pairs,
        rule=command.rule,
        foreign_first=command.foreign_first,
        first_word=command.gold_first,
        max_unknown=command.max_unknown,
        idf=idf,
    )
    print_quality(found, console)
    print_loss(cfg, console)
    path = Path(command.out) if command.out else run / "align" / "quality.json"
    languages = {language: quality.as_json() for language, quality in found.items()}
    write_json(path, {"run": str(run), "checkpoint": command.checkpoint, "languages": languages})
    say(console, f"written: {path}")


main = as_main(run_command)


def draw(
    command: AlignCommand, student: Tower, teacher: Tower, cfg: LossConfig, idf: IdfTables | None, console: Console
) -> None:
    """Print and plot the plan of two texts."""
    from optical_jax.alignment.plans import align_texts
    from optical_jax.evaluation.report import say
    from optical_jax.plots.plans import draw_plans
    from optical_jax.towers.texts import STUDENT_REMEDY, TEACHER_REMEDY, check_texts

    check = partial(check_texts, at_most=command.max_unknown, each=True)
    check(student, [command.foreign], "the foreign text", remedy=STUDENT_REMEDY)
    check(teacher, [command.english], "the English text", remedy=TEACHER_REMEDY)
    texts = [(command.foreign, command.english)]
    (found,) = align_texts(student, teacher, texts, cfg, by_pieces=command.pieces, idf=idf)
    print_plan(found, console)
    if found.left_out >= 0.005:
        say(console, f"not shown: {found.left_out:.0%} of the words' mass, which goes to special tokens (--pieces)")
    if found.cut:
        say(console, "a text is longer than its tower's maximum length, and was truncated")
    print_loss(cfg, console)
    say(console, f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {cfg.ot.epsilon:g})")
    name = f"{slug(command.foreign)}--{slug(command.english)}.png"
    path = Path(command.out) if command.out else Path(command.run) / "align" / name
    draw_plans([found], path)
    say(console, f"picture: {path}")


def print_loss(cfg: LossConfig, console: Console) -> None:
    if cfg.name != "transport":
        console.print(f"this run was trained with loss {cfg.name}, not with this plan", highlight=False)


def check_inputs(command: AlignCommand) -> None:
    """Check that the files that the flags name are there, before anything heavy is imported.

    Raises:
      ConfigError, DataError: the run, the image, a bitext, gold links or a model is missing.
    """
    check_run(command.run)
    check_model(command.pictures_by, "pictures_by", "")
    if command.image:
        check_file(command.image, "image")
    for language, (_, gold) in sources_of(command.bitext, command.gold).items():
        if gold is not None:
            check_file(gold, f"gold={language}")


def check(command: AlignCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    texts = {name: getattr(command, name) for name in ("foreign", "english")}
    if command.pictures_by and not command.image:
        raise ConfigError(f"pictures_by={command.pictures_by} is for --image; leave it out")
    if command.image:
        check_image(command)
    elif command.bitext:
        if any(texts.values()):
            raise ConfigError(f"bitext={' '.join(command.bitext)} and a text are given; use two texts or a bitext")
        if command.pairs < 1:
            raise ConfigError(f"pairs={command.pairs} is not valid; use at least 1")
    else:
        if command.gold:
            raise ConfigError(f"gold={' '.join(command.gold)} needs the sentences it links; add --bitext")
        for name, text in texts.items():
            if is_blank(text):
                raise ConfigError(f"the {name} text is empty; use two texts, the foreign one first, or a --bitext")
    check_max_unknown(command.max_unknown)
    if command.gold_first is not None and not command.gold:
        raise ConfigError(f"gold_first={command.gold_first} is for --gold; leave it out")
    if command.epsilon is not None and not 0.0 < command.epsilon < math.inf:
        raise ConfigError(f"epsilon={command.epsilon} is not valid; use a number above 0")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best, untrained or a step number")
    form = ".json" if command.bitext else ".png"
    if command.out and (Path(command.out).suffix != form or Path(command.out).is_dir()):
        raise ConfigError(f"out={command.out} must be a file that ends in {form}")


def try_count_idf(saved: Mapping[str, Any], student: Tower, teacher: Tower) -> IdfTables | None:
    """Idf tables of a run trained with idf masses; None, with the reason printed, if its bitext cannot be read."""
    from optical_jax.alignment.plans import count_idf

    try:
        lengths = saved["student"]["max_length"], saved["teacher"]["max_length"]
        return count_idf(student, teacher, saved_data(saved), lengths)
    except (ConfigError, DataError) as error:
        print(f"masses are uniform here, not idf as in training: {error}")
        return None


# ---- the terminal ------------------------------------------------------------------------------------------------


def print_plan(aligned: AlignedPlan, console: Console) -> None:
    """Print the heat map as text, with colours if the terminal has them; wide ones in several blocks."""
    from rich.cells import cell_len
    from rich.text import Text

    shares = aligned.shares()
    # Sixteen colours are too few for shades.
    shaded = console.color_system in ("256", "truecolor")
    label = min(max(map(cell_len, aligned.foreign)), LONGEST_WORD, console.width // 3)
    room = console.width - label - 1
    widths = [min(max(cell_len(word) + 2, CELL), LONGEST_WORD, room) for word in aligned.english]
    for n, block in enumerate(split_columns(widths, room)):
        lines = [Text(" " * (label + 1))]
        for column in block:
            lines[0].append(fit(aligned.english[column], widths[column] - 1) + " ", "bold")
        for row, word in enumerate(aligned.foreign):
            line = Text.assemble((fit(word, label, right=True), "bold"), " ")
            for column in block:
                share = float(shares[row, column])
                number = f"{100 * share:.0f}" if share >= 0.005 else "."
                line.append(fit(number, widths[column] - 1) + " ", shade(share) if shaded else "")
            lines.append(line)
        if n:
            console.print()
        for line in lines:
            if console.no_color or console.color_system is None:
                line.rstrip()
            console.print(line, soft_wrap=True)


def split_columns(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split columns into blocks no wider than `room`."""
    found: list[list[int]] = []
    left = 0
    for column, width in enumerate(widths):
        if not found or width > left:
            found.append([])
            left = room
        found[-1].append(column)
        left -= width
    return found


def fit(word: str, width: int, *, right: bool = False) -> str:
    """Pad or truncate (with an ellipsis) a word to `width` terminal columns, centred or right-aligned."""
    from rich.cells import cell_len, set_cell_size

    word = printable(word)
    if cell_len(word) > width:
        word = set_cell_size(word, width - 1) + "…"
    space = width - cell_len(word)
    before = space if right else space // 2
    return " " * before + word + " " * (space - before)


def shade(share: float) -> str:
    """rich style with a background from near white to dark blue by share; rich drops it without colours."""
    light, dark = (241, 246, 251), (11, 47, 94)
    behind = "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))
    return f"{'#ffffff' if share > 0.5 else '#12263f'} on #{behind}"


QUALITY_METRICS = ("AER", "precision", "recall", "F1")


def print_quality(found: Mapping[str, AlignmentQuality], console: Console) -> None:
    """Print word alignment metrics per language: of the plan, the statistical aligner and the diagonal."""
    from optical_jax.evaluation.report import make_table, say, start_group

    agreement = ("same word", "same links")
    table = make_table(console, "lang", "links of", "pairs", *QUALITY_METRICS, *agreement, left=2)
    for language, quality in found.items():
        start_group(console, table)
        figures = quality.figures()
        for system in ("plan", "aligner", "diagonal"):
            row = (
                [f"{figures[system][name]:.3f}" for name in QUALITY_METRICS]
                if system in figures
                else [""] * len(QUALITY_METRICS)
            )
            if system == "plan":
                agrees = figures.get("agreement", {"argmax": 0.0, "F1": 0.0})
                row += [f"{agrees['argmax']:.3f}", f"{agrees['F1']:.3f}"]
            elif system not in figures:
                continue
            count = figures["gold_pairs"] or figures["pairs"]
            first, style = (language, "bold") if system == "plan" else ("", None)
            table.add_row(first, system, str(count), *row, style=style)
    console.print(table)
    say(console, "same word: share of foreign words with an aligner link whose largest mass in the plan is along it")
    say(console, "same links: F1 of the plan's links with the aligner's")


IMAGE_SIDE = 640
"""Longest side in pixels to which the image is reduced before plotting, more than a panel shows."""


def check_image(command: AlignCommand) -> None:
    """Validate the flags that go with --image.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    for name in ("bitext", "gold"):
        if value := getattr(command, name):
            raise ConfigError(f"{name}={' '.join(value)} and image={command.image} are given; use one of them")
    if command.english:
        raise ConfigError(f"a second text is given, {command.english!r}; with --image there is one, the caption")
    if is_blank(command.foreign):
        raise ConfigError("no caption given; add it after the flags, in quotes")


def align_image(command: AlignCommand, saved: Mapping[str, Any], console: Console) -> None:
    """Align a caption with an image: compute, print and plot the plan.

    Raises:
      ConfigError: no such checkpoint or dual encoder, or pooled towers.
      DataError: the image cannot be read, or the caption has no words.
    """
    from optical_jax.alignment.images import align_image_plan
    from optical_jax.data.rgb import read_rgb
    from optical_jax.evaluation.report import say
    from optical_jax.plots.images import plan_over_image
    from optical_jax.plots.thumbnails import thumbnail
    from optical_jax.runs.pair import by_patches, text_and_image_of_run
    from optical_jax.towers.texts import STUDENT_REMEDY, check_texts

    run, cfg = Path(command.run), image_settings(command, saved)
    rgb = read_rgb(Path(command.image))
    text, image, _ = text_and_image_of_run(run, command.checkpoint, command.pictures_by)
    check_texts(text, [command.foreign], "the caption", at_most=command.max_unknown, remedy=STUDENT_REMEDY, each=True)
    found = align_image_plan(text, by_patches(image), command.foreign, rgb, cfg, by_pieces=command.pieces)
    print_words(found, console)
    if found.cut:
        say(console, "the caption is longer than its tower's maximum length, and was truncated")
    if cfg.masses in ("idf", "norm"):
        say(console, f"masses are uniform here, not {cfg.masses} as in training, where both sides are texts")
    say(console, f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {cfg.epsilon:g})")
    name = f"{slug(command.foreign)}--{slug(Path(command.image).stem)}.png"
    path = Path(command.out) if command.out else run / "align" / name
    plan_over_image(path, thumbnail(found.seen, IMAGE_SIDE), found.plan, found.words)
    say(console, f"picture: {path}")


def image_settings(command: AlignCommand, saved: Mapping[str, Any]) -> OtConfig:
    """Transport settings of the run; the defaults for one without, such as an image-text teacher's.

    Raises:
      ConfigError: the run is of another version.
    """
    loss = saved.get("loss", {})
    try:
        cfg = OtConfig(**loss.get("ot", {}))
    except (AttributeError, TypeError) as error:
        where = Path(command.run) / "config.json"
        raise ConfigError(f"{where} is from another version ({error}); use the version it was written by") from None
    return cfg if command.epsilon is None else replace(cfg, epsilon=command.epsilon)


def print_words(found: ImagePlan, console: Console) -> None:
    """Print one line per word: the patch with most of its mass, counted from 1, and the share."""
    from optical_jax.evaluation.report import make_table, say

    _, rows, columns = found.plan.shape
    say(console, f"{rows} x {columns} patches; for each word the one with most of its mass")
    table = make_table(console, "word", "row", "column", "share", left=1)
    for word, plan in zip(found.words, found.plan, strict=True):
        row, column = divmod(int(plan.argmax()), columns)
        share = plan.max() / plan.sum() if plan.sum() > 0 else 0.0
        table.add_row(word, str(row + 1), str(column + 1), f"{share:.0%}")
    console.print(table)
