"""Texts as flat tokens, their idf weights, and both on the way from files to batches."""

import math

import numpy as np
import pytest

from optical_jax.config import DataConfig, HeadConfig
from optical_jax.data.batches.bitext import make_loader
from optical_jax.data.batches.tokens import (
    IDF_FLOOR,
    TokenSide,
    flatten_tokens,
    idf_weights,
    join_tokens,
    tokenize_pairs,
)
from optical_jax.data.text.bitext import read_bitext
from optical_jax.data.tokenization import Tokens, load_tokenizer, pad_tokens, tokenize, train_vocabulary
from tests.data.batches.test_bitext import config, made, take


def text(ids, attend=None, keep=None, truncated=False):
    ones = [True] * len(ids)
    return Tokens(np.array(ids, np.int32), np.array(attend or ones), np.array(keep or ones), truncated)


def test_flat_rows_are_the_padded_tokens():
    texts = [text([5, 6, 7]), text([8, 9], attend=[True, False]), text([3, 4, 5, 6], keep=[True, False, False, True])]
    flattened = flatten_tokens([texts[:2], texts[2:]], pad_id=1)
    for order in ([0, 1, 2], [2, 0], [1, 1]):
        got = flattened.rows(np.array(order), 5)
        want = pad_tokens([texts[i] for i in order], 5, pad_id=1)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.attend, want.attend)
        np.testing.assert_array_equal(got.keep, want.keep)
    with pytest.raises(ValueError, match="4 tokens does not fit length=3"):
        flattened.rows(np.array([2]), 3)


def test_masks_take_no_room_where_all_true_and_join():
    plain = flatten_tokens([[text([1, 2]), text([3])]], pad_id=0)
    masked = flatten_tokens([[text([4, 5], keep=[False, True], truncated=True)]], pad_id=0)
    assert plain.attend is plain.keep is masked.attend is None
    joined = join_tokens([plain, masked])
    assert joined.ids.tolist() == [1, 2, 3, 4, 5]
    assert joined.offsets.tolist() == [0, 2, 3, 5]
    assert joined.attend is None
    assert joined.keep is not None
    assert joined.keep.tolist() == [True, True, True, False, True]
    assert joined.truncated == 1


def test_idf_by_hand():
    """Three texts; id 1 in all (twice in one), id 2 in one, id 3 in none."""
    weights = idf_weights(np.array([1, 1, 2, 1, 1], np.int32), np.array([0, 3, 4, 5]), 4)
    want = [math.log(4), math.log(4 / 4), math.log(4 / 2), math.log(4)]
    np.testing.assert_allclose(weights, np.array(want) + IDF_FLOOR, rtol=1e-6)
    assert weights.dtype == np.float32


def test_idf_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 100)
    ids, offsets = rng.integers(0, 20, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])
    df = np.zeros(20)
    for n in range(100):
        df[list(set(ids[offsets[n] : offsets[n + 1]]))] += 1
    monkeypatch.setattr("optical_jax.data.batches.tokens.IDF_TOKENS_AT_ONCE", 40)
    np.testing.assert_allclose(idf_weights(ids, offsets, 20), np.log(101 / (df + 1)) + IDF_FLOOR, rtol=1e-6)


def test_batches_carry_idf_on_request():
    pairs = made(20)
    (batch,) = take(make_loader({"sw": pairs}, config(), seed=0, idf=True), 1)
    # Every id stands in one text of 20.
    want = np.where(batch.student.attend, math.log(21 / 2) + IDF_FLOOR, 0)
    assert batch.student.weight is not None
    assert batch.teacher.weight is not None
    np.testing.assert_allclose(batch.student.weight, want, rtol=1e-6)
    (plain,) = take(make_loader({"sw": pairs}, config(), seed=0), 1)
    assert plain.student.weight is plain.teacher.weight is None


def test_from_files_to_batches(tmp_path):
    lines = [("The child reads.", "Mtoto anasoma."), ("Water is life.", "Maji ni uhai."), ("Good", "Habari ya asubuhi")]
    (tmp_path / "sw.train.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in lines))
    bitext = read_bitext(DataConfig(bitext=(str(tmp_path / "sw.train.tsv"),)))["sw"]
    foreign, english = train_vocabulary(bitext.foreign, 100), train_vocabulary(bitext.english, 100)
    head = HeadConfig(special_tokens=False)
    pairs = tokenize_pairs(bitext, TokenSide(foreign, head, 8), TokenSide(english, HeadConfig(), 6))
    want = tokenize(foreign, bitext.foreign, head, "query", 8)
    assert bitext.report.lengths["student"].tokens == sum(len(tokens.ids) for tokens in want)
    assert bitext.report.lengths["student"].truncated == sum(tokens.truncated for tokens in want)
    assert bitext.report.lengths["teacher"].percentiles["p100"] <= 6
    (batch,) = take(make_loader({"sw": pairs}, config(3, temperature=2.0), seed=0), 1)
    rows = {tuple(row) for row in batch.student.ids.tolist()}
    assert rows == {tuple(row) for row in pad_tokens(want, batch.student.ids.shape[1], 0).ids.tolist()}
    assert (batch.student.keep & batch.student.attend).any(axis=1).all()
    assert (batch.student.keep != batch.student.attend).any()


def test_real_epoch(data_dir, minilm_dir):
    bitext = read_bitext(DataConfig(bitext=(str(data_dir / "bitext/tico19/sw.train.tsv.gz"),)))["sw"]
    english = load_tokenizer(minilm_dir)
    side = TokenSide(english, HeadConfig(), 64)
    loader = make_loader({"sw": tokenize_pairs(bitext, side, side)}, DataConfig(batching="buckets"), seed=0)
    batches = take(loader, loader.epoch_size)
    assert loader.epoch_size == math.ceil(2594 / 64) == 41
    assert {batch.student.ids.shape for batch in batches} <= {(64, length) for length in DataConfig().buckets}
    real = sum(int(side.attend.sum()) for batch in batches for side in (batch.student, batch.teacher))
    assert real / sum(2 * batch.student.ids.size for batch in batches) > 0.65
