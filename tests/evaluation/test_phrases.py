"""Phrases and the regions they mean: boxes, patches and recall by hand."""

import numpy as np
import pytest

from optical_jax.evaluation.phrases import (
    PHRASE_METRICS,
    RegionImage,
    mean_phrase_metrics,
    overlap,
    patch_weights,
    phrase_metrics,
    region_vectors,
)
from optical_jax.retrieval.scoring import maxsim
from optical_jax.retrieval.significance import compare_runs
from optical_jax.types import TokenVectors

EYE = np.eye(4, dtype=np.float32)
QUARTERS = [[0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]]
"""Of a picture of 20 x 20 pixels, whose four patches are the four axes."""


def picture(boxes=QUARTERS, patches=EYE, area=(0, 0, 20, 20)) -> RegionImage:
    return RegionImage(np.array(boxes, float), patches, (2, 2), area)


def phrases(*rows) -> TokenVectors:
    """Phrases of one token each, made unit vectors."""
    vectors = np.array(rows, np.float32)[:, None]
    return TokenVectors(vectors / np.linalg.norm(vectors, axis=2, keepdims=True), np.ones((len(rows), 1), bool))


# ---- boxes -------------------------------------------------------------------------------------------------------


def test_overlap_by_hand():
    """Two of 10 x 10 that share half: 50 of 150. One inside: 25 of 100. Beside: nothing. No area: nothing."""
    others = [[5, 0, 15, 10], [5, 5, 10, 10], [10, 0, 20, 10], [0, 0, 10, 10], [3, 3, 3, 3]]
    found = overlap(np.array([[0, 0, 10, 10]]), np.array(others))
    np.testing.assert_allclose(found, [[1 / 3, 1 / 4, 0.0, 1.0, 0.0]])
    np.testing.assert_allclose(overlap(np.array([[3, 3, 3, 3]]), np.array([[3, 3, 3, 3]])), [[0.0]])


def test_overlap_is_counted_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (2, 12, 2, 2))
    a, b = (np.concatenate([x.min(axis=1), x.max(axis=1) + 1], axis=1) for x in corners)

    def pixels(box):
        canvas = np.zeros((21, 21), bool)
        canvas[box[1] : box[3], box[0] : box[2]] = True
        return canvas

    expected = [[(pixels(x) & pixels(y)).sum() / (pixels(x) | pixels(y)).sum() for y in b] for x in a]
    np.testing.assert_allclose(overlap(a, b), expected)


def test_patches_count_by_the_share_that_is_covered():
    """A box over all of the first patch, half of the second, a fifth of the third and a tenth of the last."""
    np.testing.assert_allclose(patch_weights(np.array([[0, 0, 15, 12]]), (2, 2), (0, 0, 20, 20)), [[1, 0.5, 0.2, 0.1]])
    # One row of three patches; a box beyond the picture's edges covers all of it.
    np.testing.assert_allclose(patch_weights(np.array([[-9, -9, 99, 99]]), (1, 3), (0, 0, 20, 20)), [[1, 1, 1]])


def test_the_grid_may_cover_a_part_of_the_picture():
    """A crop of 10 x 10 from (5, 0): its left column of patches ends at 10."""
    np.testing.assert_allclose(patch_weights(np.array([[0, 0, 10, 5]]), (2, 2), (5, 0, 15, 10)), [[1, 0, 0, 0]])


def test_region_vectors_are_unit_means():
    vectors, covered = region_vectors(picture([[0, 0, 20, 10], [0, 0, 15, 10], [40, 40, 50, 50], [5, 5, 5, 9]]))
    expected = [[1, 1, 0, 0] / np.sqrt(2), [1, 0.5, 0, 0] / np.sqrt(1.25), np.zeros(4), np.zeros(4)]
    np.testing.assert_allclose(vectors, expected, atol=1e-7)
    assert covered.tolist() == [True, True, False, False]


def test_patches_that_are_no_grid():
    with pytest.raises(ValueError, match="3 patch vectors do not fill a grid of 2 x 2"):
        region_vectors(picture(patches=EYE[:3]))


# ---- recall ------------------------------------------------------------------------------------------------------


def test_recall_by_hand():
    """Scores of the quarters fall from the last to the first; gold is the third, found second."""
    found = phrase_metrics(phrases([1, 2, 3, 4]), ["p"], [0], [np.array([QUARTERS[2]])], [picture()])
    expected = {"R@1": 0.0, "R@5": 1.0, "R@10": 1.0, "bound": 1.0}
    assert found == {"p": {f"{way} {name}": v for way in ("any", "merged") for name, v in expected.items()}}
    assert tuple(found["p"]) == PHRASE_METRICS


def test_several_gold_boxes_any_of_them_or_their_union():
    """Two quarters in a row: the best candidate is one of them, and half of the box around both (IoU exactly 1/2)."""
    boxes = [*QUARTERS, [0, 0, 20, 10]]
    gold = np.array([QUARTERS[0], QUARTERS[1]])
    found = phrase_metrics(phrases([1, 0, 0, 0], [1, 1, 0, 0]), ["one", "both"], [0, 0], [gold] * 2, [picture(boxes)])
    assert found["one"]["any R@1"] == found["one"]["merged R@1"] == 1.0
    assert found["both"]["any R@1"] == found["both"]["merged R@1"] == 1.0
    # At a stricter threshold one of them is no longer the union, and the union none of them.
    found = phrase_metrics(
        phrases([1, 0, 0, 0], [1, 1, 0, 0]), ["one", "both"], [0, 0], [gold] * 2, [picture(boxes)], threshold=0.6
    )
    assert [found[name][f"{way} R@1"] for name in ("one", "both") for way in ("any", "merged")] == [1, 0, 0, 1]
    assert found["one"]["merged R@5"] == 1.0


def test_what_is_not_among_the_candidates_cannot_be_found():
    gold = [np.array([[0, 0, 20, 20]])]
    found = phrase_metrics(phrases([1, 0, 0, 0]), ["p"], [0], gold, [picture()])
    assert set(found["p"].values()) == {0.0}


def test_boxes_beside_all_patches_come_last():
    """The phrase is opposite to the only patch that is covered, and that box still stands first."""
    boxes = [[40, 40, 50, 50], QUARTERS[0]]
    found = phrase_metrics(phrases([-1, 0, 0, 0]), ["p"], [0], [np.array([QUARTERS[0]])], [picture(boxes)])
    assert found["p"]["any R@1"] == 1.0


def test_ranks_as_maxsim_does_over_pictures_and_phrases_of_several_tokens():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 5, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    mask = np.arange(5) < rng.integers(1, 6, 9)[:, None]
    tokens = TokenVectors(vectors, mask)  # masked ones hold what must not matter
    patches = rng.normal(size=(2, 4, 4)).astype(np.float32)
    boxes = np.sort(rng.uniform(0, 20, (2, 7, 2, 2)), axis=2).reshape(2, 7, 4)
    pictures = [picture(*each) for each in zip(boxes, patches, strict=True)]
    of, ids = [0, 1, 1, 0, 0, 1, 0, 1, 0], [f"p{n}" for n in range(9)]
    gold = [pictures[n].boxes[[3]] for n in of]
    found = phrase_metrics(tokens, ids, of, gold, pictures, threshold=0.999)
    assert list(found) == ids
    for n, name in enumerate(ids):
        regions, covered = region_vectors(pictures[of[n]])
        scores = np.asarray(maxsim(tokens, TokenVectors(regions[:, None], covered[:, None])))[n]
        rank = 1 + (scores > scores[3]).sum()
        assert [found[name][f"any R@{k}"] for k in (1, 5, 10)] == [rank <= 1, rank <= 5, True]


def test_means_and_paired_tests():
    gold = [np.array([QUARTERS[n]]) for n in (0, 1)]
    right, wrong = (
        phrase_metrics(phrases(*rows), ["a", "b"], [0, 0], gold, [picture()])
        for rows in (([1, 0, 0, 0], [0, 1, 0, 0]), ([1, 0, 0, 0], [1, 0, 0, 0]))
    )
    assert mean_phrase_metrics(wrong)["any R@1"] == 0.5
    assert mean_phrase_metrics(right) == dict.fromkeys(PHRASE_METRICS, 1.0) | {"phrases": 2}
    (first, *_) = compare_runs({"en": wrong}, {"en": right}, metrics=PHRASE_METRICS)
    assert (first.metric, first.difference) == ("any R@1", 0.5)


def test_phrases_without_gold_and_numbers_that_do_not_agree():
    with pytest.raises(ValueError, match="phrase p has no gold box"):
        phrase_metrics(phrases([1, 0, 0, 0]), ["p"], [0], [np.zeros((0, 4))], [picture()])
    with pytest.raises(ValueError, match="1 phrases, 2 ids"):
        phrase_metrics(phrases([1, 0, 0, 0]), ["p", "q"], [0], [np.array([QUARTERS[0]])], [picture()])
