"""Embeddings for a new vocabulary: copied, drawn, or averaged over translations counted in bitext."""

import numpy as np
import pytest

from optical_jax.data.text.translation_table import mutual_translations, translation_table
from optical_jax.training.embeddings import (
    lexicon_embeddings,
    principal_components,
    spelled_pieces,
    transfer_embeddings,
)


def vocabulary(*pieces: str) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces)}


def random_table(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


# ---- a smaller width ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 6])
def test_principal_components_are_the_svd_s(width):
    """About the mean, as NumPy's singular value decomposition has them, up to the sign of a direction."""
    vectors = random_table(20, 6) * np.arange(1, 7, dtype=np.float32) + 5
    u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    found = principal_components(vectors, width)
    assert found.shape == (20, width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :width] * s[:width]), atol=1e-4)


# ---- copied and drawn --------------------------------------------------------------------------------------------


def test_shared_pieces_are_copied():
    old, new = vocabulary("[PAD]", "the", "##s", "maji"), vocabulary("maji", "mto", "[PAD]")
    embedding = random_table(4, 6)
    table = transfer_embeddings(embedding, old, new, seed=0)
    assert table.shape == (3, 6)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[[0, 2]], embedding[[3, 0]])
    assert not (table[1] == embedding).all(axis=1).any()


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_pieces_are_compared_by_what_they_spell(mark):
    """WordPiece marks what goes on a word, the others what begins one."""
    old = vocabulary("<s>", f"{mark}the", "the", f"{mark}maji", mark)
    new = vocabulary("the", "##the", "maji", "##maji", "<s>")
    embedding = random_table(5, 4)
    table = transfer_embeddings(embedding, old, new, seed=0)
    np.testing.assert_array_equal(table[[0, 1, 2, 4]], embedding[[1, 2, 3, 0]])
    assert not (table[3] == embedding).all(axis=1).any()
    back = transfer_embeddings(table, new, old, seed=0)
    np.testing.assert_array_equal(back[:4], embedding[:4])


def test_a_draw_depends_on_seed_and_spelling_alone():
    old, embedding = vocabulary("a", "b", "c"), random_table(3, 5)
    first = transfer_embeddings(embedding, old, vocabulary("mto", "mlima"), seed=7)
    other_order = transfer_embeddings(embedding, old, vocabulary("soko", "mlima", "a", "mto"), seed=7)
    np.testing.assert_array_equal(first, other_order[[3, 1]])
    assert (first != transfer_embeddings(embedding, old, vocabulary("mto", "mlima"), seed=8)).all()
    assert (first[0] != first[1]).all()


def test_draws_have_the_mean_and_covariance_of_the_old_rows():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4))
    embedding = (rng.standard_normal((3000, 4)) @ mixing + [3.0, -2.0, 0.0, 1.0]).astype(np.float32)
    old, new = ({f"{kind}{i}": i for i in range(3000)} for kind in ("old", "new"))
    table = transfer_embeddings(embedding, old, new, seed=0)
    # 3000 draws: a mean is off by std / 55, a covariance by about 2 % of the variances.
    spread = embedding.std(axis=0).max()
    np.testing.assert_allclose(table.mean(axis=0), embedding.mean(axis=0), atol=5 * spread / 55)
    np.testing.assert_allclose(np.cov(table.T), np.cov(embedding.T), atol=0.15 * spread**2)


def test_fewer_pieces_than_dimensions():
    """Three rows span a plane around their mean: draws stay in it."""
    embedding = random_table(3, 8)
    table = transfer_embeddings(embedding, vocabulary("a", "b", "c"), vocabulary(*"defgh"), seed=0)
    plane = np.linalg.svd(embedding - embedding.mean(axis=0))[2][:2]
    centred = table - embedding.mean(axis=0)
    np.testing.assert_allclose(centred @ plane.T @ plane, centred, atol=1e-5)


def test_only_rows_of_pieces_count_and_gaps_are_filled():
    """Tables are often padded beyond the vocabulary, with rows nobody trained."""
    embedding = np.concatenate([random_table(4, 3), np.full((2, 3), 1e6, np.float32)])
    table = transfer_embeddings(embedding, vocabulary(*"abcd"), {"a": 0, "z": 5}, seed=0)
    assert table.shape == (6, 3)
    assert np.abs(table).max() < 100


# ---- translations ------------------------------------------------------------------------------------------------

THE, HOUSE, BOOK = range(3)
DAS, HAUS, BUCH = range(3)
ENGLISH = [np.array([THE, HOUSE]), np.array([THE, BOOK])]
GERMAN = [np.array([DAS, HAUS]), np.array([DAS, BUCH])]


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        # Round 1 shares every English word equally among both words and the empty one.
        (1, [[1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 2, 0], [1 / 2, 0, 1 / 2]]),
        # Round 2: `the` is 1/3 das, 1/3 Haus; `house` is 1/4 das, 1/2 Haus (the rest is the empty word's).
        (2, [[4 / 7, 3 / 14, 3 / 14], [2 / 5, 3 / 5, 0], [2 / 5, 0, 3 / 5]]),
    ],
)
def test_em_by_hand(iterations, expected):
    table = translation_table(ENGLISH, GERMAN, english_size=3, foreign_size=3, iterations=iterations)
    np.testing.assert_allclose(table.toarray(), expected, atol=1e-12)


def test_the_most_probable_are_kept_and_sum_to_one():
    table = translation_table(ENGLISH, GERMAN, english_size=3, foreign_size=3, iterations=2, top=2)
    np.testing.assert_allclose(table.toarray()[HAUS], [2 / 5, 3 / 5, 0], atol=1e-12)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-12)
    assert (np.diff(table.indptr) == 2).all()


def test_a_dictionary_is_recovered():
    """40 words with one translation each (41 - w), shuffled sentences of 3 to 8 words: every word is found."""
    rng = np.random.default_rng(0)
    foreign = [rng.choice(np.arange(1, 41), rng.integers(3, 9), replace=False) for _ in range(400)]
    english = [rng.permutation(41 - text) for text in foreign]
    table = translation_table(english, foreign, english_size=41, foreign_size=41).toarray()
    np.testing.assert_array_equal(table[1:].argmax(axis=1), 41 - np.arange(1, 41))
    assert table[1:].max(axis=1).min() > 0.5


def test_special_and_unseen_pieces_have_no_translation():
    english = [np.array([9, THE, HOUSE, 8]), np.array([9, THE, BOOK, 8])]
    german = [np.array([9, DAS, HAUS, 8]), np.array([9, DAS, BUCH, 8])]
    table = translation_table(
        english, german, english_size=10, foreign_size=10, english_special=(8, 9), foreign_special=(8, 9), iterations=2
    ).toarray()
    plain = translation_table(ENGLISH, GERMAN, english_size=3, foreign_size=3, iterations=2).toarray()
    np.testing.assert_allclose(table[:3, :3], plain, atol=1e-12)
    assert not table[3:].any()
    assert not table[:, 3:].any()


def test_sides_of_special_tokens_alone_are_passed_over():
    english = [np.array([9]), *ENGLISH, np.array([THE])]
    german = [np.array([DAS]), *GERMAN, np.array([9])]
    table = translation_table(
        english, german, english_size=10, foreign_size=10, english_special=[9], foreign_special=[9], iterations=1
    ).toarray()
    np.testing.assert_allclose(table[:3, :3], [[1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 2, 0], [1 / 2, 0, 1 / 2]])
    nothing = translation_table([], [], english_size=3, foreign_size=4)
    assert nothing.shape == (4, 3)
    assert nothing.nnz == 0


def test_more_bitext_than_memory_is_thinned_evenly():
    table = translation_table(ENGLISH * 6, GERMAN * 6, english_size=3, foreign_size=3, iterations=2, max_cells=30)
    # 12 pairs of 6 cells, 30 may be kept: every third pair, which are two of the first kind and two of the second.
    plain = translation_table(ENGLISH, GERMAN, english_size=3, foreign_size=3, iterations=2)
    np.testing.assert_allclose(table.toarray(), plain.toarray(), atol=1e-12)


def test_translations_that_hold_both_ways():
    """By the definition, from the two directions; `the` is dropped as a translation of Haus where one is kept."""
    sizes = {"english_size": 3, "foreign_size": 3}
    there = translation_table(ENGLISH, GERMAN, **sizes).toarray()
    back = translation_table(GERMAN, ENGLISH, **sizes).toarray()
    product = there * back.T
    table = mutual_translations(ENGLISH, GERMAN, **sizes).toarray()
    np.testing.assert_allclose(table, product / product.sum(axis=1, keepdims=True), atol=1e-12)
    root = mutual_translations(ENGLISH, GERMAN, **sizes, power=0.5).toarray()
    np.testing.assert_allclose(root, product**0.5 / (product**0.5).sum(axis=1, keepdims=True), atol=1e-12)
    assert table[HAUS, HOUSE] > there[HAUS, HOUSE]
    np.testing.assert_array_equal(mutual_translations(ENGLISH, GERMAN, **sizes, top=1).toarray(), np.eye(3))


def test_what_nothing_translates_back_to_keeps_its_own_translation():
    english, foreign = [np.array([0])] * 3, [np.array([0]), np.array([0]), np.array([0, 1])]
    table = mutual_translations(english, foreign, english_size=1, foreign_size=3, candidates=1)
    np.testing.assert_array_equal(table.toarray(), [[1.0], [1.0], [0.0]])


def test_translated_pieces_get_the_average_at_the_median_length():
    """Old rows have lengths 1, 1 and 5: the average (1, 2, 0) / 3 is stretched to 1."""
    old = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 5]], np.float32)
    translations = translation_table(
        [np.array([0]), np.array([1]), np.array([1])], [np.array([1]), np.array([1]), np.array([1])],
        english_size=3, foreign_size=3, iterations=1,
    )  # fmt: skip
    np.testing.assert_allclose(translations.toarray()[1], [1 / 3, 2 / 3, 0])
    rows = random_table(3, 3)
    table = lexicon_embeddings(rows, old, translations)
    np.testing.assert_allclose(table[1], np.array([1, 2, 0]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_array_equal(table[[0, 2]], rows[[0, 2]])


def test_pieces_of_any_style_as_wordpiece_spells_them():
    wordpiece = ["[CLS]", "the", "##ing", "##", "7"]
    assert spelled_pieces(wordpiece) == ["##", "##ing", "7", "the"]
    assert spelled_pieces(["<s>", "\u2581the", "ing", "\u2581"]) == ["##ing", "##\u2581", "the"]
