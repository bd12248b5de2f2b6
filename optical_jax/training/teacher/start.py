"""Initialise an English teacher: a pretrained encoder and its late-interaction head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from optical_jax.config import HeadConfig, StartConfig, TeacherStageConfig, TowerConfig, expand_path
from optical_jax.data.tokenization import load_tokenizer
from optical_jax.errors import ConfigError
from optical_jax.models.formats.pretrained import open_model
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.towers.folder import check_vocabulary
from optical_jax.towers.tower import Tower
from optical_jax.training.embeddings import principal_directions, transfer_embeddings
from optical_jax.types import Params

MARKERS = {"query_marker_id": "[Q]", "document_marker_id": "[D]"}
MARKER_TAKEN = {"query_marker_id": "[unused0]", "document_marker_id": "[unused1]"}
"""BERT's spare pieces, which ColBERT takes for markers; other tokenizers get new ones."""
CHOSEN = ("augment_queries", "skip_punctuation", "special_tokens", "query_length", "document_length")
PLAIN_HEAD = HeadConfig(query_length=32, document_length=180)
"""With ColBERT's usual lengths."""


def make_start(cfg: TeacherStageConfig, queries: Sequence[str], passages: Sequence[str]) -> Tower:
    """The encoder at `encoder.path` with the run's markers, lengths and projection.

    Args:
      cfg: the run's settings.
      queries, passages: of the training, to find the principal directions of token vectors.

    Raises:
      ConfigError: no weights there, more layers held than there are, or a projection that cannot be.
    """
    settings = cfg.encoder
    path = expand_path(settings.path, "encoder.path")
    found = open_model(path, cfg.cache_dir or None).tower()
    tokenizer = load_tokenizer(str(found.tokenizer_path or path))
    check_vocabulary(tokenizer, found.cfg.encoder, path)
    encoder = replace(found.cfg.encoder, dtype=settings.dtype)
    head = choose_head(settings, found.cfg)
    check_shape(settings, found.cfg, head)
    params: Params = {**found.params, "head": {k: x for k, x in found.params["head"].items() if k != "mass"}}
    if settings.markers and head.query_marker_id is None:
        tokenizer, params, ids = add_markers(tokenizer, params, cfg.seed)
        encoder = replace(encoder, vocab_size=len(params["encoder"]["embeddings"]["word"]["embedding"]))
        head = replace(head, **ids)
    if settings.projection and settings.projection != found.cfg.head.projection:
        raw = Tower(params, TowerConfig(encoder, head), tokenizer)
        head = replace(head, projection=settings.projection)
        drawn = init_params(tower_specs(TowerConfig(encoder, head)), jax.random.key(cfg.seed))
        kernel = np.asarray(drawn["head"]["projection"]["kernel"])
        if settings.projection_start == "principal":
            kernel = principal_directions(raw, queries, passages, settings.projection)
        params = {**params, "head": {"projection": {"kernel": kernel}}}
    return Tower(params, TowerConfig(encoder, head), tokenizer)


def choose_head(settings: StartConfig, found: TowerConfig) -> HeadConfig:
    """The head of a ColBERT checkpoint, or the default for a plain encoder, overridden by the settings."""
    is_colbert = found.head.projection > 0 or found.head.query_marker_id is not None
    head = replace(found.head, masses="none") if is_colbert else PLAIN_HEAD
    chosen = {name: getattr(settings, name) for name in CHOSEN}
    return replace(head, **{name: value for name, value in chosen.items() if value is not None})


def check_shape(settings: StartConfig, found: TowerConfig, head: HeadConfig) -> None:
    encoder = found.encoder
    for name in ("query_length", "document_length"):
        if getattr(head, name) > encoder.max_length:
            raise ConfigError(
                f"encoder.{name}={getattr(head, name)} is more than the encoder reads; "
                f"give at most {encoder.max_length}"
            )
    if settings.frozen_layers is not None and settings.frozen_layers > encoder.layers:
        raise ConfigError(
            f"encoder.frozen_layers={settings.frozen_layers} is more than the encoder's {encoder.layers} layers; "
            "give at most that"
        )
    given = found.head.projection
    if given and settings.projection not in (0, given):
        raise ConfigError(
            f"encoder.projection={settings.projection}, and the weights at encoder.path come with a projection to "
            f"{given}; give 0 to keep it"
        )
    if not given and settings.projection > encoder.width:
        raise ConfigError(
            f"encoder.projection={settings.projection} is wider than the encoder's vectors; "
            f"give at most {encoder.width}, or 0 for none"
        )


def add_markers(tokenizer: Any, params: Params, seed: int) -> tuple[Any, Params, dict[str, int]]:
    """Add query and document marker tokens: unused vocabulary entries, or new ones."""
    vocabulary = tokenizer.get_vocab()
    if all(piece in vocabulary for piece in MARKER_TAKEN.values()):
        return tokenizer, params, {name: vocabulary[piece] for name, piece in MARKER_TAKEN.items()}
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(list(MARKERS.values()), special_tokens=True)
    embeddings = params["encoder"]["embeddings"]
    rows = transfer_embeddings(embeddings["word"]["embedding"], vocabulary, grown.get_vocab(), seed)
    embeddings = {**embeddings, "word": {"embedding": rows}}
    params = {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}
    return grown, params, {name: grown.get_vocab()[piece] for name, piece in MARKERS.items()}
