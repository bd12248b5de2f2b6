"""Checkpoints from outside: a local folder or a hub name, in any of the forms retrieval models come in."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG, PAIR, TOKENIZER_FILES
from optical_jax.models.formats.hf_heads import Head, Pooling, Projection, cut_lengths, read_head
from optical_jax.models.formats.hf_names import encoder_config, match_names, shorten, to_tree
from optical_jax.models.formats.hf_weights import Weights, read_json
from optical_jax.models.formats.pair_configs import Part, inline_projection, is_pair_family, part_of
from optical_jax.models.formats.paired_source import PLURAL, PairedSource, choose_tower, open_paired, read_own_tower
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.types import Params

log = logging.getLogger(__name__)

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "artifact.metadata"]
SHIPPED = "optical_jax/english_teacher"
"""A small English teacher that comes along with the package; its card is in the folder."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Pretrained(NamedTuple):
    params: Params
    """The tower's parameters, NumPy, float32."""
    cfg: TowerConfig
    tokenizer_path: Path | None
    """Folder of the tokenizer; None where there is none."""
    folder: Path
    """Where the weights lie, and of a tower of pictures how it takes them, if that is told."""


def load_pretrained(
    path: str, *, pooling: Pooling = "none", part: Part = "text", cache_dir: str | None = None
) -> Pretrained:
    """Read a tower.

    Forms: Hugging Face BERT, RoBERTa and XLM-R; Stanford ColBERT; PyLate; Sentence Transformers, dense and
    multi-vector; Hugging Face CLIP and SigLIP, a pair or one tower; big_vision's SigLIP (.npz); and what `save_tower`,
    `save_pair` (optical_jax.json) and `save_pair` (pair.json) wrote, which is always read as it was.

    Args:
      path: a local folder, an .npz file, or a hub name (org/name) where there is no such folder.
      pooling: "none" takes a vector a token or patch whatever the folder says, "auto" does as it says.
      part: what the tower reads; the folders of a pair hold both.
      cache_dir: folder for downloads; None leaves it to HF_HOME.

    Raises:
      ConfigError: no such folder or model, no weights, no such part, or something in it that a tower cannot express.
    """
    folder, source = find_source(path, cache_dir)
    if is_own_pair(folder):
        return load_pretrained(str(folder / part), pooling=pooling, part=part)
    if source is not None:
        cfg = choose_tower(source, part, pooling)
        tokenizer = tokenizer_folder(source.folder) if part == "text" else None
        return Pretrained(source.read(cfg), cfg, tokenizer, source.folder)
    own = folder / OWN_CONFIG
    if own.is_file():
        cfg = tower_config(read_json(own), str(own))
        if part_of(cfg) == "text":
            cfg = replace(cfg, head=cut_lengths(cfg.head, cfg.encoder))
        elsewhere = cfg.head.projection and not (is_pair_family(cfg) and inline_projection(cfg))
        head = Head(cfg.head, Projection(folder / dense_folder(cfg.head)) if elsewhere else None, folder)
    else:
        head = read_head(folder, pooling)
        config_file = head.encoder_folder / "config.json"
        encoder = encoder_config(read_json(config_file), str(config_file))
        cfg = TowerConfig(encoder, cut_lengths(head.cfg, encoder))
    if part != part_of(cfg):
        raise ConfigError(f"{path} holds a tower of {PLURAL[part_of(cfg)]} alone, and none of {PLURAL[part]}")
    if is_pair_family(cfg):
        params = read_own_tower(folder, cfg)
    else:
        params = {"encoder": read_encoder(head, cfg.encoder), "head": {}}
    if head.projection is not None:
        kernel = read_projection(head.projection, cfg.encoder.width, cfg.head.projection)
        params["head"] = {"projection": {"kernel": kernel}}
        cfg = replace(cfg, head=replace(cfg.head, projection=kernel.shape[1]))
    if cfg.head.masses == "learned":
        kernel = Weights(folder / MASSES).read("kernel")
        params["head"] = {**params["head"], "mass": {"kernel": kernel}}
    return Pretrained(params, cfg, tokenizer_folder(head.encoder_folder), folder)


class Pair(NamedTuple):
    """Two towers that were trained to agree, and what their cosines were scaled by to make logits."""

    text: Pretrained
    image: Pretrained
    logits: dict[str, np.ndarray]
    """logit_scale, the natural logarithm of the factor, and of SigLIP logit_bias, which is added; float32."""


def load_pretrained_pair(path: str, *, pooling: Pooling = "auto", cache_dir: str | None = None) -> Pair:
    """Both towers of CLIP, of SigLIP, or of a pair of ours; arguments and errors as of `load_pretrained`.

    Raises:
      ConfigError: there is one tower, or none.
    """
    folder, source = find_source(path, cache_dir)
    if is_own_pair(folder):
        text, image = (load_pretrained(str(folder), part=part) for part in ("text", "image"))
        return Pair(text, image, read_logits(path, cache_dir))
    if source is None or len(source.towers) < 2:
        raise ConfigError(f"{path} holds no pair of towers; name a folder or .npz file with a whole CLIP or SigLIP")
    text, image = (choose_tower(source, part, pooling) for part in ("text", "image"))
    return Pair(
        Pretrained(source.read(text), text, tokenizer_folder(source.folder), source.folder),
        Pretrained(source.read(image), image, None, source.folder),
        source.read_logits(),
    )


def read_logits(path: str, cache_dir: str | None = None) -> dict[str, np.ndarray]:
    """`Pair.logits` alone; none where there is one tower."""
    folder, source = find_source(path, cache_dir)
    if is_own_pair(folder):
        told = read_json(folder / PAIR)
        return {name: np.array(told[name], np.float32) for name in OWN_LOGITS if name in told}
    return source.read_logits() if source is not None and len(source.towers) == 2 else {}


OWN_LOGITS = ("logit_scale", "logit_bias")
"""What of `Pair.logits` a pair.json holds."""


def is_own_pair(folder: Path) -> bool:
    """True for the folder of two towers that `save_pair` writes."""
    return (folder / PAIR).is_file() and (folder / "text").is_dir()


def find_source(path: str, cache_dir: str | None) -> tuple[Path, PairedSource | None]:
    """Where a model lies, and what it holds if it is of a family that comes in pairs."""
    folder = find_folder(path, cache_dir)
    return folder, open_paired(folder)


def parts_of(path: str, cache_dir: str | None = None) -> tuple[Part, ...]:
    """What the towers of a folder or hub name read: "text", "image", or both.

    Raises:
      ConfigError: as `load_pretrained`.
    """
    folder, source = find_source(path, cache_dir)
    if is_own_pair(folder):
        return ("text", "image")
    if source is not None:
        return tuple(source.towers)
    own = folder / OWN_CONFIG
    return (part_of(tower_config(read_json(own), str(own))),) if own.is_file() else ("text",)


def tokenizer_folder(folder: Path) -> Path | None:
    return folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else None


def read_encoder(head: Head, cfg: EncoderConfig) -> Params:
    """The encoder's parameters. What else is in the file must be a head its family is known to carry.

    Raises:
      ConfigError: tensors are missing, unexpected or of another shape.
    """
    folder = head.encoder_folder
    weights = Weights(folder)
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


def read_projection(projection: Projection, width: int, stated: int) -> np.ndarray:
    """The kernel [D, E] of the head's projection; `stated` is E where the config says it, else 0."""
    weights = Weights(projection.folder)
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
"""Subfolder of the map that learned masses come from."""


def dense_folder(head: HeadConfig) -> str:
    """Subfolder of the projection; a pooled tower's comes after its pooling."""
    return "1_Dense" if head.pooling == "none" else "2_Dense"


def find_folder(path: str, cache_dir: str | None) -> Path:
    """The local folder of a model: `path` itself, the shipped teacher's, or a download if `path` is a hub name.

    An .npz file is a model by itself.

    Raises:
      ConfigError: there is neither.
    """
    if path == SHIPPED:
        return Path(str(files("optical_jax"))) / "english_teacher"
    folder = Path(path)
    if folder.is_dir():
        # Stanford's trainer leaves its newest model here in the folder of its experiment.
        newest = folder / "checkpoints" / "colbert"
        return newest if not (folder / "config.json").exists() and (newest / "config.json").is_file() else folder
    if folder.suffix == ".npz" and folder.is_file():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(path):
        raise ConfigError(f"{path}: no such folder; name a folder with config.json and model.safetensors, or org/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=HUB_FILES, cache_dir=cache_dir))
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{path}: no such folder, and it cannot be had from the hub ({reason}); if it is a run, train it first"
        ) from error
