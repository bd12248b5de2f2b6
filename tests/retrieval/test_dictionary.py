"""Dictionary translation: the lexicon by construction, the search by hand and against bm25s."""

import gzip

import numpy as np
import pytest

from optical_jax.data.collections.collection import read_collection
from optical_jax.data.text.translation_table import translation_table
from optical_jax.retrieval.bm25 import make_bm25
from optical_jax.retrieval.dictionary import count_lexicon, make_dictionary_bm25
from optical_jax.retrieval.metrics import evaluate_run, mean_metrics

NOUNS = {"cat": "paka", "dog": "mbwa", "bird": "ndege", "fish": "samaki"}
VERBS = {"sleeps": "analala", "eats": "anakula", "walks": "anatembea"}
PAIRS = [(f"the {n} {v}", f"{NOUNS[n]} {VERBS[v]}") for n in NOUNS for v in VERBS]


def test_every_word_of_a_language_made_up_finds_its_own():
    """All nouns with all verbs: only the right pairs always stand together."""
    lexicon = count_lexicon(*map(list, zip(*PAIRS, strict=True)))
    assert set(lexicon) == {*NOUNS.values(), *VERBS.values()}
    for english, foreign in (NOUNS | VERBS).items():
        assert max(lexicon[foreign], key=lexicon[foreign].__getitem__) == english
        assert sum(lexicon[foreign].values()) == pytest.approx(1.0)


def test_so_many_translations_at_most():
    lexicon = count_lexicon(*map(list, zip(*PAIRS, strict=True)), translations=1)
    assert lexicon["paka"] == {"cat": 1.0}


def test_a_rare_word_does_not_take_what_belongs_to_another():
    """Seen once, beside a red zebra, "punda" may mean red one way; the other way red is "nyekundu" and little else."""
    english = ["red house", "red tree", "red cup", "zebra red"]
    found = count_lexicon(english, ["nyekundu nyumba", "nyekundu mti", "nyekundu kikombe", "punda"])["punda"]
    red, zebra, nyekundu, punda = 0, 4, 0, 4
    sides = [[red, n] for n in (1, 2, 3, zebra)], [[nyekundu, 1], [nyekundu, 2], [nyekundu, 3], [punda]]
    one_way = translation_table(*([np.array(ids) for ids in side] for side in sides), english_size=5, foreign_size=5)
    assert one_way[punda, zebra] > one_way[punda, red] > 0.1
    assert found["zebra"] > 0.9 > 0.1 > found["red"]


@pytest.mark.parametrize(
    ("query", "document", "other"),
    [("نمی\u200cروم", "نمیروم شد", "نمی روم"), ("نمیروم", "نمی\u200cروم شد", "نمی روم")],
)
def test_joiners_do_not_keep_words_from_being_found(query, document, other):
    """By BM25, and through a dictionary whose texts are written without the joiner of the query, or with it."""
    documents = {"joined": document, "apart": other}
    assert make_bm25(documents)([query]).as_run(["q"], list(documents))["q"].keys() == {"joined"}
    lexicon = count_lexicon(["dunno"] * 3, [document.split()[0]] * 3)
    ranking = make_dictionary_bm25({"a": "dunno", "b": "why"})([query], lexicon)
    assert ranking.as_run(["q"], ["a", "b"])["q"].keys() == {"a"}


DOCUMENTS = {"a": "cat cat dog", "b": "dog", "c": "bird.", "d": "kitten sleeps"}


def test_by_hand():
    """Counts and document frequencies are sums weighted by probability, Lucene's form of BM25 over them."""
    lexicon = {"paka": {"dog": 0.75, "kitten": 0.25}}
    ranking = make_dictionary_bm25(DOCUMENTS)(["paka paka bird", "simba"], lexicon)
    run = ranking.as_run(["q1", "q2"], list(DOCUMENTS))
    lengths = {"a": 3, "b": 1, "c": 1, "d": 2}
    average = 7 / 4

    def score(tf: float, df: float, document: str) -> float:
        idf = np.log(1 + (4 - df + 0.5) / (df + 0.5))
        return idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * lengths[document] / average))

    df = 0.75 * 2 + 0.25 * 1
    expected = {"a": 2 * score(0.75, df, "a"), "b": 2 * score(0.75, df, "b"), "d": 2 * score(0.25, df, "d")}
    expected["c"] = score(1, 1, "c")
    assert run["q1"] == pytest.approx(expected, rel=1e-5)
    assert run["q2"] == {}


def test_where_every_word_means_itself_it_is_bm25():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 9))) for _ in range(60)]
    documents, queries = {f"d{n}": text for n, text in enumerate(texts[:50])}, [*texts[50:], "z", ""]
    expected, found = make_bm25(documents)(queries), make_dictionary_bm25(documents)(queries, {})
    np.testing.assert_array_equal(found.documents, expected.documents)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_documents_without_words():
    assert make_dictionary_bm25({"a": "?!"})(["cat"], {"cat": {"dog": 1.0}}).documents.tolist() == [[-1]]


def test_real_pairs_find_more_than_shared_words(data_dir):
    """Amharic shares no letter with English; of every twentieth sentence the health texts' words find most."""
    collection = read_collection(data_dir / "retrieval" / "flores_sib", languages=["am"])
    path = data_dir / "bitext" / "tico19" / "am.train.tsv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lexicon = count_lexicon(*map(list, zip(*(line.split("\t") for line in lines), strict=True)))
    asked = dict(list(collection.queries["am"].items())[::20])
    ids, qrels = list(collection.documents), {query: collection.qrels[query] for query in asked}
    rankings = (
        make_bm25(collection.documents)(list(asked.values())),
        make_dictionary_bm25(collection.documents)(list(asked.values()), lexicon),
    )
    plain, by_dictionary = (mean_metrics(evaluate_run(r.as_run(list(asked), ids), qrels))["AP"] for r in rankings)
    assert by_dictionary > plain + 0.4
