"""`python -m optical_jax search`: lines of a text file, or pictures, for queries in the language learned."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from optical_jax.commands import search_pictures
from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.commands.terminal import make_show
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json, trains_teacher

if TYPE_CHECKING:
    from optical_jax.retrieval.dictionary import Lexicon
    from optical_jax.retrieval.document_vectors import DocumentVectors
    from optical_jax.retrieval.search import Encode, Ranking
    from optical_jax.towers.tower import Tower


@dataclass(frozen=True)
class SearchCommand:
    """Rank the lines of a text file, or pictures, for one query or several, exactly, by MaxSim.

    python -m optical_jax search --run runs/swahili --docs notes.txt "mvua itanyesha lini?"
    python -m optical_jax search --run runs/pictures --images photos "paka mweusi"
    """

    docs: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Text file, plain or .gz, UTF-8: a document a line; blank lines are passed over."""
    images: Annotated[str, tyro.conf.arg(metavar="SOURCE")] = ""
    """Pictures instead: a folder of them, a tar archive or an npz file; or a set of them with captions
    (docs/images.md). Those found are drawn on a sheet."""
    queries: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="QUERY")] = ()
    """What to look for; a query of several words in quotes."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: its student asks, its teacher encodes the lines."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """Any model instead, on both sides; of pictures a pair of towers."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Which checkpoint of the run's student."""
    documents: Literal["auto", "teacher", "student"] = "auto"
    """Who of the run encodes the lines: its teacher, English ones, or its student, those in the language it learned; it
    must have learned documents (student.sides). auto takes the student where it learned nothing else; then queries are
    English."""
    dictionary: Annotated[str, tyro.conf.arg(metavar="LANG")] = ""
    """The language of the queries, to look their words up as well, in a dictionary counted in the run's pairs; both
    rankings are joined by places (score: sum of 1 / (60 + place)). It finds more where pairs are few."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """The pair of towers (folder, hub name or run) whose image tower encodes --images; empty takes the run's own."""
    split: str = "dev"
    """Of --images that are a set: which pictures."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The sheet of --images, a PNG; empty writes RUN/search/<queries>.png, and none with --json."""
    top: int = 10
    """Lines or pictures shown a query."""
    vectors: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder that keeps the encoded lines, in bfloat16: written if it is not there, read from disk if it is. A large
    file is then encoded once, and needs no memory."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One JSON object a line instead of tables: query, rank, score, and line and text, or picture and file."""
    batch_size: int = 64
    """Pictures, or texts of 32 tokens (on accelerators of 512, a device) that are encoded at a time; of longer ones
    fewer."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


@dataclass(frozen=True)
class Hit:
    query: str
    rank: int
    score: float
    line: int
    """Number of the line in the file, from 1."""
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = 'python -m optical_jax search --run runs/tiny --docs configs/tiny/documents.txt "Mwalimu ananunua maji"'


def parse(argv: Sequence[str]) -> SearchCommand:
    """Read the flags; tyro itself answers --help (exit 0) and unknown ones (exit 2)."""
    refuse_no_flags(argv, "name a run, a text file or pictures, and a query", EXAMPLE)
    command = tyro.cli(SearchCommand, args=list(argv), prog="python -m optical_jax search")
    check(command)
    return command


def run_command(argv: Sequence[str]) -> None:
    command = parse(argv)
    if command.images:
        search_pictures.run(command)
        return
    lines = read_documents(Path(command.docs))
    queries, documents = load_towers(command)
    found = find(command, queries, documents, lines, read_lexicon(command))
    if command.json:
        for hit in itertools.chain(*found):
            print(json.dumps(vars(hit), ensure_ascii=False))
    else:
        print_hits(command.queries, found)
    # A reader that has had enough (head) is told of here, where main can answer.
    sys.stdout.flush()


def check(command: SearchCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    given = [name for name in ("run", "model") if getattr(command, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'none'} of --run, --model given; give exactly one")
    sources = [name for name in ("docs", "images") if getattr(command, name)]
    if len(sources) != 1:
        raise ConfigError(f"{' and '.join(sources) or 'none'} of --docs, --images given; give exactly one")
    if not command.queries:
        raise ConfigError('no query given; write it behind the flags, in quotes: search ... "mvua itanyesha lini?"')
    for n, query in enumerate(command.queries, start=1):
        if not query.strip():
            raise ConfigError(f"query {n} is empty; give at least one character")
        if any(unicodedata.category(c) == "Cs" for c in query):
            raise ConfigError(f"query {n} is not UTF-8; set a UTF-8 locale, or write it anew")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is none; give last, best, untrained or a step")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; a model has none")
    if command.model and command.documents != "auto":
        raise ConfigError(f"documents={command.documents} belongs to --run; a model encodes both sides")
    if command.dictionary and (command.model or command.documents == "student"):
        other = f"model={command.model}" if command.model else "documents=student"
        raise ConfigError(
            f"dictionary={command.dictionary} is counted in a run's pairs and finds English words, which {other} has "
            "not; leave one of them out"
        )
    if command.images:
        search_pictures.check(command)
    elif given := [name for name in ("pictures_by", "out") if getattr(command, name)]:
        raise ConfigError(f"{given[0]}={getattr(command, given[0])} is for --images; leave it out")
    for name in ("top", "batch_size"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is impossible; give at least 1")


def read_documents(path: Path) -> dict[int, str]:
    """Line number -> text of every line that is not blank.

    Raises:
      DataError: no such file, nothing in it, or a line that is not UTF-8: file, line, what.
    """
    from optical_jax.data.files.records import raw_lines

    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is no file that can be read twice"
        raise DataError(f"{path}: {what if path.exists() else 'no such file'}; name a text file with --docs")
    lines = {}
    for number, text, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}; save the file as UTF-8")
        if text.strip():
            lines[number] = text
    if not lines:
        raise DataError(f"{path}: every line is blank; give a document a line")
    return lines


def load_towers(command: SearchCommand) -> tuple[Tower, Tower]:
    """Who encodes queries, and who documents.

    Raises:
      ConfigError: no such run, checkpoint or model.
    """
    from optical_jax.runs.load import is_run, load, towers_of_run

    cache_dir = command.cache_dir or None
    if command.run:
        if not is_run(Path(command.run)):
            raise ConfigError(f"run={command.run} is no run folder; name a folder that train.py wrote, or give --model")
        return towers_of_run(Path(command.run), command.checkpoint, command.documents, cache_dir)
    if is_run(Path(command.model)):
        raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
    tower = load(command.model, cache_dir=cache_dir)
    return tower, replace(tower, side="document")


def read_lexicon(command: SearchCommand) -> Lexicon | None:
    """The dictionary asked for, from the bitext that the run learned from.

    Raises:
      ConfigError: the run learned from no bitext, or none of this language.
      DataError: its bitext is gone or broken.
    """
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.retrieval.dictionary import count_lexicon
    from optical_jax.runs.bitext import saved_data

    if not command.dictionary:
        return None
    if trains_teacher(Path(command.run)):
        raise ConfigError(f"dictionary={command.dictionary}: {command.run} learned from no bitext; leave it out")
    train = load_bitext(saved_data(read_json(Path(command.run) / "config.json"))).train
    if command.dictionary not in train:
        raise ConfigError(
            f"dictionary={command.dictionary}: {command.run} learned {', '.join(train)}; give one of them"
        )
    pairs = train[command.dictionary]
    print(f"counting a dictionary in {len(pairs):,} {command.dictionary} pairs", file=sys.stderr, flush=True)
    return count_lexicon(pairs.english, pairs.foreign)


def find(
    command: SearchCommand, queries: Tower, documents: Tower, lines: dict[int, str], lexicon: Lexicon | None = None
) -> list[list[Hit]]:
    """The best lines of every query, in the order of the queries; with a lexicon also by its words."""
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.dictionary import make_dictionary_bm25
    from optical_jax.retrieval.fusion import reciprocal_rank_fusion
    from optical_jax.retrieval.search import DEPTH, encode_blocks, rank, search

    # Ties go by id, descending: counted backwards, the earlier of two equal lines stands first.
    width = len(str(max(lines)))
    by_id = {f"{max(lines) - number:0{width}}": text for number, text in lines.items()}
    depth = max(command.top, DEPTH) if lexicon else command.top
    with over_all_devices():
        with ProgressReport("encoding queries", len(command.queries), "texts") as progress:
            asked = {
                "": list(encode_blocks(command.queries, make_encode(queries, command.batch_size), progress.advance))
            }
        encode = make_encode(documents, command.batch_size)
        if command.vectors:
            stored = keep_vectors(Path(command.vectors), by_id, documents, encode)
            found, ids = rank(asked, stored.ids, stored.blocks(), depth=depth), stored.ids
        else:
            with ProgressReport("encoding and ranking lines", len(lines), "lines") as progress:
                found = search(asked, by_id, encode, depth=depth, advance=progress.advance)
            ids = list(by_id)
    best = found[""]
    if lexicon:
        by_words = make_dictionary_bm25(by_id)(command.queries, lexicon)
        best = reciprocal_rank_fusion([best, by_words], ids, command.top)
    return hits_of(best, command.queries, [max(lines) - int(name) for name in ids], lines)


def keep_vectors(folder: Path, documents: dict[str, str], tower: Tower, encode: Encode) -> DocumentVectors:
    """The vectors of these documents (id -> text) from a folder, encoded and written there first if they are not.

    Raises:
      ConfigError: the folder holds other documents' vectors, another model's, or something else.
    """
    from optical_jax.config import identity
    from optical_jax.params import fingerprint
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.document_vectors import ABOUT, DocumentVectors, is_file_of_ours, write_document_vectors
    from optical_jax.retrieval.search import encode_blocks

    if folder.exists() and not (folder.is_dir() and all(map(is_file_of_ours, folder.iterdir()))):
        raise ConfigError(f"vectors={folder} holds something else; name a folder that is empty or not there yet")
    about = {
        "documents_sha256": hashlib.sha256(json.dumps(documents).encode()).hexdigest(),
        "params_sha256": fingerprint(tower.params),
        "tokenizer_sha256": hashlib.sha256(tower.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        # As JSON gives it back.
        "tower": json.loads(json.dumps(identity(tower.cfg))),
    }
    if not (folder / ABOUT).is_file():
        with ProgressReport("encoding lines", len(documents), "lines") as progress:
            blocks = encode_blocks(list(documents.values()), encode, progress.advance)
            return write_document_vectors(folder, list(documents), blocks, tower.cfg.vector_width, about)
    stored = DocumentVectors(folder)
    for name in about:
        if stored.about.get(name) != about[name]:
            what = "another text file" if name == "documents_sha256" else "another model"
            raise ConfigError(f"vectors={folder} are of {what}; name another folder, or delete this one")
    return stored


def make_encode(tower: Tower, batch_size: int) -> Encode:
    from optical_jax.towers.tower import encode, placed

    there = placed(tower)
    return lambda texts: encode(there, texts, batch_size)


def hits_of(ranking: Ranking, queries: Sequence[str], numbers: Sequence[int], lines: dict[int, str]) -> list[list[Hit]]:
    """What was found, `numbers` being the line of every position in the ranking."""
    return [
        [
            Hit(query, rank, score, numbers[n], lines[numbers[n]])
            for rank, (n, score) in enumerate(zip(found, scores, strict=True), start=1)
            if n >= 0
        ]
        for query, found, scores in zip(queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True)
    ]


def print_hits(queries: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
    """A table a query. On a terminal a row is a line: long texts end in an ellipsis; elsewhere they are whole."""
    every = list(itertools.chain(*found))
    line_width = max([len("line"), *(len(str(hit.line)) for hit in every)])
    score_width = max([len("score"), *(len(f"{hit.score:.3f}") for hit in every)])
    head = f"rank {'score':>{score_width}} {'line':>{line_width}}  text"
    show = make_show(len(head))
    for n, (query, hits) in enumerate(zip(queries, found, strict=True)):
        if len(queries) > 1:
            if n:
                show("", False)
            show(query, True)
        show(head, True)
        for hit in hits:
            show(f"{hit.rank:>4} {hit.score:>{score_width}.3f} {hit.line:>{line_width}}  {hit.text}", False)
