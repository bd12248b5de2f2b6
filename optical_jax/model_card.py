"""The README.md of an exported model, in the form of a Hugging Face model card, from what the run recorded of itself.

Nothing here reads a file, and of paths no more is told than names: a card is published, the machine is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from optical_jax.config import TowerConfig
from optical_jax.data.formats import FILE_NAME
from optical_jax.models.recipe import own_recipe, quoted, sentence_transformers_recipe, transformers_recipe
from optical_jax.validation import parse_licences

TAGS = ("colbert", "late-interaction", "cross-lingual", "optical_jax")
SHOWN = ("R@1", "R@10", "nDCG@10")
SYSTEMS = {"student": "student", "untrained": "untrained", "bm25": "BM25"}
YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML takes for something else than text; `no` is also Norwegian."""
HOMES = {"home", "Users"}
"""A folder right below one of these is named after a person."""
LOSSES = {
    "transport": "by optimal transport",
    "greedy": "by greedy matching of tokens",
    "pooled_cosine": "by the cosine of mean vectors",
}


@dataclass(frozen=True)
class Model:
    """A model that the run began from."""

    name: str
    """Hub name, or the last part of its folder's path; empty for none."""
    hub: bool
    """Whether others find it on the hub under that name."""


@dataclass(frozen=True)
class CardFacts:
    name: str
    """The run's name."""
    folder: str
    """The exported folder's name, as the code on the card loads it."""
    tower: TowerConfig
    step: int
    """The checkpoint that was exported."""
    special_ids: tuple[int, ...] = ()
    teacher: Model = Model("", hub=False)
    start: Model = Model("", hub=False)
    """Where the student's weights began, if not at the teacher's."""
    license: str = ""
    """Licence of the weights; empty where nobody stated one."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json of the run; what an old run lacks is left out."""
    env: Mapping[str, Any] = field(default_factory=dict)
    bitext: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    """The lines of metrics.jsonl."""
    evaluations: Sequence[Mapping[str, Any]] = ()
    """Every eval/*/metrics.json."""

    @property
    def languages(self) -> list[str]:
        return [one["language"] for one in self.bitext.get("train", [])]


def model_card(facts: CardFacts) -> str:
    """The whole card."""
    sections = [
        front_matter(facts),
        f"# {facts.name}",
        description(facts),
        usage(facts),
        training_data(facts),
        licences(facts),
        results(facts),
        settings(facts),
    ]
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def front_matter(facts: CardFacts) -> str:
    """YAML, as the hub reads it."""
    base = facts.start if facts.start.name else facts.teacher
    lines = ["---", *_yaml_list("language", facts.languages)]
    if facts.license:
        lines.append(f"license: {_yaml(facts.license)}")
    lines += ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity", *_yaml_list("tags", TAGS)]
    if base.hub and not resized(facts):
        lines.append(f"base_model: {_yaml(base.name)}")
    return "\n".join([*lines, "---"])


def _yaml_list(name: str, values: Iterable[str]) -> list[str]:
    items = [f"- {_yaml(value)}" for value in values]
    return [f"{name}:", *items] if items else []


def _yaml(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in YAML_WORDS
    return text if plain else quoted(text)


def description(facts: CardFacts) -> str:
    languages, teacher = listed(facts.languages) or "its language", code(facts.teacher.name) or "its teacher"
    pooled = facts.tower.head.pooling != "none"
    what = "one vector a text" if pooled else "a vector a token, scored by late interaction (ColBERT's MaxSim)"
    how = LOSSES.get(facts.config.get("loss", {}).get("name", ""), "by distillation")
    return (
        f"A query encoder for {languages}: it looks for English documents that {teacher} encoded, with {what}. "
        f"It learned from sentence pairs alone, without relevance labels, by moving its vectors onto its teacher's "
        f"{how} ([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )


# ---- use ---------------------------------------------------------------------------------------------------------


def usage(facts: CardFacts) -> str:
    head = facts.tower.head
    own_teacher = any(
        facts.config.get("teacher", {}).get(name) is not None
        for name in ("augment_queries", "skip_punctuation", "special_tokens")
    )
    as_on_the_hub = facts.teacher.hub and not own_teacher and head.pooling == "none"
    documents = facts.teacher.name if as_on_the_hub else "teacher"
    where = "on the hub" if as_on_the_hub else "the folder `teacher` of the training run, which goes with this one"
    parts = [
        "## Use",
        f"This model asks. Documents are encoded by its teacher, {code(facts.teacher.name) or 'unnamed'} ({where}).",
        "With optical_jax:",
        block(own_recipe(facts.folder, documents)),
        "With transformers alone (queries):",
        block(transformers_recipe(facts.tower, facts.folder, facts.special_ids)),
        "With Sentence Transformers 6 (queries):",
        block(sentence_transformers_recipe(facts.tower, facts.folder)),
    ]
    if head.pooling == "none" and not head.special_tokens:
        parts.append("Sentence Transformers keeps the vectors of special tokens, which this model drops.")
    if head.pooling == "none":
        parts.append(
            "The score of a query and a document is MaxSim: for each query vector the largest dot product with a "
            "document vector, summed."
        )
    return "\n\n".join(parts)


# ---- what it is made of ------------------------------------------------------------------------------------------


def training_data(facts: CardFacts) -> str:
    parts = ["## Languages and training data"]
    train, dev = facts.bitext.get("train", []), facts.bitext.get("dev", [])
    if not train:
        return "\n\n".join([*parts, "The run has no record of its bitext."])
    parts.append(
        table(
            ("language", "file", "sha256"),
            [(one["language"], file_name(f["path"]), f["sha256"][:12]) for one in train for f in one["files"]],
        )
    )
    rows = []
    for one in train:
        left_out = [f"{reason} {count:,}" for reason, count in one["dropped"].items()]
        left_out += [f"broken lines {len(one['bad_lines']):,}"] if one["bad_lines"] else []
        rows.append((one["language"], f"{one['kept']:,}", f"{one['lines']:,}", ", ".join(left_out) or "none"))
    parts.append(table(("language", "pairs kept", "of lines", "left out"), rows))
    if dev:
        counts = ", ".join(f"{one['language']} {one['kept']:,}" for one in dev)
        parts.append(f"Dev pairs, by which the checkpoint called best is chosen: {counts}.")
    return "\n\n".join(parts)


def licences(facts: CardFacts) -> str:
    stated = parse_licences(facts.config.get("licences", ()))
    parts = made_of(facts)
    names = parts if facts.bitext else [*parts, *(name for name in stated if name not in parts)]
    missing = [name for name in names if name not in stated]
    lines = ["## Licences"]
    if facts.license:
        lines.append(f"These weights: {facts.license}. What they are made of:")
    else:
        lines.append("Licence of these weights: not stated: the parts are licensed as listed; check before publishing.")
    if len(missing) < len(names):
        lines.append(table(("part", "licence"), [(name, stated[name]) for name in names if name in stated]))
    if missing:
        lines.append(f"Without a stated licence: {listed(map(code, missing))}.")
    return "\n\n".join(lines)


def made_of(facts: CardFacts) -> list[str]:
    """Names of the parts that have a licence each: models first, then sets of bitext."""
    models = ["teacher", *(["student"] if facts.start.name else [])]
    sets = (part_name(f["path"]) for one in facts.bitext.get("train", []) for f in one["files"])
    return list(dict.fromkeys([*models, *sets]))


def part_name(path: str) -> str:
    """The set a file belongs to: the folder of a file LANG.SPLIT.*, else the file itself."""
    return set_folder(path) or PurePath(path).name


def set_folder(path: str) -> str:
    file = PurePath(path)
    if not FILE_NAME.fullmatch(file.name) or file.parent.parent.name in HOMES:
        return ""
    return file.parent.name


def file_name(path: str) -> str:
    """A file as a reader of the card would know it: its set and its name."""
    return f"{set_folder(path)}/{PurePath(path).name}".removeprefix("/")


# ---- what it is worth --------------------------------------------------------------------------------------------


def results(facts: CardFacts) -> str:
    parts = ["## Results"]
    again = f"--checkpoint {facts.step}"
    of_this = [one for one in facts.evaluations if one.get("checkpoint") == facts.step]
    for one in of_this:
        parts += evaluation(one)
    for one in facts.evaluations:
        if one not in of_this:
            parts.append(
                f"{one['collection']} ({one['split']}, {one['scoring']}) was evaluated at checkpoint "
                f"{one.get('checkpoint')}, not at the one exported here, {facts.step}; for figures of this one: "
                f"`python eval.py --run RUN --collection DIR --split {one['split']} {again}`"
            )
    if not facts.evaluations:
        languages = " ".join(facts.languages) or "LANG"
        parts.append(f"Not evaluated yet: `python eval.py --run RUN --collection DIR --lang {languages} {again}`")
    return "\n\n".join([*parts, *dev_figures(facts)])


def evaluation(found: Mapping[str, Any]) -> list[str]:
    """One collection: the student beside itself untrained and BM25."""
    systems = {"student": found["languages"], **found["references"]}
    rows = []
    for language in found["languages"]:
        for system, name in SYSTEMS.items():
            figures = systems.get(system, {}).get(language)
            if figures:
                rows.append((language, name, str(figures["queries"]), *(f"{figures[m]:.3f}" for m in SHOWN)))
    parts = [
        f"### {found['collection']}, {found['split']}, {found['scoring']}",
        table(("language", "system", "queries", *SHOWN), rows, numbers=4),
    ]
    shared = found.get("shared_with_training")
    if shared is None:
        parts.append("Whether training pairs share a text with this collection could not be told.")
    else:
        counts = ", ".join(f"{language} {count:,}" for language, count in shared.items())
        parts.append(
            f"Training pairs that share a text with its queries or the documents judged for them: {counts or 'none'}."
        )
    return parts


def dev_figures(facts: CardFacts) -> list[str]:
    """Retrieval over the dev pairs before training and at the exported step."""
    at = {line["step"]: line["dev"] for line in facts.metrics if "dev" in line}
    head = "### Dev pairs of the bitext"
    if facts.step not in at:
        return [head, f"No dev figures were taken at step {facts.step}."]
    names = list(dict.fromkeys(name for figures in at[facts.step].values() for name in figures))
    rows = [
        (language, "student" if step else "untrained", *(f"{at[step][language][name]:.3f}" for name in names))
        for language in at[facts.step]
        for step in dict.fromkeys((facts.step, 0))
        if language in at.get(step, {})
    ]
    note = "Each sentence looks for its own English one among all dev pairs of its language."
    return [head, note, table(("language", "system", *names), rows, numbers=len(names))]


# ---- how it was made ---------------------------------------------------------------------------------------------


def settings(facts: CardFacts) -> str:
    cfg, tower = facts.config, facts.tower
    loss, data, student = cfg.get("loss", {}), cfg.get("data", {}), cfg.get("student", {})
    rows = [
        (
            "encoder",
            f"{tower.encoder.family}, {tower.encoder.layers} layers, width {tower.encoder.width}, "
            f"{tower.encoder.vocab_size:,} pieces, vectors of {tower.vector_width}",
        ),
        ("begun from", begun_from(facts)),
        ("loss", " ".join([loss.get("name", "?"), *(_pairs(loss["ot"]) if loss.get("name") == "transport" else [])])),
        ("steps", f"{facts.step} of {cfg.get('training', {}).get('steps', '?')}"),
        ("pairs a step", str(data.get("global_batch", "?"))),
        ("optimiser", " ".join(["AdamW", *_pairs(cfg.get("optimizer", {}))])),
        (
            "vocabulary",
            " ".join(
                _pairs(
                    {k: student[k] for k in ("vocabulary", "new_embeddings", "lowercase", "word_order") if k in student}
                )
            ),
        ),
        ("seed", str(cfg.get("seed", "?"))),
    ]
    env = facts.env
    if env:
        versions = {"optical_jax": env["optical_jax"], "Python": env["python"], **env["packages"]}
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
        rows.append(("device", f"{env['device_count']} x {env['device']}"))
    if env.get("resumed"):
        rows.append(("resumed", f"{len(env['resumed'])} times; versions and device are those of the first start"))
    return "\n\n".join(["## Settings and versions", table(("what", "value"), rows)])


def resized(facts: CardFacts) -> bool:
    """Whether the student's layers were drawn in another size, so that nothing but its words is of another model."""
    return bool(facts.config.get("student", {}).get("size", {}).get("width"))


def begun_from(facts: CardFacts) -> str:
    """Names of teacher and start, each with its weights' fingerprint."""
    told = ["layers drawn at random; word embeddings: principal components of those of"] if resized(facts) else []
    for role, model in (("teacher", facts.teacher), ("student", facts.start)):
        files = facts.env.get("inputs", {}).get(f"{role}.path", {})
        weights = [sha256[:12] for name, sha256 in files.items() if name.endswith(".safetensors")]
        if model.name:
            told.append(f"{role} {code(model.name)}" + (f" (sha256 {', '.join(weights)})" if weights else ""))
    return "; ".join(told) or "not recorded"


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


# ---- Markdown ----------------------------------------------------------------------------------------------------


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
