"""Pieces of the Markdown that model cards are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Rows of cells; the last `numbers` columns stand to the right."""
    rules = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    cells = [head, rules, *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def block(text: str) -> str:
    return f"```python\n{text}```"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def listed(words: Iterable[str]) -> str:
    return ", ".join(words)
