"""Public collections, each from a tiny folder laid out as its makers lay theirs out."""

import pytest

from optical_jax.data.collections.sources import read_source
from optical_jax.errors import ConfigError, DataError
from tests.helpers.source_folders import (
    CASES,
    CIRAL,
    CLIRMATRIX,
    MARCO,
    MIRACL,
    MIRACL_CORPUS,
    MIRACL_QRELS,
    NEUCLIR,
    WIKICLIR_2018,
    XOR,
    jsonl,
    put,
)


@pytest.mark.parametrize(
    ("spec", "split", "languages", "files", "expected"), CASES, ids=[f"{case[0]} {case[1]} {case[2]}" for case in CASES]
)
def test_read_as_laid_out(tmp_path, spec, split, languages, files, expected):
    put(tmp_path, files)
    found = read_source(spec.format(tmp_path), split, languages)
    name, document_language, documents, queries, qrels, english = expected
    assert (found.name, found.split, found.document_language) == (name, split, document_language)
    assert (found.documents, found.queries, found.qrels) == (documents, queries, qrels)
    assert bool(found.english) == bool(english)
    # All that was read is known by its hash, under its name below the folder.
    assert set(found.sha256) <= set(files)
    assert len(found.sha256) >= (2 if spec.startswith(("clirmatrix", "xor")) else 3)


def test_several_roots_and_data_sets_of_the_hub(tmp_path):
    """CIRAL's passages are a data set of their own; a cache as the hub's client leaves it needs no network."""
    put(tmp_path / "passages", {name: text for name, text in CIRAL.items() if "passages" in name})
    snapshot = tmp_path / "hub" / "datasets--CIRAL--ciral" / "snapshots" / "abc"
    put(snapshot, {name: text for name, text in CIRAL.items() if "passages" not in name})
    put(snapshot.parents[1], {"refs/main": "abc"})
    spec = f"ciral/sw:{tmp_path / 'passages'},CIRAL/ciral"
    found = read_source(spec, "test-a", cache_dir=str(tmp_path / "hub"))
    assert found.qrels == {"5": {"VOA#1#0": 1}}
    assert "ciral-swahili/topics/topics.ciral-v1.0-sw-test-a.tsv" in found.sha256
    with pytest.raises(ConfigError, match=r"CIRAL/other: no such folder, and it cannot be downloaded from the Hub"):
        read_source("ciral/sw:CIRAL/other", "test-a", cache_dir=str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("spec", "split", "languages", "change", "error", "message"),
    [
        ("nothing:{}", "dev", [], {}, ConfigError, "no collection is called nothing; there are ir_datasets, africlir"),
        ("miracl:{}", "dev", [], {}, ConfigError, "name one: --lang sw"),
        ("miracl/te:{}", "dev", ["sw"], {}, ConfigError, "one collection per language"),
        (
            "miracl:{}",
            "test",
            ["sw"],
            {},
            DataError,
            r"lacks topics: no file topics.miracl-v1.0-sw-test.tsv \(or .gz\)",
        ),
        ("miracl:{}/none", "dev", ["sw"], {}, DataError, "none is not a folder"),
        (
            "miracl:{}",
            "dev",
            ["sw"],
            {MIRACL_CORPUS: jsonl({"docid": "1#0", "text": "x"})},
            DataError,
            r"docs-1.jsonl.gz:1: document '1#0' is already in line 1 of .*docs-0.jsonl.gz, with another text",
        ),
        (
            "miracl:{}",
            "dev",
            ["sw"],
            {MIRACL_CORPUS: jsonl({"docid": "2#0", "text": ""})},
            DataError,
            r"docs-1.jsonl.gz:1: document '2#0' has no text",
        ),
        (
            "miracl:{}",
            "dev",
            ["sw"],
            {MIRACL_CORPUS: jsonl({"id": "2#0", "text": "x"})},
            DataError,
            r'docs-1.jsonl.gz:1: not a document; a line must be \{"docid"',
        ),
        (
            "miracl:{}",
            "dev",
            ["sw"],
            {MIRACL_QRELS: "5#0 Q0 1#0 1\n5#0 Q0 9#0 1\n"},
            DataError,
            r"sw-dev.tsv:2: document '9#0' is not in the corpus",
        ),
        ("miracl:{}", "dev", ["sw"], {MIRACL_QRELS: "5#0 Q0 1#0\n"}, DataError, r"sw-dev.tsv:1: 3 columns"),
        ("miracl:{}", "dev", ["sw"], {MIRACL_QRELS: "5#0 Q0 1#0 yes\n"}, DataError, r"sw-dev.tsv:1: grade 'yes'"),
        ("miracl:{}", "dev", ["sw"], {MIRACL_QRELS: "6#0 Q0 1#0 1\n"}, DataError, "no query of language sw"),
        ("miracl:{}", "dev", ["sw"], {"copy/" + MIRACL_QRELS: "x"}, ConfigError, "judgements: found 2 times"),
        (
            "ciral:{}",
            "dev",
            [],
            {},
            ConfigError,
            "name one; ciral has documents in ha, so, yo, sw: write ciral/sw:FOLDER",
        ),
        ("ciral/fr:{}", "dev", [], {}, ConfigError, "there are no documents in 'fr'"),
        ("ciral/sw:{}", "dev", ["sw"], {}, ConfigError, "lang=sw: .* has queries in en"),
        ("clirmatrix:{}", "dev", ["sw", "so"], {}, ConfigError, "numbers the queries of each language separately"),
        ("wikiclir/sw:{}", "dev", [], {}, ConfigError, "split=dev: .* has all"),
        ("neuclir/zh:{}", "2021", [], {"zho-0-of-1.jsonl": "x"}, ConfigError, "split=2021: .* has 2022, 2023, bench"),
        ("mmarco:{}", "dev", [], {}, ConfigError, "lang is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, spec, split, languages, change, error, message):
    put(tmp_path, MIRACL | change)
    with pytest.raises(error, match=message) as caught:
        read_source(spec.format(tmp_path), split, languages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "split", "languages", "files", "message"),
    [
        (
            "clirmatrix:{}",
            "test1",
            ["sw"],
            CLIRMATRIX | {"BI-139/base/sw/sw.en.test1.base.jl.gz": '{"src_id": "3"}\n'},
            r"base.jl.gz:1: not a query",
        ),
        (
            "clirmatrix:{}",
            "test1",
            ["sw"],
            CLIRMATRIX
            | {
                "BI-139/base/sw/sw.en.test1.base.jl.gz": jsonl(
                    {"src_id": "3", "src_query": "a", "tgt_results": [["11"]]}
                )
            },
            r"base.jl.gz:1: \['11'\] in tgt_results",
        ),
        (
            "clirmatrix:{}",
            "test1",
            ["sw"],
            CLIRMATRIX
            | {"BI-139/base/sw/sw.en.test1.base.jl.gz": jsonl({"src_id": 3, "src_query": "a", "tgt_results": None})},
            r"base.jl.gz:1: tgt_results is None, not a list",
        ),
        (
            "clirmatrix:{}",
            "test1",
            ["sw"],
            CLIRMATRIX
            | {
                "BI-139/base/sw/sw.en.test1.base.jl.gz": jsonl(
                    {"src_id": 3, "src_query": "a", "tgt_results": [["11", 20_000]]}
                )
            },
            r"base.jl.gz:1: the grade is above 10,000",
        ),
        ("miracl:{}", "dev", ["sw"], MIRACL | {MIRACL_QRELS: "5#0 Q0 1#0 " + "9" * 5000}, r"dev.tsv:1: grade '9999"),
        ("msmarco:{}", "dev.small", [], MARCO | {"queries.dev.small.tsv": "7\x01\tx\n"}, r"U\+0001"),
        (
            "xor-tydi:{}",
            "dev",
            [],
            XOR
            | {
                "xor_dev_retrieve_eng_span_v1_1.jsonl": jsonl(
                    {"id": "q1", "question": "a", "lang": ["ja"], "answers": []}
                )
            },
            r"jsonl:1: not a question",
        ),
        (
            "neuclir/zh:{}",
            "2022",
            [],
            NEUCLIR | {"topics.0720.utf8.jsonl": '{"topic_id": "1"}\n'},
            r"jsonl:1: not a topic",
        ),
        (
            "xor-tydi:{}",
            "dev",
            [],
            XOR | {"xor_dev_retrieve_eng_span_v1_1.jsonl": '["q1"]\n'},
            r"jsonl:1: not a question",
        ),
        (
            "wikiclir/sw:{}",
            "all",
            [],
            WIKICLIR_2018 | {"wiki-clir/swahili/wiki_sw.documents": "75\tPaka\n"},
            r"wiki_sw.documents:1: 2 columns, not a document; a line must be id<TAB>title<TAB>text",
        ),
    ],
)
def test_broken_lines(tmp_path, spec, split, languages, files, message):
    with pytest.raises(DataError, match=message):
        read_source(spec.format(put(tmp_path, files)), split, languages)
