"""Text retrieval of a run or a model on a collection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.config import LOW_RESOURCE
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation import baselines
from optical_jax.evaluation.contamination import asked_and_judged, shared_with_training
from optical_jax.evaluation.options import EvalCommand
from optical_jax.files import own_system, trains_teacher, write_json
from optical_jax.plots.curves import draw_evaluation, try_to_draw
from optical_jax.runs.bitext import read_training_text
from optical_jax.runs.folder import read_run_config
from optical_jax.runs.load import checkpoint_step

if TYPE_CHECKING:
    from optical_jax.data.collections.collection import Collection
    from optical_jax.evaluation.text_report import Evaluation
    from optical_jax.retrieval.blocks import Block
    from optical_jax.retrieval.metrics import PerQuery
    from optical_jax.retrieval.search import Encode, Ranking
    from optical_jax.towers.tower import Tower


SystemAndLanguage = tuple[str, str]


@dataclass(frozen=True)
class System:
    """Who asks what, and who encodes the documents."""

    queries: Tower
    documents: Tower
    texts: Mapping[str, Mapping[str, str]]
    """Language -> query id -> text."""


def evaluate_run(command: EvalCommand, run: Path) -> Evaluation:
    """What a run trains beside itself untrained, the teacher on English, and BM25; written into the run."""
    from optical_jax.data.collections.sources import read_source
    from optical_jax.evaluation.text_report import print_evaluation, write_files
    from optical_jax.runs.load import load, sides_of, towers_of_run

    step, saved, one_tower = checkpoint_step(run, command.checkpoint), read_run_config(run), trains_teacher(run)
    collection = read_source(command.collection, command.split, command.lang, command.cache_dir or None)
    cache_dir, of_student = command.cache_dir or None, student_encodes_documents(command, run)
    asker, documents = towers_of_run(run, step, command.documents, cache_dir)
    student_asks = not of_student or "query" in sides_of(run)
    if not student_asks:
        collection = in_english(collection)
    if of_student:
        # Documents in a language that it learned, whatever the folder says: neither dictionary nor translations help.
        collection = replace(collection, document_language="the student's language")
    translated = baselines.read_translations(command.translations, collection)
    folder = results_folder(command, run, collection)
    folder.mkdir(parents=True, exist_ok=True)

    before, documents_before = towers_of_run(run, "untrained", command.documents, cache_dir)
    systems = {
        own_system(run): System(asker, documents, collection.queries),
        "untrained": System(before, documents_before if of_student or one_tower else documents, collection.queries),
    }
    if student_asks and not one_tower:
        teacher = load(run, side="query", part="teacher", cache_dir=cache_dir)
        systems["teacher"] = System(teacher, documents, english_queries(collection))
        systems["mt"] = System(teacher, documents, translated)
    lost = f"training text could not be checked against {collection.name}, nor counted as a dictionary"
    train = None if one_tower else read_training_text(saved, lost)
    asked = f"the queries of {collection.name} or their documents"
    shared = None if train is None else shared_with_training(train, asked_and_judged(collection), asked)
    evaluation = rank_and_judge(
        command,
        collection,
        systems,
        origin={"run": str(run), "checkpoint": step} | ({"documents": "student"} if of_student else {}),
        by_words=baselines.rank_by_words(collection, translated, baselines.count_lexicons(train or {}, collection)),
        shared_with_training=shared,
    )

    low_resource = saved.get("low_resource", LOW_RESOURCE)
    figures = evaluation.as_json(low_resource)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_files(folder, evaluation, tag="_".join(run.resolve().name.split()))
    drawn = try_to_draw(draw_evaluation, figures, folder / "curves.png")
    # Last: a folder with metrics.json is whole.
    write_json(folder / "metrics.json", figures)
    if command.out and not command.compare:
        write_out(command.out, figures)
    print_evaluation(evaluation, low_resource)
    if drawn:
        print(f"curves: {folder / 'curves.png'}")
    return evaluation


def evaluate_model(command: EvalCommand) -> None:
    """One tower on both sides, beside BM25."""
    from optical_jax.data.collections.sources import read_source
    from optical_jax.evaluation.text_report import print_evaluation
    from optical_jax.runs.load import is_run, load

    if is_run(Path(command.model)):
        raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
    collection = read_source(command.collection, command.split, command.lang, command.cache_dir or None)
    tower = load(command.model, cache_dir=command.cache_dir or None, pooling=command.pooling)  # pyright: ignore
    documents, translated = (
        replace(tower, side="document"),
        baselines.read_translations(command.translations, collection),
    )
    systems = {"model": System(tower, documents, collection.queries), "mt": System(tower, documents, translated)}
    by_words = baselines.rank_by_words(collection, translated, {})
    evaluation = rank_and_judge(command, collection, systems, origin={"model": command.model}, by_words=by_words)
    if command.out:
        write_out(command.out, evaluation.as_json(LOW_RESOURCE))
    print_evaluation(evaluation, LOW_RESOURCE)


def encode_queries(
    command: EvalCommand, system: str, tower: Tower, queries: Mapping[str, Mapping[str, str]]
) -> dict[SystemAndLanguage, list[Block]]:
    """The queries (language -> id -> text) of every language, encoded by one system."""
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.search import encode_blocks

    encode = make_encode(command, tower)
    total = sum(map(len, queries.values()))
    with ProgressReport(f"encoding queries, {system}", total, "texts") as progress:
        return {
            (system, language): list(encode_blocks(list(texts.values()), encode, progress.advance))
            for language, texts in queries.items()
        }


def rank_and_judge(
    command: EvalCommand,
    collection: Collection,
    systems: Mapping[str, System],
    *,
    origin: Mapping[str, Any],
    by_words: Mapping[SystemAndLanguage, Ranking],
    shared_with_training: Mapping[str, int] | None = None,
) -> Evaluation:
    """Search for the first system and its references, and compute the figures of them and of `by_words`.

    One pass over the documents for all systems whose documents one tower encodes.
    """
    from optical_jax.evaluation.text_report import Evaluation
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.metrics import evaluate_run as judge
    from optical_jax.retrieval.search import search

    rankings: dict[SystemAndLanguage, Ranking] = {}
    towers = {id(one.documents): one.documents for one in systems.values()}
    for documents in towers.values():
        blocks: dict[SystemAndLanguage, list[Block]] = {}
        for name, one in systems.items():
            if one.documents is documents and one.texts:
                blocks |= encode_queries(command, name, one.queries, one.texts)
        with ProgressReport("encoding and ranking documents", len(collection.documents), "documents") as progress:
            encode = make_encode(command, documents)
            rankings |= search(blocks, collection.documents, encode, advance=progress.advance)
    rankings |= by_words
    document_ids, system = list(collection.documents), next(iter(systems))
    rankings |= baselines.fuse_with_dictionary(rankings, system, document_ids)

    per_query: dict[str, dict[str, PerQuery]] = {}
    for (name, language), ranking in rankings.items():
        queries = systems[name].texts[language] if name in systems else collection.queries[language]
        found = ranking.as_run(list(queries), document_ids)
        qrels = {query: collection.qrels[query] for query in queries}
        per_query.setdefault(name, {})[language] = judge(found, qrels)
    own = {language: ranking for (name, language), ranking in rankings.items() if name == system}
    return Evaluation(collection, command.scoring, system, per_query, own, origin, shared_with_training)


def english_queries(collection: Collection) -> dict[str, dict[str, str]]:
    """The English text of the queries of each language, where the collection has it under the same id."""
    found = {
        language: {query: collection.english[query] for query in queries if query in collection.english}
        for language, queries in collection.queries.items()
    }
    return {language: queries for language, queries in found.items() if queries}


def student_encodes_documents(command: EvalCommand, run: Path) -> bool:
    from optical_jax.runs.load import sides_of

    return command.documents == "student" or (command.documents == "auto" and sides_of(run) == ("document",))


def in_english(collection: Collection) -> Collection:
    """The collection with its English queries alone, for a teacher who asks a student's documents.

    Raises:
      DataError: it has none.
    """
    queries = english_queries(collection)
    if not queries:
        raise DataError(
            f"collection {collection.name} has no English queries (queries.en.jsonl), and this run's student learned "
            "documents alone: its teacher asks"
        )
    return replace(collection, queries=queries)


def compare(command: EvalCommand) -> None:
    """Paired tests of the second run against the first, over the same queries."""
    from optical_jax.data.collections.sources import read_source
    from optical_jax.evaluation.text_report import comparison_json, print_comparison
    from optical_jax.retrieval.significance import compare_runs

    collection = read_source(command.collection, command.split, command.lang, command.cache_dir or None)
    runs = [Path(run) for run in command.compare]
    steps = [checkpoint_step(run, command.checkpoint) for run in runs]
    a, b = (own_figures(command, run, step, collection) for run, step in zip(runs, steps, strict=True))
    tests = compare_runs(a, b)
    for name, run, step in zip("AB", runs, steps, strict=True):
        print(f"{name} = {run}, checkpoint {step}")
    print_comparison(tests)
    if command.out:
        content = {
            "collection": collection.name,
            "split": collection.split,
            "scoring": command.scoring,
            "runs": list(command.compare),
            "checkpoints": steps,
            "tests": comparison_json(tests),
        }
        write_out(command.out, content)


def own_figures(command: EvalCommand, run: Path, step: int, collection: Collection) -> Mapping[str, PerQuery]:
    """Figures of every query, from the run's last evaluation if it was of this checkpoint and these files."""
    from optical_jax.evaluation.text_report import read_per_query

    folder, asked = results_folder(command, run, collection), list(collection.queries)
    if (folder / "metrics.json").is_file():
        saved = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        of_these_files = all(saved["inputs"].get(name, sha256) == sha256 for name, sha256 in collection.sha256.items())
        if saved["checkpoint"] == step and of_these_files:
            if set(asked) <= set(saved["languages"]):
                return read_per_query(folder, own_system(run), asked)
            # Results that hold are not thrown away for those of other languages.
            asked = list(dict.fromkeys([*saved["languages"], *asked]))
    found = evaluate_run(replace(command, lang=tuple(asked)), run).per_query[own_system(run)]
    return {language: found[language] for language in collection.queries}


def results_folder(command: EvalCommand, run: Path, collection: Collection) -> Path:
    how = "-student" * student_encodes_documents(command, run) + "-pooled" * (command.scoring == "pooled")
    return run / "eval" / f"{collection.name}-{collection.split}{how}"


def make_encode(command: EvalCommand, tower: Tower) -> Encode:
    """Texts to the vectors that are scored: of tokens, or their means."""
    import jax

    from optical_jax.towers.tower import encode, to_device
    from optical_jax.types import TokenVectors, mean_pool

    there, pool = to_device(tower), jax.jit(mean_pool)

    def vectors(texts: Sequence[str]) -> TokenVectors:
        tokens = encode(there, texts, command.batch_size)
        return pool(tokens) if command.scoring == "pooled" else tokens

    return vectors


def write_out(path: str, content: dict[str, Any]) -> None:

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(path), content)
