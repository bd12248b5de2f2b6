"""Which pairs an epoch holds: each once, in an order of seed and epoch, and its versions in turn."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optical_jax.data.batches.bitext import make_loader
from optical_jax.data.batches.tokens import IDF_FLOOR, FlatTokens, TokenizedPairs
from tests.data.batches.test_bitext import PAD, config, made, names, seen, take


def test_each_pair_once_an_epoch():
    loader = make_loader({"sw": made(24, 1), "so": made(40, 25)}, config(), seed=0)
    assert loader.epoch_size == 16
    for _ in range(3):
        assert seen(take(loader, 16)) == dict.fromkeys(range(1, 65), 1)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(1, 3),
)
def test_no_pair_is_lost_or_ahead_of_another_of_its_language(counts, batch, seed, epochs):
    firsts = [1 + sum(counts[:i]) for i in range(len(counts))]
    pairs = {f"l{i}": made(n, first, i) for i, (n, first) in enumerate(zip(counts, firsts, strict=True))}
    loader = make_loader(pairs, config(batch), seed)
    assert loader.epoch_size == math.ceil(sum(counts) / batch)
    times = seen(take(loader, epochs * loader.epoch_size))
    assert times.total() == epochs * loader.epoch_size * batch
    for n, first in zip(counts, firsts, strict=True):
        of_language = [times[name] for name in range(first, first + n)]
        assert min(of_language) >= epochs
        assert max(of_language) - min(of_language) <= 1


def test_less_data_than_a_batch_repeats():
    loader = make_loader({"sw": made(3)}, config(8), seed=0)
    assert loader.epoch_size == 1
    assert sorted(seen(take(loader, 3)).values()) == [8, 8, 8]


def test_order_depends_on_seed_and_epoch():
    pairs = {"sw": made(40)}
    first, again, other = (take(make_loader(pairs, config(), seed), 20) for seed in (0, 0, 1))
    assert [names(b) for b in first] == [names(b) for b in again]
    assert [names(b) for b in first] != [names(b) for b in other]
    assert [names(b) for b in first[:10]] != [names(b) for b in first[10:]]


def test_another_language_does_not_change_the_stream_of_a_language():
    """A quarter of 16 places an epoch, taken from 8 pairs: which four come first is Swahili's own affair."""
    taken = []
    for other in ("so", "tl"):
        pairs = {other: made(8, 9), "sw": made(8, 1)}
        loader = make_loader(pairs, config(4, weights=("sw=1", f"{other}=3")), seed=3)
        taken.append([{name for name in seen(take(loader, 4)) if name < 9} for _ in range(2)])
    assert taken[0] == taken[1]
    first, second = taken[0]
    assert len(first) == len(second) == 4
    assert first | second == set(range(1, 9))


# ---- versions ----------------------------------------------------------------------------------------------------


def test_versions_of_a_pair_come_in_turn():
    """Two languages, two versions: half of the pairs as each in an epoch, and in two epochs every pair once as both."""
    pairs = {"sw": made(24, 1), "so": made(40, 25)}
    others = {"sw": made(24, 101), "so": made(40, 125)}
    loader = make_loader(pairs, config(), seed=0, versions=[others])
    assert loader.epoch_size == 16
    first, second = seen(take(loader, 16)), seen(take(loader, 16))
    for times in (first, second):
        assert sorted((name - 1) % 100 for name in times) == list(range(64))
        assert sum(name > 100 for name in times) == 32
    assert first + second == Counter([*range(1, 65), *range(101, 165)])


def test_one_version_is_as_before():
    pairs = {"sw": made(30)}
    assert make_loader(pairs, config(), 0).state() == make_loader(pairs, config(), 0, versions=[]).state()
    assert make_loader(pairs, config(), 0).state() != make_loader(pairs, config(), 0, versions=[pairs]).state()


def test_a_marker_of_one_version_weighs_nothing():
    """It stands in every text of its version, though in half of all: idf is counted in each by itself."""
    marked = [
        TokenizedPairs(*[FlatTokens(np.array([m, 3, m, 4], np.int32), np.array([0, 2, 4]), None, None, PAD)] * 2)
        for m in (1, 2)
    ]
    loader = make_loader({"sw": marked[0]}, config(2), 0, versions=[{"sw": marked[1]}], idf=True)
    (batch,) = take(loader, 1)
    weight = {int(i): float(w) for i, w in zip(batch.student.ids.ravel(), batch.student.weight.ravel(), strict=True)}
    assert weight[1] == weight[2] == pytest.approx(IDF_FLOOR)
    assert weight[3] == weight[4] == pytest.approx(np.log(3 / 2) + IDF_FLOOR)
