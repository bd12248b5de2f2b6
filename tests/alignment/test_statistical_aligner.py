"""The statistical aligner: against EM written out word by word, and what EM must keep whatever the corpus."""

import math
from collections import defaultdict

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from optical_jax.alignment.statistical_aligner import NULL, UNSEEN, Places, fit_aligner, fit_direction
from optical_jax.errors import DataError

CORPUS = [
    (["das", "haus"], ["the", "house"]),
    (["das", "buch"], ["the", "book"]),
    (["ein", "buch"], ["a", "book"]),
    (["das", "kleine", "haus", "da"], ["the", "small", "house"]),
]


def place_probabilities(m: int, n: int, j: int, tension: float) -> list[float]:
    """Of source words 0..m-1 for target word j of n, and behind them of the empty word."""
    weights = [math.exp(-tension * abs((i + 1) / m - (j + 1) / n)) for i in range(m)]
    return [(1 - NULL) * w / sum(weights) for w in weights] + [NULL]


def written_out(source, target, tensions, dirichlet):
    """EM in loops, its tensions given: log likelihoods and the table (target word, source word) -> probability."""
    vocabulary = {word for text in target for word in text}
    table = defaultdict(lambda: 1 / len(vocabulary))
    history = []
    for tension in tensions:
        counts, of_source, likelihood = defaultdict(float), defaultdict(float), 0.0
        for s, t in zip(source, target, strict=True):
            for j, word in enumerate(t):
                placed = place_probabilities(len(s), len(t), j, tension)
                joint = [p * table[word, origin] for p, origin in zip(placed, [*s, None], strict=True)]
                likelihood += math.log(sum(joint))
                for p, origin in zip(joint, [*s, None], strict=True):
                    counts[word, origin] += p / sum(joint)
                    of_source[origin] += p / sum(joint)
        history.append(likelihood)
        kinds = defaultdict(int)
        for _, origin in counts:
            kinds[origin] += 1
        last = dict(table)
        for (word, origin), count in counts.items():
            if dirichlet:
                whole = scipy.special.digamma(of_source[origin] + dirichlet * kinds[origin])
                table[word, origin] = math.exp(scipy.special.digamma(count + dirichlet) - whole)
            else:
                table[word, origin] = count / of_source[origin]
    return history, last


@pytest.mark.parametrize("dirichlet", [0.0, 0.01])
@pytest.mark.parametrize("block", [1 << 20, 5, 2])
def test_em_is_what_loops_over_words_find(dirichlet, block, monkeypatch):
    monkeypatch.setattr("optical_jax.alignment.statistical_aligner.BLOCK", block)
    source, target = [e for _, e in CORPUS], [f for f, _ in CORPUS]
    models = [fit_direction(source, target, iterations=n, dirichlet=dirichlet) for n in range(4)]
    tensions = [model.tension for model in models]
    history, table = written_out(source, target, tensions, dirichlet)
    np.testing.assert_allclose(models[3].log_likelihood, history, rtol=1e-9)
    names = [*models[3].source_ids, None]
    targets = list(models[3].target_ids)
    found = {
        (targets[key % len(targets)], names[key // len(targets)]): p
        for key, p in zip(models[3].keys, models[3].probability, strict=True)
    }
    assert found.keys() == table.keys()
    for cell, probability in table.items():
        assert found[cell] == pytest.approx(probability, rel=1e-6), cell


def test_the_tension_is_the_most_probable_one():
    """Against a fine grid, for counts drawn at random over two shapes of sentence."""
    places = Places(np.array([3, 5, 3]), np.array([4, 2, 4]))
    assert places.of_pair.tolist() == [0, 1, 0]
    expected = np.random.default_rng(0).gamma(1.0, size=len(places.distance)) * (places.distance < 0.4)
    real = ~places.is_null

    def fit(tension):
        return (expected * np.log(places.probability(tension)))[real].sum()

    grid = np.linspace(0.0, 40.0, 4001)
    assert places.best_tension(expected) == pytest.approx(grid[np.argmax([fit(t) for t in grid])], abs=0.03)
    # Far from the diagonal there is nothing to prefer.
    assert places.best_tension(np.where(places.distance > 0.5, 1.0, 0.0)) == 0.0


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.0, 40.0))
def test_places_are_probabilities(m, n, tension):
    found = Places(np.array([m]), np.array([n])).probability(tension).reshape(n, m + 1)
    np.testing.assert_allclose(found, [place_probabilities(m, n, j, tension) for j in range(n)], rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-9)


words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=6)


@settings(max_examples=40)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=12))
def test_em_never_lowers_the_likelihood(pairs):
    model = fit_direction([s for s, _ in pairs], [t for _, t in pairs], iterations=8, dirichlet=0.0)
    steps = np.diff(model.log_likelihood)
    assert (steps >= -1e-9 * (1.0 + abs(model.log_likelihood[0]))).all()
    of = model.keys // len(model.target_ids)
    np.testing.assert_allclose(np.bincount(of, model.probability)[np.unique(of)], 1.0, rtol=1e-9)


@settings(max_examples=15)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=12))
def test_links_of_both_directions_turn_with_the_sides(pairs):
    one, other = fit_aligner(pairs), fit_aligner([(b, a) for a, b in pairs])
    for a, b in pairs:
        for rule, turned in (("forward", "backward"), ("intersection", "intersection"), ("union", "union")):
            np.testing.assert_array_equal(one.links(a, b, rule), other.links(b, a, turned).T)
        assert (one.links(a, b, "forward").sum(axis=1) <= 1).all()


def test_words_find_their_translations():
    """A language that spells English backwards and puts the last word first, among made-up sentences."""
    rng = np.random.default_rng(0)
    vocabulary = [f"w{n}x" for n in range(40)]
    pairs = []
    for _ in range(300):
        english = list(rng.choice(vocabulary, rng.integers(3, 8), replace=False))
        foreign = [word[::-1].upper() for word in english]
        pairs.append(([foreign[-1], *foreign[:-1]], english))
    aligner = fit_aligner(pairs)
    for foreign, english in pairs[:20]:
        right = np.array([[f.lower() == e[::-1] for e in english] for f in foreign])
        for rule in ("forward", "backward", "grow-diag-final-and"):
            np.testing.assert_array_equal(aligner.links(foreign, english, rule), right)


def test_of_unknown_words_the_place_decides():
    aligner = fit_aligner(CORPUS)
    np.testing.assert_array_equal(aligner.links(["x", "y", "z"], ["q", "r", "s"]), np.eye(3, dtype=bool))
    assert aligner.links([], ["a"]).shape == (0, 1)
    assert aligner.links(["das"], []).shape == (1, 0)
    assert aligner.forward.probability.max() > UNSEEN


def test_more_bitext_than_memory_is_thinned_out():
    """Of 400 cells 100 may be held: every fourth pair, and so one word of four is known."""
    pairs = [([f"f{n % 4}"] * 2, [f"e{n % 4}"] * 2) for n in range(100)]
    assert set(fit_aligner(pairs, max_cells=100).forward.target_ids) == {"f0"}
    assert len(fit_aligner([*pairs, ([], ["a"])]).forward.target_ids) == 4
    with pytest.raises(DataError, match="cannot be trained"):
        fit_aligner([([], ["a"])])
