"""Load pretrained models from local folders or the Hugging Face hub, in all supported formats."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG, PAIR, SEEN_IMAGES, TOKENIZER_FILES, read_if_present
from optical_jax.models.formats.finding import find_folder
from optical_jax.models.formats.hf_heads import Head, Pooling, Projection, cut_lengths, read_head
from optical_jax.models.formats.hf_names import encoder_config, match_names, shorten, to_tree
from optical_jax.models.formats.hf_weights import Weights, read_json
from optical_jax.models.formats.pair_configs import Part, inline_projection, is_pair_family, part_of
from optical_jax.models.formats.paired_source import PairedSource, choose_tower, open_paired, read_own_tower
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.types import Params

log = logging.getLogger(__name__)


class Pretrained(NamedTuple):
    params: Params
    """Parameters of the tower, NumPy, float32."""
    cfg: TowerConfig
    tokenizer_path: Path | None
    """Folder of the tokenizer; None if there is none."""
    folder: Path
    """Folder of the weights and, for an image tower, of its preprocessor_config.json."""


@dataclass(frozen=True)
class Model:
    """A pretrained model in one of the formats of `open_model`. Its files are opened once, when first needed."""

    path: str
    """As the caller named it."""
    folder: Path
    """Where the files are; of big_vision the .npz file itself."""

    @cached_property
    def metadata(self) -> dict[str, Any] | None:
        """Contents of pair.json; None for third-party models."""
        return read_json(self.folder / PAIR) if (self.folder / PAIR).is_file() else None

    @property
    def seen_images(self) -> list[str] | None:
        """Digests, in hexadecimal, of the images that the image tower is known to be trained on; None if unknown."""
        return read_if_present(self.folder / SEEN_IMAGES)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The towers it has: "text", "image", or both.

        Raises:
          ConfigError: as `tower`.
        """
        if self._own_pair:
            return ("text", "image")
        if self._paired is not None:
            return tuple(self._paired.towers)
        return ("text",) if self._own is None else (part_of(self._own),)

    def tower(self, part: Part = "text", pooling: Pooling = "none") -> Pretrained:
        """Read one tower.

        Args:
          part: "text" or "image".
          pooling: "none" gives one vector per token or patch whatever the folder says, "auto" does as it says. What
            `save_tower`, `export_pair` and `save_pair` wrote is always read as it was.

        Raises:
          ConfigError: no weights, no such part, or something in it that a tower cannot express.
        """
        if self._own_pair:
            return open_model(self.folder / part).tower(part, pooling)
        if self._paired is not None:
            cfg, folder = choose_tower(self._paired, part, pooling), self._paired.folder
            tokenizer = tokenizer_folder(folder) if part == "text" else None
            return Pretrained(self._paired.read(cfg), cfg, tokenizer, folder)
        head, cfg = self._head(pooling)
        if part != part_of(cfg):
            raise ConfigError(f"{self.path} has only the {part_of(cfg)} tower, not the {part} tower")
        weights = Weights(head.encoder_folder)
        if is_pair_family(cfg):
            params = read_own_tower(weights, cfg)
        else:
            params = {"encoder": read_encoder(weights, head, cfg.encoder), "head": {}}
        if head.projection is not None:
            kernel = read_projection(weights, head.projection, cfg.encoder.width, cfg.head.projection)
            params["head"] = {"projection": {"kernel": kernel}}
            cfg = replace(cfg, head=replace(cfg.head, projection=kernel.shape[1]))
        if cfg.head.masses == "learned":
            kernel = Weights(self.folder / MASSES).read("kernel")
            params["head"] = {**params["head"], "mass": {"kernel": kernel}}
        return Pretrained(params, cfg, tokenizer_folder(head.encoder_folder), self.folder)

    def logits(self) -> dict[str, np.ndarray]:
        """`Pair.logits`; empty for a single tower."""
        if self._own_pair:
            metadata = self.metadata or {}
            return {name: np.array(metadata[name], np.float32) for name in OWN_LOGITS if name in metadata}
        return self._paired.read_logits() if self._paired is not None and len(self._paired.towers) == 2 else {}

    def pair(self, pooling: Pooling = "auto") -> Pair:
        """Read both towers of a dual encoder.

        Raises:
          ConfigError: there is only one tower.
        """
        if len(self.parts) < 2:
            raise ConfigError(
                f"{self.path} is not a dual encoder; name a folder or .npz file with both towers of CLIP or SigLIP"
            )
        return Pair(self.tower("text", pooling), self.tower("image", pooling), self.logits())

    @property
    def _own_pair(self) -> bool:
        """True for the folder of two towers that `save_pair` writes."""
        return (self.folder / PAIR).is_file() and (self.folder / "text").is_dir()

    @cached_property
    def _paired(self) -> PairedSource | None:
        return open_paired(self.folder)

    @cached_property
    def _own(self) -> TowerConfig | None:
        """Config in optical_jax.json, which `save_tower` wrote."""
        own = self.folder / OWN_CONFIG
        return tower_config(read_json(own), str(own)) if own.is_file() else None

    def _head(self, pooling: Pooling) -> tuple[Head, TowerConfig]:
        """Head and config of a model with a single tower."""
        cfg = self._own
        if cfg is None:
            head = read_head(self.folder, pooling)
            config_file = head.encoder_folder / "config.json"
            encoder = encoder_config(read_json(config_file), str(config_file))
            return head, TowerConfig(encoder, cut_lengths(head.cfg, encoder))
        if part_of(cfg) == "text":
            cfg = replace(cfg, head=cut_lengths(cfg.head, cfg.encoder))
        elsewhere = cfg.head.projection and not (is_pair_family(cfg) and inline_projection(cfg))
        projection = Projection(self.folder / dense_folder(cfg.head)) if elsewhere else None
        return Head(cfg.head, projection, self.folder), cfg


class Pair(NamedTuple):
    """Both towers of a dual encoder, and the scale and bias that turn cosines into logits."""

    text: Pretrained
    image: Pretrained
    logits: dict[str, np.ndarray]
    """logit_scale, the natural logarithm of the factor, and for SigLIP logit_bias, which is added; float32."""


OWN_LOGITS = ("logit_scale", "logit_bias")
"""Keys of `Pair.logits` in pair.json."""


def open_model(path: str | Path, cache_dir: str | None = None) -> Model:
    """Find a pretrained model, locally or on the hub; its files are read later.

    Formats: Hugging Face BERT, RoBERTa and XLM-R; Stanford ColBERT; PyLate; Sentence Transformers, dense and
    multi-vector; Hugging Face CLIP and SigLIP, a pair or one tower; big_vision's SigLIP (.npz); and what `save_tower`,
    `export_pair` (optical_jax.json) and `save_pair` (pair.json) wrote.

    Args:
      path: a local folder, an .npz file, or a hub name (org/name) if there is no such folder.
      cache_dir: folder for downloads; None leaves it to HF_HOME.

    Raises:
      ConfigError: no such folder or model.
    """
    return Model(str(path), find_folder(str(path), cache_dir))


def tokenizer_folder(folder: Path) -> Path | None:
    return folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else None


def read_encoder(weights: Weights, head: Head, cfg: EncoderConfig) -> Params:
    """Parameters of the encoder; other tensors must be heads known in its family, which are dropped.

    Raises:
      ConfigError: tensors are missing, unexpected or of another shape.
    """
    folder = head.encoder_folder
    names = match_names(weights.names, cfg, str(folder))
    inline = head.projection.tensor if head.projection and head.projection.folder == folder else None
    unexpected = [name for name in names.unexpected if name != inline]
    if unexpected:
        raise ConfigError(
            f"{folder}: unexpected tensors {shorten(unexpected)}; with them it is not the {cfg.family} encoder of "
            f"{cfg.layers} layers that config.json states"
        )
    if names.dropped:
        log.info("%s: dropped %s", folder, ", ".join(names.dropped))
    return to_tree(weights.read, names.encoder, cfg, str(folder))


def read_projection(encoder: Weights, projection: Projection, width: int, stated: int) -> np.ndarray:
    """Kernel [D, E] of the head's projection; `stated` is E if the config states it, else 0."""
    weights = encoder if projection.folder == encoder.folder else Weights(projection.folder)
    if projection.tensor not in weights.names:
        raise ConfigError(f"{projection.folder}: {projection.tensor}, the projection, is missing; copy the whole model")
    kernel = weights.read(projection.tensor)
    if kernel.ndim != 2 or kernel.shape[1] != width or stated not in (0, kernel.shape[0]):
        raise ConfigError(
            f"{projection.folder}: {projection.tensor} has shape {list(kernel.shape)}, "
            f"not [{stated or 'any'}, {width}]; projection and encoder belong to different models"
        )
    return np.ascontiguousarray(kernel.T)


MASSES = "token_masses"
"""Subfolder of the linear map that gives learned masses."""


def dense_folder(head: HeadConfig) -> str:
    """Subfolder of the projection; for a pooled tower it comes after the pooling module."""
    return "1_Dense" if head.pooling == "none" else "2_Dense"
