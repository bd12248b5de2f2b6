"""`python -m optical_jax phrases`: is the region that a phrase means found in its picture?"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.commands.picture_towers import TextAndImage, by_patches, text_of_run, towers_of_model, towers_of_run
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import own_system, trains_teacher, write_json

if TYPE_CHECKING:
    from optical_jax.data.images.flickr_entities import FlickrEntities
    from optical_jax.evaluation.phrases import Asked
    from optical_jax.retrieval.metrics import PerQuery


@dataclass(frozen=True)
class PhrasesCommand:
    """Rank the boxes of a picture for each phrase of its captions: is a right one among the first 1, 5, 10?

    On Flickr30k Entities. A box is the mean of the patches that it covers; one is right if it covers what the phrase
    means, intersection over union 0.5 or more. This is no retrieval of pictures, and its figures stand by themselves:
    RUN/phrases/<set>-<split>/ has metrics.json and per_phrase.jsonl.
    """

    images: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """Flickr30k Entities with its pictures: flickr30k_entities:FOLDER, or the folder (docs/images.md)."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder of a student or an image-text teacher; phrases are English."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """A pair of towers instead; nothing is written but --out."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP")] = "last"
    """Which checkpoint of the run."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """The pair of towers (folder, hub name or run) whose image tower encodes pictures; empty takes the run's own."""
    split: str = "val"
    """Which pictures: train, val or test."""
    boxes: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Boxes to choose from, JSONL: _id of the picture, boxes [[left, top, right, bottom], ...] in pixels; empty takes
    those that people drew in the picture, of all its phrases."""
    batch_size: int = 32
    """Pictures that are encoded at a time."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write the figures there, as JSON."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python -m optical_jax phrases --run runs/pair --images flickr30k_entities:flickr30k"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name a run and Flickr30k Entities", EXAMPLE)
    command = tyro.cli(PhrasesCommand, args=list(argv), prog="python -m optical_jax phrases")
    check(command)
    from optical_jax.data.images.proposals import read_proposals
    from optical_jax.data.images.sources import read_flickr_entities
    from optical_jax.evaluation.phrases import gold_boxes, phrases_of, rank_boxes
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport

    systems, origin = find_systems(command)
    entities = read_flickr_entities(command.images, command.split)
    phrases = phrases_of(entities)
    drawn = {name: gold_boxes(entities, name) for name in dict.fromkeys(phrase.picture for phrase in phrases)}
    candidates = read_proposals(Path(command.boxes)) if command.boxes else drawn
    if lacking := [name for name in drawn if name not in candidates]:
        raise DataError(f"{command.boxes} lacks {len(lacking)} of {len(drawn)} pictures, such as {lacking[0]!r}")
    with over_all_devices():
        found: dict[str, PerQuery] = {}
        for image in {id(towers.image): towers.image for towers in systems.values()}.values():
            askers = {name: towers.text for name, towers in systems.items() if towers.image is image}
            with ProgressReport("encoding pictures", len(drawn), "pictures") as progress:
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
    print_figures(figures)


def check(command: PhrasesCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    given = [name for name in ("run", "model") if getattr(command, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'none'} of --run, --model given; give exactly one")
    if not re.fullmatch(r"last|best|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is none; give last, best or a step")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; a model has none")
    if command.batch_size < 1:
        raise ConfigError(f"batch_size={command.batch_size} is impossible; give at least 1")
    if command.out and Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")


def find_systems(command: PhrasesCommand) -> tuple[dict[str, TextAndImage], dict[str, Any]]:
    """Who is tried, the system itself first, and what it is for the record.

    Raises:
      ConfigError: no such run, checkpoint or pair, or towers that do not agree.
    """
    from optical_jax.runs.load import checkpoint_step as find_step
    from optical_jax.runs.load import is_run, load

    cache_dir = command.cache_dir or None
    if command.model:
        if is_run(Path(command.model)):
            raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
        towers = towers_of_model(command.model, command.pictures_by, cache_dir=cache_dir)
        return {"model": towers}, {"model": command.model, "pictures_by": command.pictures_by}
    run = Path(command.run)
    step = find_step(run, command.checkpoint)
    towers = towers_of_run(run, step, command.pictures_by, cache_dir)
    systems = {own_system(run): towers}
    if trains_teacher(run) and not command.pictures_by:
        systems["untrained"] = towers_of_run(run, "untrained", cache_dir=cache_dir)
    else:
        systems["untrained"] = towers._replace(text=text_of_run(run, "untrained", cache_dir))
    if not trains_teacher(run):
        systems["teacher"] = towers._replace(text=load(run, part="teacher", cache_dir=cache_dir))
    return systems, {"run": str(run), "checkpoint": step, "pictures_by": command.pictures_by}


# ---- figures -----------------------------------------------------------------------------------------------------


def summary(
    command: PhrasesCommand,
    entities: FlickrEntities,
    phrases: Sequence[Asked],
    found: Mapping[str, PerQuery],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of metrics.json."""
    from optical_jax.data.collections.captions import hashes
    from optical_jax.evaluation.phrase_regions import mean_phrase_figures

    types: dict[str, list[str]] = {}
    for phrase in phrases:
        types.setdefault(phrase.type, []).append(phrase.name)
    system, *others = found
    own = found[system]
    boxes = [Path(command.boxes)] if command.boxes else []
    return {
        "set": entities.captions.name,
        "split": entities.captions.split,
        "candidates": "given" if command.boxes else "drawn",
        "pictures": len({phrase.picture for phrase in phrases}),
        "system": system,
        **origin,
        "figures": mean_phrase_figures(own),
        "references": {name: mean_phrase_figures(found[name]) for name in others},
        "types": {kind: mean_phrase_figures({name: own[name] for name in of}) for kind, of in sorted(types.items())},
        "inputs": hashes([*entities.captions.files, *boxes]),
    }


def write_rows(folder: Path, phrases: Sequence[Asked], found: Mapping[str, PerQuery]) -> None:
    """per_phrase.jsonl. An older metrics.json goes first: a folder that has one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    with (folder / "per_phrase.jsonl").open("w", encoding="utf-8") as file:
        for system, per_phrase in found.items():
            for phrase in phrases:
                what = {"system": system, "phrase": phrase.name, "picture": phrase.picture, "type": phrase.type}
                row = what | {"text": phrase.text} | per_phrase[phrase.name]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def print_figures(figures: Mapping[str, Any]) -> None:
    """A row a system, then one a kind of phrase."""
    from rich.console import Console

    from optical_jax.evaluation.phrase_regions import PHRASE_FIGURES
    from optical_jax.evaluation.text_report import make_table, say, start_group

    console, own = Console(), figures["system"]
    what = f"{figures['run']}, checkpoint {figures['checkpoint']}" if "run" in figures else figures["model"]
    say(
        console,
        f"{what} on {figures['set']}, {figures['split']}: regions of phrases in {figures['pictures']:,} pictures",
    )
    heads = [name if name.endswith("R@1") else name.split()[1] for name in PHRASE_FIGURES]
    table = make_table(console, "system", "phrases", *heads, left=1)
    rows = {own: figures["figures"], **figures["references"]}
    for name, found in [*rows.items(), *figures["types"].items()]:
        if name == next(iter(figures["types"])):
            start_group(console, table)
        cells = [f"{found[metric]:.3f}" for metric in PHRASE_FIGURES]
        table.add_row(name, str(found["phrases"]), *cells, style="bold" if name == own else None)
    console.print(table)
    say(console, f"below: {own} by kind of phrase; boxes to choose from: {figures['candidates']}")
    say(console, "any: a box that fits any of the phrase's; merged: one around all of them")
    say(console, "bound: a right box is there at all")
