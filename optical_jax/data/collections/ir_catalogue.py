"""Collections of the package ir_datasets by id, which is imported here only and downloads its files itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optical_jax.data.collections.collection import CollectionFiles
from optical_jax.data.files.records import Entry, Judgement, Record, Stream
from optical_jax.errors import ConfigError, DataError

PREFIX = "ir_datasets:"


def ir_collection(spec: str, languages: Sequence[str]) -> CollectionFiles:
    """The collection of an id, such as ``ir_datasets:miracl/sw/dev``; its last part is the split.

    Args:
      spec: "ir_datasets:" and the id.
      languages: of the queries, if the id does not say; at most one.

    Raises:
      ConfigError: the package is missing, there is no such id, it lacks documents, queries or judgements, or the
        language is another one or unknown.
    """
    identity = spec.removeprefix(PREFIX)
    try:
        import ir_datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"collection={spec} needs the package ir_datasets; install it: pip install 'optical_jax[collections]'"
        ) from error
    try:
        dataset: Any = ir_datasets.load(identity)
    except KeyError:
        raise ConfigError(
            f"collection={spec}: ir_datasets has no {identity}; its ids: https://ir-datasets.com"
        ) from None
    lacking = [part for part in ("docs", "queries", "qrels") if not getattr(dataset, f"has_{part}")()]
    if lacking:
        raise ConfigError(f"collection={spec} has no {' and no '.join(lacking)}; use the id of a split with judgements")
    known = dataset.queries_lang()
    if len(languages) > 1 or (known and languages and languages[0] != known) or not (known or languages):
        of = f"its queries are in {known}" if known else "it does not say what language its queries are in"
        raise ConfigError(f"lang={' '.join(languages)!r}: {spec}: {of}; write --lang {known or 'LANG'}")
    language = known or languages[0]

    def documents() -> Iterator[Entry]:
        for number, document in enumerate(dataset.docs_iter(), start=1):
            yield Entry(f"{spec} docs", number, document.doc_id, document.default_text().strip())

    def queries() -> Iterator[Entry]:
        for number, query in enumerate(dataset.queries_iter(), start=1):
            yield Entry(f"{spec} queries", number, query.query_id, query.default_text().strip())

    def judgements() -> Iterator[Judgement]:
        for number, judged in enumerate(dataset.qrels_iter(), start=1):
            yield Judgement(f"{spec} qrels:{number}", judged.query_id, judged.doc_id, judged.relevance)

    name, _, split = identity.rpartition("/")
    return CollectionFiles(
        name=(name or identity).replace("/", "-"),
        split=split,
        documents=Stream((), _as_data_errors(spec, documents), f"{spec} docs"),
        queries={language: Stream((), _as_data_errors(spec, queries), f"{spec} queries")},
        judgements=Stream((), _as_data_errors(spec, judgements), f"{spec} qrels"),
        # "und": ISO 639 for undetermined.
        document_language=dataset.docs_lang() or "und",
    )


def _as_data_errors(spec: str, read: Callable[[], Iterator[Record]]) -> Callable[[], Iterator[Record]]:
    """Raise the package's errors about broken or missing files as `DataError`."""

    def stream() -> Iterator[Record]:
        try:
            yield from read()
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"{spec}: {type(error).__name__}: {' '.join(str(error).split())}") from error

    return stream
