"""Write the results of a study: CSV tables and report.html."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.studies.comparison import ArmTest
from optical_jax.studies.design import Study
from optical_jax.studies.results import TIMING, Row, Summary

if TYPE_CHECKING:
    from optical_jax.studies.results import Results


def write_results(study: Study, results: Results) -> list[Path]:
    """table.csv (and table.parquet if pyarrow is installed), summary.csv, tests.csv, timing.csv and report.html.

    Returns their paths. All but timing.csv and the page are reproducible.
    """
    from optical_jax.studies.page import write_page

    folder = Path(study.folder)
    folder.mkdir(parents=True, exist_ok=True)
    lasting = [row for row in results.rows if row.collection != TIMING]
    tables: dict[str, tuple[type, Sequence[Any]]] = {
        "table": (Row, lasting),
        "summary": (Summary, [summary for summary in results.summaries if summary.collection != TIMING]),
        "tests": (ArmTest, results.tests),
        "timing": (Row, [row for row in results.rows if row.collection == TIMING]),
    }
    written = []
    for name, (kind, rows) in tables.items():
        path = folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(kind)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        written.append(path)
    if importlib.util.find_spec("pyarrow"):
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]

        columns = pyarrow.Table.from_pylist([asdict(row) for row in lasting])
        pyarrow.parquet.write_table(columns, folder / "table.parquet")
        written.append(folder / "table.parquet")
    return [*written, write_page(study, results)]
