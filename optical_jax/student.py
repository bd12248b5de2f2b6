"""Who teaches and who learns: the teacher as the run reads it, the student as it starts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np

from optical_jax.config import Config, EncoderConfig, HeadConfig, TowerConfig, expand_path
from optical_jax.data.bitext import Bitext
from optical_jax.data.tokenization import load_tokenizer, tokenize, train_vocabulary
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.models.pretrained import load_pretrained
from optical_jax.models.vocabulary import (
    lexicon_embeddings,
    principal_components,
    transfer_embeddings,
    translation_table,
)
from optical_jax.params import init_params
from optical_jax.towers import Tower, check_vocabulary
from optical_jax.types import Params

LEXICON_TOKENS = 128
"""Longer sentences are cut for counting translations: their words stand too far apart to tell who translates whom."""


def load_teacher(cfg: Config) -> Tower:
    """The frozen English retriever, with the run's own choice of augmentation and skiplist."""
    path = expand_path(cfg.teacher.path, "teacher.path")
    found = load_pretrained(path, pooling=cfg.teacher.pooling, cache_dir=cfg.cache_dir or None)
    chosen = {name: getattr(cfg.teacher, name) for name in ("augment_queries", "skip_punctuation", "special_tokens")}
    head = replace(found.cfg.head, **{name: value for name, value in chosen.items() if value is not None})
    encoder = replace(found.cfg.encoder, dtype=cfg.teacher.dtype)
    check_length("teacher.max_length", cfg.teacher.max_length, encoder)
    tokenizer = load_tokenizer(str(found.tokenizer_path or path))
    check_vocabulary(tokenizer, encoder, path)
    return Tower(params=found.params, cfg=TowerConfig(encoder, head), tokenizer=tokenizer, side="document")


def make_student(cfg: Config, teacher: Tower, bitext: Mapping[str, Bitext]) -> Tower:
    """The student before its first step.

    Weights come from `student.path` (or from the teacher), the tokenizer from there too or from the bitext. The head
    asks as the teacher's does (markers, lengths, augmentation, pooling); where its vectors would have another width
    than the teacher's, a new projection is drawn. With `student.size` the encoder's layers are drawn too.
    """
    if cfg.student.path:
        path = expand_path(cfg.student.path, "student.path")
        found = load_pretrained(path, cache_dir=cfg.cache_dir or None)
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

    head = replace(teacher.cfg.head, projection=start.head.projection, **marker_ids(teacher, tokenizer))
    if start.vector_width != teacher.cfg.vector_width:
        head = replace(head, projection=teacher.cfg.vector_width)
        drawn = init_params(tower_specs(TowerConfig(encoder, head)), jax.random.key(cfg.seed))
        params = {**params, "head": jax.tree.map(np.asarray, drawn["head"])}
    return Tower(params=params, cfg=TowerConfig(encoder, head), tokenizer=tokenizer, side="query")


def adopt_vocabulary(
    cfg: Config, params: Params, encoder: EncoderConfig, tokenizer: Any, teacher: Tower, bitext: Mapping[str, Bitext]
) -> tuple[Params, EncoderConfig, Any]:
    """The tokenizer the student will read with, and its starting weights fitted to it.

    A trained vocabulary replaces the old one; a kept one only gains the teacher's markers if it lacks them.
    """
    old = tokenizer
    if cfg.student.vocabulary == "train":
        foreign = [text for one in bitext.values() for text in one.foreign]
        tokenizer = train_vocabulary(foreign, cfg.student.vocab_size, cfg.student.lowercase)
    missing = [piece for piece in marker_pieces(teacher).values() if piece not in tokenizer.get_vocab()]
    if missing:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens(missing, special_tokens=True)
    if tokenizer is old:
        return params, encoder, tokenizer

    embedding = params["encoder"]["embeddings"]["word"]["embedding"]
    old_vocab, new_vocab = old.get_vocab(), tokenizer.get_vocab()
    for role in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        # <s> and [CLS] are one thing under two names. What the old tokenizer lacks is drawn.
        if getattr(old, role) is not None and getattr(tokenizer, role) is not None:
            old_vocab[getattr(tokenizer, role)] = old_vocab[getattr(old, role)]
    rows = transfer_embeddings(embedding, old_vocab, new_vocab, cfg.seed)
    if cfg.student.vocabulary == "train" and cfg.student.new_embeddings == "lexicon":
        rows = lexicon_embeddings(rows, embedding, count_translations(bitext, old, tokenizer, len(embedding)))

    # RoBERTa counts positions from pad_id + 1: with another pad_id the table moves, and each position keeps its row.
    positions = params["encoder"]["embeddings"]["position"]["embedding"]
    shift = encoder.pad_id - tokenizer.pad_token_id if encoder.family != "bert" else 0
    embeddings = {
        **params["encoder"]["embeddings"],
        "word": {"embedding": rows},
        "position": {"embedding": positions[shift:] if shift > 0 else positions},
    }
    encoder = replace(
        encoder,
        vocab_size=len(rows),
        pad_id=tokenizer.pad_token_id,
        max_positions=encoder.max_positions - max(shift, 0),
    )
    return {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}, encoder, tokenizer


def resize(cfg: Config, params: Params, encoder: EncoderConfig) -> tuple[Params, EncoderConfig]:
    """An encoder of `student.size`, drawn but for its word embeddings, which keep what they knew of each other."""
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
    """The parameters with one and the same embedding, their mean, at every position."""
    embeddings = params["encoder"]["embeddings"]
    table = embeddings["position"]["embedding"]
    flat = np.broadcast_to(table.mean(axis=0, keepdims=True), table.shape).copy()
    embeddings = {**embeddings, "position": {"embedding": flat}}
    return {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}


def count_translations(bitext: Mapping[str, Bitext], english: Any, foreign: Any, english_size: int) -> Any:
    """p(English piece | foreign piece) over all languages of the bitext, as both tokenizers cut it.

    `english_size` is the height of the English embedding table, which may be more than the tokenizer's pieces.
    """
    plain = HeadConfig()
    sides = {"english": [], "foreign": []}
    for one in bitext.values():
        sides["english"] += [t.ids for t in tokenize(english, one.english, plain, "document", LEXICON_TOKENS)]
        sides["foreign"] += [t.ids for t in tokenize(foreign, one.foreign, plain, "document", LEXICON_TOKENS)]
    return translation_table(
        sides["english"],
        sides["foreign"],
        english_size=english_size,
        foreign_size=len(foreign),
        english_special=english.all_special_ids,
        foreign_special=foreign.all_special_ids,
    )


def marker_pieces(teacher: Tower) -> dict[str, str]:
    """HeadConfig field -> the piece the teacher marks that side with; empty for a teacher without markers."""
    head = teacher.cfg.head
    ids = {"query_marker_id": head.query_marker_id, "document_marker_id": head.document_marker_id}
    return {name: teacher.tokenizer.convert_ids_to_tokens(i) for name, i in ids.items() if i is not None}


def marker_ids(teacher: Tower, tokenizer: Any) -> dict[str, int]:
    """The teacher's markers as ids of the student's tokenizer."""
    return {name: tokenizer.get_vocab()[piece] for name, piece in marker_pieces(teacher).items()}


def check_length(name: str, length: int, encoder: EncoderConfig) -> None:
    if length > encoder.max_length:
        raise ConfigError(f"{name}={length} is more than its encoder reads; give at most {encoder.max_length}")
