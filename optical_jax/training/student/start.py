"""Load the teacher and initialise the student: encoder, vocabulary, embeddings, head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from optical_jax.config import Config, EncoderConfig, HeadConfig, TowerConfig, expand_path
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.translation_table import mutual_translations
from optical_jax.data.tokenization import load_tokenizer, tokenize, train_vocabulary, with_pieces
from optical_jax.errors import ConfigError
from optical_jax.files import PAIR, SEEN_IMAGES
from optical_jax.models.encoders import poolings
from optical_jax.models.formats.pretrained import open_model
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.runs.pair import Source, open_source
from optical_jax.towers.folder import check_vocabulary
from optical_jax.towers.texts import mean_vectors
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.training.embeddings import (
    lexicon_embeddings,
    principal_components,
    spelled_pieces,
    transfer_embeddings,
)
from optical_jax.training.student.linear_map import LinearMap, fit_linear_map
from optical_jax.types import Params

OTHER_NAMES = {"cls_token": "bos_token", "sep_token": "eos_token"}
"""What some tokenizers call the tokens that texts begin and end with."""
TEXTS_AT_ONCE = 1024
"""English texts whose vectors are held while a head is fitted."""
LEXICON_TOKENS = 128
"""Longer sentences are cut for counting translations: their words stand too far apart to tell who translates whom."""


class TeacherPair(NamedTuple):
    """The teacher and, if it comes from a dual encoder, the image tower beside it."""

    text: Tower
    image: Tower | None
    """None for a teacher of texts alone."""
    records: Mapping[str, Any]
    """Of a pair, file name -> content of pair.json and seen_pictures.json, where it has them."""


def load_teacher_pair(cfg: Config) -> TeacherPair:
    """The text tower as `load_teacher` gives it, and the image tower beside it, from one reading of `teacher.path`."""
    source = open_teacher(cfg)
    text = load_teacher(cfg, source)
    if not source.is_pair:
        return TeacherPair(text, None, {})
    records = {PAIR: source.metadata, SEEN_IMAGES: source.seen_images}
    image = source.tower("image", cfg.teacher.pooling)
    return TeacherPair(text, image, {name: content for name, content in records.items() if content is not None})


def open_teacher(cfg: Config) -> Source:
    return open_source(expand_path(cfg.teacher.path, "teacher.path"), cfg.cache_dir or None)


def load_teacher(cfg: Config, source: Source | None = None) -> Tower:
    """The frozen English retriever, with the run's own choice of augmentation and skiplist."""
    source = source or open_teacher(cfg)
    found = source.tower("text", cfg.teacher.pooling)
    chosen = {name: getattr(cfg.teacher, name) for name in ("augment_queries", "skip_punctuation", "special_tokens")}
    # Masses that it learned as a student of its own are of that run's loss.
    head = replace(found.cfg.head, masses="none", **{k: value for k, value in chosen.items() if value is not None})
    params = {**found.params, "head": {k: x for k, x in found.params["head"].items() if k != "mass"}}
    encoder = replace(found.cfg.encoder, dtype=cfg.teacher.dtype)
    check_length("teacher.max_length", cfg.teacher.max_length, encoder)
    if found.tokenizer is None:
        raise ConfigError(f"teacher.path={source.path} holds no tokenizer; copy the whole model")
    return replace(found, params=params, cfg=TowerConfig(encoder, head), side="document")


def make_student(
    cfg: Config, teacher: Tower, bitext: Mapping[str, Bitext], say: Callable[[str], None] = lambda line: None
) -> Tower:
    """The student before its first step.

    Weights come from `student.path` (or from the teacher), the tokenizer from there too or from the bitext. The
    head does as the teacher's does (markers, lengths, augmentation, pooling, but the mean where only encoders of
    the teacher's kind pool so); its projection is what `student.head` says, and randomly initialised if its vectors
    would have another width than the teacher's. With `student.size` the encoder's layers are randomly initialised
    too. `say` is called with how well a fitted head fits.

    Raises:
      ConfigError: settings that do not fit the weights: lengths, widths, or nothing left to train.
    """
    if cfg.student.path:
        path = expand_path(cfg.student.path, "student.path")
        found = open_model(path, cfg.cache_dir or None).tower()
        params, start = found.params, found.cfg
        tokenizer = load_tokenizer(str(found.tokenizer_path or path))
        check_vocabulary(tokenizer, start.encoder, path)
    else:
        params, start, tokenizer = teacher.params, teacher.cfg, teacher.tokenizer

    params, encoder, tokenizer = adopt_vocabulary(cfg, params, start.encoder, tokenizer, teacher, bitext)
    if cfg.student.size.width:
        params, encoder = resize(cfg, params, encoder)
        start = TowerConfig(encoder)
    if not cfg.student.word_order:
        params = without_word_order(params)
    encoder = replace(encoder, dtype=cfg.student.dtype)
    check_length("student.max_length", cfg.student.max_length, encoder)

    if cfg.loss.ot.masses != "uniform" and teacher.cfg.head.pooling != "none":
        raise ConfigError(
            f"loss.ot.masses={cfg.loss.ot.masses!r} weighs tokens, and by teacher.pooling=auto this teacher gives one "
            "vector a text; leave it out, or take --teacher.pooling none"
        )
    params, projection = choose_head(cfg, params, TowerConfig(encoder, start.head), teacher)
    check_freezing(cfg, encoder, projection)
    # What another run learned of masses is of its own loss: they start equal.
    masses = "learned" if cfg.loss.ot.masses == "learned" else "none"
    pooling = teacher.cfg.head.pooling if teacher.cfg.head.pooling in poolings(encoder) else "mean"
    head = replace(
        teacher.cfg.head,
        projection=projection,
        projection_bias="bias" in params["head"].get("projection", {}),
        pooling=pooling,
        masses=masses,
        **marker_ids(teacher, tokenizer),
    )
    learned = {name: value for name, value in params["head"].items() if name != "mass"}
    if masses == "learned":
        learned["mass"] = {"kernel": np.zeros(TowerConfig(encoder, head).vector_width, np.float32)}
    params = {**params, "head": learned}
    side = "document" if cfg.student.sides == "documents" else "query"
    student = Tower(params=params, cfg=TowerConfig(encoder, head), tokenizer=tokenizer, side=side)
    if cfg.student.head != "fitted":
        return student
    english = list(dict.fromkeys(text for one in bitext.values() for text in one.english))
    fit = fit_head(student, teacher, english, cfg.student.ridge)
    say(
        f"student.head: fitted to {len(english):,} English texts, of whose teacher vectors it explains "
        f"{fit.explained:.1%}; rank {fit.rank} of {encoder.width}, condition {fit.condition:.1e}"
    )
    return replace(student, params={**params, "head": {**learned, "projection": {"kernel": fit.kernel}}})


def fit_head(student: Tower, teacher: Tower, english: Sequence[str], ridge: float) -> LinearMap:
    """Fit the student's projection to the teacher's vectors of the same English texts (ridge regression).

    Vectors of tokens are averaged over each text, on both sides, for the tokens of two tokenizers are not those of each
    other; what takes averages to averages takes a token to where the teacher's would lie.
    """
    head = replace(student.cfg.head, projection=0, projection_bias=False, masses="none")
    own = to_device(replace(student, params={**student.params, "head": {}}, cfg=replace(student.cfg, head=head)))
    theirs = to_device(teacher)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(english), TEXTS_AT_ONCE):
            texts = english[start : start + TEXTS_AT_ONCE]
            x, y = (np.asarray(mean_vectors(encode(tower, texts)).vectors[:, 0]) for tower in (own, theirs))
            yield x, y

    return fit_linear_map(blocks(), ridge)


def choose_head(cfg: Config, params: Params, start: TowerConfig, teacher: Tower) -> tuple[Params, int]:
    """The parameters with the projection that `student.head` names, and its width (0 for none).

    Raises:
      ConfigError: the teacher's, for an encoder of another width.
    """
    wanted = teacher.cfg
    if cfg.student.head == "teacher":
        if start.encoder.width != wanted.encoder.width:
            raise ConfigError(
                f"student.head=teacher: the teacher's head reads hidden states of width {wanted.encoder.width}, and "
                f"the student's are of width {start.encoder.width}; take student.head=drawn"
            )
        return {**params, "head": teacher.params["head"]}, wanted.head.projection
    if cfg.student.head == "own" and start.vector_width == wanted.vector_width:
        return params, start.head.projection
    drawn = TowerConfig(start.encoder, HeadConfig(projection=wanted.vector_width))
    head = init_params({"head": tower_specs(drawn)["head"]}, jax.random.key(cfg.seed))["head"]
    return {**params, "head": jax.tree.map(np.asarray, head)}, wanted.vector_width


def check_freezing(cfg: Config, encoder: EncoderConfig, projection: int) -> None:
    layers = cfg.student.freeze_layers
    if layers > encoder.layers:
        raise ConfigError(f"student.freeze_layers={layers}: the student has {encoder.layers}; give at most as many")
    if cfg.student.freeze_embeddings and layers == encoder.layers and not projection:
        raise ConfigError(
            f"student.freeze_embeddings=True and student.freeze_layers={layers} leave nothing to train, as the student "
            "has no projection; freeze less"
        )


def adopt_vocabulary(
    cfg: Config, params: Params, encoder: EncoderConfig, tokenizer: Any, teacher: Tower, bitext: Mapping[str, Bitext]
) -> tuple[Params, EncoderConfig, Any]:
    """Choose the student's tokenizer and initialise its embeddings for that vocabulary.

    A trained vocabulary replaces the old one, or stands beside its pieces; a kept one only gains the teacher's markers
    if it lacks them.
    """
    old = tokenizer
    if cfg.student.vocabulary == "train":
        read = [text for one in bitext.values() for text in texts_to_read(one, cfg.data.code_switch)]
        tokenizer = train_vocabulary(read, cfg.student.vocab_size, cfg.student.lowercase)
        if cfg.student.keep_pieces:
            tokenizer = with_pieces(tokenizer, spelled_pieces(old.get_vocab()), cfg.student.lowercase)
    missing = [piece for piece in marker_pieces(teacher).values() if piece not in tokenizer.get_vocab()]
    if missing:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens(missing, special_tokens=True)
    if tokenizer is old:
        return params, encoder, tokenizer

    embedding = params["encoder"]["embeddings"]["word"]["embedding"]
    old_vocab, new_vocab = old.get_vocab(), tokenizer.get_vocab()
    for role in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        # <s> and [CLS] are one thing under two names, and so are the ends of CLIP's texts, which it names otherwise.
        before = getattr(old, role) or getattr(old, OTHER_NAMES.get(role, role))
        # What the old tokenizer lacks is drawn.
        if before is not None and getattr(tokenizer, role) is not None:
            old_vocab[getattr(tokenizer, role)] = old_vocab[before]
    rows = transfer_embeddings(embedding, old_vocab, new_vocab, cfg.seed)
    if cfg.student.vocabulary == "train" and cfg.student.new_embeddings == "lexicon":
        rows = lexicon_embeddings(rows, embedding, count_translations(bitext, old, tokenizer, len(embedding)))

    # RoBERTa counts positions from pad_id + 1: with another pad_id the table moves, and each position keeps its row.
    positions = params["encoder"]["embeddings"]["position"]["embedding"]
    shift = encoder.pad_id - tokenizer.pad_token_id if encoder.first_position else 0
    embeddings = {
        **params["encoder"]["embeddings"],
        "word": {"embedding": rows},
        "position": {"embedding": positions[shift:] if shift > 0 else positions},
    }
    encoder = replace(
        encoder,
        vocab_size=len(rows),
        pad_id=tokenizer.pad_token_id,
        eos_id=None if encoder.eos_id is None else end_of_text(tokenizer),
        max_positions=encoder.max_positions - max(shift, 0),
    )
    return {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}, encoder, tokenizer


def end_of_text(tokenizer: Any) -> int:
    """The end-of-text token id of a tokenizer."""
    return tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id


def texts_to_read(bitext: Bitext, code_switch: float) -> list[str]:
    """Texts a new vocabulary is trained on: foreign texts, and with code switching its share of English ones.

    English whole sentences, evenly spaced: which words are switched is known only when there is a student.
    """
    some = round(code_switch * len(bitext))
    return bitext.foreign + [bitext.english[n * len(bitext) // some] for n in range(some)]


def resize(cfg: Config, params: Params, encoder: EncoderConfig) -> tuple[Params, EncoderConfig]:
    """A randomly initialised encoder of `student.size` whose word embeddings are the old ones' principal components."""
    words = params["encoder"]["embeddings"]["word"]["embedding"]
    encoder = replace(encoder, **asdict(cfg.student.size))
    if encoder.width > min(words.shape):
        raise ConfigError(
            f"student.size.width={encoder.width} is more than the {min(words.shape)} principal components there are "
            f"of a table of {' x '.join(map(str, words.shape))} word embeddings; give at most that"
        )
    drawn = jax.tree.map(np.asarray, init_params(tower_specs(TowerConfig(encoder)), jax.random.key(cfg.seed)))
    drawn["encoder"]["embeddings"]["word"]["embedding"] = principal_components(words, encoder.width)
    return drawn, encoder


def without_word_order(params: Params) -> Params:
    """Replace all position embeddings by their mean, so that word order is not visible."""
    embeddings = params["encoder"]["embeddings"]
    table = embeddings["position"]["embedding"]
    flat = np.broadcast_to(table.mean(axis=0, keepdims=True), table.shape).copy()
    embeddings = {**embeddings, "position": {"embedding": flat}}
    return {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}


def count_translations(bitext: Mapping[str, Bitext], english: Any, foreign: Any, english_size: int) -> Any:
    """Translation table of foreign to English word pieces, over all languages of the bitext.

    `english_size` is the height of the English embedding table, which may be more than the tokenizer's pieces.
    """
    plain = HeadConfig()
    sides = {"english": [], "foreign": []}
    for one in bitext.values():
        sides["english"] += [t.ids for t in tokenize(english, one.english, plain, "document", LEXICON_TOKENS)]
        sides["foreign"] += [t.ids for t in tokenize(foreign, one.foreign, plain, "document", LEXICON_TOKENS)]
    return mutual_translations(
        sides["english"],
        sides["foreign"],
        english_size=english_size,
        foreign_size=len(foreign),
        english_special=english.all_special_ids,
        foreign_special=foreign.all_special_ids,
    )


def marker_pieces(teacher: Tower) -> dict[str, str]:
    """HeadConfig field -> the teacher's marker piece; empty for a teacher without markers."""
    head = teacher.cfg.head
    ids = {"query_marker_id": head.query_marker_id, "document_marker_id": head.document_marker_id}
    return {name: teacher.tokenizer.convert_ids_to_tokens(i) for name, i in ids.items() if i is not None}


def marker_ids(teacher: Tower, tokenizer: Any) -> dict[str, int]:
    """The teacher's markers as ids of the student's tokenizer."""
    return {name: tokenizer.get_vocab()[piece] for name, piece in marker_pieces(teacher).items()}


def check_length(name: str, length: int, encoder: EncoderConfig) -> None:
    if length > encoder.max_length:
        raise ConfigError(f"{name}={length} is more than its encoder reads; give at most {encoder.max_length}")
