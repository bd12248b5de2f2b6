"""Late-interaction search in the lines of a text file, with optional dictionary fusion and stored vectors."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json, trains_teacher
from optical_jax.index.options import SearchCommand

if TYPE_CHECKING:
    from optical_jax.retrieval.dictionary import Lexicon
    from optical_jax.retrieval.document_vectors import DocumentVectors
    from optical_jax.retrieval.search import Ranking
    from optical_jax.towers.texts import Counter
    from optical_jax.towers.tower import Tower


@dataclass(frozen=True)
class Hit:
    query: str
    rank: int
    score: float
    line: int
    """Line number in the file, from 1."""
    text: str


def read_documents(path: Path) -> dict[int, str]:
    """Read the documents of a text file: line number -> text of every line that is not blank.

    Raises:
      DataError: no such file, no text in it, or a line that is not UTF-8 (the message has file and line).
    """
    from optical_jax.data.characters import is_blank
    from optical_jax.data.files.lines import raw_lines

    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is not a regular file"
        raise DataError(f"{path}: {what if path.exists() else 'no such file'}; name a text file with --docs")
    lines = {}
    for number, text, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}; save the file as UTF-8")
        if not is_blank(text):
            lines[number] = text
    if not lines:
        raise DataError(f"{path}: every line is blank; give one document per line")
    return lines


def load_towers(command: SearchCommand) -> tuple[Tower, Tower]:
    """Load the query encoder and the document encoder.

    Raises:
      ConfigError: no such run, checkpoint or model.
    """
    from optical_jax.runs.finding import OR_A_MODEL, check_run, is_run
    from optical_jax.runs.load import load, towers_of_run

    cache_dir = command.cache_dir or None
    if command.run:
        check_run(command.run, OR_A_MODEL)
        return towers_of_run(Path(command.run), command.checkpoint, command.documents, cache_dir)
    if is_run(Path(command.model)):
        raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
    tower = load(command.model, cache_dir=cache_dir)
    return tower, replace(tower, side="document")


def read_lexicon(command: SearchCommand) -> Lexicon | None:
    """Count the dictionary of `--dictionary` in the run's training bitext; None without the flag.

    Raises:
      ConfigError: the run has no bitext, or none in this language.
      DataError: its bitext is missing or malformed.
    """
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.retrieval.dictionary import count_lexicon
    from optical_jax.runs.bitext import saved_data

    if not command.dictionary:
        return None
    if trains_teacher(Path(command.run)):
        raise ConfigError(f"dictionary={command.dictionary}: {command.run} was not trained on bitext; leave it out")
    train = load_bitext(saved_data(read_json(Path(command.run) / "config.json"))).train
    if command.dictionary not in train:
        raise ConfigError(
            f"dictionary={command.dictionary}: {command.run} was trained on {', '.join(train)}; use one of them"
        )
    pairs = train[command.dictionary]
    print(f"counting a dictionary in {len(pairs):,} {command.dictionary} pairs", file=sys.stderr, flush=True)
    return count_lexicon(pairs.english, pairs.foreign)


def find(
    command: SearchCommand, queries: Tower, documents: Tower, lines: dict[int, str], lexicon: Lexicon | None = None
) -> list[list[Hit]]:
    """Rank lines for every query, in the order of the queries; with a lexicon fused with its BM25 ranking."""
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.dictionary import make_dictionary_bm25
    from optical_jax.retrieval.fusion import reciprocal_rank_fusion
    from optical_jax.retrieval.search import DEPTH, rank
    from optical_jax.towers.texts import Counter, check_texts, encode_texts, max_tokens, say

    check_queries(command, queries)
    check_texts(
        documents,
        list(lines.values()),
        command.docs,
        at_most=command.max_unknown,
        remedy="use a model that reads these lines (--documents student for the student's language)",
    )
    # Ties go by id, descending: with reversed numbers the earlier of two equal lines ranks first.
    width = len(str(max(lines)))
    by_id = {f"{max(lines) - number:0{width}}": text for number, text in lines.items()}
    depth = max(command.top, DEPTH) if lexicon else command.top
    with over_all_devices():
        cut_queries, cut_lines = Counter(), Counter()
        with ProgressReport("encoding queries", len(command.queries), "texts") as progress:
            size = command.batch_size
            options: dict[str, Any] = {"batch_size": size, "advance": progress.advance, "look": cut_queries}
            asked = {"": list(encode_texts(queries, command.queries, **options))}
        if command.vectors:
            stored = keep_vectors(Path(command.vectors), by_id, documents, size, cut_lines)
            best, ids = rank(asked, stored.ids, stored.blocks(), depth=depth)[""], stored.ids
        else:
            ids = list(by_id)
            with ProgressReport("encoding and ranking lines", len(lines), "lines") as progress:
                blocks = encode_texts(documents, list(by_id.values()), batch_size=size, look=cut_lines)
                best = rank(asked, ids, blocks, depth=depth, advance=progress.advance)[""]
    for counter, what, tower in ((cut_queries, "queries", queries), (cut_lines, "lines", documents)):
        for line in counter.counts.truncation(what, max_tokens(tower)):
            say(line)
    if lexicon:
        by_words = make_dictionary_bm25(by_id)(command.queries, lexicon)
        best = reciprocal_rank_fusion([best, by_words], ids, command.top)
    return hits_of(best, command.queries, [max(lines) - int(name) for name in ids], lines)


def check_queries(command: SearchCommand, tower: Tower) -> None:
    """Check that the tokenizer knows the queries, each of them in part.

    Raises:
      DataError: too many of their tokens, or all tokens of one, are unknown.
    """
    from optical_jax.towers.texts import STUDENT_REMEDY, TEACHER_REMEDY, check_texts

    own = STUDENT_REMEDY if command.run else TEACHER_REMEDY
    check_texts(tower, command.queries, "queries", at_most=command.max_unknown, remedy=own, each=True)


def keep_vectors(
    folder: Path, documents: dict[str, str], tower: Tower, batch_size: int, look: Counter | None = None
) -> DocumentVectors:
    """Document vectors (id -> text) stored in a folder; encoded and written first if the folder has none.

    Args:
      look: counts the texts that are encoded.

    Raises:
      ConfigError: the folder has vectors of other documents or of another model, or other files.
    """
    from optical_jax.config import identity
    from optical_jax.params import fingerprint
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.document_vectors import ABOUT, DocumentVectors, is_file_of_ours, write_document_vectors
    from optical_jax.towers.texts import encode_texts

    if folder.exists() and not (folder.is_dir() and all(map(is_file_of_ours, folder.iterdir()))):
        raise ConfigError(f"vectors={folder} has other files; name an empty or new folder")
    about = {
        "documents_sha256": hashlib.sha256(json.dumps(documents).encode()).hexdigest(),
        "params_sha256": fingerprint(tower.params),
        "tokenizer_sha256": hashlib.sha256(tower.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        # As read back from JSON, for the comparison.
        "tower": json.loads(json.dumps(identity(tower.cfg))),
    }
    if not (folder / ABOUT).is_file():
        with ProgressReport("encoding lines", len(documents), "lines") as progress:
            texts = list(documents.values())
            blocks = encode_texts(tower, texts, batch_size=batch_size, advance=progress.advance, look=look)
            return write_document_vectors(folder, list(documents), blocks, tower.cfg.vector_width, about)
    stored = DocumentVectors(folder)
    for name in about:
        if stored.about.get(name) != about[name]:
            what = "another text file" if name == "documents_sha256" else "another model"
            raise ConfigError(f"vectors={folder} are of {what}; name another folder, or delete this one")
    return stored


def hits_of(ranking: Ranking, queries: Sequence[str], numbers: Sequence[int], lines: dict[int, str]) -> list[list[Hit]]:
    """Convert a ranking to hits; `numbers` is the line number of every position in the ranking."""
    return [
        [
            Hit(query, rank, score, numbers[n], lines[numbers[n]])
            for rank, (n, score) in enumerate(zip(found, scores, strict=True), start=1)
            if n >= 0
        ]
        for query, found, scores in zip(queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True)
    ]
