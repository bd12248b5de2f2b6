"""`Tower`, a pretrained encoder with its tokenizer, and `encode`, which turns texts or images into vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import HeadConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError, DataError
from optical_jax.models.bert import Packed
from optical_jax.models.encoders import encode_hidden
from optical_jax.models.late_interaction import check_reads_text, encode_tokens, to_unit_vectors, tower_specs
from optical_jax.models.stack import unstack_layers
from optical_jax.params import count_params
from optical_jax.partitioning import constrain, params_shardings
from optical_jax.towers.image_batches import encode_in_batches
from optical_jax.towers.text_batches import PackedRows, batches_of, on_one_cpu
from optical_jax.types import ImageInputs, Params, TextInputs, TokenVectors

if TYPE_CHECKING:
    from optical_jax.data.tokenization import Tokens

Side = Literal["query", "document"]


@struct.dataclass
class Tower:
    """An encoder with its config, tokenizer and preprocessing. A pytree whose only leaves are the parameters.

    >>> import jax
    >>> from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
    >>> from optical_jax.models.late_interaction import tower_specs
    >>> from optical_jax.params import init_params
    >>> encoder = EncoderConfig(vocab_size=100, width=32, layers=2, heads=4, mlp_width=64, max_positions=16)
    >>> cfg = TowerConfig(encoder, HeadConfig(projection=8))
    >>> Tower(params=init_params(tower_specs(cfg), jax.random.key(0)), cfg=cfg)
    Tower(bert, 2 layers, width 32, vectors of 8, 0.0 M parameters, side='query', no tokenizer)
    """

    params: Params
    """A tree of `tower_specs(cfg)`. `load` gives host arrays; `jax.device_put(tower)` moves them to a device, and
    `to_device` does so in the form that encodes fastest there."""
    cfg: TowerConfig = struct.field(pytree_node=False)
    """An `ImageTowerConfig` for an image tower."""
    tokenizer: Any = struct.field(pytree_node=False, default=None)
    """A fast tokenizer of transformers; None if the model has none, which is enough for `hidden_states`."""
    side: Side = struct.field(pytree_node=False, default="query")
    """Encode as a query or a document: which marker, length and skiplist apply."""
    recipe: Any = struct.field(pytree_node=False, default=None)
    """Image preprocessing, a `data.pixels.PictureRecipe`; None for text towers, and for models that state none."""

    def __repr__(self) -> str:
        encoder, millions = self.cfg.encoder, count_params(tower_specs(self.cfg)) / 1e6
        if isinstance(self.cfg, ImageTowerConfig):
            size = self.cfg.encoder.image_size
            reads = f"images of {size} x {size}{' or other' if self.cfg.encoder.interpolate else ''} pixels"
        else:
            reads = f"side={self.side!r}{'' if self.tokenizer is not None else ', no tokenizer'}"
        return (
            f"Tower({encoder.family}, {encoder.layers} layers, width {encoder.width}, vectors of "
            f"{self.cfg.vector_width}, {millions:.1f} M parameters, {reads})"
        )


def sides_alike(head: HeadConfig) -> bool:
    """True if queries and documents are encoded alike except for their length: no markers, [MASK]s or skiplist."""
    marked = head.query_marker_id is not None or head.document_marker_id is not None
    return not (marked or head.augment_queries or head.skip_punctuation)


def encode(
    tower: Tower,
    texts: Sequence[str] | Float[Array | np.ndarray, "N height width 3"],
    batch_size: int = 64,
    *,
    look: Callable[[Sequence[Tokens]], None] | None = None,
) -> TokenVectors:
    """Encode texts, or images with an image tower, into token vectors, as NumPy arrays in input order.

    Texts are batched in a few shapes, each compiled once per process: padded with texts of similar length on a single
    CPU, packed into rows elsewhere. Under `jax.set_mesh` batches are sharded over the mesh.

    Args:
      tower: its `side` determines how texts are tokenised and truncated.
      texts: non-empty texts; or images of one size, scaled and normalised as in the tower's training.
      batch_size: images per batch; or texts of 32 tokens per batch on a CPU, of 512 per shard on accelerators: fewer
        if they are longer, more if they are shorter.
      look: called with the tokens of the texts, such as to count unknown and truncated ones (`data.coverage`).

    Returns:
      vectors [N, L, E], float32, unit length; zero where mask [N, L] is False. L is the longest text in tokens, the
      number of patches of an image, or 1 for a tower that pools.

    Raises:
      DataError: an empty text, named by its index; or images in another form than one array.
      ConfigError: the tower has no tokenizer, or does not take images of this size.

    >>> import jax
    >>> from optical_jax.config import EncoderConfig, TowerConfig
    >>> from optical_jax.data.tokenization import train_vocabulary
    >>> from optical_jax.models.late_interaction import tower_specs
    >>> from optical_jax.params import init_params
    >>> tokenizer = train_vocabulary(["habari ya asubuhi", "jua linachomoza"], vocab_size=80)
    >>> cfg = TowerConfig(EncoderConfig(vocab_size=80, width=32, layers=1, heads=4, mlp_width=64, max_positions=64))
    >>> tower = Tower(init_params(tower_specs(cfg), jax.random.key(0)), cfg, tokenizer)
    >>> habari = encode(tower, ["habari", "habari ya jua"])
    >>> habari.vectors.shape[0], habari.vectors.shape[2]
    (2, 32)
    """
    from optical_jax.data.tokenization import tokenize

    if isinstance(texts, str):
        raise TypeError("texts is one string; give a list of texts")
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} is below 1; give at least 1")
    if isinstance(tower.cfg, ImageTowerConfig):
        params = on_device(tower.params, tower.cfg)
        return encode_in_batches(texts, batch_size, lambda inputs: encode_batch(params, inputs, tower.cfg))
    if not isinstance(texts, Sequence):
        raise ConfigError("a text tower was given an array; give a list of texts, or load part='image'")
    if tower.tokenizer is None:
        raise ConfigError("the tower has no tokenizer; load it from a folder with one, or use hidden_states with ids")
    tokens = tokenize(tower.tokenizer, texts, tower.cfg.head, tower.side)
    if look is not None:
        look(tokens)
    pooled = tower.cfg.head.pooling != "none"
    longest = 1 if pooled else max((len(text.ids) for text in tokens), default=0)
    vectors = np.zeros((len(tokens), longest, tower.cfg.vector_width), np.float32)
    mask = np.zeros((len(tokens), longest), bool)

    params = on_device(tower.params, tower.cfg)
    running: list[tuple[Any, ...]] = []

    def collect() -> None:
        owners, places, at, found = running.pop(0)
        vectors[owners, places] = np.asarray(found).reshape(-1, vectors.shape[2])[at]

    for owners, places, at, inputs in batches_of(tokens, batch_size, tower.cfg):
        running.append((owners, places, at, encode_batch(params, inputs, tower.cfg)))
        # One batch is read back while the next is computed.
        if len(running) == 2:
            collect()
    while running:
        collect()
    for row, text in enumerate(tokens):
        mask[row, : 1 if pooled else len(text.keep)] = True if pooled else text.keep
    vectors[~mask] = 0.0
    return TokenVectors(vectors=vectors, mask=mask)  # pyright: ignore[reportArgumentType]


def to_device(tower: Tower) -> Tower:
    """Move a tower's parameters to the devices, for repeated encoding."""
    return dataclasses.replace(tower, params=on_device(tower.params, tower.cfg))


def on_device(params: Params, cfg: TowerConfig) -> Params:
    """Move host arrays to the device, or shard them over the mesh in context; JAX arrays are returned as they are."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params)):
        return params
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        return jax.device_put(params, params_shardings(tower_specs(cfg), mesh))
    return jax.device_put({**params, "encoder": unstack_layers(params["encoder"])} if on_one_cpu() else params)


def _vectors(params: Params, inputs: TextInputs | PackedRows | ImageInputs, cfg: TowerConfig) -> Float[Array, "R L E"]:
    if isinstance(inputs, PackedRows):
        packed = Packed(inputs.text, inputs.position, longest=inputs.ids.shape[1])
        found = to_unit_vectors(
            params, encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder, packed), cfg
        )
    else:
        found = encode_tokens(params, inputs, cfg).vectors
    # Replicated, so that every process has all vectors on its host.
    return constrain(found, (None,) * 3)


encode_batch = jax.jit(_vectors, static_argnums=2)
_hidden = jax.jit(encode_hidden, static_argnums=3)


def hidden_states(
    tower: Tower,
    ids: Int[Array | np.ndarray, "B L"],
    mask: Bool[Array | np.ndarray, "B L"] | Int[Array | np.ndarray, "B L"],
) -> Float[Array, "B L D"]:
    """Last hidden states of the encoder for token ids, before projection and normalisation; needs no tokenizer.

    Args:
      tower: a text tower.
      ids: token ids with special tokens, padded; NumPy or JAX.
      mask: True (or 1) on real tokens. Outputs at other positions are unspecified.

    Returns:
      A JAX array in the tower's `cfg.encoder.dtype`.

    Raises:
      DataError: shapes differ, or an id is outside of the vocabulary.
      ConfigError: texts longer than the position table, or an image tower.

    >>> import jax, numpy as np
    >>> from optical_jax.config import EncoderConfig, TowerConfig
    >>> from optical_jax.models.late_interaction import tower_specs
    >>> from optical_jax.params import init_params
    >>> cfg = TowerConfig(EncoderConfig(vocab_size=50, width=16, layers=1, heads=2, mlp_width=32, max_positions=8))
    >>> tower = Tower(init_params(tower_specs(cfg), jax.random.key(0)), cfg)
    >>> ids = np.array([[2, 17, 23, 3], [2, 30, 3, 0]])
    >>> hidden_states(tower, ids, ids != 0).shape
    (2, 4, 16)
    """
    check_reads_text(tower.cfg)
    if jnp.ndim(ids) != 2 or jnp.shape(ids) != jnp.shape(mask):
        raise DataError(f"ids {jnp.shape(ids)} and mask {jnp.shape(mask)} must have one shape [texts, tokens]")
    if not isinstance(ids, Tracer) and jnp.size(ids):
        # Indexing beyond a table goes unnoticed in JAX.
        low, high, V = int(np.min(ids)), int(np.max(ids)), tower.cfg.encoder.vocab_size
        if low < 0 or high >= V:
            raise DataError(f"ids hold {low if low < 0 else high}, outside of the vocabulary of {V}; use its tokenizer")
    params = on_device(tower.params, tower.cfg)
    return _hidden(params["encoder"], jnp.asarray(ids), jnp.asarray(mask, bool), tower.cfg.encoder)
