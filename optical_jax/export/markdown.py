"""Pieces of the Markdown, and of the YAML before it, that model cards are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML takes for something else than text; `no` is also Norwegian."""


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


def yaml_list(name: str, values: Iterable[str]) -> list[str]:
    items = [f"- {yaml_text(value)}" for value in values]
    return [f"{name}:", *items] if items else []


def yaml_text(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
