"""The Python face: a tower from any run, checkpoint folder or hub name, and texts to vectors with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import HeadConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import REFERENCE, read_json, trains_pair, trains_teacher
from optical_jax.models.bert import Packed
from optical_jax.models.encoders import encode_hidden
from optical_jax.models.late_interaction import check_reads_text, encode_tokens, to_unit_vectors, tower_specs
from optical_jax.models.stack import unstack_layers
from optical_jax.params import count_params
from optical_jax.partitioning import constrain, params_shardings
from optical_jax.towers.folder import load_from_folder
from optical_jax.towers.image_batches import encode_in_batches
from optical_jax.towers.text_batches import PackedRows, batches_of, on_one_cpu
from optical_jax.types import ImageInputs, Params, TextInputs, TokenVectors

if TYPE_CHECKING:
    from optical_jax.towers.folder import Part, Pooling

Side = Literal["query", "document"]


@struct.dataclass
class Tower:
    """A model with all that it takes to use it. A pytree whose leaves are the parameters and nothing else.

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
    `placed` does so in the form that encodes fastest there."""
    cfg: TowerConfig = struct.field(pytree_node=False)
    """An `ImageTowerConfig` for a tower that reads pictures."""
    tokenizer: Any = struct.field(pytree_node=False, default=None)
    """A fast tokenizer of transformers; None where there is none, which `hidden_states` does not mind."""
    side: Side = struct.field(pytree_node=False, default="query")
    """Which marker, length and skiplist texts are tokenised with."""
    recipe: Any = struct.field(pytree_node=False, default=None)
    """How pictures become pixels, a `data.pixels.PictureRecipe`; None for texts, and where the weights come without."""

    def __repr__(self) -> str:
        encoder, millions = self.cfg.encoder, count_params(tower_specs(self.cfg)) / 1e6
        if isinstance(self.cfg, ImageTowerConfig):
            size = self.cfg.encoder.image_size
            reads = f"pictures of {size} x {size}{' or other' if self.cfg.encoder.interpolate else ''} pixels"
        else:
            reads = f"side={self.side!r}{'' if self.tokenizer is not None else ', no tokenizer'}"
        return (
            f"Tower({encoder.family}, {encoder.layers} layers, width {encoder.width}, vectors of "
            f"{self.cfg.vector_width}, {millions:.1f} M parameters, {reads})"
        )


def load(
    path: str | Path,
    side: Side = "query",
    checkpoint: str | int = "last",
    *,
    part: Part = "auto",
    pooling: Pooling = "none",
    cache_dir: str | None = None,
) -> Tower:
    """A tower from a run folder, a folder of weights, or a hub name.

    Args:
      path: a run folder, or any other folder (Hugging Face, Stanford ColBERT, PyLate, Sentence Transformers, an export
        of ours), an .npz file of big_vision, or a hub name. These give the same tower for both sides, as a teacher's
        training does; but CLIP and SigLIP their tower of texts for queries and that of pictures for documents.
      side: "query" or "document".
      part: of CLIP, SigLIP and pairs of ours "text" or "image", whatever the side; so too of the run of an image-text
        teacher. Of a student's run: "auto" gives its student for queries and its teacher for documents; of a run with
        student.sides=documents its teacher for queries and its student for documents. "student" for documents, where it
        learned both sides, is the one for documents in its own language; "image" is the tower of pictures that came
        with the teacher, and "text" is "auto".
      checkpoint: which one of what a run trains: "last", "best" by dev figure, a step, or "untrained" (before its first
        step).
      pooling: of a folder or hub name from outside: "none" gives a vector a token whatever its files say, "auto" does
        as they say, "mean" and "cls" give one a text. Runs and exports are read as they were written.
      cache_dir: where downloads from the hub go; None leaves it to HF_HOME.

    Returns:
      The tower, its parameters on the host in float32.

    Raises:
      ConfigError: nothing there, no weights, no such checkpoint, something a tower cannot express, or a side that the
        run's student did not learn.

    >>> tower = load("runs/swahili", checkpoint="best")  # doctest: +SKIP
    >>> teacher = load("runs/swahili", side="document")  # doctest: +SKIP
    """
    if side not in get_args(Side):
        raise ConfigError(f"side={side!r} is not one of {', '.join(get_args(Side))}")
    if is_run(Path(path)):
        return load_from_run(Path(path), side, checkpoint, part, cache_dir)
    if part in ("student", "teacher"):
        raise ConfigError(f"{path} is not a run, so it has no {part}; leave part={part!r} out")
    if checkpoint != "last":
        raise ConfigError(f"{path} is not a run, so it has no checkpoint {checkpoint}; leave the checkpoint out")
    return load_from_folder(path, side, cache_dir, pooling, part)


def sides_of(run: Path) -> tuple[Side, ...]:
    """The sides that a run's student learned; one for queries where the run does not tell, as older ones."""
    named = read_json(run / "config.json").get("student", {}).get("sides", "queries")
    known: dict[str, tuple[Side, ...]] = {"queries": ("query",), "documents": ("document",)}
    return known.get(named, get_args(Side))


def towers_of_run(
    run: Path, checkpoint: str | int = "last", documents: Part = "auto", cache_dir: str | None = None
) -> tuple[Tower, Tower]:
    """Who asks a run's queries, and who encodes its documents.

    Args:
      documents: "teacher", of English ones; "student", of those in its language; "auto" takes the teacher, unless the
        student learned documents alone. The student asks, or where it did not learn to, the teacher, in English.

    Raises:
      ConfigError: as `load`.
    """
    if trains_pair(run):
        # Texts on both sides, of which an image-text teacher's run has one tower.
        text = load(run, "query", checkpoint, part="text", cache_dir=cache_dir)
        return text, dataclasses.replace(text, side="document")
    learned = sides_of(run)
    if documents == "auto":
        documents = "student" if learned == ("document",) else "teacher"
    asker: Part = "student" if documents == "teacher" or "query" in learned else "teacher"
    return (
        load(run, "query", checkpoint, part=asker, cache_dir=cache_dir),
        load(run, "document", checkpoint, part=documents, cache_dir=cache_dir),
    )


def load_from_run(run: Path, side: Side, checkpoint: str | int, part: Part, cache_dir: str | None) -> Tower:
    from optical_jax.references import load_reference

    if trains_teacher(run):
        read: Part = part if part in ("text", "image") else "auto"
        return at_checkpoint(load_from_folder(run / "model", side, cache_dir, part=read), run, checkpoint)
    learned = sides_of(run)
    part = "auto" if part == "text" else part
    if part in ("teacher", "image") or (part == "auto" and side != learned[0]):
        folder = part_of(run, PICTURE_TEACHER if part == "image" else "teacher")
        if (folder / REFERENCE).is_file():
            return dataclasses.replace(load_reference(folder, cache_dir), side=side)
        return load_from_folder(folder, side, cache_dir)
    student = load_from_folder(part_of(run, "student"), side, cache_dir)
    if side not in learned and not sides_alike(student.cfg.head):
        raise ConfigError(
            f"run {run}: its student learned to encode as a {learned[0]} alone, not as a {side}; train one with "
            "--student.sides both"
        )
    return at_checkpoint(student, run, checkpoint)


def at_checkpoint(start: Tower, run: Path, checkpoint: str | int) -> Tower:
    """What a run has made of a tower it started from."""
    from optical_jax.runs.checkpoint import load_params

    if checkpoint == "untrained":
        return start
    which: Any = int(checkpoint) if str(checkpoint).isdecimal() else checkpoint
    params, _ = load_params(run, which)
    if trains_pair(run):
        params = params["image" if isinstance(start.cfg, ImageTowerConfig) else "text"]
    # A head without parameters is an empty dict, which a checkpoint may leave out.
    return dataclasses.replace(start, params={"head": {}, **params})


def sides_alike(head: HeadConfig) -> bool:
    """True where queries and documents are one to a tower but for their length: no markers, [MASK]s or skiplist."""
    marked = head.query_marker_id is not None or head.document_marker_id is not None
    return not (marked or head.augment_queries or head.skip_punctuation)


def is_run(path: Path) -> bool:
    """True for a folder that training wrote, from its first seconds on."""
    return (path / "config.json").is_file() and any((path / p).is_dir() for p in ("checkpoints", "student", "model"))


PICTURE_TEACHER = "teacher/image"
"""In a student's run: the tower of pictures that its teacher's vectors of texts agree with."""


def part_of(run: Path, name: str) -> Path:
    if not (run / name).is_dir():
        mend = "teach by a pair of towers" if name == PICTURE_TEACHER else "train it first"
        raise ConfigError(f"run {run} has no {name}/ folder; copy the whole run, or {mend}")
    return run / name


def encode(
    tower: Tower, texts: Sequence[str] | Float[Array | np.ndarray, "N height width 3"], batch_size: int = 64
) -> TokenVectors:
    """Vectors of texts, or of pictures by a tower that reads them, as NumPy arrays in the order they come in.

    Texts run in batches of a few shapes, each compiled once a process: on one CPU a text a row, beside texts of about
    its length; elsewhere laid end to end in rows. Under `jax.set_mesh` batches are split over the mesh.

    Args:
      tower: its `side` says how texts are tokenised and cut.
      texts: none of them empty; or pictures of one size, scaled and normalised as the tower was trained.
      batch_size: pictures of a batch; or texts of 32 tokens that it has room for, on accelerators of 512 and for each
        part of the mesh that batches are split into; of longer ones it holds fewer, of shorter ones more.

    Returns:
      vectors [N, L, E], float32, unit length; zero where mask [N, L] is False. L is the longest text in tokens, the
      patches of a picture, or 1 for a tower that pools.

    Raises:
      DataError: a text is empty; it is named by its index. What should be pictures is no array of them.
      ConfigError: the tower has no tokenizer, or reads no pictures of this size.

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
        raise ConfigError("the tower reads texts and was given an array; give a list of texts, or load part='image'")
    if tower.tokenizer is None:
        raise ConfigError("the tower has no tokenizer; load it from a folder with one, or use hidden_states with ids")
    tokens = tokenize(tower.tokenizer, texts, tower.cfg.head, tower.side)
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


def placed(tower: Tower) -> Tower:
    """The tower with its parameters on the devices: to be encoded with again and again."""
    return dataclasses.replace(tower, params=on_device(tower.params, tower.cfg))


def on_device(params: Params, cfg: TowerConfig) -> Params:
    """Host arrays go to the device, or over the mesh in context, once; arrays that are there stay as they lie."""
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
    # Every process wants all of it on its host.
    return constrain(found, (None,) * 3)


encode_batch = jax.jit(_vectors, static_argnums=2)
_hidden = jax.jit(encode_hidden, static_argnums=3)


def hidden_states(
    tower: Tower,
    ids: Int[Array | np.ndarray, "B L"],
    mask: Bool[Array | np.ndarray, "B L"] | Int[Array | np.ndarray, "B L"],
) -> Float[Array, "B L D"]:
    """The encoder's last layer on given token ids, before any projection or norm; needs no tokenizer.

    Args:
      tower: any tower.
      ids: token ids with special tokens, padded; NumPy or JAX.
      mask: True (or 1) on real tokens. What stands at the others is unspecified.

    Returns:
      A JAX array in the tower's `cfg.encoder.dtype`.

    Raises:
      DataError: shapes differ, or an id is outside of the vocabulary.
      ConfigError: texts longer than the position table, or a tower of pictures.

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
