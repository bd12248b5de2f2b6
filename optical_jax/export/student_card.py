"""The README.md of an exported model, in the form of a Hugging Face model card, from what the run recorded of itself.

Nothing here reads a file, and of paths no more is told than names: a card is published, the machine is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from optical_jax.config import TowerConfig
from optical_jax.config.validation import LOSSES_OF, parse_licences
from optical_jax.data.images.captions import CAPTION_FILE
from optical_jax.data.text.formats import FILE_NAME
from optical_jax.export.markdown import block, code, listed, pairs, table, yaml_list, yaml_text
from optical_jax.export.recipe import own_recipe, recipes
from optical_jax.retrieval.image_metrics import trained_on_sentences

TAGS = ("colbert", "late-interaction", "cross-lingual", "optical_jax")
SHOWN = ("R@1", "R@10", "nDCG@10")
SHOWN_OF_PICTURES = ("t2i R@1", "i2t R@1", "rSum")
"""Captions that look for pictures, pictures that look for captions, and the sum of six recalls in per cent."""
SYSTEMS = {
    "student": "student", "model": "model", "untrained": "untrained", "dictionary": "dictionary, BM25", "bm25": "BM25",
}  # fmt: skip
HOMES = {"home", "Users"}
"""A folder right below one of these is named after a person."""
LOSSES = {
    "transport": "by optimal transport",
    "greedy": "by greedy matching of tokens",
    "gromov_wasserstein": "by Gromov-Wasserstein transport",
    "pooled_cosine": "by the cosine of mean vectors",
    "pooled_mse": "by the distance of mean vectors",
    "contrastive": "by telling translations from the other texts of a batch",
    "pooled_contrastive": "by telling translations from the other texts of a batch, with mean vectors",
    "ot_contrastive": "by telling translations from the other texts of a batch, by optimal transport",
    "relational": "by the distances between the texts of a batch",
    "score_kl": "by its scores of the texts of a batch",
}
"""By what the loss moves vectors; of a sum, the first."""


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
    """bitext.json of the run; of a teacher's, rankings.json."""
    metrics: Sequence[Mapping[str, Any]] = ()
    """The lines of metrics.jsonl."""
    evaluations: Sequence[Mapping[str, Any]] = ()
    """Every eval/*/metrics.json."""

    @property
    def sides(self) -> str:
        return self.config.get("student", {}).get("sides", "queries")

    @property
    def languages(self) -> list[str]:
        if "encoder" in self.config:
            return [self.config["data"]["language"]]
        return [one["language"] for one in self.bitext.get("train", [])]


def model_card(facts: CardFacts) -> str:
    """The whole card."""
    sections = description, usage, training_data, licences, results, settings
    return card_of(facts, *(section(facts) for section in sections))


def card_of(facts: CardFacts, *sections: str) -> str:
    """A card with these sections below its front matter and title."""
    parts = front_matter(facts), f"# {facts.name}", *sections
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def front_matter(facts: CardFacts) -> str:
    """YAML, as the hub reads it."""
    base = facts.start if facts.start.name else facts.teacher
    lines = ["---", *yaml_list("language", facts.languages)]
    if facts.license:
        lines.append(f"license: {yaml_text(facts.license)}")
    lines += ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity", *yaml_list("tags", TAGS)]
    if base.hub and not resized(facts):
        lines.append(f"base_model: {yaml_text(base.name)}")
    return "\n".join([*lines, "---"])


def description(facts: CardFacts) -> str:
    languages, teacher = listed(facts.languages) or "its language", code(facts.teacher.name) or "its teacher"
    pooled = facts.tower.head.pooling != "none"
    what = "one vector a text" if pooled else "a vector a token, scored by late interaction (ColBERT's MaxSim)"
    how = LOSSES.get(facts.config.get("loss", {}).get("name", ""), "by distillation")
    with_pictures = facts.config.get("data", {}).get("pictures")
    material = "sentence pairs and pictures with captions" if with_pictures else "sentence pairs alone"
    purpose = {
        "queries": f"A query encoder for {languages}: it looks for English documents that {teacher} encoded",
        "documents": f"A document encoder for {languages}: English queries that {teacher} encoded find its documents",
        "both": f"An encoder of queries and documents in {languages}, beside English ones that {teacher} encoded",
    }
    return (
        f"{purpose[facts.sides]}, with {what}. "
        f"It learned from {material}, without relevance labels, by moving its vectors onto its teacher's "
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
    teacher = f"its teacher, {code(facts.teacher.name) or 'unnamed'} ({where})"
    if facts.sides == "documents":
        return "\n\n".join(
            [
                "## Use",
                f"This model encodes documents. English queries are encoded by {teacher}. With optical_jax:",
                block(own_recipe(documents, facts.folder)),
            ]
        )
    asks = f"This model asks. Documents are encoded by {teacher}."
    if facts.sides == "both":
        asks = f"This model asks. English documents are encoded by {teacher}; those in its own language it encodes too."
    parts = [
        "## Use",
        asks,
        "With optical_jax:",
        block(own_recipe(facts.folder, documents)),
        *other_libraries(facts),
    ]
    if head.pooling == "none" and not head.special_tokens:
        parts.append("Sentence Transformers keeps the vectors of special tokens, which this model drops.")
    if head.pooling == "none":
        parts.append(
            "The score of a query and a document is MaxSim: for each query vector the largest dot product with a "
            "document vector, summed."
        )
    return "\n\n".join(parts)


def other_libraries(facts: CardFacts) -> list[str]:
    found = recipes(facts.tower, facts.folder, facts.special_ids)
    return [part for library, text in found.items() for part in (f"With {library} (queries):", block(text))]


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
    learned = (one for split in ("train", "pictures") for one in facts.bitext.get(split, []))
    sets = (part_name(f["path"]) for one in learned for f in one["files"])
    return list(dict.fromkeys([*models, *sets]))


def part_name(path: str) -> str:
    """The set a file belongs to: the folder of a file LANG.SPLIT.* or captions.LANG.SPLIT.*, else the file itself."""
    return set_folder(path) or PurePath(path).name


def set_folder(path: str) -> str:
    file = PurePath(path)
    if not (FILE_NAME.fullmatch(file.name) or CAPTION_FILE.fullmatch(file.name)) or file.parent.parent.name in HOMES:
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
    """One collection: the student (or a teacher) beside itself untrained and the searches by words."""
    systems = {found.get("system", "student"): found["languages"], **found["references"]}
    pictures = found.get("searched") == "pictures"
    shown, counted = (SHOWN_OF_PICTURES, "t2i queries") if pictures else (SHOWN, "queries")
    rows = []
    for language in found["languages"]:
        for system, name in SYSTEMS.items():
            figures = systems.get(system, {}).get(language)
            if figures:
                rows.append((language, name, str(figures[counted]), *(f"{figures[m]:.3f}" for m in shown)))
    parts = [
        f"### {found['collection']}, {found['split']}, {found['scoring']}",
        table(("language", "system", "captions" if pictures else "queries", *shown), rows, numbers=4),
    ]
    if "model" in systems:
        return parts
    shared = found.get("shared_with_training")
    asked = "captions" if pictures else "queries or the documents judged for them"
    if shared is None:
        parts.append("Whether training pairs share a text with this collection could not be told.")
    else:
        counts = ", ".join(f"{language} {count:,}" for language, count in shared.items())
        parts.append(f"Training pairs that share a text with its {asked}: {counts or 'none'}.")
    return [*parts, *trained_on_sentences(found)]


def dev_figures(
    facts: CardFacts,
    title: str = "Dev pairs of the bitext",
    note: str = "Each sentence looks for its own English one among all dev pairs of its language.",
) -> list[str]:
    """Dev retrieval before training and at the exported step."""
    at = {line["step"]: line["dev"] for line in facts.metrics if "dev" in line}
    head = f"### {title}"
    if facts.step not in at:
        return [head, f"No dev figures were taken at step {facts.step}."]
    names = list(dict.fromkeys(name for figures in at[facts.step].values() for name in figures))
    own = "model" if "encoder" in facts.config else "student"
    rows = [
        (language, own if step else "untrained", *(f"{at[step][language][name]:.3f}" for name in names))
        for language in at[facts.step]
        for step in dict.fromkeys((facts.step, 0))
        if language in at.get(step, {})
    ]
    if facts.sides == "documents":
        note = "Each English sentence looks for its translation among all dev pairs of a language."
    return [head, note, table(("language", "system", *names), rows, numbers=len(names))]


# ---- how it was made ---------------------------------------------------------------------------------------------


def settings(facts: CardFacts) -> str:
    cfg = facts.config
    loss, student = cfg.get("loss", {}), cfg.get("student", {})
    chosen = ("vocabulary", "keep_pieces", "new_embeddings", "lowercase", "word_order")
    data = cfg.get("data", {})
    names = {loss.get("name", "?"), *(one.split("=")[0].strip() for one in loss.get("add", ()))}
    heeded = pairs(loss["ot"]) if names & {"transport", "ot_contrastive"} else []
    if names & set(LOSSES_OF["temperature"]):
        heeded = [f"temperature={loss['temperature']}", *heeded]
    added = [f"+ {one}" for one in loss.get("add", ())]
    rows = [
        ("loss", " ".join([loss.get("name", "?"), *heeded, *added])),
        ("pairs a step", str(data.get("global_batch", "?"))),
        ("vocabulary", " ".join(pairs({name: student[name] for name in chosen if name in student}))),
        ("learned as", facts.sides),
        *where_it_learned(data, student),
    ]
    return "\n\n".join(["## Settings and versions", table(("what", "value"), [*rows, *settings_rows(facts)])])


def settings_rows(facts: CardFacts) -> list[tuple[str, str]]:
    """What cards of students and teachers tell alike."""
    cfg, encoder, env = facts.config, facts.tower.encoder, facts.env
    rows = [
        (
            "encoder",
            f"{encoder.family}, {encoder.layers} layers, width {encoder.width}, "
            f"{encoder.vocab_size:,} pieces, vectors of {facts.tower.vector_width}",
        ),
        ("begun from", begun_from(facts)),
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


def where_it_learned(data: Mapping[str, Any], student: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is told only of runs that do it: words switched, parts frozen."""
    frozen = [f"the first {student['freeze_layers']} layers"] if student.get("freeze_layers") else []
    frozen += ["embeddings"] if student.get("freeze_embeddings") else []
    rows = [("left as it began", listed(frozen))] if frozen else []
    if data.get("code_switch"):
        source = "a given lexicon" if data.get("lexicon") else "a lexicon from the plans of the untrained student"
        rows.append(("words switched to English", f"{data['code_switch']:.0%} of those in {source}"))
    return rows


def resized(facts: CardFacts) -> bool:
    """Whether the student's layers were drawn in another size, so that nothing but its words is of another model."""
    return bool(facts.config.get("student", {}).get("size", {}).get("width"))


def begun_from(facts: CardFacts) -> str:
    """Names of teacher and start, each with its weights' fingerprint."""
    told = ["layers drawn at random; word embeddings: principal components of those of"] if resized(facts) else []
    start = "encoder" if "encoder" in facts.config else "student"
    for role, model in (("teacher", facts.teacher), (start, facts.start)):
        files = facts.env.get("inputs", {}).get(f"{role}.path", {})
        weights = [sha256[:12] for name, sha256 in files.items() if name.endswith(".safetensors")]
        if model.name:
            told.append(f"{role} {code(model.name)}" + (f" (sha256 {', '.join(weights)})" if weights else ""))
    return "; ".join(told) or "not recorded"
