"""MaxSim against NumPy's brute force, by hand, and in the blocks it is worked through."""

import doctest

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from optical_jax.retrieval import scoring
from optical_jax.retrieval.scoring import maxsim, score_tokens
from optical_jax.types import TokenVectors


def random_vectors(rows: int, tokens: int, width: int, seed: int) -> TokenVectors:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, tokens, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    mask = rng.random((rows, tokens)) < 0.7
    mask[:, 0] = True
    return TokenVectors(vectors=vectors * mask[:, :, None], mask=mask)


def brute_force(queries: TokenVectors, documents: TokenVectors) -> np.ndarray:
    """The definition, a pair at a time, in float64."""
    scores = np.full((len(queries.mask), len(documents.mask)), -np.inf)
    for b, (query, kept) in enumerate(zip(queries.vectors, queries.mask, strict=True)):
        for n, (document, real) in enumerate(zip(documents.vectors, documents.mask, strict=True)):
            if real.any():
                cosines = query[kept].astype(np.float64) @ document[real].astype(np.float64).T
                scores[b, n] = cosines.max(axis=1).sum()
    return scores


def test_doctest():
    assert doctest.testmod(scoring, raise_on_error=True).attempted > 0


@pytest.mark.parametrize("block", [1, 60, 1000, 1 << 23])
def test_equals_brute_force_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(scoring, "BLOCK_SIMILARITIES", block)
    queries, documents = random_vectors(7, 5, 16, seed=0), random_vectors(11, 9, 16, seed=1)
    scores = maxsim(queries, documents)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, brute_force(queries, documents), atol=1e-5)


def test_one_vector_a_text_is_the_cosine():
    queries, documents = random_vectors(3, 1, 8, seed=0), random_vectors(4, 1, 8, seed=1)
    np.testing.assert_allclose(maxsim(queries, documents), queries.vectors[:, 0] @ documents.vectors[:, 0].T, atol=1e-6)


def test_padding_and_what_stands_in_it_change_nothing():
    queries, documents = random_vectors(4, 5, 8, seed=2), random_vectors(6, 7, 8, seed=3)

    def with_rubbish(x: TokenVectors) -> TokenVectors:
        vectors = np.where(x.mask[:, :, None], x.vectors, 1e6).astype(np.float32)
        return TokenVectors(
            vectors=np.pad(vectors, [(0, 0), (0, 3), (0, 0)], constant_values=-1e6),
            mask=np.pad(x.mask, [(0, 0), (0, 3)]),
        )

    padded = maxsim(with_rubbish(queries), with_rubbish(documents))
    np.testing.assert_allclose(padded, maxsim(queries, documents), atol=1e-5)


def test_best_match_below_zero_is_not_lifted_by_padding():
    query = TokenVectors(vectors=np.array([[[1.0, 0.0]]]), mask=np.array([[True]]))
    document = TokenVectors(vectors=np.array([[[-1.0, 0.0], [0.0, 0.0]]]), mask=np.array([[True, False]]))
    assert maxsim(query, document).tolist() == [[-1.0]]


def test_document_without_token_scores_minus_infinity():
    """Also for a query that has no token itself; where only the query has none, nothing is added up."""
    queries = TokenVectors(vectors=np.ones((2, 1, 1), np.float32), mask=np.array([[True], [False]]))
    documents = TokenVectors(vectors=np.ones((2, 1, 1), np.float32), mask=np.array([[True], [False]]))
    assert maxsim(queries, documents).tolist() == [[1.0, -np.inf], [0.0, -np.inf]]


def test_widths_must_agree():
    with pytest.raises(ValueError, match=r"width 8 .* width 4"):
        maxsim(random_vectors(1, 2, 8, seed=0), random_vectors(1, 2, 4, seed=1))


def test_under_jit_and_without_the_whole_tensor():
    """64 queries x 32 tokens x 2048 documents x 32 tokens are 512 MiB of similarities; the program needs a fraction."""
    queries, documents = random_vectors(64, 32, 8, seed=4), random_vectors(2048, 32, 8, seed=5)
    compiled = jax.jit(maxsim).lower(queries, documents).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * 64 * 32 * 2048 * 32 / 4
    np.testing.assert_allclose(compiled(queries, documents), maxsim(queries, documents), atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_documents_in_bfloat16_and_products_in_float32(monkeypatch, platform):
    """Elsewhere than on a CPU a product is of bfloat16 twice: the float64 figure to 1e-5, where once misses by 1e-3."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    queries, documents = random_vectors(7, 5, 64, seed=6), random_vectors(11, 9, 64, seed=7)
    stored = documents.replace(vectors=documents.vectors.astype(ml_dtypes.bfloat16))
    want = brute_force(queries, documents.replace(vectors=stored.vectors.astype(np.float32)))
    owner = np.where(queries.mask, np.arange(7)[:, None], 7).reshape(-1)
    tokens = queries.vectors.reshape(-1, 64)
    scores = score_tokens(tokens, owner, 7, jnp.asarray(stored.vectors), documents.mask)
    np.testing.assert_allclose(scores, want, atol=2e-5)
    once = score_tokens(tokens.astype(ml_dtypes.bfloat16), owner, 7, jnp.asarray(stored.vectors), documents.mask)
    assert np.abs(np.asarray(once) - want).max() > 1e-3
