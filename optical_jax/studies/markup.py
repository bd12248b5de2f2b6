"""HTML helpers of report.html: tables, figures, foldable sections, significance marks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from optical_jax.studies.comparison import ArmTest
from optical_jax.studies.design import Study
from optical_jax.studies.plots import VARIABLES, colour_of
from optical_jax.studies.verdict import is_significant


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1, marks: Sequence[str] = ()) -> str:
    """HTML table. Cells are HTML; the first `words` columns are left-aligned text, `marks` are CSS classes of rows."""
    top = "".join(f'<th scope="col"{" class=word" * (n < words)}>{cell}</th>' for n, cell in enumerate(head))
    body = ""
    for n, (first, *rest) in enumerate(rows):
        cells = "".join(f"<td{' class=word' * (m < words - 1)}>{cell}</td>" for m, cell in enumerate(rest))
        body += f'<tr class="{marks[n] if marks else ""}"><th scope="row">{first}</th>{cells}</tr>'
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(svg: str | None, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" if svg else ""


def details(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{text}</details>" if text else ""


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def key(study: Study, arm: str) -> str:
    """Legend dot in the arm's plot colour; empty for a reference."""
    names = [each.name for each in study.arms]
    if arm not in names:
        return ""
    colour = colour_of(names.index(arm))
    return f'<span class="key" style="background:{VARIABLES.get(colour, colour)}"></span>'


def mark(test: ArmTest | None) -> str:
    if test is None or not is_significant(test):
        return '<span class="none"></span>'
    up = test.difference > 0
    return f'<span class="{"up" if up else "down"}" title="p {p_text(test.p_holm)}">{"▲" if up else "▼"}</span>'


def p_text(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "&lt; 0.001"
