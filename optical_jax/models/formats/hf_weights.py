"""Safetensors of a folder, single or sharded, read as float32. PyTorch pickles are never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from optical_jax.errors import ConfigError
from optical_jax.files import parse_json

FLOATS = (np.float32, np.float16, np.float64, ml_dtypes.bfloat16)


class Weights:
    """The tensors of a folder, read one at a time; every file is opened once.

    Raises:
      ConfigError: no weights, a shard that is missing, or a file that is not in safetensors format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if single.is_file():
            file = _open(single)
            self._files = dict.fromkeys(file.keys(), (single, file))
        elif index.is_file():
            self._files = _sharded(folder, index)
        else:
            raise ConfigError(_no_weights(folder))

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> np.ndarray:
        """Read one tensor as float32."""
        path, file = self._files[name]
        value = file.get_tensor(name)
        if value.dtype not in FLOATS:
            raise ConfigError(f"{path}: {name} is {value.dtype}; only float tensors are read")
        return value.astype(np.float32, copy=False)


def _sharded(folder: Path, index: Path) -> dict[str, tuple[Path, Any]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ConfigError(f"{index} has no weight_map; copy the model's index file again")
    shards: dict[str, Any] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ConfigError(f"{index} names {shard}, which is not in the folder; copy that shard too")
        shards[shard] = _open(folder / shard)
    held = {shard: set(file.keys()) for shard, file in shards.items()}
    absent = sorted(name for name, shard in weight_map.items() if name not in held[shard])
    if absent:
        raise ConfigError(f"{folder / weight_map[absent[0]]} lacks {absent[0]}, which {index.name} says it holds")
    # A tensor of a shard that the index does not name must be seen too, so that it can be refused.
    return {name: (folder / shard, shards[shard]) for shard, names in held.items() for name in names}


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is not a complete safetensors file ({error}); copy it again") from error


def _no_weights(folder: Path) -> str:
    if not any(folder.glob("pytorch_model*.bin")):
        return f"{folder} has no model.safetensors; name a folder with weights (pytorch_model.bin is never read)"
    convert = (
        "import torch, safetensors.torch as s; "
        "s.save_file({k: v.clone() for k, v in torch.load('pytorch_model.bin', weights_only=True).items()}, "
        "'model.safetensors', {'format': 'pt'})"
    )
    return f'{folder} has only pytorch_model.bin, and pickles are never read; convert it there: python -c "{convert}"'


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
      ConfigError: the file is missing or is not a JSON object.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is not a JSON object; copy the file again")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Read a JSON list of objects."""
    value = _read(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{path} is not a list of JSON objects; copy the file again")
    return value


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name the folder of a model") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
