"""`python -m optical_jax phrases`: phrase localisation (visual grounding) on Flickr30k Entities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.commands.inputs import check_phrases
from optical_jax.config.vocabulary import check_max_unknown
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.options import PhrasesCommand
from optical_jax.files import write_json
from optical_jax.invocation import program

if TYPE_CHECKING:
    from optical_jax.retrieval.metrics import PerQuery


EXAMPLE = "phrases --run runs/pair --images flickr30k_entities:flickr30k"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name a run and Flickr30k Entities", EXAMPLE)
    command = tyro.cli(PhrasesCommand, args=list(argv), prog=program("phrases"))
    check(command)
    check_phrases(command)
    from optical_jax.data.images.proposals import read_proposals
    from optical_jax.data.images.sources import read_flickr_entities
    from optical_jax.evaluation.phrases import find_systems, gold_boxes, phrases_of, rank_boxes, summary, write_rows
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.runs.pair import by_patches
    from optical_jax.towers.texts import check_texts

    systems, origin = find_systems(command)
    entities = read_flickr_entities(command.images, command.split)
    phrases = phrases_of(entities)
    for name, towers in systems.items():
        if name == "untrained":  # reads as the trained one
            continue
        check_texts(
            towers.text,
            [phrase.text for phrase in phrases],
            f"phrases, {name}",
            at_most=command.max_unknown if towers is next(iter(systems.values())) else None,
            remedy="the phrases are English; use a model that reads them",
        )
    drawn = {name: gold_boxes(entities, name) for name in dict.fromkeys(phrase.picture for phrase in phrases)}
    candidates = read_proposals(Path(command.boxes)) if command.boxes else drawn
    if lacking := [name for name in drawn if name not in candidates]:
        raise DataError(f"{command.boxes} lacks {len(lacking)} of {len(drawn)} images, such as {lacking[0]!r}")
    with over_all_devices():
        found: dict[str, PerQuery] = {}
        for image in {id(towers.image): towers.image for towers in systems.values()}.values():
            askers = {name: towers.text for name, towers in systems.items() if towers.image is image}
            with ProgressReport("encoding images", len(drawn), "images") as progress:
                found |= rank_boxes(
                    askers,
                    by_patches(image),
                    entities,
                    phrases,
                    candidates,
                    batch_size=command.batch_size,
                    advance=progress.advance,
                )
        found = {name: found[name] for name in systems}
    figures = summary(command, entities, phrases, found, origin)
    if command.run:
        stem = f"-{Path(command.boxes).name.partition('.')[0]}" if command.boxes else ""
        folder = Path(command.run) / "phrases" / f"{entities.captions.name}-{entities.captions.split}{stem}"
        write_rows(folder, phrases, found)
        write_json(folder / "metrics.json", figures)
    if command.out:
        write_json(Path(command.out), figures)
    print_metrics(figures)


main = as_main(run_command)


def check(command: PhrasesCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    given = [name for name in ("run", "model") if getattr(command, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'none'} of --run, --model given; use exactly one")
    if not re.fullmatch(r"last|best|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best or a step number")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; a model has none")
    check_max_unknown(command.max_unknown)
    if command.batch_size < 1:
        raise ConfigError(f"batch_size={command.batch_size} is not valid; use at least 1")
    if command.out and Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")


# ---- metrics -----------------------------------------------------------------------------------------------------


def print_metrics(figures: Mapping[str, Any]) -> None:
    """Print one row per system, then one per type of phrase."""
    from optical_jax.evaluation.phrases import PHRASE_METRICS
    from optical_jax.evaluation.report import make_console, make_table, say, start_group

    console, own = make_console(), figures["system"]
    what = f"{figures['run']}, checkpoint {figures['checkpoint']}" if "run" in figures else figures["model"]
    say(
        console,
        f"{what} on {figures['set']}, {figures['split']}: phrase localisation in {figures['pictures']:,} images",
    )
    heads = [name if name.endswith("R@1") else name.split()[1] for name in PHRASE_METRICS]
    table = make_table(console, "system", "phrases", *heads, left=1)
    rows = {own: figures["figures"], **figures["references"]}
    for name, found in [*rows.items(), *figures["types"].items()]:
        if name == next(iter(figures["types"])):
            start_group(console, table)
        cells = [f"{found[metric]:.3f}" for metric in PHRASE_METRICS]
        table.add_row(name, str(found["phrases"]), *cells, style="bold" if name == own else None)
    console.print(table)
    say(console, f"below: {own} by type of phrase; candidate boxes: {figures['candidates']}")
    say(console, "any: matches any box of the phrase; merged: matches the box around all of them")
    say(console, "bound: upper bound, the share of phrases with a matching candidate box")
