"""Sentence pairs from Excel workbooks (.xlsx), by openpyxl (extra `files`)."""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from optical_jax.config import DataConfig
from optical_jax.data.text.archives import check_sizes
from optical_jax.data.text.columns import Row, table_lines
from optical_jax.data.text.pairs import Line, PairFile
from optical_jax.errors import ConfigError, DataError

FORMULA = re.compile(rb"<f[ >/]")
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


class Uncalculated(FormulaError):
    """A formula without a value."""

    def __repr__(self) -> str:
        return f"a formula without a value, {self.text}"


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
        shown = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
        name = file.part or next(iter(shown or sheets))
        form = [f"sheet {name}" + (f" (of {', '.join(sheets)})" if len(sheets) > 1 else "")]
        rows = _rows(sheets[name], file)
        try:
            formulas = openpyxl.load_workbook(plain, read_only=True) if _has_formulas(plain) else None
        except BROKEN as error:
            raise _broken(file, error) from error
        if formulas:
            rows = _with_values(rows, _rows(formulas[name], file))
        yield from table_lines(rows, file, cfg, form, notes)


def _has_formulas(plain: BinaryIO) -> bool:
    """Whether a sheet has a formula, of which a workbook is read again."""
    with zipfile.ZipFile(plain) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                before = b""
                with archive.open(name) as sheet:
                    while block := sheet.read(1 << 20):
                        if FORMULA.search(before + block):
                            return True
                        before = block[-2:]
    return False


def _with_values(rows: Iterator[Row], formulas: Iterator[Row]) -> Iterator[Row]:
    """Rows in which a formula whose value is not stored is not an empty cell: programs other than Excel write such."""
    for row, written in zip(rows, formulas, strict=True):
        cells = [
            Uncalculated(str(formula)) if cell == "" != formula else cell
            for cell, formula in zip(row.cells, written.cells, strict=True)
        ]
        yield row._replace(cells=cells)


def _rows(sheet: Any, file: PairFile) -> Iterator[Row]:
    from openpyxl.utils.escape import unescape

    def value(cell: Any) -> Any:
        if cell.value is None:
            # A formula's value may be an empty text, which differs from a value that is not stored.
            return " " if cell.data_type == "str" else ""
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
