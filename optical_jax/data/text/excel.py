"""Sentence pairs from Excel workbooks (.xlsx), by openpyxl (extra `files`)."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optical_jax.config import DataConfig
from optical_jax.data.text.archives import check_sizes
from optical_jax.data.text.columns import Row, table_lines
from optical_jax.data.text.pairs import Line, PairFile
from optical_jax.errors import ConfigError, DataError

MOST_ROWS = 1_048_576
"""Rows of a sheet in Excel; a larger number in a file would be a loop over empty rows."""
# openpyxl checks little, so that a damaged workbook fails wherever its contents are used. lxml and ElementTree raise
# kinds of SyntaxError.
BROKEN = (
    zipfile.BadZipFile, SyntaxError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError,
    EOFError, RuntimeError, zlib.error, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class FormulaError:
    """A cell whose formula has an error for a value."""

    text: str

    def __repr__(self) -> str:
        return self.text


def read_excel(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every row of a workbook's first sheet, or of the one named by FILE.xlsx#SHEET.

    Raises:
      ConfigError: openpyxl is missing, or the workbook has no such sheet.
      DataError: the file is not a workbook, or unpacks to too much.
    """
    try:
        import openpyxl
    except ImportError:
        raise ConfigError(f"{file.name}: .xlsx needs openpyxl; pip install 'optical_jax[files]'") from None
    check_sizes(file.path, file.name)
    # Of styles and validations that it does not keep, which are not read here.
    warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
    with file.path.open("rb") as plain:
        try:
            book = openpyxl.load_workbook(plain, read_only=True, data_only=True)
        except BROKEN as error:
            raise _broken(file, error) from error
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        if file.part and file.part not in sheets:
            raise ConfigError(f"{file.name}#{file.part}: no such sheet; the workbook has {', '.join(sheets)}")
        if not sheets:
            raise DataError(f"{file.name}: a workbook without a sheet of cells")
        name = file.part or next(iter(sheets))
        form = [f"sheet {name}" + (f" (of {', '.join(sheets)})" if len(sheets) > 1 else "")]
        yield from table_lines(_rows(sheets[name], file), file, cfg, form, notes)


def _rows(sheet: Any, file: PairFile) -> Iterator[Row]:
    from openpyxl.utils.escape import unescape

    def value(cell: Any) -> Any:
        if cell.value is None:
            return ""
        if cell.data_type == "e":
            return FormulaError(str(cell.value))
        return unescape(cell.value) if isinstance(cell.value, str) else cell.value

    # Some programs store a wrong size, by which rows would be left out.
    sheet.reset_dimensions()
    rows = sheet.iter_rows(max_row=MOST_ROWS)
    number = width = 0
    while True:
        number += 1
        try:
            cells = [value(cell) for cell in next(rows)]
        except StopIteration:
            break
        except BROKEN as error:
            raise _broken(file, error) from error
        # Empty cells at the end of a row are not stored.
        width = max(width, len(cells))
        yield Row(number, cells + [""] * (width - len(cells)))
    if number == 1:
        raise DataError(f"{file.name}: the sheet {sheet.title} is empty")


def _broken(file: PairFile, error: Exception) -> DataError:
    what = f"{type(error).__name__}: {error}"
    return DataError(f"{file.name}: not a workbook that can be read ({what:.200}); save it as .xlsx or .csv again")
