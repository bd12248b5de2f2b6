"""The cache of the teacher's vectors: what went in comes out, and kills and damage cost what they must."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from optical_jax.config import Attention, DataConfig, EncoderConfig, HeadConfig, MeshConfig, TeacherConfig, TowerConfig
from optical_jax.data.batches.bitext import make_loader
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs
from optical_jax.data.batches.vector_cache import CachedTexts, VectorCache, text_keys
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh
from optical_jax.training.student.teacher_cache import open_cache, use_teacher_cache
from optical_jax.types import TokenVectors

WIDTH = 8


def texts(lengths, attend=None):
    ids = np.arange(sum(lengths), dtype=np.int32)
    return FlatTokens(ids, np.concatenate([[0], np.cumsum(lengths)]), attend, None, 0)


def vectors_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, WIDTH)).astype(np.float16) for n in lengths]


def filled(folder, lengths=(3, 1, 5), seed=0):
    cache, keys, vectors = VectorCache(folder, WIDTH), text_keys(texts(lengths)), vectors_of(lengths, seed)
    cache.append(keys, vectors)
    cache.close()
    cache.reload()
    return cache, keys, vectors


def test_what_went_in_comes_out(tmp_path):
    cache, keys, vectors = filled(tmp_path)
    for key, want in zip(keys, vectors, strict=True):
        np.testing.assert_array_equal(cache.get(key), want)
    assert len(cache) == 3
    assert cache.bytes == 9 * WIDTH * 2
    assert cache.get(b"x" * 16) is None
    again = VectorCache(tmp_path, WIDTH)
    np.testing.assert_array_equal(again.get(keys[2]), vectors[2])


def test_a_key_is_of_ids_and_masks():
    plain = text_keys(texts([3, 3]))
    assert plain[0] != plain[1]
    assert plain == text_keys(texts([3, 3], attend=np.ones(6, bool)))
    masked = text_keys(texts([3, 3], attend=np.array([1, 1, 1, 1, 1, 0], bool)))
    assert masked[0] == plain[0]
    assert masked[1] != plain[1]


@pytest.mark.parametrize("cut", ["index", "vectors"])
def test_a_kill_in_mid_write_costs_the_last_text(tmp_path, cut):
    _, keys, vectors = filled(tmp_path)
    file = next(tmp_path.glob(f"*.{cut}"))
    file.write_bytes(file.read_bytes()[:-5])
    cache = VectorCache(tmp_path, WIDTH)
    assert [key in cache for key in keys] == [True, True, False]
    # And what is written then is whole.
    cache.append(keys[2:], vectors[2:])
    cache.close()
    cache.reload()
    for key, want in zip(keys, vectors, strict=True):
        np.testing.assert_array_equal(cache.get(key), want)


def test_damaged_vectors_are_not_taken(tmp_path):
    cache, keys, _ = filled(tmp_path)
    file = next(tmp_path.glob("*.vectors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    cache.reload()
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[2]) is None
    assert keys[2] not in cache


def test_damaged_vectors_give_way_to_good_ones(tmp_path):
    test_damaged_vectors_are_not_taken(tmp_path)
    cache, keys, vectors = VectorCache(tmp_path, WIDTH), text_keys(texts([3, 1, 5])), vectors_of([3, 1, 5])
    assert cache.get(keys[2]) is None
    cache.append(keys[2:], vectors[2:])
    cache.close()
    np.testing.assert_array_equal(VectorCache(tmp_path, WIDTH).get(keys[2]), vectors[2])


def test_vectors_of_another_pooling_are_not_taken(tmp_path):
    cache, keys, _ = filled(tmp_path)
    assert CachedTexts(cache, texts([3, 1, 5]), keys, pooled=True).rows(np.array([0, 1]), None) is None
    assert CachedTexts(cache, texts([4, 1, 4]), keys, pooled=False).rows(np.array([0, 1]), None) is None


def test_two_writers_do_not_meet(tmp_path):
    first, second = VectorCache(tmp_path, WIDTH), VectorCache(tmp_path, WIDTH)
    keys, vectors = text_keys(texts([2, 4])), vectors_of([2, 4])
    first.append(keys[:1], vectors[:1])
    second.append(keys[1:], vectors[1:])
    first.reload()
    assert [key in first for key in keys] == [True, True]
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["000.index", "001.index"]
    first.close()
    third = VectorCache(tmp_path, WIDTH)
    third.append(keys[:1], vectors[:1])
    assert len(list(tmp_path.glob("*.index"))) == 2
    second.close()
    third.close()


def test_rows_are_padded_and_all_or_none(tmp_path):
    tokens = texts([3, 1, 5])
    cache, keys, vectors = filled(tmp_path)
    cached = CachedTexts(cache, tokens, keys, pooled=False)
    found = cached.rows(np.array([1, 2]), None)
    assert found is not None
    assert found.vectors.shape == (2, 5, WIDTH)
    assert found.mask.sum(axis=1).tolist() == [1, 5]
    np.testing.assert_array_equal(found.vectors[0, :1], vectors[1])
    assert not found.vectors[0, 1:].any()
    assert CachedTexts(cache, tokens, [keys[0], b"?" * 16, keys[2]], pooled=False).rows(np.array([0, 1]), None) is None


def test_the_folder_is_of_the_weights_and_not_of_how_they_are_run(tmp_path):
    encoder = EncoderConfig(vocab_size=64, width=16, layers=1, heads=4, mlp_width=32, max_positions=20)
    params = init_params(tower_specs(TowerConfig(encoder)), jax.random.key(0))

    def folder(**changed):
        return open_cache(tmp_path, params, TowerConfig(replace(encoder, **changed))).folder

    assert folder(attention="xla", remat="full") == folder()
    assert folder(dtype="bfloat16") != folder()


def cached_run(root, attention: Attention = "auto", gib=1.0, lengths=(3, 1, 70), seed=0):
    """What a run with these texts says of the cache, and its loader."""
    tower = TowerConfig(
        EncoderConfig(vocab_size=64, width=16, layers=1, heads=2, mlp_width=32, max_positions=80, dtype="bfloat16"),
        HeadConfig(projection=WIDTH),
    )
    ids = np.random.default_rng(seed).integers(1, 64, sum(lengths))
    side = FlatTokens(ids, np.concatenate([[0], np.cumsum(lengths)]), None, None, 0)
    data = DataConfig(global_batch=len(lengths), batching="buckets", buckets=(128,))
    loader = make_loader({"sw": TokenizedPairs(side, side)}, data, 0, shards=1)
    cfg, said = TeacherConfig(cache=str(root), attention=attention, cache_gib=gib), []
    params, mesh = init_params(tower_specs(tower), jax.random.key(0)), make_mesh(MeshConfig(), jax.devices()[:1])
    use_teacher_cache(cfg, params, tower, loader, (0, 1), len(lengths), mesh, said.append)
    return said[0], isinstance(next(loader).teacher, TokenVectors)


@pytest.mark.parametrize("attention", ["cudnn", "splash"])
def test_kernels_are_not_asked_for_rows_they_do_not_take(tmp_path, attention):
    """The longest text has 70 tokens; neither kernel runs here, so that it would be refused."""
    assert "3 texts encoded" in cached_run(tmp_path, attention)[0]
    assert "0 texts encoded" in cached_run(tmp_path)[0]


def test_the_bound_is_of_all_files(tmp_path):
    """Another teacher's 1,000 bytes, then 4 tokens of 16 and 2 records of 32. What is full is read all the same."""
    (tmp_path / "other").mkdir(parents=True)
    (tmp_path / "other" / "000.vectors").write_bytes(bytes(1000))
    said, used = cached_run(tmp_path, lengths=(3, 1), gib=1127 / 2**30)
    assert "runs in every step" in said
    assert not used
    said, used = cached_run(tmp_path, lengths=(3, 1), gib=1128 / 2**30)
    assert "2 texts encoded" in said
    assert used
    assert sum(path.stat().st_size for path in tmp_path.rglob("000.*")) == 1128
    said, used = cached_run(tmp_path, lengths=(3, 1), gib=1e-9)
    assert "0 texts encoded" in said
    assert used
    said, used = cached_run(tmp_path, lengths=(3, 1), gib=1129 / 2**30, seed=1)
    assert "runs in every step" in said


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_eight_devices_fill_what_one_does(tmp_path, pooling):
    tower = TowerConfig(
        EncoderConfig(vocab_size=64, width=16, layers=1, heads=4, mlp_width=32, max_positions=20),
        HeadConfig(projection=WIDTH, pooling=pooling),
    )
    params = init_params(tower_specs(tower), jax.random.key(0))
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 40)
    side = FlatTokens(rng.integers(1, 64, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]), None, None, 0)
    found = []
    for devices in (1, 8):
        mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
        loader = make_loader({"sw": TokenizedPairs(side, side)}, DataConfig(global_batch=8), 0, shards=devices)
        cfg, said = TeacherConfig(cache=str(tmp_path / str(devices))), []
        use_teacher_cache(cfg, params, tower, loader, (0, 5), 8, mesh, said.append)
        assert "40 texts encoded, 40 in" in said[0]
        use_teacher_cache(cfg, params, tower, loader, (5, 5), 8, mesh, said.append)  # nothing is left to do
        assert len(said) == 1
        teacher = next(loader).teacher
        assert isinstance(teacher, TokenVectors)
        found.append({key: open_cache(tmp_path / str(devices), params, tower).get(key) for key in text_keys(side)})
    for key, vectors in found[0].items():
        np.testing.assert_allclose(found[1][key], vectors, atol=1e-3)
        assert np.linalg.norm(vectors[0].astype(float)) == pytest.approx(1, abs=1e-2)
