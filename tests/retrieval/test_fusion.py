"""Rankings joined by reciprocal places."""

import numpy as np
import pytest

from optical_jax.retrieval.fusion import reciprocal_rank_fusion
from optical_jax.retrieval.search import Ranking

IDS = ["a", "b", "c", "d"]


def ranking(*rows: list[int]) -> Ranking:
    """Of documents by position, -1 for none; scores that a sum of them would get wrong."""
    found = np.array(rows, np.int32)
    return Ranking(found, np.where(found >= 0, np.float32(1e6), np.float32(-np.inf)))


def test_by_hand():
    """a: 1/61 + 1/63; b: 1/62 + 1/61; c: 1/62; d: found by none."""
    fused = reciprocal_rank_fusion([ranking([0, 1, -1]), ranking([1, 2, 0])], IDS)
    assert fused.documents[0].tolist() == [1, 0, 2, -1]
    expected = [1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62]
    assert fused.scores[0, :3].tolist() == pytest.approx(expected)


def test_ties_go_by_id_and_depth_cuts():
    fused = reciprocal_rank_fusion([ranking([0, 1], [3, 2]), ranking([1, 0], [2, 3])], IDS, depth=1)
    assert fused.documents.tolist() == [[1], [3]]


def test_one_ranking_keeps_its_order_and_nothing_found_stays_nothing():
    fused = reciprocal_rank_fusion([ranking([2, 0, 3], [-1, -1, -1])], IDS)
    assert fused.documents[:, :3].tolist() == [[2, 0, 3], [-1, -1, -1]]
