"""Packed batches: nothing lost, nothing read across texts, one shape, and the losses of padded ones."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    OtConfig,
    TowerConfig,
    TrainingConfig,
)
from optical_jax.data.batches.bitext import make_loader
from optical_jax.data.batches.packing import deal, fit
from optical_jax.data.batches.tokens import IDF_FLOOR, FlatTokens, TokenizedPairs
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import batch_shards, make_mesh
from optical_jax.types import Batch, PackedInputs, TextInputs, TokenVectors
from tests.training.test_step import run_steps

ENCODER = EncoderConfig(vocab_size=64, width=16, layers=2, heads=4, mlp_width=32, max_positions=20)
TOWER = TowerConfig(ENCODER, HeadConfig(projection=8))
PAD = 0


def flat(rng, lengths, masks=False):
    """Random ids but PAD; with `masks` some tokens give no vector, and the last one of longer texts is not read."""
    ids = rng.integers(1, 64, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    attend = keep = None
    if masks:
        attend, keep = np.ones(len(ids), bool), rng.random(len(ids)) < 0.7
        attend[offsets[1:][lengths > 2] - 1] = False
        keep[offsets[:-1]] = True
    return FlatTokens(ids, offsets, attend, keep, PAD)


def made(count=96, seed=0, masks=False):
    rng = np.random.default_rng(seed)
    return TokenizedPairs(flat(rng, rng.integers(1, 13, count), masks), flat(rng, rng.integers(1, 9, count), masks))


def loader_of(pairs, batch=16, shards=1, parts=1, seed=0, **settings):
    settings = {"row_length": 16, "buckets": (4, 8, 16)} | settings
    return make_loader({"sw": pairs}, DataConfig(global_batch=batch, **settings), seed, shards=shards, parts=parts)


def padded_again(side: PackedInputs) -> TextInputs:
    """What was packed, a row a text, for one group."""
    there = side.place >= 0
    at = np.maximum(side.place, 0)
    ids = np.where(there, side.ids.reshape(-1)[at], PAD)
    return TextInputs(ids=ids, attend=there & side.attend.reshape(-1)[at], keep=side.keep, weight=side.weight)


# ---- rows ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_texts_lie_in_rows_and_do_not_overlap(lengths):
    row, start, rows = fit(np.array(lengths), 20)
    taken = np.zeros((rows, 20), int)
    for r, s, n in zip(row, start, lengths, strict=True):
        assert s + n <= 20
        taken[r, s : s + n] += 1
    assert taken.max() == 1
    assert taken.sum() == sum(lengths)
    assert taken.any(axis=1).all()
    # Best fit by falling length needs at most 11/9 of the fewest rows possible, and one.
    assert rows <= math.ceil(11 / 9 * max(math.ceil(sum(lengths) / 20), sum(n > 10 for n in lengths))) + 1


def test_the_fullest_row_with_room_is_taken():
    """7 and 6 open rows with room for 3 and 4; 3 goes to the fuller one, 4 to the other, and both are full."""
    row, start, rows = fit(np.array([3, 7, 4, 6]), 10)
    assert rows == 2
    assert row.tolist() == [0, 0, 1, 1]
    assert start.tolist() == [7, 0, 6, 0]


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 100))
def test_batches_have_as_many_tokens(batches, batch, seed):
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(batches * batch)
    student, teacher = rng.integers(1, 40, len(pairs)), rng.integers(1, 40, len(pairs))
    dealt = deal(pairs, student, teacher, batch, rng)
    assert sorted(dealt.ravel()) == list(range(batches * batch))
    of = dict(zip(pairs.tolist(), student.tolist(), strict=True))
    sums = [sum(of[pair] for pair in row) for row in dealt.tolist()]
    assert max(sums) - min(sums) <= student.max() - student.min()


# ---- batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
def test_packed_texts_are_the_texts(masks):
    pairs = made(masks=masks)
    loader = loader_of(pairs)
    for number in range(7):
        batch = next(loader)
        names = loader._source.epoch(number // 6)[number % 6]
        for side, tokens in ((batch.student, pairs.student), (batch.teacher, pairs.teacher)):
            want, got = tokens.rows(names, side.place.shape[1]), padded_again(side)
            for name in ("ids", "attend", "keep"):
                np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
            homes = side.home[side.home >= 0]
            assert sorted(homes) == sorted(set(homes))
            assert len(homes) == tokens.lengths[names].sum()
            np.testing.assert_array_equal(side.ids[side.home < 0], PAD)


def test_every_batch_of_several_epochs_has_one_shape():
    loader = loader_of(made(300), batch=12)
    shapes = {
        (batch.student.ids.shape, batch.teacher.ids.shape) for batch in itertools.islice(loader, 3 * loader.epoch_size)
    }
    assert len(shapes) == 1


def test_a_text_longer_than_a_row_makes_the_rows_longer():
    assert loader_of(made(), row_length=4).layout.row_length == 12


@pytest.mark.parametrize("processes", [2, 4])
def test_parts_of_the_processes_are_the_batch(processes):
    def loader(index, count):
        cfg = DataConfig(global_batch=16, row_length=16)
        return make_loader({"sw": made()}, cfg, 0, process_index=index, process_count=count, shards=4, parts=2)

    whole = next(loader(0, 1))
    parts = [next(loader(index, processes)) for index in range(processes)]
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    jax.tree.map(np.testing.assert_array_equal, joined, whole)


# ---- towers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["none", "mean", "cls"])
def test_packed_vectors_are_the_padded_ones(family, pooling):
    encoder = replace(ENCODER, family=family, pad_id=PAD)
    tower = TowerConfig(encoder, HeadConfig(projection=8, pooling=pooling))
    params = init_params(tower_specs(tower), jax.random.key(0))
    packed = next(loader_of(made(masks=True))).student
    padded = padded_again(packed)
    direction = jax.random.normal(jax.random.key(1), (16, 1 if pooling != "none" else padded.ids.shape[1], 8))

    def total(params, inputs):
        out = encode_tokens(params, inputs, tower)
        return (out.vectors * direction).sum(), out

    def run(inputs):
        return jax.jit(jax.value_and_grad(total, has_aux=True))(params, jax.tree.map(jnp.asarray, inputs))

    (_, want), want_grad = run(padded)
    (_, got), got_grad = run(packed)
    np.testing.assert_array_equal(got.mask, want.mask)
    np.testing.assert_allclose(got.vectors, want.vectors, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), got_grad, want_grad)


# ---- steps -----------------------------------------------------------------------------------------------------


def losses_of(batches, devices=1, mesh=None, parts=1, loss="transport", masses="uniform"):
    """Losses of one run, and how many steps were compiled."""
    cfg = Config(
        optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=2),
        training=TrainingConfig(steps=20, accumulate=parts),
        loss=LossConfig(name=loss, ot=OtConfig(masses=masses)),
        mesh=mesh or MeshConfig(),
    )
    losses, _, compiled = run_steps(cfg, TOWER, devices, batches)
    return losses, compiled


def test_packed_tokens_keep_their_weights():
    """By the definition, log((N + 1) / (texts with the token + 1)) + a floor; and the losses they lead to."""
    pairs = made(80)
    batches = list(
        itertools.islice(make_loader({"sw": pairs}, DataConfig(global_batch=16, row_length=16), 0, idf=True), 5)
    )
    for name in ("student", "teacher"):
        tokens = getattr(pairs, name)
        documents = [set(ids.tolist()) for ids in np.split(tokens.ids, tokens.offsets[1:-1])]
        for batch in batches:
            side = padded_again(getattr(batch, name))
            for ids, weights, real in zip(side.ids, side.weight, side.keep, strict=True):
                frequency = [sum(int(token) in document for document in documents) for token in ids[real]]
                np.testing.assert_allclose(weights[real], np.log(81 / (np.array(frequency) + 1)) + IDF_FLOOR, rtol=1e-6)
                assert not weights[~real].any()
    padded = [Batch(padded_again(batch.student), padded_again(batch.teacher)) for batch in batches]
    got = losses_of(batches, masses="idf")[0]
    np.testing.assert_allclose(got, losses_of(padded, masses="idf")[0], rtol=1e-5)
    assert abs(got[0] - losses_of(batches)[0][0]) > 1e-3


def test_losses_of_padded_batches_and_one_compilation():
    packed = list(itertools.islice(loader_of(made(80)), 20))
    padded = [Batch(padded_again(batch.student), padded_again(batch.teacher)) for batch in packed]
    got, compiled = losses_of(packed)
    np.testing.assert_allclose(got, losses_of(padded)[0], rtol=1e-5)
    assert compiled == 1


@pytest.mark.parametrize(
    ("mesh", "parts"),
    [
        (MeshConfig(data=1, fsdp=8), 1),
        (MeshConfig(data=2, fsdp=2, tensor=2), 2),
    ],
)
def test_eight_devices_give_the_losses_of_one(mesh, parts):
    shards = batch_shards(make_mesh(mesh))
    batches = list(itertools.islice(loader_of(made(80), shards=shards, parts=parts), 10))
    # The same pairs in the same batches, but packed for one device.
    eight, _ = losses_of(batches, 8, mesh, parts)
    one = losses_of([whole_batch(batch, shards, parts) for batch in batches])[0]
    np.testing.assert_allclose(eight, one, rtol=1e-5)


def test_vectors_from_the_cache_are_cut_in_parts_with_their_pairs():
    """Two parts of a batch, on one device and on four, and the whole of it."""
    teacher = init_params(tower_specs(TOWER), jax.random.key(2))
    for devices in (1, 4):
        batches, whole = [], []
        for batch in itertools.islice(loader_of(made(80), shards=devices, parts=2), 5):
            padded = whole_batch(batch, devices, 2)
            found = encode_tokens(teacher, jax.tree.map(jnp.asarray, padded.teacher), TOWER)
            vectors = TokenVectors(np.asarray(found.vectors, np.float16), np.asarray(found.mask))
            # `whole_batch` has the pairs part by part; a batch has them in turns.
            in_turns = np.arange(16).reshape(devices, 2, -1).swapaxes(1, 2).reshape(-1)
            batches.append(Batch(batch.student, jax.tree.map(lambda x, order=in_turns: x[order], vectors)))
            whole.append(Batch(padded.student, vectors))
        got = losses_of(batches, devices, MeshConfig(), parts=2)[0]
        np.testing.assert_allclose(got, losses_of(whole)[0], rtol=1e-5)


def whole_batch(batch: Batch, shards: int, parts: int) -> Batch:
    """A batch packed in groups, padded, one row a text."""

    def unpacked(side: PackedInputs) -> TextInputs:
        def groups(x):
            return x.reshape(shards, -1, parts, *x.shape[1:]).swapaxes(1, 2).reshape(shards * parts, -1, *x.shape[1:])

        ids, attend, place = (groups(x) for x in (side.ids, side.attend, side.place))
        of_group = [
            padded_again(PackedInputs(ids[g], attend[g], side.home, place[g], place[g] >= 0))
            for g in range(shards * parts)
        ]
        return jax.tree.map(lambda *rows: np.concatenate(rows), *of_group)

    return Batch(unpacked(batch.student), unpacked(batch.teacher))
