"""`python -m optical_jax align --image`: where in a picture each word of a caption is matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.commands.picture_towers import by_patches, towers_of_run
from optical_jax.config import OtConfig
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from optical_jax.alignment.images import PicturePlan
    from optical_jax.commands.align import AlignCommand

SIDE = 640
"""Pixels of the picture's longest side, at most, before it is drawn: more than a panel shows."""


def check(command: AlignCommand) -> None:
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


def run_command(command: AlignCommand, saved: Mapping[str, Any], console: Console) -> None:
    """Compute the plan, print where each word goes, draw it.

    Raises:
      ConfigError: no such checkpoint or pair, or towers that give one vector a text.
      DataError: the picture cannot be read, or nothing of the caption is a word.
    """
    from optical_jax.alignment.images import align_picture
    from optical_jax.commands.align import slug
    from optical_jax.data.rgb import read_rgb
    from optical_jax.evaluation.text_report import say
    from optical_jax.plots.images import plan_over_picture
    from optical_jax.plots.thumbnails import thumbnail

    run, cfg = Path(command.run), settings(command, saved)
    rgb = read_rgb(Path(command.image))
    text, image, _ = towers_of_run(run, command.checkpoint, command.pictures_by)
    found = align_picture(text, by_patches(image), command.foreign, rgb, cfg, by_pieces=command.pieces)
    print_words(found, console)
    if found.cut:
        say(console, "the caption is longer than its tower reads, and was cut")
    if cfg.masses in ("idf", "norm"):
        say(console, f"masses are uniform here, not {cfg.masses} as in training, where both sides are texts")
    say(console, f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon {cfg.epsilon:g})")
    name = f"{slug(command.foreign)}--{slug(Path(command.image).stem)}.png"
    path = Path(command.out) if command.out else run / "align" / name
    plan_over_picture(path, thumbnail(found.seen, SIDE), found.plan, found.words)
    say(console, f"picture: {path}")


def settings(command: AlignCommand, saved: Mapping[str, Any]) -> OtConfig:
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
    from optical_jax.evaluation.text_report import make_table, say

    _, rows, columns = found.plan.shape
    say(console, f"{rows} x {columns} patches; of each word the one that gets most of its mass")
    table = make_table(console, "word", "row", "column", "share", left=1)
    for word, plan in zip(found.words, found.plan, strict=True):
        row, column = divmod(int(plan.argmax()), columns)
        share = plan.max() / plan.sum() if plan.sum() > 0 else 0.0
        table.add_row(word, str(row + 1), str(column + 1), f"{share:.0%}")
    console.print(table)
