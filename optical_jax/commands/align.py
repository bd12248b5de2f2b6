"""`python -m optical_jax align`: which English word each word of a foreign text learns from, as a heat map."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from optical_jax.commands.doors import open_door, refuse_no_flags
from optical_jax.config import OtConfig
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from optical_jax.alignment import Alignment

CELL = 9
"""Columns of the terminal that a column of the heat map takes at least."""
SLUG = 60
EXAMPLE = "python -m optical_jax align --run runs/tiny 'Paka analala.' 'The cat sleeps.'"


@dataclass(frozen=True)
class AlignCommand:
    """Draw the transport plan between a foreign text and its English translation, as training sees it.

    A row a foreign word, a column an English one: the share of the row's mass that is moved there, in per cent.
    """

    texts: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOREIGN ENGLISH")]
    """The foreign text, then the English one, each in quotes."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|untrained|STEP")] = "last"
    """Which student of the run."""
    pieces: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Rows and columns are word pieces and special tokens instead of words."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE.png")] = ""
    """Where to draw; empty draws into the run's align/."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Compute the plan, print it, draw it.

    Raises:
      ConfigError: not two texts, no such run or checkpoint, or a run whose towers give one vector a text.
    """
    refuse_no_flags(argv, "name a run, and give a foreign text and its English", EXAMPLE)
    command = parse(argv)
    run = Path(command.run)
    # Here, so that --help answers without importing jax.
    from rich.console import Console

    from optical_jax.alignment import align_texts
    from optical_jax.pictures import draw_plans
    from optical_jax.run_folder import RunFolder
    from optical_jax.towers import is_run, load

    if not is_run(run):
        raise ConfigError(f"run={run} holds no run; name the --run folder of a training")
    saved = (RunFolder(run).saved_config() or {})["loss"]
    ot = OtConfig(**saved["ot"])
    student, teacher = load(run, checkpoint=command.checkpoint), load(run, side="document")
    foreign, english = command.texts
    (found,) = align_texts(student, teacher, [(foreign, english)], ot, by_pieces=command.pieces)
    path = Path(command.out) if command.out else run / "align" / f"{slug(foreign)}--{slug(english)}.png"
    print_alignment(found, Console())
    print(f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {ot.epsilon:g})")
    if saved["name"] != "transport":
        print(f"this run learned by {saved['name']}: the plan is what transport would have taught it from")
    if ot.masses != "uniform":
        print(f"drawn with equal masses: {ot.masses} is counted in a bitext")
    draw_plans([found], path)
    print(f"picture: {path}")


def parse(argv: Sequence[str]) -> AlignCommand:
    """Read the flags; tyro itself answers --help (exit 0) and unknown ones (exit 2).

    Raises:
      ConfigError: not two texts, an empty one, or a checkpoint that cannot be.
    """
    command = tyro.cli(AlignCommand, args=list(argv), prog="python -m optical_jax align")
    if len(command.texts) != 2:
        raise ConfigError(
            f"{len(command.texts)} texts given; give two, each in quotes: the foreign one, then the English"
        )
    if not all(text.strip() for text in command.texts):
        raise ConfigError("a text is empty; give the foreign one, then the English")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is none; give last, best, untrained or a step")
    if command.out and not command.out.endswith(".png"):
        raise ConfigError(f"out={command.out} is no picture; name a file that ends in .png")
    return command


def slug(text: str) -> str:
    """A text as part of a file's name: letters and marks of any script, joined by dashes."""
    return re.sub(r"[\s/\\.:*?\"<>|]+", "-", text).strip("-")[:SLUG]


def print_alignment(alignment: Alignment, console: Console) -> None:
    """The heat map as text: shaded where the terminal has colours, numbers everywhere; wide ones in several blocks."""
    from rich.cells import cell_len
    from rich.style import Style
    from rich.text import Text

    shares = alignment.shares()
    label = min(max(map(cell_len, alignment.foreign), default=0), console.width // 3)
    widths = [min(max(cell_len(word) + 2, CELL), console.width - label - 1) for word in alignment.english]
    for block in blocks(widths, console.width - label - 1):
        head = Text(" " * (label + 1))
        for column in block:
            head.append(fit(alignment.english[column], widths[column]))
        console.print(head, soft_wrap=True)
        for row, word in enumerate(alignment.foreign):
            line = Text(fit(word, label, right=True) + " ")
            for column in block:
                share = float(shares[row, column])
                number = f"{100 * share:.0f}" if share >= 0.005 else "."
                line.append(number.center(widths[column]), Style.parse(shade(share)))
            console.print(line, soft_wrap=True)


def blocks(widths: Sequence[int], room: int) -> list[list[int]]:
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
    """A word in exactly `width` columns of the terminal, cut with an ellipsis if need be."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(word) > width:
        word = set_cell_size(word, width - 1) + "…"
    padding = " " * (width - cell_len(word))
    half = len(padding) // 2
    return padding + word if right else padding[:half] + word + padding[half:]


def shade(share: float) -> str:
    """White to dark blue behind the number. Without colours (NO_COLOR, a pipe) rich leaves it out."""
    light, dark = (247, 251, 255), (8, 48, 107)
    behind = "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))
    return f"{'#ffffff' if share > 0.5 else '#15324f'} on #{behind}"
