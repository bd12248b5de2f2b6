"""Readers of public retrieval collections in their published file layouts: MS MARCO, mMARCO, MIRACL, NeuCLIR, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optical_jax.data.collections.collection import CollectionFiles, collection_of
from optical_jax.data.collections.xor_tydi import xor_tydi
from optical_jax.data.files.lines import read_json_lines
from optical_jax.data.files.records import Entry, Judgement, Stream, jsonl_texts, judgement_lines, shortened, tsv_texts
from optical_jax.data.files.requests import SourceRequest
from optical_jax.errors import ConfigError, DataError

# ---- MS MARCO and its translations -------------------------------------------------------------------------------

MMARCO = {
    "ar": "arabic", "zh": "chinese", "nl": "dutch", "en": "english", "fr": "french", "de": "german", "hi": "hindi",
    "id": "indonesian", "it": "italian", "ja": "japanese", "pt": "portuguese", "ru": "russian", "es": "spanish",
    "vi": "vietnamese",
}  # fmt: skip


def msmarco(ask: SourceRequest) -> CollectionFiles:
    """MS MARCO passages: collection.tsv, queries.SPLIT.tsv, qrels.SPLIT.tsv (train, dev, dev.small)."""
    ask.languages_of(["en"])
    queries = ask.files.one("queries", *(f"queries.{split}.tsv" for split in _wider(ask.split)))
    return collection_of(
        ask,
        tsv_texts(ask.files.one("passages", "collection.tsv"), "document"),
        {"en": tsv_texts(queries, "query")},
        judgement_lines(ask.files.one("judgements", f"qrels.{ask.split}.tsv")),
        "en",
        triples=ask.files.maybe("qidpidtriples.train.full*.tsv") if ask.split == "train" else None,
    )


def mmarco(ask: SourceRequest) -> CollectionFiles:
    """mMARCO: LANGUAGE_collection.tsv, LANGUAGE_queries.SPLIT.tsv, and the judgements and triples of MS MARCO."""
    language = ask.document_language or "en"
    if language not in MMARCO:
        ask.documents_in(list(MMARCO))
    if not ask.languages:
        raise ConfigError(f"lang is empty; name languages of the queries of {ask.spec}, as in --lang pt")

    def queries(language: str) -> Path:
        names = [f"{MMARCO[language]}_queries.{split}.tsv" for split in _wider(ask.split)]
        # Google's, if there are two translations.
        return ask.files.one(f"{language} queries", *(f"google/queries/*/{name}" for name in names), *names)

    name = f"{MMARCO[language]}_collection.tsv"
    return collection_of(
        ask,
        tsv_texts(ask.files.one("passages", f"google/collections/{name}", name), "document"),
        {language: tsv_texts(queries(language), "query") for language in ask.languages_of(list(MMARCO))},
        judgement_lines(ask.files.one("judgements", f"qrels.{ask.split}.tsv")),
        language,
        english=_if_there(lambda: tsv_texts(queries("en"), "query")),
        triples=ask.files.maybe("triples.train.ids*.tsv") if ask.split == "train" else None,
    )


def _wider(split: str) -> list[str]:
    """dev.small has its own qrels, but its queries may be in the file of dev."""
    return list(dict.fromkeys([split, split.partition(".")[0]]))


def _if_there(make: Callable[[], Stream[Entry]]) -> Stream[Entry] | None:
    try:
        return make()
    except DataError:
        return None


# ---- Wikipedia ---------------------------------------------------------------------------------------------------

WIKICLIR = (
    "ar", "ca", "zh", "cs", "nl", "fi", "fr", "de", "it", "ja", "ko", "no", "nn", "pl", "pt", "ro", "ru", "simple",
    "es", "sw", "sv", "tl", "tr", "uk", "vi",
)  # fmt: skip


def wikiclir(ask: SourceRequest) -> CollectionFiles:
    """WikiCLIR 2014 (German sentences, English articles) and 2018 (English sentences, articles in 25 languages)."""
    language = ask.documents_in(["en", *WIKICLIR])
    if language == "en":
        ask.languages_of(["de"])
        parts = {end: ask.files.one(f".{end} of {ask.split}", f"*{ask.split}*.{end}") for end in _WIKICLIR_2014}
        return collection_of(
            ask,
            tsv_texts(parts["docs"], "document"),
            {"de": tsv_texts(parts["queries"], "query")},
            judgement_lines(parts["qrels"], ("query", "document", "grade")),
            language,
        )
    ask.languages_of(["en"])
    ask.split_of(["all"])
    documents = ask.files.one("documents", f"wiki_{language}.documents")
    queries = ask.files.one("queries", "wiki_en.queries")
    return collection_of(
        ask,
        tsv_texts(documents, "document", ("id", "title", "text"), ("title", "text")),
        # The words of the title were removed from the sentence, which alone is the query.
        {"en": tsv_texts(queries, "query", ("id", "title", "sentence"), ("sentence",))},
        judgement_lines(ask.files.one("judgements", f"en2{language}.rel"), ("query", "document", "grade")),
        language,
    )


_WIKICLIR_2014 = ("docs", "queries", "qrels")


def clirmatrix(ask: SourceRequest) -> CollectionFiles:
    """CLIRMatrix: DOCS/LANG.tsv and QUERIES.LANG.SPLIT[.base].jl, a query and its graded documents a line."""
    language = ask.document_language or "en"
    if len(ask.languages) != 1:
        raise ConfigError(
            f"lang={' '.join(ask.languages)!r}: {ask.spec} numbers the queries of each language separately; "
            "name one, as in --lang sw"
        )
    asked = f"{ask.languages[0]}.{language}.{ask.split}"
    documents = ask.files.one("documents", f"DOCS/{language}.tsv", f"{language}.tsv")
    queries = ask.files.one(f"queries of {asked}", f"{asked}.base.jl", f"{asked}.jl")

    def lines() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, record in read_json_lines(queries):
            try:
                yield number, record | {"src_id": str(record["src_id"]), "src_query": record["src_query"].strip()}
            except (AttributeError, KeyError, TypeError):
                raise DataError(f"{queries}:{number}: not a query; a line has src_id, src_query, tgt_results") from None

    def judgements() -> Iterator[Judgement]:
        for number, record in lines():
            results = record.get("tgt_results", [])
            if not isinstance(results, list):
                raise DataError(f"{queries}:{number}: tgt_results is {shortened(results)}, not a list")
            for result in results:
                if not (isinstance(result, list) and len(result) == 2 and type(result[1]) is int):
                    raise DataError(f"{queries}:{number}: {shortened(result)} in tgt_results is not [document, grade]")
                yield Judgement(f"{queries}:{number}", record["src_id"], str(result[0]), result[1])

    def texts() -> Iterator[Entry]:
        for number, record in lines():
            yield Entry(str(queries), number, record["src_id"], record["src_query"])

    return collection_of(
        ask,
        tsv_texts(documents, "document"),
        {ask.languages[0]: Stream((queries,), texts)},
        Stream((queries,), judgements),
        language,
    )


def miracl(ask: SourceRequest) -> CollectionFiles:
    """MIRACL, one language: miracl-corpus-v1.0-LANG/docs-*.jsonl, topics.miracl-v1.0-LANG-SPLIT.tsv."""
    if len({*ask.languages, *filter(None, [ask.document_language])}) != 1:
        raise ConfigError(
            f"lang={' '.join(ask.languages)!r}: {ask.spec} has one collection per language; name one: --lang sw"
        )
    language = ask.document_language or ask.languages[0]
    name = f"miracl-v1.0-{language}-{ask.split}.tsv"
    return collection_of(
        ask,
        jsonl_texts(
            *ask.files.some("passages", f"miracl-corpus-v1.0-{language}/docs-*.jsonl"),
            kind="document",
            identity="docid",
        ),
        {language: tsv_texts(ask.files.one("topics", f"topics.{name}"), "query")},
        judgement_lines(ask.files.one("judgements", f"qrels.{name}")),
        language,
    )


# ---- English queries, African documents --------------------------------------------------------------------------

CIRAL = {"ha": "hausa", "so": "somali", "yo": "yoruba", "sw": "swahili"}
AFRICLIRMATRIX = {
    "af": ("afr", "afrikaans"), "am": ("amh", "amharic"), "ary": ("ary", "moroccan_arabic"),
    "arz": ("arz", "egyptian_arabic"), "ha": ("hau", "hausa"), "ig": ("ibo", "igbo"), "nso": ("nso", "northern_sotho"),
    "sn": ("sna", "shona"), "so": ("som", "somali"), "ti": ("tir", "tigrinya"), "tw": ("twi", "twi"),
    "wo": ("wol", "wolof"), "yo": ("yor", "yoruba"), "zu": ("zul", "zulu"), "sw": ("swa", "swahili"),
}  # fmt: skip


def ciral(ask: SourceRequest) -> CollectionFiles:
    """CIRAL: passages-v1.0/LANGUAGE_passages.jsonl, topics.ciral-v1.0-LANG-SPLIT.tsv (dev, test-a, test-b)."""
    language = ask.documents_in(list(CIRAL))
    ask.languages_of(["en"])
    passages = f"{CIRAL[language]}_passages.jsonl"
    name = f"ciral-v1.0-{language}-{ask.split}.tsv"
    return collection_of(
        ask,
        jsonl_texts(
            ask.files.one("passages", f"passages-v1.0/{passages}", passages), kind="document", identity="docid"
        ),
        {"en": tsv_texts(ask.files.one("topics", f"topics.{name}"), "query")},
        judgement_lines(ask.files.one("judgements", f"qrels.{name}")),
        language,
    )


def africlirmatrix(ask: SourceRequest) -> CollectionFiles:
    """AfriCLIRMatrix: africlirmatrix-v1.0-LANGUAGE/corpus.jsonl, SPLIT/queries/topics.*.en.CODE.tsv, SPLIT/qrels/."""
    language = ask.documents_in(list(AFRICLIRMATRIX))
    ask.languages_of(["en"])
    code, word = AFRICLIRMATRIX[language]
    corpus = ask.files.one("documents", f"africlirmatrix-v1.*-{word}/corpus.jsonl")
    topics = ask.files.one("topics", f"{ask.split}/queries/topics.africlirmatrix-v1.*.en.{code}.tsv")
    qrels = ask.files.one("judgements", f"{ask.split}/qrels/qrels.africlirmatrix-v1.*.en.{code}.txt")
    return collection_of(
        ask,
        jsonl_texts(corpus, kind="document", identity="id", text="contents"),
        {"en": tsv_texts(topics, "query")},
        judgement_lines(qrels),
        language,
    )


# ---- TREC NeuCLIR ------------------------------------------------------------------------------------------------

NEUCLIR = {"zh": "zho", "fa": "fas", "ru": "rus"}
NEUCLIR_TOPICS = {
    "2022": ("topics.*.utf8.jsonl", "trec-2022/topics.jsonl"),
    "2023": ("neuclir-2023-topics.*.jsonl", "trec-2023/topics.jsonl"),
}


def neuclir(ask: SourceRequest) -> CollectionFiles:
    """TREC NeuCLIR 2022 and 2023, and NeuCLIRBench: news of one language, English topics and human translations."""
    language = ask.documents_in(list(NEUCLIR))
    code = NEUCLIR[language]
    asked = ask.languages_of(["en", language]) if ask.languages else ["en"]
    documents = ask.files.some("documents", f"{code}-*-of-*.jsonl", f"{code}/docs.jsonl")
    if ask.split_of([*NEUCLIR_TOPICS, "bench"]) == "bench":
        topics = {one: ask.files.one(f"{one} topics", f"news.{NEUCLIR.get(one, 'eng')}.tsv") for one in ["en", *asked]}
        streams = {one: tsv_texts(path, "query") for one, path in topics.items()}
        judgements = judgement_lines(ask.files.one("judgements", f"qrels.{code}.gains.txt"))
    else:
        path = ask.files.one("topics", *NEUCLIR_TOPICS[ask.split])
        streams = {one: _neuclir_topics(path, NEUCLIR.get(one, "eng")) for one in ["en", *asked]}
        if ask.split == "2022":
            # One file for the three languages; the second column says which.
            columns = ("query", "language", "document", "grade")
            qrels = ask.files.one("judgements", "2022-qrels.all", "trec-2022/qrels")
            judgements = judgement_lines(qrels, columns, language=code)
        else:
            judgements = judgement_lines(ask.files.one("judgements", f"qrels.final.gains.{code}"))
    return collection_of(
        ask,
        jsonl_texts(*documents, kind="document", identity="id"),
        {one: streams[one] for one in asked},
        judgements,
        language,
        english=streams["en"],
    )


def _neuclir_topics(path: Path, code: str) -> Stream[Entry]:
    """Topic titles in one language: the original, or the human translation."""

    def read() -> Iterator[Entry]:
        for number, record in read_json_lines(path):
            try:
                for topic in record["topics"]:
                    if topic["lang"] == code and (code == "eng" or topic["source"] == "human translation"):
                        yield Entry(str(path), number, str(record["topic_id"]), topic["topic_title"].strip())
            except (AttributeError, KeyError, TypeError):
                raise DataError(
                    f"{path}:{number}: not a topic; a line has topic_id and topics with lang, source, topic_title"
                ) from None

    return Stream((path,), read)


LAYOUTS: dict[str, Callable[[SourceRequest], CollectionFiles]] = {
    "africlirmatrix": africlirmatrix,
    "ciral": ciral,
    "clirmatrix": clirmatrix,
    "miracl": miracl,
    "mmarco": mmarco,
    "msmarco": msmarco,
    "neuclir": neuclir,
    "wikiclir": wikiclir,
    "xor-tydi": xor_tydi,
}
