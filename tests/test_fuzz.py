"""Damaged and hostile files for every reader: read, or refused by an error that names the file; no traceback, no crash,
no hang, and nothing read that is other text than the file's.

`make fuzz` tries thousands of files a reader; CI a small share, always the same.
"""

import contextlib
import gzip
import html
import io
import json
import os
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optical_jax.alignment.gold_links import read_gold
from optical_jax.config import DataConfig
from optical_jax.config.teacher import RankingDataConfig
from optical_jax.data.collections.collection import read_texts
from optical_jax.data.collections.rankings import load_rankings, read_id_texts
from optical_jax.data.collections.sources import read_source
from optical_jax.data.files.records import BadLines
from optical_jax.data.images.captions import read_keywords
from optical_jax.data.images.proposals import read_proposals
from optical_jax.data.images.sources import read_flickr_entities, read_image_set
from optical_jax.data.rgb import read_rgb
from optical_jax.data.text.bitext import read_bitext
from optical_jax.data.text.code_switch import read_lexicon
from optical_jax.errors import OpticalError
from optical_jax.files import text_fault
from optical_jax.index.texts import read_documents
from tests.helpers import image_folders, source_folders
from tests.helpers.image_folders import encoded
from tests.helpers.source_folders import jsonl

EXAMPLES = int(os.environ.get("OPTICAL_FUZZ", "0"))
"""Files a reader; 0 for the share of CI."""
SECONDS = 5
"""Longest time for a file."""

PAIRS = [("The rain falls", "Mvua inanyesha"), ("The child sleeps", "Mtoto analala"), ("Water", "Maji")]
TSV = "".join(f"{a}\t{b}\t0.5\n" for a, b in PAIRS)
BITEXT = DataConfig(max_bad_lines=2, checks="warn", dev_pairs=0)


class Reader(NamedTuple):
    files: dict[str, bytes]
    """Whole files, the first of which is damaged."""
    read: Callable[[Path], Iterable[str]]
    """Folder -> the texts and ids that were read."""


def pairs(entry: str, **columns: str) -> Callable[[Path], Iterable[str]]:
    def read(folder: Path) -> Iterable[str]:
        cfg = DataConfig(**vars(BITEXT) | columns | {"bitext": (entry.format(folder),)})
        return [text for one in read_bitext(cfg).values() for text in (*one.english, *one.foreign)]

    return read


def collection(spec: str, split: str, languages: list[str]) -> Callable[[Path], Iterable[str]]:
    def read(folder: Path) -> Iterable[str]:
        found = read_source(spec.format(folder), split, languages)
        queries = [text for of_language in found.queries.values() for one in of_language.items() for text in one]
        return [text for one in found.documents.items() for text in one] + queries

    return read


def captions(spec: str, split: str) -> Callable[[Path], Iterable[str]]:
    def read(folder: Path) -> Iterable[str]:
        found = read_image_set(spec.format(folder), split, text_only=True)
        return [text for of_language in found.captions.values() for one in of_language.values() for text in one]

    return read


def rankings(name: str, **more: str) -> Callable[[Path], Iterable[str]]:
    def read(folder: Path) -> Iterable[str]:
        cfg = RankingDataConfig(train=(str(folder / name),), **{key: str(folder / file) for key, file in more.items()})
        found = load_rankings(cfg)
        return [*found.queries, *found.passages]

    return read


def gold(folder: Path) -> Iterable[str]:
    links = read_gold(folder / "gold", [(3, 3), (2, 2), (1, 2)])
    assert all(one is None or not (one.sure & ~one.possible).any() for one in links)
    return []


def flickr_regions(folder: Path) -> Iterable[str]:
    found = read_flickr_entities(f"flickr30k_entities:{folder}", "val", text_only=True)
    return [phrase.text for phrases in found.phrases.values() for phrase in phrases]


def proposals(folder: Path) -> Iterable[str]:
    found = read_proposals(folder / "boxes.jsonl")
    assert all(np.isfinite(boxes).all() for boxes in found.values())
    return found


def image(folder: Path) -> Iterable[str]:
    pixels = read_rgb(folder / "image")
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    return []


def named(name: str, text: str, **others: str) -> dict[str, bytes]:
    return {name: text.encode(), **{other: found.encode() for other, found in others.items()}}


RANKED = jsonl({"query": "who sleeps", "positive": "The child sleeps.", "negatives": ["Rain falls."]})
LISTED = jsonl({"query_id": "q1", "document_ids": ["d1", "d2"], "scores": [1.5, 0.5]})
BEIR = {
    "corpus.jsonl": jsonl({"_id": "d1", "title": "Rain", "text": "It falls."}, {"_id": "d2", "text": "Cats sleep."}),
    "queries.sw.jsonl": jsonl({"_id": "q1", "text": "Mvua?"}, {"_id": "q2", "text": "Paka?"}),
    "qrels/dev.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n",
}
BEIR_BYTES = {name: text.encode() for name, text in BEIR.items()}
PASSAGES = {"passages.tsv": b"d1\tThe child sleeps.\nd2\tRain falls.\n", "queries.tsv": b"q1\twho sleeps\n"}

TMX = (
    '<?xml version="1.0"?><tmx version="1.4"><body>'
    + "".join(
        f'<tu><tuv xml:lang="en"><seg>{a}</seg></tuv><tuv xml:lang="sw"><seg>{b}</seg></tuv></tu>\n' for a, b in PAIRS
    )
    + "</body></tmx>"
)
XLIFF = (
    '<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">'
    '<file original="a" source-language="en" target-language="sw" datatype="plaintext"><body>'
    + "".join(
        f'<trans-unit id="{n}"><source>{a}</source><target>{b}</target></trans-unit>\n'
        for n, (a, b) in enumerate(PAIRS)
    )
    + "</body></file></xliff>"
)
PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nLanguage: sw\\n"\n\n' + "".join(
    f'msgid "{a}"\nmsgstr "{b}"\n\n' for a, b in PAIRS
)


def workbook() -> bytes:
    from openpyxl import Workbook

    book, file = Workbook(), io.BytesIO()
    for pair in PAIRS:
        book.active.append(pair)
    book.save(file)
    return file.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"en": [a for a, _ in PAIRS], "sw": [b for _, b in PAIRS]}), file)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for side, name in enumerate(("a.en-sw.en", "a.en-sw.sw")):
            written.writestr(name, "".join(f"{pair[side]}\n" for pair in PAIRS))
    return file.getvalue()


READERS = {
    "csv": Reader(named("a.csv", "en,sw\n" + "".join(f'"{a}","{b}"\n' for a, b in PAIRS)), pairs("sw={}/a.csv")),
    "semicolons": Reader(named("a.csv", "".join(f"{a};{b}\n" for a, b in PAIRS)), pairs("sw={}/a.csv")),
    "utf-16": Reader({"a.tsv": TSV.encode("utf-16")}, pairs("sw={}/a.tsv")),
    "windows-1252": Reader(named("a.tsv", TSV), pairs("sw={}/a.tsv", encoding="windows-1252")),
    "json": Reader(named("a.json", json.dumps([{"en": a, "sw": b} for a, b in PAIRS])), pairs("sw={}/a.json")),
    "xlsx": Reader({"a.xlsx": workbook()}, pairs("sw={}/a.xlsx")),
    "parquet": Reader({"a.parquet": parquet()}, pairs("sw={}/a.parquet")),
    "tmx": Reader(named("a.tmx", TMX), pairs("sw={}/a.tmx")),
    "xliff": Reader(named("a.xlf", XLIFF), pairs("sw={}/a.xlf")),
    "po": Reader(named("a.po", PO), pairs("sw={}/a.po")),
    "zip": Reader({"a.zip": archive()}, pairs("sw={}/a.zip")),
    "tsv": Reader(named("a.tsv", TSV), pairs("sw={}/a.tsv", score_column="2")),
    "tsv.gz": Reader({"a.tsv.gz": gzip.compress(TSV.encode())}, pairs("sw={}/a.tsv.gz")),
    "jsonl": Reader(named("a.jsonl", jsonl(*({"en": a, "sw": b} for a, b in PAIRS))), pairs("sw={}/a.jsonl")),
    "moses": Reader(
        named("a.en", "".join(f"{a}\n" for a, _ in PAIRS), **{"a.sw": "".join(f"{b}\n" for _, b in PAIRS)}),
        pairs("sw={0}/a.en,{0}/a.sw"),
    ),
    "keywords": Reader(
        named(
            "captions.sw.train.jsonl",
            jsonl({"_id": "a", "text": "Waridi", "keywords": ["ua", "jekundu"]}),
            **{"captions.en.train.jsonl": jsonl({"_id": "a", "text": "A rose", "keywords": ["flower", "red"]})},
        ),
        lambda folder: [
            caption.text
            for of_language in read_keywords(folder, "train").captions.values()
            for caption in of_language.values()
        ],
    ),
    "lexicon": Reader(
        named("lexicon.tsv", "mvua\train\t0.5\t3\nmaji\twater\n"),
        lambda folder: [entry.english for entry in read_lexicon(folder / "lexicon.tsv").values()],
    ),
    "documents": Reader(
        named("documents.txt", "The rain falls\n\nThe child sleeps\n"),
        lambda folder: read_documents(folder / "documents.txt").values(),
    ),
    "pharaoh": Reader(named("gold", "0-0 1-1 2?2\n0-0 1-1\n\n"), gold),
    "naacl": Reader(named("gold", "1 1 1 S\n1 2 2 P\n2 1 1\n"), gold),
    "triples": Reader(named("a.tsv", "who sleeps\tThe child\tRain\n"), rankings("a.tsv")),
    "lists": Reader(named("a.jsonl", RANKED), rankings("a.jsonl")),
    "lists of ids": Reader(
        {"a.jsonl": LISTED.encode(), **PASSAGES}, rankings("a.jsonl", collection="passages.tsv", queries="queries.tsv")
    ),
    "qrels to train on": Reader(
        {"a.tsv": b"q1 0 d1 1\n".replace(b" ", b"\t"), **PASSAGES},
        rankings("a.tsv", collection="passages.tsv", queries="queries.tsv"),
    ),
    "passages": Reader(
        PASSAGES,
        lambda folder: [text for one in read_id_texts(folder / "passages.tsv", "passage", BadLines()) for text in one],
    ),
    "texts": Reader(
        BEIR_BYTES, lambda folder: [text for one in read_texts(folder / "corpus.jsonl", "document") for text in one]
    ),
    "queries": Reader(
        {name: BEIR_BYTES[name] for name in ("queries.sw.jsonl", "corpus.jsonl", "qrels/dev.tsv")},
        collection("{}", "dev", ["sw"]),
    ),
    "qrels": Reader(
        {name: BEIR_BYTES[name] for name in ("qrels/dev.tsv", "corpus.jsonl", "queries.sw.jsonl")},
        collection("{}", "dev", ["sw"]),
    ),
    "corpus": Reader(BEIR_BYTES, collection("{}", "dev", ["sw"])),
    "proposals": Reader(named("boxes.jsonl", jsonl({"_id": "a", "boxes": [[0, 0, 4, 5], [1, 2, 3.5, 4]]})), proposals),
    "phrases": Reader({name: text.encode() for name, text in image_folders.ENTITIES.items()}, flickr_regions),
    "boxes": Reader(
        {"Annotations/36979.xml": image_folders.ENTITIES["Annotations/36979.xml"].encode()}
        | {name: text.encode() for name, text in image_folders.ENTITIES.items() if "36979.xml" not in name},
        flickr_regions,
    ),
    "png": Reader({"image": encoded((9, 200, 3))}, image),
    "jpeg": Reader({"image": encoded((9, 200, 3), form="JPEG")}, image),
    "gif": Reader({"image": encoded((9, 200, 3), form="GIF")}, image),
    "webp": Reader({"image": encoded((9, 200, 3), form="WEBP")}, image),
    "bmp": Reader({"image": encoded((9, 200, 3), form="BMP")}, image),
    "tiff": Reader({"image": encoded((9, 200, 3), form="TIFF")}, image),
}


def of_layouts() -> Iterator[tuple[str, Reader]]:
    """A reader for each file of each public layout."""
    for spec, split, languages, files, _ in source_folders.CASES:
        for n, first in enumerate(files):
            read = collection(spec, split, languages)
            yield f"{spec.format('')}{split} {first} {n}", Reader(packed({first: files[first]} | files), read)
    for name, split, texts, *_ in image_folders.CASES:
        for n, first in enumerate(texts):
            yield (
                f"{name} {split} {first} {n}",
                Reader(packed({first: texts[first]} | texts), captions(f"{name}:{{}}", split)),
            )


def packed(files: dict[str, str]) -> dict[str, bytes]:
    return {
        name: gzip.compress(text.encode()) if name.endswith(".gz") else text.encode() for name, text in files.items()
    }


READERS |= dict(of_layouts())

ODD = (
    *(bytes([n]) for n in b"\r\n\t\0 \"',;{[]}:\\#%$~\xff\xc3"),
    *(c.encode() for c in "\u00a0\u2028\u0085\u200b\u200d\u00ad\ufeff\u202e\u3000\ufffd\u0301\u00e9\U0001f600"),
    *(b"\r\n", b"\xed\xa0\x80", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b"%PDF-", b"<html>", b"../x"),
    *(
        rb"\ud83d",
        rb"\u0000",
        rb"\udc00",
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"-2",
        b"1e999",
        b"0.1.2",
        b"9" * 5000,
    ),
    *(b"[" * 5000, b'{"a":' * 3000, b"2147483648", b"9223372036854775808", b"-9223372036854775809"),
)
"""Bytes that have broken readers of some program."""


@st.composite
def damaged_bytes(draw, whole: bytes) -> bytes:
    """The file with a few bytes cut, doubled, replaced or put in; or other bytes altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
    plain = gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" and draw(st.booleans()) else None
    data = bytearray(whole if plain is None else plain)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        what = draw(st.sampled_from(["put", "cut", "double", "replace"]))
        odd = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=4)))
        if what == "put":
            data[start:start] = odd
        elif what == "cut":
            del data[start:end]
        elif what == "double":
            data[start:start] = data[start:end]
        else:
            data[start:end] = odd
    return bytes(data) if plain is None else gzip.compress(bytes(data))


AS_THEY_STAND = (
    *("tsv", "tsv.gz", "csv", "semicolons", "utf-16", "windows-1252", "json", "jsonl", "moses", "tmx", "xliff"),
    *("lexicon", "documents", "triples", "lists", "passages", "texts", "queries", "corpus"),
)
"""Readers whose words must all stand in the file."""


def contents(files: Iterable[bytes]) -> str:
    """Everything that files of text can be read as, in NFC: in several encodings, quotes and escapes resolved."""
    found = []
    for data in files:
        with contextlib.suppress(OSError, EOFError, zlib.error):
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        text, *others = (data.decode(encoding, "ignore") for encoding in ("utf-8", "utf-16", "utf-32", "windows-1252"))
        found += [text, *others, text.replace('""', '"'), html.unescape(text)]
        for value in (text, *re.split("[\r\n]+", text)):
            with contextlib.suppress(ValueError, RecursionError):
                found += strings_in(json.loads(value.lstrip("\ufeff")))
    return unicodedata.normalize("NFC", "\n".join(found))


def strings_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return strings_in([*value, *value.values()])
    return [text for one in value for text in strings_in(one)] if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize("name", READERS)
def test_files_are_read_or_refused(tmp_path_factory, name):
    reader = READERS[name]
    folder = tmp_path_factory.mktemp("fuzz")
    for file, whole in reader.files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    damaged, whole = next(iter(reader.files.items()))
    list(reader.read(folder))  # whole it can be read

    @settings(
        max_examples=EXAMPLES or 25,
        derandomize=not EXAMPLES,
        deadline=SECONDS * 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged_bytes(whole))
    def tried(data):
        (folder / damaged).write_bytes(data)
        try:
            texts = list(reader.read(folder))
        except OpticalError:
            return
        own = contents([data, *list(reader.files.values())[1:]]) if name in AS_THEY_STAND else ""
        for text in texts:
            assert not text_fault(text)
            assert not own or all(part in own for part in text.split())

    tried()
