"""Model card of a trained teacher: a late-interaction retriever that encodes queries and documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from optical_jax.export.card import Model, block, code, licences, pairs, table
from optical_jax.export.recipe import own_recipe
from optical_jax.export.student_card import CardFacts, other_libraries, results, text_card, text_rows

LOSSES = {
    "contrastive": "softmax cross entropy over MaxSim scores",
    "kl": "KL divergence from given scores",
    "margin_mse": "MSE of score margins",
}


def teacher_card(facts: CardFacts) -> str:
    """Model card of a teacher; `facts.start` is its base encoder, `facts.bitext` the content of rankings.json."""
    facts = replace(facts, teacher=Model("", hub=False))
    cfg = facts.config
    losses = [what for name, what in LOSSES.items() if cfg.get("loss", {}).get(name)]
    description = (
        f"A late-interaction retriever (ColBERT) for queries and passages: a vector of {facts.tower.vector_width} "
        f"dimensions per token, scored by MaxSim. It was trained from {code(facts.start.name) or 'an encoder'} "
        f"on judged passages with {', '.join(losses) or 'a loss that is not recorded'}. It can be the teacher of "
        "students in other languages ([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )
    data = {name: value for name, value in cfg.get("data", {}).items() if isinstance(value, int | float)}
    rows = [
        ("loss", " ".join(pairs(cfg.get("loss", {})))),
        ("data", " ".join(pairs(data))),
        ("frozen layers", str(cfg.get("encoder", {}).get("frozen_layers"))),
    ]
    sections = {
        "Use": ["With optical_jax:", block(own_recipe(facts.folder, facts.folder)), *other_libraries(facts)],
        "Training data": training_data(facts),
        "Licences": licences(facts),
        "Results": results(facts, "Dev queries", "Each dev query retrieves its judged documents."),
        "Settings and versions": [table(("what", "value"), [*rows, *text_rows(facts)])],
    }
    return text_card(facts, description, sections)


def training_data(facts: CardFacts) -> list[str]:
    files = facts.env.get("inputs", {}).get("rankings", {})
    if not files:
        return ["The run has no record of its training data."]
    # File name and folder only, no local path.
    rows = [("/".join(PurePath(path).parts[-2:]), sha256[:12]) for path, sha256 in files.items()]
    counts = [(name.replace("_", " "), f"{count:,}") for name, count in facts.bitext.items()]
    return [table(("file", "sha256"), rows), table(("what", "count"), counts, numbers=1)]
