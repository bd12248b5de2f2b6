"""The README.md of an exported teacher: what a student's card tells, of a tower that answers as well as it asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from optical_jax.config.validation import parse_licences
from optical_jax.export.markdown import block, code, listed, pairs, table
from optical_jax.export.recipe import own_recipe
from optical_jax.export.student_card import CardFacts, card_of, dev_figures, evaluation, other_libraries, settings_rows

LOSSES = {
    "contrastive": "softmax cross entropy over MaxSim scores",
    "kl": "KL divergence from given scores",
    "margin_mse": "squared error of margins",
}


def teacher_card(facts: CardFacts) -> str:
    """The whole card; `facts.start` is the encoder that it began from, `facts.bitext` what rankings.json holds."""
    facts = replace(facts, teacher=replace(facts.teacher, name="", hub=False))
    sections = description, usage, training_data, licences, results, settings
    return card_of(facts, *(section(facts) for section in sections))


def description(facts: CardFacts) -> str:
    losses = [what for name, what in LOSSES.items() if facts.config.get("loss", {}).get(name)]
    return (
        f"A late-interaction retriever (ColBERT) for queries and passages: a vector of {facts.tower.vector_width} a "
        f"token, scored by MaxSim. It began as {code(facts.start.name) or 'an encoder'} and learned from judged "
        f"passages by {listed(losses) or 'a loss that is not recorded'}. Students of other languages may be taught by "
        "it ([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )


def usage(facts: CardFacts) -> str:
    parts = [
        "## Use",
        "With optical_jax:",
        block(own_recipe(facts.folder, facts.folder)),
        *other_libraries(facts),
    ]
    if not facts.tower.head.special_tokens:
        parts.append("Sentence Transformers keeps the vectors of special tokens, which this model drops.")
    return "\n\n".join(parts)


def training_data(facts: CardFacts) -> str:
    files = facts.env.get("inputs", {}).get("rankings", {})
    if not files:
        return "## Training data\n\nThe run has no record of its data."
    rows = [(two_names(path), sha256[:12]) for path, sha256 in files.items()]
    counts = [(name.replace("_", " "), f"{count:,}") for name, count in facts.bitext.items()]
    return "\n\n".join(
        ["## Training data", table(("file", "sha256"), rows), table(("what", "count"), counts, numbers=1)]
    )


def two_names(path: str) -> str:
    """A file and its folder: no path of a machine."""
    return "/".join(PurePath(path).parts[-2:])


def licences(facts: CardFacts) -> str:
    stated = parse_licences(facts.config.get("licences", ()))
    own = f"These weights: {facts.license}. " if facts.license else "Licence of these weights: not stated. "
    lines = ["## Licences", own + ("What they are made of:" if stated else "Nor are those of their parts.")]
    return "\n\n".join([*lines, *([table(("part", "licence"), list(stated.items()))] if stated else [])])


def results(facts: CardFacts) -> str:
    of_this = [one for one in facts.evaluations if one.get("checkpoint") == facts.step]
    parts = ["## Results", *(part for one in of_this for part in evaluation(one))]
    if not of_this:
        parts.append(f"Not evaluated yet: `python eval.py --run RUN --collection DIR --checkpoint {facts.step}`")
    return "\n\n".join([*parts, *dev_figures(facts, "Dev queries", "Each looks for its judged documents.")])


def settings(facts: CardFacts) -> str:
    cfg = facts.config
    rows = [
        ("loss", " ".join(pairs(cfg.get("loss", {})))),
        ("data", " ".join(pairs({k: v for k, v in cfg.get("data", {}).items() if isinstance(v, int | float)}))),
        ("frozen layers", str(cfg.get("encoder", {}).get("frozen_layers"))),
    ]
    return "\n\n".join(["## Settings and versions", table(("what", "value"), [*rows, *settings_rows(facts)])])
