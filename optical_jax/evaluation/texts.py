"""Text retrieval evaluation of a run or a model on a collection of documents, queries and graded judgements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optical_jax.data.collections.collection import Collection, own_documents
from optical_jax.data.collections.sources import read_source
from optical_jax.data.files.records import BadLines, in_words, leave_out_by
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation import baselines
from optical_jax.evaluation.contamination import asked_and_judged, shared_with_training
from optical_jax.evaluation.options import EvalCommand
from optical_jax.evaluation.retrieval import (
    Cell,
    Columns,
    Directions,
    Evaluation,
    Prepared,
    Queries,
    Reference,
    Results,
    RetrievalTask,
    System,
    judge,
    search_one_way,
)
from optical_jax.files import own_system, trains_teacher
from optical_jax.plots.curves import draw_evaluation
from optical_jax.retrieval.metrics import METRICS, MetricValues, mean_metrics
from optical_jax.retrieval.search import Ranking
from optical_jax.runs.bitext import read_training_text
from optical_jax.runs.folder import read_run_config
from optical_jax.runs.load import load, sides_of, towers_of_run

T2D = "t2d"


@dataclass(frozen=True, eq=False)
class TextTask(RetrievalTask):
    """Retrieval of a collection's documents by its queries in several languages."""

    collection: Collection

    searched = "documents"
    directions = (T2D,)
    metrics = compared = METRICS
    tested = ("AP",)
    references = ("untrained", "teacher", "mt", "mt-bm25", "fused", "dictionary", "bm25")
    """Described in docs/evaluation.md."""
    columns = Columns(
        wide=76,
        count=("queries", "queries"),
        shown=("R@1", "R@5", "R@10", "R@100", "RR@10", "AP", "nDCG@10", "P@10"),
        narrow=("R@1", "R@10", "RR@10", "nDCG@10"),
        averaged=("R@1", "R@10", "AP"),
        averaged_narrow=("R@1", "R@10", "AP"),
        own="AP",
        reference="baseline",
    )
    reference_notes = (
        "{own} AP: on the same queries; better, worse: languages in which {own}'s AP is, p below 0.05",
        "p: paired t-test over queries, corrected over all languages and baselines by Holm",
    )
    search = staticmethod(search_one_way)
    draw = staticmethod(draw_evaluation)

    def means(self, found: Directions) -> MetricValues:
        return mean_metrics(found[T2D].per_query)

    def own_mean(self, own: Directions, reference: Directions) -> float:
        """Mean AP on the queries that both systems have."""
        both = reference[T2D].per_query
        return mean_metrics({query: own[T2D].per_query[query] for query in both})["AP"]

    # What is evaluated.

    def of_run(self, command: EvalCommand, run: Path, step: int) -> Prepared:
        """The run's trained and untrained model, the teacher on English queries and translations, lexical baselines."""
        saved, one_tower, cache_dir = read_run_config(run), trains_teacher(run), command.cache_dir or None
        collection, of_student = self.collection, student_encodes_documents(command, run)
        asker, documents = towers_of_run(run, step, command.documents, cache_dir)
        student_asks = not of_student or "query" in sides_of(run)
        if not student_asks:
            collection = in_english(collection)
        if of_student:
            # The student's documents are not English, whatever the folder says: no dictionary or translations apply.
            collection = replace(collection, document_language="the student's language")
        task = text_task(collection)
        translated = baselines.read_translations(command.translations, collection)
        before, documents_before = towers_of_run(run, "untrained", command.documents, cache_dir)
        systems = {
            own_system(run): System(asker, documents, task.asked),
            "untrained": System(before, documents_before if of_student or one_tower else documents, task.asked),
        }
        if student_asks and not one_tower:
            teacher = load(run, side="query", part="teacher", cache_dir=cache_dir)
            systems["teacher"] = System(teacher, documents, judged_queries(collection, english_queries(collection)))
            systems["mt"] = System(teacher, documents, judged_queries(collection, translated))
        lost = f"training text could not be checked against {collection.name}, nor used for a dictionary"
        train = None if one_tower else read_training_text(saved, lost)
        asked = f"the queries of {collection.name} or their documents"
        shared = None if train is None else shared_with_training(train, asked_and_judged(collection), asked)
        by_words = baselines.rank_by_words(collection, translated, baselines.count_lexicons(train or {}, collection))
        origin = {"run": str(run), "checkpoint": step} | ({"documents": "student"} if of_student else {})
        return task.prepared(command, systems, origin, by_words, shared)

    def of_model(self, command: EvalCommand) -> Prepared:
        """One model that encodes both sides, and BM25."""
        pooling: Any = "none" if command.pooling == "default" else command.pooling
        tower = load(command.model, cache_dir=command.cache_dir or None, pooling=pooling)
        documents = replace(tower, side="document")
        translated = baselines.read_translations(command.translations, self.collection)
        systems = {
            "model": System(tower, documents, self.asked),
            "mt": System(tower, documents, judged_queries(self.collection, translated)),
        }
        by_words = baselines.rank_by_words(self.collection, translated, {})
        return self.prepared(command, systems, {"model": command.model}, by_words, None)

    def prepared(
        self,
        command: EvalCommand,
        systems: Mapping[str, System],
        origin: Mapping[str, Any],
        by_words: Mapping[Cell, Ranking],
        shared: Mapping[str, int] | None,
    ) -> Prepared:
        system = next(iter(systems))

        def more(found: Results) -> Results:
            words = self.judged(by_words)
            rankings = {
                (name, language): one[T2D].ranking
                for name, languages in {system: found[system], **words}.items()
                for language, one in languages.items()
            }
            return words | self.judged(baselines.fuse_with_dictionary(rankings, system, list(self.documents)))

        record = {"shared_with_training": shared, "left_out": self.left_out}
        return Prepared(self, scoring_of(command), systems, origin, record, more)

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> how many lines of the collection, or documents of rankings, were left out."""
        own = sum(len(queries.own) for queries in self.asked.values())
        return {**self.collection.left_out, **({"documents_that_are_the_query": own} if own else {})}

    def judged(self, rankings: Mapping[Cell, Ranking]) -> Results:
        """Metrics of rankings of all queries of a language."""
        found: Results = {}
        for (system, language), ranking in rankings.items():
            found.setdefault(system, {})[language] = {T2D: judge(ranking, self.asked[language], list(self.documents))}
        return found

    def folder_suffix(self, command: EvalCommand, run: Path) -> str:
        return "-student" * student_encodes_documents(command, run) + "-pooled" * (command.scoring == "pooled")

    def is_current(self, command: EvalCommand, run: Path, step: int, saved: Mapping[str, Any]) -> bool:
        same_files = all(saved["inputs"].get(name, sha256) == sha256 for name, sha256 in self.inputs.items())
        # Older evaluations left nothing out.
        return same_files and ("left_out" in saved or not self.left_out)

    # What is reported.

    def is_trivial(self, language: str) -> bool:
        """Whether a query and its relevant document are the same sentence in two languages."""
        return self.collection.is_parallel(language)

    def reference_json(self, reference: Reference) -> dict[str, Any]:
        (direction,) = self.directions
        return {
            "system": reference.system,
            "languages": reference.languages,
            "means": reference.means,
            "own_ap": reference.own,
            "p_ttest": [test.p_ttest for test in reference.tests],
            "p_ttest_holm": [test.p_ttest_holm for test in reference.tests],
            "better": reference.count(direction, 1),
            "worse": reference.count(direction, -1),
        }

    def notes(self, evaluation: Evaluation) -> Iterator[str]:
        if evaluation.system == "student" and any(map(self.is_trivial, self.asked)):
            yield "trivial: query and document are the same sentence, so there is no upper bound"


def read_task(command: EvalCommand) -> TextTask:
    """Read the text collection that `--collection` names.

    Raises:
      ConfigError: a flag that applies to images only.
      DataError: it is missing or malformed.
    """
    if command.pictures_by:
        raise ConfigError(f"pictures_by={command.pictures_by}: {command.collection} has no images; leave it out")
    bad = BadLines(command.max_bad_lines, leave_out_by("--max-bad-lines"))
    task = text_task(read_source(command.collection, command.split, command.lang, command.cache_dir or None, bad))
    if task.left_out:
        such = f"; such as {bad.first[0]}" if bad.first else ""
        print(f"left out of {task.name}: {in_words(task.left_out)}{such}")
    return task


def text_task(collection: Collection) -> TextTask:
    asked = judged_queries(collection, collection.queries)
    return TextTask(collection.name, collection.split, collection.documents, asked, collection.sha256, collection)


def judged_queries(collection: Collection, texts: Mapping[str, Mapping[str, str]]) -> dict[str, Queries]:
    """Queries of each language with their judgements; `texts` may be others than the collection's, under its ids."""
    found = {}
    for language, queries in texts.items():
        qrels = {query: collection.qrels[query] for query in queries}
        asked = {query: collection.queries[language][query] for query in queries}
        own = own_documents(asked, qrels, collection.documents, collection.english)
        found[language] = Queries(queries, qrels, own)
    return found


def scoring_of(command: EvalCommand) -> str:
    return "maxsim" if command.scoring == "auto" else command.scoring


def english_queries(collection: Collection) -> dict[str, dict[str, str]]:
    """English parallels of the queries of each language, matched by query id; queries without one are left out."""
    found = {
        language: {query: collection.english[query] for query in queries if query in collection.english}
        for language, queries in collection.queries.items()
    }
    return {language: queries for language, queries in found.items() if queries}


def student_encodes_documents(command: EvalCommand, run: Path) -> bool:
    return command.documents == "student" or (command.documents == "auto" and sides_of(run) == ("document",))


def in_english(collection: Collection) -> Collection:
    """The collection with its English queries only, for a teacher that searches documents encoded by a student.

    Raises:
      DataError: it has no English queries.
    """
    queries = english_queries(collection)
    if not queries:
        raise DataError(
            f"collection {collection.name} has no English queries (queries.en.jsonl), but this run's student "
            "encodes documents only, so its teacher needs English queries; add that file"
        )
    return replace(collection, queries=queries)
