"""Figures by hand, against ranx, and the rules for ties and missing queries."""

import ir_measures
import numpy as np
import pytest

from optical_jax.data.files.records import LARGEST_GRADE
from optical_jax.errors import DataError
from optical_jax.retrieval.metrics import METRICS, evaluate_run, group_means, mean_metrics


def test_graded_judgements_by_hand():
    """Relevant documents at ranks 2 (grade 1) and 3 (grade 2); a third (grade 1) is not found."""
    qrels = {"q": {"a": 1, "b": 2, "c": 1, "n": 0}}
    figures = evaluate_run({"q": {"n": 4.0, "a": 3.0, "b": 2.0}}, qrels)["q"]
    dcg, ideal = 1 / np.log2(3) + 2 / np.log2(4), 2 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert figures == pytest.approx(
        {"AP": (1 / 2 + 2 / 3) / 3, "nDCG@10": dcg / ideal, "RR@10": 1 / 2, "R@1": 0, "R@5": 2 / 3, "R@10": 2 / 3,
         "R@100": 2 / 3, "P@10": 0.2}
    )  # fmt: skip
    assert tuple(figures) == METRICS


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (10, 0.1), (11, 0.0)])
def test_reciprocal_rank_is_cut_at_ten(rank, expected):
    run = {"q": {f"d{n:02}": -float(n) for n in range(1, 21)}}
    assert evaluate_run(run, {"q": {f"d{rank:02}": 1}})["q"]["RR@10"] == expected


def test_every_metric_breaks_ties_by_document_id_descending():
    figures = evaluate_run({"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}})["q"]
    assert (figures["RR@10"], figures["AP"], figures["R@1"]) == (0.5, 0.5, 0.0)


def test_missing_queries_count_as_zero_and_unjudged_ones_not_at_all():
    per_query = evaluate_run({"q1": {"d": 1.0}, "other": {"d": 1.0}}, {"q1": {"d": 1}, "q2": {"d": 1}})
    assert per_query["q2"] == dict.fromkeys(METRICS, 0.0)
    means = mean_metrics(per_query)
    assert means["queries"] == 2
    assert means["R@1"] == means["AP"] == 0.5


def some_judged_run(seed: int):
    """Graded judgements of 8 queries, and a ranking of 150 documents for each, without ties."""
    rng = np.random.default_rng(seed)
    documents = [f"d{n:03}" for n in range(150)]
    run = {f"q{i}": dict(zip(documents, rng.permutation(150) / 150.0, strict=True)) for i in range(8)}
    grades = {q: {str(d): int(rng.integers(0, 3)) for d in rng.choice(documents, 12)} for q in run}
    return run, {q: {**judged, "d000": 1} for q, judged in grades.items()}


def by_definition(scores: dict[str, float], grades: dict[str, int]) -> dict[str, float]:
    ranked = [max(grades.get(d, 0), 0) for d in sorted(scores, key=lambda d: (scores[d], d), reverse=True)]
    relevant, hits = sum(g > 0 for g in grades.values()), np.cumsum([g > 0 for g in ranked])

    def dcg(gains: list[int]) -> float:
        return sum(g / np.log2(rank + 1) for rank, g in enumerate(gains[:10], start=1))

    return {
        "AP": sum(hits[i] / (i + 1) for i, g in enumerate(ranked) if g > 0) / relevant,
        "nDCG@10": dcg(ranked) / dcg(sorted(grades.values(), reverse=True)),
        "RR@10": next((1 / (i + 1) for i, g in enumerate(ranked[:10]) if g > 0), 0.0),
        **{f"R@{k}": hits[k - 1] / relevant for k in (1, 5, 10, 100)},
        "P@10": hits[9] / 10,
    }


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definitions(seed):
    run, qrels = some_judged_run(seed)
    per_query = evaluate_run(run, qrels)
    for query in run:
        assert per_query[query] == pytest.approx(by_definition(run[query], qrels[query]))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # numba's, while ranx compiles
def test_agrees_with_ranx():
    ranx = pytest.importorskip("ranx")
    run, qrels = some_judged_run(seed=0)
    positive = {q: {d: g for d, g in grades.items() if g > 0} for q, grades in qrels.items()}
    names = {"AP": "map", "nDCG@10": "ndcg@10", "RR@10": "mrr@10", "R@1": "recall@1", "R@5": "recall@5",
             "R@10": "recall@10", "R@100": "recall@100", "P@10": "precision@10"}  # fmt: skip
    theirs = ranx.evaluate(ranx.Qrels(positive), ranx.Run(run), list(names.values()))
    ours = mean_metrics(evaluate_run(run, qrels))
    assert {names[m]: ours[m] for m in METRICS} == pytest.approx(theirs, abs=1e-9)


def test_group_means_count_each_language_once():
    def figures(value: float, queries: int) -> dict[str, float]:
        return dict.fromkeys(METRICS, value) | {"queries": queries}

    languages = {"sw": figures(0.2, 10), "so": figures(0.4, 1000), "de": figures(0.9, 10)}
    groups = group_means(languages, ("sw", "so"))
    assert groups["low"] == pytest.approx(dict.fromkeys(METRICS, 0.3))
    assert groups["high"] == pytest.approx(dict.fromkeys(METRICS, 0.9))
    assert groups["gap"] == pytest.approx(dict.fromkeys(METRICS, 0.6))
    assert group_means({"de": languages["de"]}, ("sw",)) == {
        "low": None,
        "high": dict.fromkeys(METRICS, 0.9),
        "gap": None,
    }


# ---- what trec_eval's C code could not take ------------------------------------------------------------------------


def test_grades_below_zero_count_as_zero():
    """A query judged -2 alone made trec_eval write outside of an array. Beside a 1, figures are as without the -2."""
    run = {q: {"a": 3.0, "b": 2.0, "c": 1.0} for q in ("junk", "mixed", "zero", "right")}
    qrels = {"junk": {"a": -2}, "mixed": {"a": -2, "b": 1, "c": -3}, "zero": {"a": 0, "b": -1}, "right": {"a": 1}}
    for _ in range(20):
        per_query = evaluate_run(run, qrels)
        assert per_query["junk"] == per_query["zero"] == dict.fromkeys(METRICS, 0.0)
        assert per_query["mixed"] == pytest.approx(
            {"AP": 1 / 2, "nDCG@10": 1 / np.log2(3), "RR@10": 1 / 2, "R@1": 0, "R@5": 1, "R@10": 1, "R@100": 1,
             "P@10": 0.1}
        )  # fmt: skip
        assert per_query["right"]["AP"] == per_query["right"]["nDCG@10"] == 1.0
    assert mean_metrics(per_query)["nDCG@10"] == pytest.approx((1 + 1 / np.log2(3)) / 4)
    assert qrels["junk"] == {"a": -2}, "the caller's judgements stay as they are"


@pytest.mark.parametrize("seed", range(3))
def test_negative_grades_agree_with_the_definitions(seed):
    """Of some judged run, grades from -3: by hand, and RR@10 by ir-measures' other provider, which is Python."""
    run, qrels = some_judged_run(seed)
    shifted = {q: {d: g - 3 * (n % 2) for n, (d, g) in enumerate(grades.items())} for q, grades in qrels.items()}
    shifted = {q: {**grades, "d001": 2} for q, grades in shifted.items()}
    per_query = evaluate_run(run, shifted)
    for query, grades in shifted.items():
        assert per_query[query] == pytest.approx(by_definition(run[query], {d: max(g, 0) for d, g in grades.items()}))
    positive = {q: {d: g for d, g in grades.items() if g > 0} for q, grades in shifted.items()}
    theirs = ir_measures.msmarco.calc_aggregate([ir_measures.RR @ 10], positive, run)[ir_measures.RR @ 10]
    assert mean_metrics(per_query)["RR@10"] == pytest.approx(theirs)


def test_a_query_with_an_empty_list_of_judgements_counts_as_zero():
    assert evaluate_run({"q": {"a": 1.0}}, {"q": {}})["q"] == dict.fromkeys(METRICS, 0.0)


@pytest.mark.parametrize("identity", ["a\ud83d", "a\x00b", "a b", ""], ids=ascii)
@pytest.mark.parametrize("where", ["query", "judged document", "ranked document"])
def test_ids_that_c_code_cannot_read_are_refused(identity, where):
    """Half a surrogate pair was a null pointer, and a null character ends an id."""
    query = identity if where == "query" else "q"
    qrels = {query: {identity if where == "judged document" else "d": 1}}
    run = {query: {identity if where == "ranked document" else "d": 1.0}}
    with pytest.raises(DataError, match=r"^(qrels|run): id .*; give it another id$"):
        evaluate_run(run, qrels)


@pytest.mark.parametrize("grade", [LARGEST_GRADE + 1, 2**31 - 1, 2**64, 10**4000], ids=int.bit_length)
def test_grades_that_c_code_cannot_count_are_refused(grade):
    with pytest.raises(DataError, match="query 'q' has a grade above 10,000"):
        evaluate_run({"q": {"d": 1.0}}, {"q": {"d": grade}})
    assert evaluate_run({"q": {"d": 1.0}}, {"q": {"d": LARGEST_GRADE, "e": 1}})["q"]["R@1"] == 0.5


def test_ir_measures_breaks_ties_of_its_own_reciprocal_rank_the_other_way():
    """What docs/evaluation.md states, and why RR@10 is computed from RR here."""
    run, qrels = {"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}
    found = ir_measures.calc_aggregate([ir_measures.RR @ 10, ir_measures.RR, ir_measures.R @ 1], qrels, run)
    assert (found[ir_measures.RR @ 10], found[ir_measures.RR], found[ir_measures.R @ 1]) == (1.0, 0.5, 0.0)
    assert evaluate_run(run, qrels)["q"]["RR@10"] == 0.5
