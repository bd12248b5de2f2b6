"""SigLIP and SigLIP 2 checkpoints of big_vision (.npz).

Layers are stacked under `encoderblock`, or numbered as `encoderblock_0` and so on. There is no config: it is inferred
from the shapes. Names: google-research/big_vision, models/vit.py and models/proj/image_text.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, ImageEncoderConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.formats.hf_names import shorten
from optical_jax.models.formats.pair_configs import Part
from optical_jax.models.formats.pair_names import put
from optical_jax.models.late_interaction import tower_specs
from optical_jax.types import Params

BLOCKS: dict[Part, str] = {"text": "txt/Encoder_0/encoderblock", "image": "img/Transformer/encoderblock"}
ATTENTION, MLP, NORM = "MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm"


def _both(ours: str, theirs: str, names: tuple[str, str] = ("kernel", "bias")) -> dict[str, str]:
    return {f"{ours}/{name}": f"{theirs}/{name}" for name in names}


def _reading() -> dict[str, str]:
    heads = ("query", "key", "value", "out")
    return {ours: theirs for one in heads for ours, theirs in _both(f"attention/{one}", f"{ATTENTION}/{one}").items()}


MAPS = _reading() | _both("mlp/up", f"{MLP}/Dense_0") | _both("mlp/down", f"{MLP}/Dense_1")
NORM_NAMES = ("scale", "bias")
LAYER = MAPS | _both("attention/norm", f"{NORM}_0", NORM_NAMES) | _both("mlp/norm", f"{NORM}_1", NORM_NAMES)
"""Our parameter name -> big_vision's, within one layer."""
WHOLE: dict[Part, dict[str, str]] = {
    "text": {
        "encoder/embeddings/word/embedding": "txt/Embed_0/embedding",
        "encoder/embeddings/position/embedding": "txt/pos_embedding",
        **_both("encoder/norm", "txt/Encoder_0/encoder_norm", NORM_NAMES),
        **_both("head/projection", "txt/head"),
    },
    "image": {
        **_both("encoder/embeddings/patch", "img/embedding"),
        "encoder/embeddings/position/embedding": "img/pos_embedding",
        **_both("encoder/norm", "img/Transformer/encoder_norm", NORM_NAMES),
        "encoder/pool/probe/embedding": "img/MAPHead_0/probe",
        **_both("encoder/pool/mlp/norm", f"img/MAPHead_0/{NORM}_0", NORM_NAMES),
        **{f"encoder/pool/{ours}": f"img/MAPHead_0/{theirs}" for ours, theirs in MAPS.items()},
    },
}
"""Our parameter name -> big_vision's, outside the layers."""
PARAMS = "params/"
LOGITS = {"logit_scale": "t", "logit_bias": "b"}

GEMMA_VOCABULARY = 256_000
"""Size of SigLIP 2's vocabulary, whose padding id is 0; SigLIP pads with its end-of-text id, 1."""
NORM_EPS = 1e-6
"""Flax's default, which big_vision keeps."""


class BigVision:
    """Text and image tower of one .npz checkpoint.

    Raises:
      ConfigError: not an .npz archive, or tensors are missing or unexpected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not zipfile.is_zipfile(path):
            raise ConfigError(f"{path} is not a complete .npz archive; copy it again")
        try:
            self._arrays: Any = np.load(path, allow_pickle=False)
            names = list(self._arrays.files)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path} is not a complete .npz archive of arrays ({error}); copy it again") from error
        # A checkpoint of a training also holds the optimizer's state, and its parameters under `params`.
        under = [name for name in names if name.startswith(PARAMS)]
        self._names = {name.removeprefix(PARAMS): name for name in under or names}
        self._layers = {part: self._count_layers(part) for part in BLOCKS}
        self._check_names()
        self.towers: dict[Part, TowerConfig] = {"text": self._text(), "image": self._image()}

    def read(self, cfg: TowerConfig) -> Params:
        """Parameters of one tower, float32."""
        part: Part = "image" if isinstance(cfg, ImageTowerConfig) else "text"
        specs, tree, count = tower_specs(cfg), {"encoder": {}, "head": {}}, self._layers[part]
        for ours, theirs in WHOLE[part].items():
            path = tuple(ours.split("/"))
            put(tree, path, self._fitted(theirs, _find(specs, path).shape), None, count)
        for ours, theirs in LAYER.items():
            path = ("encoder", "layers", *ours.split("/"))
            shape = _find(specs, path).shape
            if self._stacked(part):
                put(tree, path, self._fitted(f"{BLOCKS[part]}/{theirs}", shape), None, count)
                continue
            for i in range(count):
                put(tree, path, self._fitted(f"{BLOCKS[part]}_{i}/{theirs}", shape[1:]), i, count)
        return tree

    def read_logits(self) -> dict[str, np.ndarray]:
        return {ours: self._read(theirs) for ours, theirs in LOGITS.items()}

    # ---- what is in it -----------------------------------------------------------------------------------------

    def _stacked(self, part: Part) -> bool:
        return any(name.startswith(f"{BLOCKS[part]}/") for name in self._names)

    def _count_layers(self, part: Part) -> int:
        if self._stacked(part):
            probe = f"{BLOCKS[part]}/{NORM}_0/scale"
            return self._shape_of(probe)[0] if probe in self._names else 0
        numbered = re.compile(re.escape(BLOCKS[part]) + r"_(\d+)/")
        return len({found[1] for name in self._names if (found := numbered.match(name))})

    def _check_names(self) -> None:
        wanted = {*LOGITS.values(), *(name for part in WHOLE.values() for name in part.values())}
        for part, block in BLOCKS.items():
            blocks = [block] if self._stacked(part) else [f"{block}_{i}" for i in range(self._layers[part])]
            wanted |= {f"{one}/{name}" for one in blocks for name in LAYER.values()}
            if not self._layers[part]:
                wanted.add(f"{block}_0")
        missing, unexpected = sorted(wanted - self._names.keys()), sorted(self._names.keys() - wanted)
        if missing:
            raise ConfigError(f"{self.path}: {shorten(missing)} missing; it is not a SigLIP checkpoint of big_vision")
        if unexpected:
            raise ConfigError(f"{self.path}: unexpected tensors {shorten(unexpected)}; only SigLIP's towers are read")

    def _shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from its header alone: an embedding table is most of a file."""
        with self._arrays.zip.open(f"{self._names[name]}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return read(file)[0]

    def _read(self, name: str) -> np.ndarray:
        value = self._arrays[self._names[name]]
        if value.dtype == np.dtype("V2"):  # how NumPy writes bfloat16
            value = value.view(ml_dtypes.bfloat16)
        return value.astype(np.float32, copy=False)

    def _fitted(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor reshaped to ours: position embeddings and the probe have leading axes of size 1."""
        value = self._read(name)
        if value.shape[value.ndim - len(shape) :] != shape or value.size != np.prod(shape):
            raise ConfigError(f"{self.path}: {name} has shape {list(value.shape)}; other tensors imply {list(shape)}")
        return value.reshape(shape)

    # ---- configs -----------------------------------------------------------------------------------------------

    def _shape(self, part: Part) -> dict[str, Any]:
        stacked = self._stacked(part)
        block = BLOCKS[part] if stacked else f"{BLOCKS[part]}_0"
        width, heads, _ = self._shape_of(f"{block}/{ATTENTION}/query/kernel")[-3:]
        mlp_width = self._shape_of(f"{block}/{MLP}/Dense_0/kernel")[-1]
        shape = {"width": width, "layers": self._layers[part], "heads": heads, "mlp_width": mlp_width}
        return shape | {"family": "siglip", "activation": "gelu_tanh", "norm_eps": NORM_EPS}

    def _text(self) -> TowerConfig:
        vocab_size, length = self._shape_of("txt/Embed_0/embedding")[0], self._shape_of("txt/pos_embedding")[-2]
        encoder = EncoderConfig(
            vocab_size=vocab_size,
            max_positions=length,
            type_vocab_size=0,
            pad_id=0 if vocab_size == GEMMA_VOCABULARY else 1,
            **self._shape("text"),
        )
        width = self._shape_of("txt/head/kernel")[-1]
        head = HeadConfig(width, projection_bias=True, pooling="last", query_length=length, document_length=length)
        return TowerConfig(encoder, head)

    def _image(self) -> TowerConfig:
        patch = self._shape_of("img/embedding/kernel")[0]
        grid = round(self._shape_of("img/pos_embedding")[-2] ** 0.5)
        # 384 pixels give 27 patches of 14; the remaining six pixels are known from the file name alone, such as
        # siglip2_so400m14_384.
        named = re.search(r"_(\d+)$", self.path.stem)
        size = int(named[1]) if named and int(named[1]) // patch == grid else grid * patch
        encoder = ImageEncoderConfig(image_size=size, patch_size=patch, **self._shape("image"))
        return ImageTowerConfig(encoder, HeadConfig(pooling="map"))


def _find(specs: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        specs = specs[key]
    return specs
