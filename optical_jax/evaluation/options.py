"""Command-line flags of eval.py and of the phrase grounding evaluation, and their validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from optical_jax.config.vocabulary import MAX_UNKNOWN, MaxUnknown, check_max_unknown
from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class EvalCommand:
    """Evaluate the retrieval of a run's student (or any model) on a collection, and compare it with baselines.

    The collection has texts, or images with captions (retrieval in both directions). A run's results go to
    RUN/eval/<collection>-<split>/: metrics.json, run.<lang>.trec, per_query.jsonl; for images also gallery.html.
    """

    collection: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """Folder in BEIR format: corpus.jsonl[.gz], queries.<lang>.jsonl[.gz], qrels/<split>.tsv; or ir_datasets:ID,
    NAME:FOLDER, NAME/LANG:FOLDER (docs/collections.md). Or images with captions (docs/images.md)."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: its student encodes queries, its teacher documents; a trained teacher encodes both."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """A model to evaluate instead; it encodes queries and documents. Nothing is written but --out."""
    compare: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN RUN")] = ()
    """Two runs to compare by paired tests over queries; runs not evaluated yet are evaluated first."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP")] = "last"
    """Checkpoint of the run."""
    documents: Literal["auto", "teacher", "student"] = "auto"
    """Model of the run that encodes documents: the teacher (English documents) or the student (documents in its
    language; student.sides must include documents). auto uses the student if it was trained on documents only; then the
    teacher encodes English queries."""
    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")] = ()
    """Languages of the queries; default: all with judged queries."""
    split: str = "dev"
    """Split: relevance judgements qrels/<split>.tsv, or captions and images of that split."""
    against: Literal["auto", "pictures", "captions"] = "auto"
    """What captions retrieve: the images of the set, or (text only) the English captions of the same images. auto
    uses the images if the set has them."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """Dual encoder (folder, hub name or run) whose image tower encodes images; default: the run's own."""
    translations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG=FILE [LANG=FILE ...]")] = ()
    """English translations of the queries, for the baselines: JSONL (_id, text) or TSV (id, text)."""
    scoring: Literal["auto", "maxsim", "pooled"] = "auto"
    """maxsim: late interaction; pooled: cosine similarity of mean vectors. auto uses maxsim, and for images the
    scoring that the dual encoder was trained with."""
    pooling: Literal["default", "none", "auto", "mean", "cls"] = "default"
    """Pooling of --model: none keeps one vector per token whatever the model's files say, auto follows the files.
    default is none for texts and auto for images."""
    batch_size: int = 64
    """Images, or texts of 32 tokens (on accelerators 512, per device), encoded at a time; longer texts go in
    smaller batches."""
    max_bad_lines: int = 0
    """Largest number of bad lines of a text collection to leave out: broken ones, documents and queries without text or
    with an id that has another text before, judgements with another grade before or of missing documents. Exact repeats
    are left out in any case."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write the metrics (or the comparison) to this file, as JSON."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the Hugging Face Hub; default: HF_HOME."""


def check(command: EvalCommand) -> None:
    """Validate flags and their combinations before anything is read.

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
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; leave it out with --model")
    if command.model and command.documents != "auto":
        raise ConfigError(
            f"documents={command.documents} applies to --run only; a model encodes both sides, so leave it out"
        )
    if command.batch_size < 1:
        raise ConfigError(f"batch_size={command.batch_size} is not valid; use at least 1")
    if command.max_bad_lines < 0:
        raise ConfigError(f"max_bad_lines={command.max_bad_lines} is not valid; use 0 or more")
    if command.compare and command.translations:
        raise ConfigError(
            f"translations={command.translations[0]} belongs to --run or --model; leave it out with --compare"
        )
    if command.pictures_by and command.against == "captions":
        raise ConfigError(
            f"pictures_by={command.pictures_by}: no image is encoded with --against captions; leave it out"
        )
    check_max_unknown(command.max_unknown)
    parse_translations(command.translations)
    if command.out and Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")


TRANSLATION = re.compile(r"(?P<language>[A-Za-z_-]+)=(?P<path>.+)")


def parse_translations(entries: Sequence[str]) -> dict[str, Path]:
    """Parse LANG=FILE entries into language -> path.

    Raises:
      ConfigError: an entry is not LANG=FILE, or a language occurs twice.
    """
    found: dict[str, Path] = {}
    for entry in entries:
        match = TRANSLATION.fullmatch(entry)
        if not match:
            raise ConfigError(f"translations={entry} is not valid; use LANG=FILE")
        if match["language"] in found:
            raise ConfigError(f"translations names {match['language']} twice; name each language once")
        found[match["language"]] = Path(match["path"])
    return found


@dataclass(frozen=True)
class PhrasesCommand:
    """Phrase grounding on Flickr30k Entities: rank the boxes of an image for each phrase; Recall@1, 5 and 10.

    A box is encoded as the mean of the patches it covers, and is correct if its intersection over union with the
    phrase's box is at least 0.5. The metrics are not comparable with image retrieval. RUN/phrases/<set>-<split>/ has
    metrics.json and per_phrase.jsonl.
    """

    images: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """Flickr30k Entities with its images: flickr30k_entities:FOLDER, or the folder (docs/images.md)."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder of a student or an image-text teacher; the phrases are English."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """A dual encoder to evaluate instead; nothing is written but --out."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP")] = "last"
    """Checkpoint of the run."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """Dual encoder (folder, hub name or run) whose image tower encodes images; default: the run's own."""
    split: str = "val"
    """Split of the images: train, val or test."""
    boxes: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Candidate boxes, JSONL: _id of the image, boxes [[left, top, right, bottom], ...] in pixels; default: the
    annotated boxes of all phrases of the image."""
    batch_size: int = 32
    """Images encoded at a time."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write the metrics to this file, as JSON."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the Hugging Face Hub; default: HF_HOME."""
