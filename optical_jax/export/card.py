"""Model cards (README.md of an exported folder): YAML front matter, Markdown tables, and the sections all cards share.

Nothing here reads a file, and paths are cut to names: cards are published and must not contain local paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCardData

from optical_jax.config.validation import parse_licences


@dataclass(frozen=True)
class Model:
    """A base model of the run."""

    name: str
    """Hub name, or the last part of its folder's path; empty for none."""
    hub: bool
    """Whether the Hugging Face Hub has it under that name."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Records of a run for its model card; empty if an old run lacks the file."""

    name: str
    """The run's name."""
    folder: str
    """Name of the exported folder, as loaded by the code on the card."""
    step: int
    """The exported checkpoint."""
    license: str = ""
    """Licence of the weights; empty if not stated."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """env.json."""
    metrics: Sequence[Mapping[str, Any]] = ()
    """Lines of metrics.jsonl."""


# ---- Markdown ----------------------------------------------------------------------------------------------------


def pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table, the last `numbers` columns aligned right."""
    rules = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    cells = [head, rules, *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def block(text: str) -> str:
    return f"```python\n{text}```"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


# ---- sections ----------------------------------------------------------------------------------------------------


def card_of(facts: RunFacts, data: ModelCardData, description: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Model card: YAML front matter, title, description, and sections (title -> paragraphs)."""
    paragraphs = [part for title, parts in sections.items() for part in (f"## {title}", *parts)]
    return "\n\n".join([f"---\n{data.to_yaml()}\n---", f"# {facts.name}", description, *paragraphs]) + "\n"


def licences(facts: RunFacts, parts: Iterable[str] = (), *, others: bool = True) -> list[str]:
    """Licences of the weights and of the models and data sets they were trained from.

    Args:
      facts: records of the run.
      parts: models and data sets whose licence should be stated; those without one are listed as missing.
      others: whether to list all other stated licences, too.
    """
    stated = parse_licences(facts.config.get("licences", ()))
    names = dict.fromkeys([*parts, *(stated if others else ())])
    rows = [(name, stated[name]) for name in names if name in stated]
    missing = ", ".join(code(name) for name in names if name not in stated)
    if facts.license:
        own = f"These weights: {facts.license}. "
        own += "Licences of their parts:" if names else "Licences of their parts: not stated."
    elif names:
        own = "Licence of these weights: not stated: the parts are licensed as listed; check before publishing."
    else:
        own = "Licence of these weights: not stated. Licences of their parts: not stated."
    listed = [table(("part", "licence"), rows)] if rows else []
    return [own, *listed, *([f"Without a stated licence: {missing}."] if missing else [])]


def dev_metrics(facts: RunFacts, note: str, columns: Sequence[str], systems: Mapping[int, str]) -> list[str]:
    """Dev retrieval metrics before training and at the exported step: a note and a table.

    Args:
      facts: records of the run.
      note: how the metrics were computed.
      columns: names of the first two columns, the searched data and the system.
      systems: step -> the system's name.
    """
    at = {line["step"]: line["dev"] for line in facts.metrics if "dev" in line}
    if facts.step not in at:
        return [f"No dev metrics were computed at step {facts.step}."]
    names = list(dict.fromkeys(name for metrics in at[facts.step].values() for name in metrics))
    rows = [
        (one, system, *(f"{at[step][one][name]:.3f}" for name in names))
        for one in at[facts.step]
        for step, system in systems.items()
        if one in at.get(step, {})
    ]
    return [note, table((*columns, *names), rows, numbers=len(names))]


def run_rows(facts: RunFacts) -> list[tuple[str, str]]:
    """Steps, optimizer, seed, versions and device."""
    cfg, env = facts.config, facts.env
    rows = [
        ("steps", f"{facts.step} of {cfg.get('training', {}).get('steps', '?')}"),
        ("optimiser", " ".join(["AdamW", *pairs(cfg.get("optimizer", {}))])),
        ("seed", str(cfg.get("seed", "?"))),
    ]
    if env:
        versions = {"optical_jax": env["optical_jax"], "Python": env["python"], **env["packages"]}
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
        rows.append(("device", f"{env['device_count']} x {env['device']}"))
    if env.get("resumed"):
        rows.append(("resumed", f"{len(env['resumed'])} times; versions and device are those of the first start"))
    return rows
