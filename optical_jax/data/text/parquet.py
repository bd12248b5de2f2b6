"""Sentence pairs from Parquet, Arrow and folders of Hugging Face `datasets`, by pyarrow (extra `files`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from optical_jax.config import DataConfig
from optical_jax.data.text.columns import named_columns
from optical_jax.data.text.json_pairs import TRANSLATION, flat_record, record_line
from optical_jax.data.text.pairs import Line, PairFile
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json

ROWS_AT_A_TIME = 1024
SHARD = re.compile(r"(?P<split>[\w.]+?)(?:-\d{5}-of-\d{5}.*)?\.(?:parquet|arrow)")
"""Names of shards: train-00000-of-00002.parquet, train.parquet."""
DEV_SPLITS = ("dev", "validation", "valid", "val")
"""Names of the split that dev pairs are from."""


def data_set_splits(folder: Path) -> dict[str, list[Path]]:
    """Splits of a folder that `datasets` wrote, or of a folder of shards, with their files; empty for other folders.

    Of `save_to_disk`: a data set, whose one split has no name here, or a folder of them. Of the hub: shards in the
    folder or in data/ below it.
    """
    for place in (folder, folder / "data"):
        if (state := place / "state.json").is_file():
            try:
                return {"": [place / one["filename"] for one in read_json(state)["_data_files"]]}
            except (KeyError, TypeError):
                raise DataError(f"{state}: names no files of a data set; save it again") from None
        below = sorted(path.parent for path in place.glob("*/state.json"))
        if below:
            return {path.name: files for path in below for files in data_set_splits(path).values()}
        found: dict[str, list[Path]] = {}
        for path in sorted(place.glob("*")):
            shard = SHARD.fullmatch(path.name)
            if shard and path.is_file():
                found.setdefault(shard["split"], []).append(path)
        if found:
            return found
    return {}


def read_parquet(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every row of a Parquet or Arrow file, or of a split of a data set's folder.

    Raises:
      ConfigError: pyarrow is missing, or a column is not there.
      DataError: a file is broken.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(f"{file.name}: Parquet and Arrow need pyarrow; pip install 'optical_jax[files]'") from None
    paths = data_set_splits(file.path)[file.part] if file.path.is_dir() else [file.path]
    keys: dict[str, str] = {}
    for path in paths:
        number, name = 0, file.name if path == file.path else str(path)
        try:
            schema, batches = _open(path)
            if not keys:
                keys = _keys(schema, file, cfg)
                notes.append(f"{name}: columns taken: " + ", ".join(f"{field} {key}" for field, key in keys.items()))
            wanted = [column for column in schema.names if column in keys.values() or column == TRANSLATION]
            for batch in batches(wanted):
                for record in _records(batch):
                    number += 1
                    where = f"{name}:{number}"
                    if isinstance(record, str):
                        yield Line(where, fault=record)
                    else:
                        yield record_line(where, flat_record(record), keys)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = str(error).partition("\n")[0]
            raise DataError(
                f"{name}: cannot be read after row {number} ({what:.200}); make or fetch it again"
            ) from error


def _open(path: Path) -> tuple[Any, Callable[[list[str]], Iterator[Any]]]:
    """Schema of a file, and a function from names of columns to batches of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as plain:
        start = plain.read(6)
    if start.startswith(b"PAR1"):
        table = pq.ParquetFile(path)
        return table.schema_arrow, lambda columns: table.iter_batches(ROWS_AT_A_TIME, columns=columns)
    mapped = pa.memory_map(str(path))
    if start == b"ARROW1":
        whole = pa.ipc.open_file(mapped)
        read = (whole.get_batch(n) for n in range(whole.num_record_batches))
        return whole.schema, lambda columns: _valid(read, columns)
    stream = pa.ipc.open_stream(mapped)
    return stream.schema, lambda columns: _valid(stream, columns)


def _valid(batches: Iterable[Any], columns: list[str]) -> Iterator[Any]:
    """Columns of batches whose offsets lie within their buffers: Arrow maps a file as it is, a damaged one too."""
    for batch in batches:
        part = batch.select(columns)
        part.validate(full=True)
        yield part


def _keys(schema: Any, file: PairFile, cfg: DataConfig) -> dict[str, str]:
    """Names of the columns of the sides; those of the languages in a column "translation" too."""
    import pyarrow as pa

    names = list(schema.names)
    if TRANSLATION in names and pa.types.is_struct(inner := schema.field(TRANSLATION).type):
        names += [inner.field(n).name for n in range(inner.num_fields)]
    return {field: names[n] for field, n in named_columns(names, file, cfg).items()}


def _records(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Rows of a batch, in order; for one that is not valid text, what is wrong with it."""
    for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
        part = batch.slice(start, ROWS_AT_A_TIME)
        try:
            yield from part.to_pylist()
        except UnicodeDecodeError:
            for n in range(part.num_rows):
                try:
                    yield from part.slice(n, 1).to_pylist()
                except UnicodeDecodeError as error:
                    yield f"not UTF-8 (byte {error.start + 1} of the text)"
