"""The Python face: runs, folders and texts in; vectors in the order of the texts out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optical_jax
from optical_jax.config import EncoderConfig, HeadConfig, MeshConfig, TowerConfig
from optical_jax.data.tokenization import Tokens, pad_tokens, tokenize, train_vocabulary
from optical_jax.errors import ConfigError, DataError
from optical_jax.models.bert import encode_hidden
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, params_shardings
from optical_jax.retrieval.blocks import FEW_LENGTHS, MANY_LENGTHS, padded_length
from optical_jax.runs.load import load
from optical_jax.towers import tower as towers
from optical_jax.towers.text_batches import (
    PackedRows,
    batches_of,
    cut_length,
    packed_batches,
    padded_batches,
    rows_of_batch,
)
from optical_jax.towers.tower import Tower, encode, hidden_states, on_device
from optical_jax.types import TextInputs

WORDS = ["moja", "mbili", "tatu", "nne", "tano", "sita", "saba", "nane", "tisa", "kumi", ",", "."]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, size=(3, 9, 1, 6)[i % 4])) for i in range(21)]
CFG = TowerConfig(
    encoder=EncoderConfig(vocab_size=96, width=32, layers=2, heads=4, mlp_width=48, max_positions=40),
    head=HeadConfig(projection=12, query_length=20, document_length=40),
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_vocabulary([" ".join(WORDS)] * 3, vocab_size=96)


@pytest.fixture
def tower(tokenizer) -> Tower:
    return Tower(params=random_params(), cfg=CFG, tokenizer=tokenizer)


encode_one = jax.jit(encode_tokens, static_argnums=2)


def random_params(seed: int = 0, cfg: TowerConfig = CFG):
    return jax.tree.map(np.asarray, init_params(tower_specs(cfg), jax.random.key(seed)))


def one_by_one(tower: Tower, texts: list[str]):
    """Each text alone and unpadded, by the functions underneath."""
    for tokens in tokenize(tower.tokenizer, texts, tower.cfg.head, tower.side):
        inputs = jax.tree.map(jnp.asarray, pad_tokens([tokens], len(tokens.ids), pad_id=0))
        yield jax.tree.map(lambda x: np.asarray(x[0]), encode_one(tower.params, inputs, tower.cfg))


def same_arrays(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


# ---- encode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_vectors_come_in_the_order_of_the_texts(tower, batch_size):
    out = encode(tower, TEXTS[:9], batch_size=batch_size)
    expected = list(one_by_one(tower, TEXTS[:9]))
    longest = max(len(one.mask) for one in expected)
    assert isinstance(out.vectors, np.ndarray)
    assert isinstance(out.mask, np.ndarray)
    assert (out.vectors.shape, out.vectors.dtype) == ((9, longest, 12), np.float32)
    for row, one in enumerate(expected):
        length = len(one.mask)
        np.testing.assert_array_equal(out.mask[row], np.arange(longest) < length)
        np.testing.assert_allclose(out.vectors[row, :length], one.vectors, atol=2e-6)
        assert not out.vectors[row, length:].any()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_pooled_tower_gives_one_vector_a_text(tower, pooling):
    tower = tower.replace(cfg=dataclasses.replace(CFG, head=dataclasses.replace(CFG.head, pooling=pooling)))
    out = encode(tower, TEXTS[:5], batch_size=2)
    assert out.vectors.shape == (5, 1, 12)
    assert out.mask.all()
    np.testing.assert_allclose(out.vectors, np.stack([one.vectors for one in one_by_one(tower, TEXTS[:5])]), atol=2e-6)


def test_sides_differ_as_the_head_says(tower):
    """Queries are filled up with [MASK], documents lose their punctuation."""
    head = dataclasses.replace(CFG.head, augment_queries=True, skip_punctuation=True)
    query = tower.replace(cfg=dataclasses.replace(CFG, head=head))
    assert encode(query, ["moja , mbili ."]).mask.sum() == 20
    document = encode(query.replace(side="document"), ["moja , mbili ."])
    plain = encode(tower.replace(side="document"), ["moja , mbili ."])
    assert plain.mask.sum() - document.mask.sum() == 2


def test_no_texts(tower):
    assert encode(tower, []).vectors.shape == (0, 0, 12)


def test_what_encode_refuses(tower):
    with pytest.raises(DataError, match="text 1 is empty"):
        encode(tower, ["moja", "  "])
    with pytest.raises(TypeError, match="give a list of texts"):
        encode(tower, "moja")
    with pytest.raises(ConfigError, match="batch_size=0"):
        encode(tower, TEXTS, batch_size=0)
    with pytest.raises(ConfigError, match="no tokenizer"):
        encode(tower.replace(tokenizer=None), TEXTS)


def test_equal_shapes_compile_once(tower):
    """Neither another tower of the same config nor fewer texts or other lengths within a bucket compile again."""
    encode(tower, TEXTS, batch_size=8)
    encode(tower, ["moja"] * 60, batch_size=8)
    compiled = towers.encode_batch._cache_size()
    for texts in (55, 57, 63):
        encode(tower, ["mbili"] * texts, batch_size=8)
    encode(tower.replace(params=random_params(1)), TEXTS[::-1], batch_size=8)
    same = TowerConfig(encoder=dataclasses.replace(CFG.encoder), head=dataclasses.replace(CFG.head))
    encode(Tower(random_params(2), same, tower.tokenizer), TEXTS, batch_size=8)
    assert towers.encode_batch._cache_size() == compiled


def test_texts_share_rows_and_long_ones_have_their_own():
    """30 texts of 7 to 60 tokens and two of 90 and 200: every token once, at its place, and little padding."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(7, 61, 30), 90, 200]
    tokens = [Tokens(rng.integers(5, 90, n), rng.random(n) < 0.9, np.ones(n, bool)) for n in lengths]
    cfg = TowerConfig(dataclasses.replace(CFG.encoder, max_positions=512))
    seen, sizes = [], []
    for owners, places, at, rows in packed_batches(tokens, 8, cfg):
        sizes.append(rows.ids.shape)
        for name in ("ids", "attend"):
            taken = getattr(rows, name).reshape(-1)[at]
            assert taken.tolist() == [getattr(tokens[n], name)[s] for n, s in zip(owners, places, strict=True)]
        np.testing.assert_array_equal(rows.text.reshape(-1)[at], owners)
        np.testing.assert_array_equal(rows.position.reshape(-1)[at], places)
        assert (rows.text >= 0).sum() == len(at)
        seen += list(zip(owners.tolist(), places.tolist(), strict=True))
    assert sorted(seen) == [(n, s) for n, length in enumerate(lengths) for s in range(length)]
    assert sizes[0] == (1, 256)  # the text of 200, first
    assert {length for _, length in sizes[1:]} == {128}
    assert all(rows * 128 <= 8 * 32 for rows, _ in sizes[1:])


def test_accelerators_have_larger_batches(monkeypatch):
    """64 texts: 2,048 tokens on a CPU, however many devices it feigns; elsewhere 32,768 for each part of a batch."""
    whole = MeshConfig(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(make_mesh(whole)):
        assert [rows_of_batch(64, length) for length in (32, 128, 4096)] == [64, 16, 1]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert [rows_of_batch(64, length) for length in (64, 128, 512)] == [512, 256, 64]
    with jax.set_mesh(make_mesh(whole)):
        assert rows_of_batch(64, 128) == 4 * 256


def test_texts_of_about_one_length_share_a_batch():
    """On a CPU: the same texts, longest first, a row each; padded to a multiple of 4, or an eighth more than needed."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(7, 61, 30), 90, 200]
    tokens = [Tokens(rng.integers(5, 90, n), rng.random(n) < 0.9, rng.random(n) < 0.9) for n in lengths]
    cfg = TowerConfig(dataclasses.replace(CFG.encoder, max_positions=512))
    seen, sizes = [], []
    for owners, places, at, rows in padded_batches(tokens, 8, cfg):
        sizes.append(rows.ids.shape)
        for name in ("ids", "attend", "keep"):
            taken = getattr(rows, name).reshape(-1)[at]
            assert taken.tolist() == [getattr(tokens[n], name)[s] for n, s in zip(owners, places, strict=True)]
        seen += list(zip(owners.tolist(), places.tolist(), strict=True))
    assert sorted(seen) == [(n, s) for n, length in enumerate(lengths) for s in range(length)]
    assert sizes[:3] == [(1, 208), (2, 96), (4, 60)]
    assert all(rows * length <= 8 * 32 for rows, length in sizes)


def test_padded_lengths_are_few_and_fit():
    assert [padded_length(n, *FEW_LENGTHS) for n in (1, 8, 9, 33, 300, 600)] == [8, 8, 16, 48, 384, 768]
    assert len({padded_length(n, *FEW_LENGTHS) for n in range(1, 513)}) == 12
    assert [padded_length(n, *MANY_LENGTHS) for n in (1, 9, 33, 70, 300)] == [4, 12, 36, 72, 320]
    encoder = dataclasses.replace(CFG.encoder, max_positions=77)
    assert cut_length(70, encoder, FEW_LENGTHS) == 77
    assert all(n <= cut_length(n, encoder, FEW_LENGTHS) <= 77 for n in range(1, 78))


def test_packed_and_padded_texts_have_the_same_vectors(tower):
    """Whichever way the device takes."""
    tokens = tokenize(tower.tokenizer, TEXTS, CFG.head, "query")
    params, found = on_device(tower.params, CFG), []
    for batches in (packed_batches, padded_batches):
        vectors = {}
        for owners, places, at, inputs in batches(tokens, 8, CFG):
            flat = np.asarray(towers.encode_batch(params, inputs, CFG)).reshape(-1, 12)
            vectors |= dict(zip(zip(owners.tolist(), places.tolist(), strict=True), flat[at], strict=True))
        found.append(vectors)
    packed, padded = found
    assert len(packed) == len(padded) == sum(len(text.ids) for text in tokens)
    np.testing.assert_allclose([packed[key] for key in padded], list(padded.values()), atol=2e-6)


def test_training_encodes_in_few_shapes(tower):
    """Which is told by its mesh; retrieval on one CPU has none."""
    tokens = tokenize(tower.tokenizer, TEXTS, CFG.head, "query")
    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        assert {type(inputs) for *_, inputs in batches_of(tokens, 8, CFG)} == {PackedRows}
    assert {type(inputs) for *_, inputs in batches_of(tokens, 8, CFG)} == {TextInputs}


def test_layers_apart_compute_what_a_stack_does(tower):
    """To rounding; what is apart stays as it is."""
    inputs = padded_batches(tokenize(tower.tokenizer, TEXTS, CFG.head, "query"), 8, CFG)
    stacked, apart = jax.device_put(tower.params), on_device(tower.params, CFG)
    assert on_device(apart, CFG) is apart
    assert len(apart["encoder"]["layers"]) == 2
    for _, _, _, batch in inputs:
        found, expected = (towers.encode_batch(params, batch, CFG) for params in (apart, stacked))
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_on_a_mesh_equals_one_device(tower):
    """Host parameters are laid over the mesh; 5 texts do not divide over it."""
    alone = encode(tower, TEXTS[:5])
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        spread = encode(tower, TEXTS[:5])
        placed = tower.replace(params=jax.device_put(tower.params, params_shardings(tower_specs(CFG), mesh)))
        again = encode(placed, TEXTS[:5])
    np.testing.assert_array_equal(spread.mask, alone.mask)
    np.testing.assert_allclose(spread.vectors, alone.vectors, atol=1e-5)
    np.testing.assert_array_equal(again.vectors, spread.vectors)


# ---- hidden_states ---------------------------------------------------------------------------------------------


def test_hidden_states_need_no_tokenizer(tower):
    tower = tower.replace(tokenizer=None)
    ids = np.array([[2, 9, 30, 3], [2, 11, 3, 0]])
    states = hidden_states(tower, ids, (ids != 0).astype(np.int64))
    expected = jax.jit(encode_hidden, static_argnums=3)(tower.params["encoder"], ids, ids != 0, CFG.encoder)
    assert states.shape == (2, 4, 32)
    np.testing.assert_allclose(states, expected, atol=2e-6)


def test_hidden_states_under_jit_and_grad(tower):
    """The tower is a pytree: its parameters can be traced and differentiated."""
    tower = jax.device_put(tower)
    ids = jnp.array([[2, 9, 30, 3]])
    eager, traced = hidden_states(tower, ids, ids > 0), jax.jit(hidden_states)(tower, ids, ids > 0)
    np.testing.assert_allclose(traced, eager, atol=2e-6)
    grads = jax.grad(lambda tower: hidden_states(tower, ids, ids > 0)[0, 0, 0])(tower)
    assert isinstance(grads, Tower)
    assert jax.tree.structure(grads.params) == jax.tree.structure(tower.params)
    assert np.abs(grads.params["encoder"]["embeddings"]["word"]["embedding"][9]).max() > 0


def test_what_hidden_states_refuses(tower):
    ids = np.array([[2, 96, 3]])
    with pytest.raises(DataError, match="ids hold 96, outside of the vocabulary of 96"):
        hidden_states(tower, ids, ids > 0)
    with pytest.raises(DataError, match="ids hold -1"):
        hidden_states(tower, -(ids // 96), ids > 0)
    with pytest.raises(DataError, match="must have one shape"):
        hidden_states(tower, ids, ids[0] > 0)
    with pytest.raises(ConfigError, match="texts of 41 tokens"):
        hidden_states(tower, np.ones((1, 41), int), np.ones((1, 41), bool))


# ---- the tower as a value --------------------------------------------------------------------------------------


def test_leaves_are_the_parameters(tower):
    leaves = jax.tree.leaves(tower)
    assert len(leaves) == len(jax.tree.leaves(tower.params))
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert repr(tower) == "Tower(bert, 2 layers, width 32, vectors of 12, 0.0 M parameters, side='query')"


def test_public_names():
    assert optical_jax.load is load
    assert optical_jax.encode is encode
    assert optical_jax.hidden_states is hidden_states
    assert optical_jax.Tower is Tower
