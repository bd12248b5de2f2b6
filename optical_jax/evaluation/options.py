"""The flags of eval.py, and what they name: a checkpoint, an encoder, a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class EvalCommand:
    """Rank a collection with a run's student (or any model), and tell what it is worth beside its references.

    A collection of texts, or a set of pictures with captions, which look for each other. A run's results go to
    RUN/eval/<collection>-<split>/: metrics.json, run.<lang>.trec, per_query.jsonl; of pictures gallery.html too.
    """

    collection: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """Folder in BEIR's form: corpus.jsonl[.gz], queries.<lang>.jsonl[.gz], qrels/<split>.tsv; or ir_datasets:ID,
    NAME:FOLDER, NAME/LANG:FOLDER (docs/collections.md). Or pictures with captions (docs/images.md)."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: its student asks, its teacher encodes the documents; a teacher's training does both itself."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """Any model instead, on both sides; nothing is written but --out."""
    compare: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN RUN")] = ()
    """Two runs instead: paired tests over queries. What was not evaluated yet is evaluated first."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP")] = "last"
    """Which checkpoint of the run."""
    documents: Literal["auto", "teacher", "student"] = "auto"
    """Who of the run encodes the documents: its teacher, English ones, or its student, those in the language it
    learned; it must have learned documents (student.sides). auto takes the student where it learned nothing else; then
    the teacher asks, in English."""
    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")] = ()
    """Languages of the queries; none takes all that have judged queries."""
    split: str = "dev"
    """Which judgements: qrels/<split>.tsv; or which captions and pictures."""
    against: Literal["auto", "pictures", "captions"] = "auto"
    """What captions are ranked against: the set's pictures; or, text alone, the English captions of the same pictures.
    auto takes the pictures, where the set has them."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """The pair of towers (folder, hub name or run) whose image tower encodes pictures; empty takes the run's own."""
    translations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG=FILE [LANG=FILE ...]")] = ()
    """The queries in English, by any system, as baselines: JSONL (_id, text) or TSV (id, text)."""
    scoring: Literal["auto", "maxsim", "pooled"] = "auto"
    """maxsim: late interaction; pooled: the cosine of mean vectors. auto takes maxsim, but for pictures what their pair
    of towers was trained by."""
    pooling: Literal["default", "none", "auto", "mean", "cls"] = "default"
    """Of --model: none takes a vector a token whatever the model's files say, auto does as they say. default is none
    for texts and auto for pictures."""
    batch_size: int = 64
    """Pictures, or texts of 32 tokens (on accelerators of 512, a device) that are encoded at a time; of longer ones
    fewer."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write the figures (or the comparison) there, as JSON."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


def check(command: EvalCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    given = [name for name in ("run", "model", "compare") if getattr(command, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'none'} of --run, --model, --compare given; give exactly one")
    if command.compare and len(command.compare) != 2:
        raise ConfigError(f"compare={' '.join(command.compare)} has {len(command.compare)} runs; give two")
    if not re.fullmatch(r"last|best|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best or a step number")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; a model has none")
    if command.model and command.documents != "auto":
        raise ConfigError(f"documents={command.documents} belongs to --run; a model encodes both sides")
    if command.batch_size < 1:
        raise ConfigError(f"batch_size={command.batch_size} is not valid; use at least 1")
    if command.compare and command.translations:
        raise ConfigError(f"translations={command.translations[0]} belongs to --run or --model, not to --compare")
    if command.pictures_by and command.against == "captions":
        raise ConfigError(
            f"pictures_by={command.pictures_by}: with --against captions no picture is read; leave it out"
        )
    parse_translations(command.translations)
    if command.out and Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")


TRANSLATION = re.compile(r"(?P<language>[A-Za-z_-]+)=(?P<path>.+)")


def parse_translations(entries: Sequence[str]) -> dict[str, Path]:
    """Language -> file, from LANG=FILE.

    Raises:
      ConfigError: an entry is not of that form, or a language is named twice.
    """
    found: dict[str, Path] = {}
    for entry in entries:
        match = TRANSLATION.fullmatch(entry)
        if not match:
            raise ConfigError(f"translations={entry} names no language or no file; write LANG=FILE")
        if match["language"] in found:
            raise ConfigError(f"translations names {match['language']} twice; name each language once")
        found[match["language"]] = Path(match["path"])
    return found


@dataclass(frozen=True)
class PhrasesCommand:
    """Rank the boxes of a picture for each phrase of its captions: is a right one among the first 1, 5, 10?

    On Flickr30k Entities. A box is the mean of the patches that it covers; one is right if it covers what the phrase
    means, intersection over union 0.5 or more. This is not image retrieval, and its metrics cannot be compared with it:
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
