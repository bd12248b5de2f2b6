"""Sentence pairs from CSV and TSV: delimiter, quoting and header are recognised, or set by data.delimiter."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from optical_jax.config import DataConfig
from optical_jax.config.validation import DELIMITERS
from optical_jax.data.files.lines import open_bytes
from optical_jax.data.text.columns import Row, is_header, table_lines
from optical_jax.data.text.pairs import HEADER, Line, PairFile
from optical_jax.errors import ConfigError

SNIFFED_LINES = 100
TAB_ENDINGS = ("tsv", "tab")
SNIFFED = {"\t": "tab", ";": "semicolon", ",": "comma"}
"""Those that are recognised, the more telling first: a tab stands in no sentence, a comma in many."""
BLOCK = 1 << 20
"""Bytes read at a time in search of quote marks."""
CELL_CHARACTERS = 131_072
"""Characters of the longest quoted cell; more is a quote mark that nothing closes."""
SEPARATOR_LINE = re.compile('\ufeff?"?sep=(.)"?', re.IGNORECASE)
"""First line that names the delimiter to Excel."""
QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
LIST_SEPARATORS = ",;"
"""Excel puts cells with one of them in quotes, whatever divides the cells."""
FEW = 3
"""Cells in quotes for a comma alone that are more than chance, where every cell with a comma is in quotes."""
NUMBER = re.compile(r"[-+]?[\d.,]*(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Table:
    """How a text file holds a table."""

    delimiter: str
    quoted: bool
    """Cells may be in double quotes, which are not part of the text."""
    columns: int
    """Number of columns, where every row must have it; 0 where more may follow."""
    hint: str = ""
    """How to set another delimiter."""

    @property
    def delimiter_name(self) -> str:
        return SNIFFED.get(self.delimiter, repr(self.delimiter))


def read_delimited(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every line of a CSV or TSV file; how it was read is added to `notes` if it is not tab, no quotes, no header."""
    table = _find_table(file, cfg)
    rows = _quoted_rows(file, cfg, table) if table.quoted else _plain_rows(file, cfg, table)
    form = []
    if table.delimiter != "\t":
        form.append(f"delimiter {table.delimiter_name}")
    elif table.quoted:
        form.append("cells in quotes")
    return table_lines(_checked(rows, table), file, cfg, form, notes)


def _checked(rows: Iterable[Row], table: Table) -> Iterator[Row]:
    """Rows without a delimiter or with more cells than the others are faults; Excel's line "sep=;" is left out."""
    for row in rows:
        cells, name = row.cells, table.delimiter_name
        if row.number == 1 and SEPARATOR_LINE.fullmatch(table.delimiter.join(cells)):
            yield row._replace(left_out=HEADER)
        elif row.fault or not any(map(str.strip, cells)):
            yield row
        elif len(cells) == 1:
            yield row._replace(fault=f"no {name}{table.hint}")
        elif table.columns and any(map(str.strip, cells[table.columns :])):
            what = f"{len(cells)} columns instead of {table.columns}"
            yield row._replace(fault=f"{what}; a text with a {name} in it must be in quotes")
        else:
            yield row


# ---- rows --------------------------------------------------------------------------------------------------------


def _plain_rows(file: PairFile, cfg: DataConfig, table: Table) -> Iterator[Row]:
    for number, text, fault in file.lines(cfg.encoding):
        yield Row(number, text.split(table.delimiter), fault)


@dataclass
class _Feed:
    """Lines for csv.reader, which knows those that it took for one row."""

    lines: Iterator[tuple[int, str, str]]
    taken: list[tuple[int, str, str]] = field(default_factory=list)
    again: deque[tuple[int, str, str]] = field(default_factory=deque)

    def __iter__(self) -> Iterator[str]:
        while True:
            line = self.again.popleft() if self.again else next(self.lines, None)
            if line is None:
                return
            self.taken.append(line)
            yield line[1] + "\n"


def _quoted_rows(file: PairFile, cfg: DataConfig, table: Table) -> Iterator[Row]:
    """Rows of quoted cells, which may go over several lines.

    A row that is not well formed is a fault of its first line; the lines after that are read again.
    """
    feed = _Feed(file.lines(cfg.encoding))
    reader = _reader(feed, table.delimiter)
    while True:
        feed.taken.clear()
        fault, cells = "", []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = _csv_fault(str(error))
        # A line that cannot be decoded, in a quoted cell perhaps, is what is wrong with the row.
        at = next((n for n, line in enumerate(feed.taken) if line[2]), 0)
        number, _, fault = feed.taken[at] if feed.taken[at][2] else (feed.taken[0][0], "", fault)
        if fault:
            feed.again.extendleft(feed.taken[:at:-1])
            reader = _reader(feed, table.delimiter)
        yield Row(number, cells, fault)


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(CELL_CHARACTERS)
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter not in "\t ")


def _csv_fault(message: str) -> str:
    if "field larger" in message:
        return f"a cell of more than {CELL_CHARACTERS:,} characters; a quote mark may lack its end"
    if "unexpected end" in message:
        return "a quote mark begins a cell and none ends it"
    return "a cell in quotes goes on after its end; quote marks within it must be doubled"


# ---- recognition -------------------------------------------------------------------------------------------------


def _find_table(file: PairFile, cfg: DataConfig) -> Table:
    """Delimiter and quoting of a file.

    Raises:
      ConfigError: two delimiters divide the lines equally well.
    """
    lines = [text for _, text, fault in islice(file.lines(cfg.encoding), SNIFFED_LINES) if not fault and text.strip()]
    named = SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    if named:
        lines = lines[1:]
    delimiter = DELIMITERS.get(cfg.delimiter, cfg.delimiter) or (named[1] if named else _sniff(file, lines, cfg))
    hint = "" if cfg.delimiter or file.ending in TAB_ENDINGS else "; if others divide its cells, see --data.delimiter"
    if delimiter == "\t":
        return Table(delimiter, _tab_quotes(file, cfg), 0, hint)
    first, columns = next(_rows(lines, delimiter), []), _usual(_counts(lines, delimiter))[0]
    if is_header(first, file.language, cfg):
        columns = len(first)
    return Table(delimiter, True, columns, hint)


def _sniff(file: PairFile, lines: Sequence[str], cfg: DataConfig) -> str:
    if file.ending in TAB_ENDINGS:
        return "\t"
    if file.ending != "csv":
        # Text files were always read by tabs, and prose has commas: they need better evidence.
        if not lines or any("\t" in line for line in lines):
            return "\t"
        return next((d for d in SNIFFED if d != "\t" and _is_surely(d, lines, file.language, cfg)), "\t")
    shares = {d: _usual(_counts(lines, d))[1] for d in SNIFFED}
    best = [d for d, share in shares.items() if share == max(shares.values())]
    if not max(shares.values(), default=0):
        return ","
    headed = [d for d in best if is_header(next(_rows(lines, d), []), file.language, cfg)]
    if len(best) > 1 and len(lines) < 3 and not headed:
        either = " or ".join(SNIFFED[d] for d in best)
        raise ConfigError(
            f"{file.name}: its cells may be divided by {either}; name one, for example --data.delimiter "
            f"{SNIFFED[best[0]]}"
        )
    return (headed or best)[0]


def _is_surely(delimiter: str, lines: Sequence[str], language: str, cfg: DataConfig) -> bool:
    """Every line has the same number of columns, at least two, with a header or all cells in quotes."""
    columns, share = _usual(_counts(lines, delimiter))
    if share < 1:
        return False
    pieces = [line.split(delimiter) for line in lines]
    in_quotes = all(QUOTED_CELL.fullmatch(cell.strip()) for cells in pieces for cell in cells)
    return columns > 1 and (in_quotes or is_header(next(_rows(lines, delimiter), []), language, cfg))


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Rows of sniffed lines; those that are not well formed are empty."""
    reader = _reader((line + "\n" for line in lines), delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []


def _counts(lines: Iterable[str], delimiter: str) -> Counter[int]:
    return Counter(len(row) for row in _rows(lines, delimiter))


def _usual(counts: Counter[int]) -> tuple[int, float]:
    """(most common number of columns, share of the rows with it); share 0 for one column."""
    if not counts:
        return 0, 0.0
    columns, count = counts.most_common(1)[0]
    return columns, count / counts.total() if columns > 1 else 0.0


def _tab_quotes(file: PairFile, cfg: DataConfig) -> bool:
    """Whether the cells of a tab-separated file are in quotes that are not part of the text.

    In plain text quote marks are text, so the whole file must be what a program writes that quotes cells:

    - a quote mark is only in cells that begin and end with one, where those within are doubled;
    - cells are in quotes only where they must be (a quote mark, a tab or a line end in them), or wherever they are not
      numbers, or, as Excel writes them, wherever they have a comma (or a semicolon) too, of which there are a few;
    - a row that quotes make of several lines has a line without a tab, which would be no pair by itself, and rows with
      tabs or line ends within quotes have as many columns as the others.
    """
    try:
        with open_bytes(file.path) as plain:
            if not any(b'"' in block for block in iter(partial(plain.read, BLOCK), b"")):
                return False
    except (EOFError, zlib.error, gzip.BadGzipFile):
        # The file's lines are read up to there, and the error names the last.
        return False
    only_where_needed = everywhere = True
    separators, by_separator = set(LIST_SEPARATORS), 0
    any_quotes, columns, columns_of_joined, left = False, 0, set(), []
    for _, text, fault in file.lines(cfg.encoding):
        if fault or not (left or text.strip()):
            continue
        left.append(text)
        row = "\n".join(left)
        if row.count('"') % 2:
            if len(row) > CELL_CHARACTERS:
                return False
            continue
        lines, left = left, []
        if '"' not in row:
            cells = row.split("\t")
            columns = columns or len(cells)
            everywhere = everywhere and all(NUMBER.fullmatch(cell) for cell in cells)
            separators -= {one for one in separators if one in row}
        else:
            any_quotes = True
            cells = ["".join(found) for found in re.findall(r'(?:^|\t)(?:("(?:[^"]|"")*")|([^"\t]*))(?=\t|$)', row)]
            if "\t".join(cells) != row or (len(lines) > 1 and all("\t" in line for line in lines)):
                return False
            inside = [cell[1:-1] for cell in cells if cell.startswith('"')]
            if any("\t" in cell or "\n" in cell for cell in inside):
                columns_of_joined.add(len(cells))
            else:
                columns = columns or len(cells)
            needless = [cell for cell in inside if not re.search(r'["\t\n]', cell)]
            only_where_needed = only_where_needed and not needless
            bare = [cell for cell in cells if not cell.startswith('"')]
            separators -= {
                one
                for one in separators
                if any(one in cell for cell in bare) or any(one not in cell for cell in needless)
            }
            by_separator += len(needless)
            everywhere = everywhere and all(cell.startswith('"') or NUMBER.fullmatch(cell) for cell in cells)
        if not (only_where_needed or everywhere or separators):
            return False
    alike = columns_of_joined <= {columns} if columns else everywhere and min(columns_of_joined, default=0) > 1
    sure = only_where_needed or everywhere or by_separator >= FEW
    return any_quotes and sure and alike and not left
