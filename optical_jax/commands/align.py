"""`python -m optical_jax align`: which English word each word of a foreign text learns from, and how right that is."""

from __future__ import annotations

import hashlib
import math
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.config import LossConfig, OtConfig
from optical_jax.errors import ConfigError, DataError
from optical_jax.runs.bitext import saved_data

if TYPE_CHECKING:
    from rich.console import Console

    from optical_jax.alignment.images import PicturePlan
    from optical_jax.alignment.plans import AlignedPlan, IdfTables
    from optical_jax.alignment.quality import AlignmentQuality
    from optical_jax.towers.tower import Tower

CELL = 7
"""Columns of the terminal that a cell takes at least."""
LONGEST_WORD = 24
SLUG_BYTES = 80
"""Of each of the two texts; file systems take names of 255."""


@dataclass(frozen=True)
class AlignCommand:
    """Draw the transport plan between a foreign text and its English translation, as training computes it.

    A row a foreign word, a column an English one, in each cell the share of the row's mass that goes there, in per
    cent. Printed, and drawn to a PNG.

    With --image and one text: between the words of a caption and the patches of a picture, drawn over the picture.

    With --bitext instead of texts: how good the plans of its pairs are as word alignments. Printed, and written to
    RUN/align/quality.json.
    """

    run: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    foreign: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOREIGN")] = ""
    """The foreign text, in quotes; with --image the caption."""
    english: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENGLISH")] = ""
    """Its English translation, in quotes."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Which student of the run."""
    image: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A picture, instead of the English text."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """The pair of towers (folder, hub name or run) whose image tower encodes --image; empty takes the run's own."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG to write, or with --bitext JSON; empty writes RUN/align/<texts>.png or RUN/align/quality.json."""
    pieces: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show word pieces and special tokens instead of whole words."""
    epsilon: Annotated[float | None, tyro.conf.arg(metavar="EPSILON")] = None
    """Entropic regularisation of the plan; the run's own where it is not given."""
    bitext: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG=FILE ...")] = ()
    """Pairs to align, one file a language, as data.bitext names them."""
    gold: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[LANG=]FILE ...")] = ()
    """Gold links of the bitext's lines (Pharaoh or NAACL), whose words must be parted by spaces."""
    foreign_first: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The gold's links name the foreign word first, not the English one."""
    pairs: int = 500
    """At most so many pairs of a bitext, evenly spaced."""
    rule: Literal["forward", "backward", "intersection", "union", "grow-diag", "grow-diag-final-and", "share"] = (
        "forward"
    )
    """How links are drawn from a plan: each foreign word's largest cell (forward), each English word's (backward),
    both of them, either, grown from both, or cells with a share of both words' mass."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = 'python -m optical_jax align --run runs/tiny "Mwalimu ananunua maji" "The teacher buys water"'


def parse(argv: Sequence[str]) -> AlignCommand:
    """Read the flags; tyro itself answers --help (exit 0) and unknown ones (exit 2)."""
    refuse_no_flags(argv, "name a run, a foreign text and its English translation", EXAMPLE)
    command = tyro.cli(AlignCommand, args=list(argv), prog="python -m optical_jax align")
    check(command)
    return command


def run_command(argv: Sequence[str]) -> None:
    """Compute the plan, print it, draw it; or the plans of a bitext, and print and write how good they are.

    Raises:
      ConfigError: no such run or checkpoint, towers that give one vector a text, or flags that cannot be.
      DataError: a text without a word; a bitext or gold file that is missing or broken.
    """
    from optical_jax.evaluation.word_alignment import measure, sources_of

    command = parse(argv)
    # Here, so that --help answers without importing jax or matplotlib.
    from rich.console import Console

    from optical_jax.evaluation.report import say
    from optical_jax.files import write_json
    from optical_jax.runs.folder import RunFolder
    from optical_jax.runs.load import is_run, load, sides_of

    run = Path(command.run)
    if not is_run(run):
        raise ConfigError(f"run={run} holds no run; name the --run folder of a training")
    saved = RunFolder(run).saved_config() or {}
    if command.image:
        align_image(command, saved, Console())
        return
    try:
        cfg = LossConfig(name=saved["loss"]["name"], ot=OtConfig(**saved["loss"]["ot"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{run / 'config.json'} is not of this version ({error}); take the version it was made with"
        ) from None
    if command.epsilon is not None:
        cfg = replace(cfg, ot=replace(cfg.ot, epsilon=command.epsilon))
    # Files that are not there are told before weights are read.
    sources = sources_of(command.bitext, command.gold)
    student = load(run, sides_of(run)[0], command.checkpoint, part="student")
    teacher = load(run, part="teacher")
    idf = count_or_tell(saved, student, teacher) if cfg.ot.masses == "idf" else None
    if cfg.ot.masses == "norm":
        print("masses are uniform here, not norm as in training: only training sees vectors before they are made unit")
    console = Console()
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
        idf=idf,
    )
    print_quality(found, console)
    tell_loss(cfg, console)
    path = Path(command.out) if command.out else run / "align" / "quality.json"
    languages = {language: quality.as_json() for language, quality in found.items()}
    write_json(path, {"run": str(run), "checkpoint": command.checkpoint, "languages": languages})
    say(console, f"written: {path}")


def draw(
    command: AlignCommand, student: Tower, teacher: Tower, cfg: LossConfig, idf: IdfTables | None, console: Console
) -> None:
    """Print and draw the plan of the two texts."""
    from optical_jax.alignment.plans import align_texts
    from optical_jax.evaluation.report import say
    from optical_jax.plots.plans import draw_plans

    texts = [(command.foreign, command.english)]
    (found,) = align_texts(student, teacher, texts, cfg, by_pieces=command.pieces, idf=idf)
    print_plan(found, console)
    if found.left_out >= 0.005:
        say(console, f"not shown: {found.left_out:.0%} of the words' mass, which goes to special tokens (--pieces)")
    if found.cut:
        say(console, "a text is longer than its tower reads, and was cut")
    tell_loss(cfg, console)
    say(console, f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {cfg.ot.epsilon:g})")
    name = f"{slug(command.foreign)}--{slug(command.english)}.png"
    path = Path(command.out) if command.out else Path(command.run) / "align" / name
    draw_plans([found], path)
    say(console, f"picture: {path}")


def tell_loss(cfg: LossConfig, console: Console) -> None:
    if cfg.name != "transport":
        console.print(f"this run learned by {cfg.name}: the plan is not what it learned from", highlight=False)


def check(command: AlignCommand) -> None:
    """Refuse impossible flags before anything is read.

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
            raise ConfigError(f"bitext={' '.join(command.bitext)} and a text are given; give two texts or a bitext")
        if command.pairs < 1:
            raise ConfigError(f"pairs={command.pairs} is impossible; give at least 1")
    else:
        if command.gold:
            raise ConfigError(f"gold={' '.join(command.gold)} needs the sentences it links; name them with --bitext")
        for name, text in texts.items():
            if not text.strip():
                raise ConfigError(f"the {name} text is empty; give two texts, the foreign one first, or a --bitext")
    if command.epsilon is not None and not 0.0 < command.epsilon < math.inf:
        raise ConfigError(f"epsilon={command.epsilon} is impossible; give a number above 0")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is none; give last, best, untrained or a step")
    form, what = (".json", "JSON file") if command.bitext else (".png", "picture")
    if command.out and (Path(command.out).suffix != form or Path(command.out).is_dir()):
        raise ConfigError(f"out={command.out} is no {what}; name a file that ends in {form}")


def count_or_tell(saved: Mapping[str, Any], student: Tower, teacher: Tower) -> IdfTables | None:
    """The weights of a run that learned with idf masses; None, and a line why, where its bitext cannot be read."""
    from optical_jax.alignment.plans import count_idf

    try:
        lengths = saved["student"]["max_length"], saved["teacher"]["max_length"]
        return count_idf(student, teacher, saved_data(saved), lengths)
    except (ConfigError, DataError) as error:
        print(f"masses are uniform here, not idf as in training: {error}")
        return None


def slug(text: str) -> str:
    """A text as part of a file's name: its letters, marks and digits, of any script; a long one's end is a hash."""
    text = unicodedata.normalize("NFC", text)
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()
    name, digest = "-".join(words), hashlib.sha256(text.encode()).hexdigest()[:8]
    if len(name.encode()) <= SLUG_BYTES:
        return name or digest
    head = name.encode()[: SLUG_BYTES - 9].decode(errors="ignore")
    return f"{head}-{digest}"


# ---- the terminal ------------------------------------------------------------------------------------------------


def print_plan(aligned: AlignedPlan, console: Console) -> None:
    """The heat map as text: numbers everywhere, on colours where there are some; wide ones in several blocks."""
    from rich.cells import cell_len
    from rich.text import Text

    shares = aligned.shares()
    # Of sixteen colours no two have the shades between.
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
    """Columns by block, so that each block is no wider than `room`."""
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
    """A word in `width` columns of the terminal, in the middle or at the right; cut with an ellipsis if need be."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(word) > width:
        word = set_cell_size(word, width - 1) + "…"
    space = width - cell_len(word)
    before = space if right else space // 2
    return " " * before + word + " " * (space - before)


def shade(share: float) -> str:
    """Near white to dark blue behind a number that stays readable. Without colours (NO_COLOR, a pipe) rich drops it."""
    light, dark = (241, 246, 251), (11, 47, 94)
    behind = "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))
    return f"{'#ffffff' if share > 0.5 else '#12263f'} on #{behind}"


QUALITY_METRICS = ("AER", "precision", "recall", "F1")


def print_quality(found: Mapping[str, AlignmentQuality], console: Console) -> None:
    """A group of rows a language: the plan, and what it is compared with."""
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
    say(console, "same word: foreign words with a link of the aligner's that the plan gives most mass along")
    say(console, "same links: F1 of the plan's links with the aligner's")


IMAGE_SIDE = 640
"""Pixels of the picture's longest side, at most, before it is drawn: more than a panel shows."""


def check_image(command: AlignCommand) -> None:
    """Refuse flags that do not go with a picture.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    for name in ("bitext", "gold"):
        if value := getattr(command, name):
            raise ConfigError(f"{name}={' '.join(value)} and image={command.image} are given; give one of them")
    if command.english:
        raise ConfigError(f"a second text is given, {command.english!r}; with --image there is one, the caption")
    if not command.foreign.strip():
        raise ConfigError("no caption given; write it behind the flags, in quotes")


def align_image(command: AlignCommand, saved: Mapping[str, Any], console: Console) -> None:
    """Compute the plan, print where each word goes, draw it.

    Raises:
      ConfigError: no such checkpoint or pair, or towers that give one vector a text.
      DataError: the picture cannot be read, or nothing of the caption is a word.
    """
    from optical_jax.alignment.images import align_picture
    from optical_jax.commands.align import slug
    from optical_jax.data.rgb import read_rgb
    from optical_jax.evaluation.report import say
    from optical_jax.plots.images import plan_over_picture
    from optical_jax.plots.thumbnails import thumbnail
    from optical_jax.runs.pair import by_patches, text_and_image_of_run

    run, cfg = Path(command.run), image_settings(command, saved)
    rgb = read_rgb(Path(command.image))
    text, image, _ = text_and_image_of_run(run, command.checkpoint, command.pictures_by)
    found = align_picture(text, by_patches(image), command.foreign, rgb, cfg, by_pieces=command.pieces)
    print_words(found, console)
    if found.cut:
        say(console, "the caption is longer than its tower reads, and was cut")
    if cfg.masses in ("idf", "norm"):
        say(console, f"masses are uniform here, not {cfg.masses} as in training, where both sides are texts")
    say(console, f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {cfg.epsilon:g})")
    name = f"{slug(command.foreign)}--{slug(Path(command.image).stem)}.png"
    path = Path(command.out) if command.out else run / "align" / name
    plan_over_picture(path, thumbnail(found.seen, IMAGE_SIDE), found.plan, found.words)
    say(console, f"picture: {path}")


def image_settings(command: AlignCommand, saved: Mapping[str, Any]) -> OtConfig:
    """The run's settings of the plan; the defaults for a run that has none, as an image-text teacher's.

    Raises:
      ConfigError: the run is of another version.
    """
    loss = saved.get("loss", {})
    try:
        cfg = OtConfig(**loss.get("ot", {}))
    except (AttributeError, TypeError) as error:
        where = Path(command.run) / "config.json"
        raise ConfigError(f"{where} is not of this version ({error}); take the version it was made with") from None
    return cfg if command.epsilon is None else replace(cfg, epsilon=command.epsilon)


def print_words(found: PicturePlan, console: Console) -> None:
    """A line a word: the patch that gets most of its mass, counted from 1, and the share."""
    from optical_jax.evaluation.report import make_table, say

    _, rows, columns = found.plan.shape
    say(console, f"{rows} x {columns} patches; of each word the one that gets most of its mass")
    table = make_table(console, "word", "row", "column", "share", left=1)
    for word, plan in zip(found.words, found.plan, strict=True):
        row, column = divmod(int(plan.argmax()), columns)
        share = plan.max() / plan.sum() if plan.sum() > 0 else 0.0
        table.add_row(word, str(row + 1), str(column + 1), f"{share:.0%}")
    console.print(table)
