import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optical_jax.config import DataConfig
from optical_jax.data.batches.bitext import language_quotas, make_loader
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs
from optical_jax.errors import ConfigError

PAD = 0
BUCKETS = (4, 8, 16)


def flat(lengths, first_id):
    """Text n is `lengths[n]` times the token first_id + n: a batch shows which pairs it holds."""
    ids = np.repeat(np.arange(first_id, first_id + len(lengths), dtype=np.int32), lengths)
    return FlatTokens(ids, np.concatenate([[0], np.cumsum(lengths)]), None, None, PAD)


def made(count, first_id=1, seed=0):
    rng = np.random.default_rng(seed)
    student, teacher = rng.integers(1, 17, count), rng.integers(1, 17, count)
    return TokenizedPairs(flat(student, first_id), flat(teacher, first_id))


def config(batch=4, **settings):
    return DataConfig(global_batch=batch, batching="buckets", buckets=BUCKETS, **settings)


def take(loader, n):
    return list(itertools.islice(loader, n))


def names(batch):
    """Which pairs a batch holds; both sides must hold the same."""
    np.testing.assert_array_equal(batch.student.ids[:, 0], batch.teacher.ids[:, 0])
    return batch.student.ids[:, 0].tolist()


def seen(batches):
    return Counter(name for batch in batches for name in names(batch))


def assert_same(a, b):
    for x, y in ((a.student, b.student), (a.teacher, b.teacher)):
        np.testing.assert_array_equal(x.ids, y.ids)
        np.testing.assert_array_equal(x.attend, y.attend)
        np.testing.assert_array_equal(x.keep, y.keep)


# ---- buckets ---------------------------------------------------------------------------------------------------


def test_rows_are_the_pairs_padded_to_a_bucket():
    pairs = made(50)
    for batch in take(make_loader({"sw": pairs}, config(), seed=0), 13):
        for side, flat_side in ((batch.student, pairs.student), (batch.teacher, pairs.teacher)):
            assert side.ids.shape[1] in BUCKETS
            assert side.ids.dtype == np.int32
            for row, name in enumerate(names(batch)):
                n = flat_side.lengths[name - 1]
                assert side.ids[row].tolist() == [name] * n + [PAD] * (side.ids.shape[1] - n)
                assert side.attend[row].tolist() == side.keep[row].tolist() == (side.ids[row] != PAD).tolist()
        assert batch.student.ids.shape == batch.teacher.ids.shape


def test_pairs_spill_upwards_only_to_fill_batches():
    """10 short and 6 long pairs in batches of 4: two short batches, one mixed long, one long."""
    lengths = np.array([3] * 10 + [12] * 6)
    pairs = TokenizedPairs(flat(lengths, 1), flat(lengths[::-1] * 0 + 2, 1))
    batches = take(make_loader({"sw": pairs}, config(), seed=0), 4)
    assert Counter(batch.student.ids.shape[1] for batch in batches) == {4: 2, 16: 2}
    long_ones = sorted(sum(name <= 10 for name in names(b)) for b in batches if b.student.ids.shape[1] == 16)
    assert sum(long_ones) == 2


def test_buckets_above_the_longest_text_are_not_used():
    lengths = np.array([3, 5, 7, 8])
    loader = make_loader({"sw": TokenizedPairs(flat(lengths, 1), flat(lengths, 1))}, config(2), seed=0)
    assert loader.layout.buckets == (4, 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"buckets": (4, 8)}, r"data\.buckets=\(4, 8\) are too short for a text of 16 tokens; add 16"),
        ({"buckets": (8, 4, 16)}, "rising order"),
        ({"buckets": ()}, "rising order"),
        ({"weights": ("sw=1", "xx=2")}, r"data\.weights=xx=\.\.\.: no bitext of this language; available: sw, so"),
        ({"weights": ("sw=1",)}, "none for so"),
        ({"weights": ("sw=a",)}, "is not LANG=NUMBER"),
        ({"weights": ("sw=-1", "so=2")}, "from 0 up"),
        ({"weights": ("sw=0", "so=0")}, "all 0"),
        ({"temperature": 0.0}, r"data\.temperature=0\.0 must be above 0"),
        ({"global_batch": 0}, r"data\.global_batch=0"),
    ],
)
def test_settings_that_cannot_be(changed, message):
    lengths = np.arange(1, 17)
    pairs = TokenizedPairs(flat(lengths, 1), flat(lengths, 1))
    with pytest.raises(ConfigError, match=message):
        make_loader(
            {"sw": pairs, "so": pairs},
            DataConfig(**{"global_batch": 4, "batching": "buckets", "buckets": BUCKETS, **changed}),
            0,
        )


# ---- languages -------------------------------------------------------------------------------------------------


def test_shares_by_temperature():
    sizes = {"sw": 9000, "so": 1000}
    assert language_quotas(sizes, config(), 10_000) == sizes
    # 9000^(1/2) : 1000^(1/2) = 3 : 1
    assert language_quotas(sizes, config(temperature=2.0), 10_000) == {"sw": 7500, "so": 2500}
    assert language_quotas(sizes, config(temperature=1e6), 10_000) == {"sw": 5000, "so": 5000}


def test_shares_by_weights():
    sizes = {"sw": 10, "so": 1000, "tl": 5}
    assert language_quotas(sizes, config(weights=("so=1", "sw=2", "tl=0")), 900) == {"sw": 600, "so": 300, "tl": 0}
    assert language_quotas(sizes, config(weights=("sw=1e9", "so=1", "tl=1")), 100) == {"sw": 98, "so": 1, "tl": 1}
    loader = make_loader({"sw": made(6, 1), "so": made(90, 7)}, config(weights=("sw=1", "so=1")), seed=0)
    times = seen(take(loader, loader.epoch_size))
    assert loader.epoch_size == 24
    assert [times[name] for name in range(1, 7)] == [8] * 6
    assert sum(times[name] for name in range(7, 97)) == 48


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8), st.integers(1, 64), st.just(1.0) | st.floats(0.5, 50))
def test_quotas_fill_the_epoch(counts, batch, temperature):
    sizes = {f"l{i}": n for i, n in enumerate(counts)}
    places = math.ceil(sum(counts) / batch) * batch
    quotas = language_quotas(sizes, config(temperature=temperature), places)
    assert sum(quotas.values()) == places
    assert min(quotas.values()) >= 1
    if temperature == 1:
        assert all(quotas[language] >= sizes[language] for language in sizes)


def test_a_language_of_weight_0_is_left_out():
    loader = make_loader({"de": made(20), "sw": made(30, 100)}, config(weights=("de=1", "sw=0")), seed=0)
    assert max(seen(take(loader, 2 * loader.epoch_size))) <= 20


# ---- position --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 5, 12, 13, 14, 40])
def test_restored_loader_goes_on_with_the_same_batches(position):
    pairs = {"sw": made(50, 1), "so": made(2, 51)}
    whole = make_loader(pairs, config(), seed=5)
    for _ in range(position):
        next(whole)
    state = whole.state()
    assert state["next_batch"] == position
    resumed = make_loader(pairs, config(), seed=5)
    next(resumed)
    resumed.restore(state)
    for a, b in zip(take(whole, 15), take(resumed, 15), strict=True):
        assert_same(a, b)
    assert whole.state() == resumed.state()


def test_position_is_plain_and_the_same_in_every_process():
    pairs = {"sw": made(50)}
    states = []
    for process in range(2):
        loader = make_loader(pairs, config(), seed=0, process_index=process, process_count=2)
        take(loader, 3)
        states.append(loader.state())
    assert states[0] == states[1]
    assert {type(value) for value in states[0].values()} == {int, str}


def test_position_of_other_data_is_refused():
    state = make_loader({"sw": made(50)}, config(), seed=0).state()
    others = [
        make_loader({"sw": made(50)}, config(), seed=1),
        make_loader({"sw": made(50)}, config(8), seed=0),
        make_loader({"sw": made(50, seed=1)}, config(), seed=0),
        make_loader({"so": made(50)}, config(), seed=0),
        make_loader({"sw": made(50)}, DataConfig(global_batch=4, batching="buckets", buckets=(8, 16)), seed=0),
    ]
    for other in others:
        with pytest.raises(ConfigError, match="saved data position"):
            other.restore(state)


@pytest.mark.parametrize("processes", [2, 4])
def test_parts_of_the_processes_are_the_batch(processes):
    pairs = {"sw": made(50)}
    whole = take(make_loader(pairs, config(8), seed=0), 10)
    parts = [
        take(make_loader(pairs, config(8), seed=0, process_index=p, process_count=processes), 10)
        for p in range(processes)
    ]
    for i, batch in enumerate(whole):
        for side in ("student", "teacher"):
            ids = np.concatenate([getattr(part[i], side).ids for part in parts])
            np.testing.assert_array_equal(ids, getattr(batch, side).ids)
    with pytest.raises(ConfigError, match=r"data\.global_batch=8 does not divide over 3 processes"):
        make_loader(pairs, config(8), seed=0, process_count=3)
