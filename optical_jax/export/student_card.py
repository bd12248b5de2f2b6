"""Model card of a trained student, and the sections it shares with a teacher's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from huggingface_hub import ModelCardData

from optical_jax.config import TowerConfig
from optical_jax.config.validation import LOSSES_OF
from optical_jax.data.images.captions import CAPTION_FILE
from optical_jax.data.text.formats import FILE_NAME
from optical_jax.export.card import Model, RunFacts, block, card_of, code, dev_metrics, licences, pairs, run_rows, table
from optical_jax.export.recipe import own_recipe, recipes
from optical_jax.models.formats.export import differences
from optical_jax.models.formats.pair_configs import is_pair_family
from optical_jax.retrieval.image_metrics import trained_on_sentences

SHOWN = ("R@1", "R@10", "nDCG@10")
SHOWN_OF_IMAGES = ("t2i R@1", "i2t R@1", "rSum")
"""Text-to-image and image-to-text recall, and the sum of six recalls in per cent."""
SYSTEMS = {
    "student": "student", "model": "model", "untrained": "untrained", "dictionary": "dictionary, BM25", "bm25": "BM25",
}  # fmt: skip
HOMES = {"home", "Users"}
"""Parents of home folders, whose names identify users."""
LOSSES_IN_WORDS = {
    "transport": "by optimal transport",
    "greedy": "by greedy matching of tokens",
    "gromov_wasserstein": "by Gromov-Wasserstein transport",
    "pooled_cosine": "by the cosine of mean vectors",
    "pooled_mse": "by the distance of mean vectors",
    "contrastive": "by in-batch contrastive learning",
    "pooled_contrastive": "by in-batch contrastive learning, with mean vectors",
    "ot_contrastive": "by in-batch contrastive learning, by optimal transport",
    "relational": "by the distances between the texts of a batch",
    "score_kl": "by its scores of the texts of a batch",
}
"""Description of each loss; for a sum of losses, of the first."""


@dataclass(frozen=True, kw_only=True)
class CardFacts(RunFacts):
    """Records of a run that trains a text tower."""

    tower: TowerConfig
    teacher: Model
    start: Model
    """Base model of the weights; no name if it is the teacher."""
    special_ids: tuple[int, ...] = ()
    """Special token ids of the tokenizer, for code that drops their vectors."""
    bitext: Mapping[str, Any] = field(default_factory=dict)
    """bitext.json; of a teacher's run, rankings.json."""
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
    """Model card of a student."""
    sections = {
        "Use": usage(facts),
        "Languages and training data": training_data(facts),
        "Licences": licences(facts, made_of(facts), others=not facts.bitext),
        "Results": results(facts),
        "Settings and versions": [table(("what", "value"), [*student_rows(facts), *text_rows(facts)])],
    }
    return text_card(facts, description(facts), sections)


def text_card(facts: CardFacts, description: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Model card of a text tower, with the front matter of a Sentence Transformers model."""
    base = facts.start if facts.start.name else facts.teacher
    data = ModelCardData(
        language=facts.languages or None,
        license=facts.license or None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["colbert", "late-interaction", "cross-lingual", "optical_jax"],
        base_model=base.name if base.hub and not resized(facts) else None,
    )
    return card_of(facts, data, description, sections)


def description(facts: CardFacts) -> str:
    languages, teacher = ", ".join(facts.languages) or "its language", code(facts.teacher.name) or "its teacher"
    pooled = facts.tower.head.pooling != "none"
    what = "one vector per text" if pooled else "one vector per token, scored by late interaction (ColBERT's MaxSim)"
    how = LOSSES_IN_WORDS.get(facts.config.get("loss", {}).get("name", ""), "by distillation")
    with_pictures = facts.config.get("data", {}).get("pictures")
    material = "sentence pairs and images with captions" if with_pictures else "sentence pairs alone"
    purpose = {
        "queries": f"A query encoder for {languages}: it retrieves English documents encoded by {teacher}",
        "documents": f"A document encoder for {languages}: retrieved by English queries that {teacher} encoded",
        "both": f"An encoder of queries and documents in {languages}, used with English ones encoded by {teacher}",
    }
    return (
        f"{purpose[facts.sides]}, with {what}. "
        f"It was trained on {material}, without relevance labels, to match the vectors of its teacher "
        f"{how} ([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )


def usage(facts: CardFacts) -> list[str]:
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
        encodes = f"This model encodes documents. English queries are encoded by {teacher}. With optical_jax:"
        return [encodes, block(own_recipe(documents, facts.folder))]
    encodes = {
        "queries": f"This model encodes queries. Documents are encoded by {teacher}.",
        "both": f"This model encodes queries and documents in its language. English ones are encoded by {teacher}.",
    }
    parts = [encodes[facts.sides], "With optical_jax:", block(own_recipe(facts.folder, documents))]
    parts += other_libraries(facts)
    if head.pooling == "none":
        parts.append(
            "The score of a query and a document is MaxSim: for each query vector the largest dot product with a "
            "document vector, summed."
        )
    return parts


def other_libraries(facts: CardFacts) -> list[str]:
    """Usage code for other libraries, and differences of their vectors."""
    found = recipes(facts.tower, facts.folder, facts.special_ids)
    parts = [part for library, text in found.items() for part in (f"With {library} (queries):", block(text))]
    return [*parts, *library_notes(facts.tower)]


def library_notes(cfg: TowerConfig) -> list[str]:
    """Which libraries read the folder, and where their vectors are others."""
    head = cfg.head
    if is_pair_family(cfg):
        return []
    notes = ["Texts are encoded without a prompt, and vectors have length one."]
    if head.pooling != "none":
        notes.append("PyLate and `MultiVectorEncoder` are not for this model, which has one vector per text.")
        return [" ".join([*notes, *differences(head)])]
    notes.append(
        "PyLate 1.5 or later gives the same vectors (`pylate.models.ColBERT`). `SentenceTransformer` refuses the "
        "folder: it is for models with one vector per text."
    )
    if not head.projection:
        notes.append("`1_Dense` is the identity, for PyLate, which would add a random layer; this model has none.")
    return [" ".join([*notes, *differences(head)])]


def training_data(facts: CardFacts) -> list[str]:
    train, dev = facts.bitext.get("train", []), facts.bitext.get("dev", [])
    if not train:
        return ["The run has no record of its bitext."]
    files = [(one["language"], file_and_set(f["path"])[0], f["sha256"][:12]) for one in train for f in one["files"]]
    rows = []
    for one in train:
        left_out = [f"{reason} {count:,}" for reason, count in one["dropped"].items()]
        left_out += [f"broken lines {len(one['bad_lines']):,}"] if one["bad_lines"] else []
        rows.append((one["language"], f"{one['kept']:,}", f"{one['lines']:,}", ", ".join(left_out) or "none"))
    counts = ", ".join(f"{one['language']} {one['kept']:,}" for one in dev)
    return [
        table(("language", "file", "sha256"), files),
        table(("language", "pairs kept", "of lines", "left out"), rows),
        *([f"Dev pairs, by which the best checkpoint is selected: {counts}."] if dev else []),
    ]


def made_of(facts: CardFacts) -> list[str]:
    """Names of the models and data sets whose licences are stated: models first."""
    models = ["teacher", *(["student"] if facts.start.name else [])]
    read = (one for split in ("train", "pictures") for one in facts.bitext.get(split, []))
    return list(dict.fromkeys([*models, *(file_and_set(f["path"])[1] for one in read for f in one["files"])]))


def file_and_set(path: str) -> tuple[str, str]:
    """Display name SET/NAME of a bitext file, and its data set: the folder of LANG.SPLIT.* or captions.LANG.SPLIT.*.

    Any other file is its own data set, and its folder is left out.
    """
    file = PurePath(path)
    in_set = FILE_NAME.fullmatch(file.name) or CAPTION_FILE.fullmatch(file.name)
    folder = file.parent.name if in_set and file.parent.parent.name not in HOMES else ""
    return f"{folder}/{file.name}".removeprefix("/"), folder or file.name


def results(
    facts: CardFacts,
    title: str = "Dev pairs of the bitext",
    note: str = "Each sentence is a query for its English translation among all dev pairs of its language.",
) -> list[str]:
    """Evaluations of the exported checkpoint, commands for missing ones, and dev retrieval metrics."""
    parts, others = [], []
    for one in facts.evaluations:
        if one.get("checkpoint") == facts.step:
            parts += evaluation(one)
        else:
            others.append(
                f"{one['collection']} ({one['split']}, {one['scoring']}) was evaluated at checkpoint "
                f"{one.get('checkpoint')}, not at the one exported here, {facts.step}; for metrics of this one: "
                f"`optical_jax eval --run RUN --collection DIR --split {one['split']} --checkpoint {facts.step}`"
            )
    if not facts.evaluations:
        languages = f"--lang {' '.join(facts.languages) or 'LANG'} --checkpoint {facts.step}"
        others.append(f"Not evaluated yet: `optical_jax eval --run RUN --collection DIR {languages}`")
    if facts.sides == "documents":
        note = "Each English sentence is a query for its translation among all dev pairs of a language."
    systems = {facts.step: "model" if "encoder" in facts.config else "student", 0: "untrained"}
    return [*parts, *others, f"### {title}", *dev_metrics(facts, note, ("language", "system"), systems)]


def evaluation(found: Mapping[str, Any]) -> list[str]:
    """Retrieval metrics on one collection: the trained and the untrained model, and the lexical baselines."""
    systems = {found.get("system", "student"): found["languages"], **found["references"]}
    pictures = found.get("searched") == "pictures"
    shown, counted = (SHOWN_OF_IMAGES, "t2i queries") if pictures else (SHOWN, "queries")
    rows = []
    for language in found["languages"]:
        for system, name in SYSTEMS.items():
            metrics = systems.get(system, {}).get(language)
            if metrics:
                rows.append((language, name, str(metrics[counted]), *(f"{metrics[m]:.3f}" for m in shown)))
    parts = [
        f"### {found['collection']}, {found['split']}, {found['scoring']}",
        table(("language", "system", "captions" if pictures else "queries", *shown), rows, numbers=4),
    ]
    if "model" in systems:
        return parts
    shared = found.get("shared_with_training")
    asked = "captions" if pictures else "queries or the documents judged for them"
    if shared is None:
        parts.append("Whether training pairs share a text with this collection is unknown.")
    else:
        counts = ", ".join(f"{language} {count:,}" for language, count in shared.items())
        parts.append(f"Training pairs that share a text with its {asked}: {counts or 'none'}.")
    return [*parts, *trained_on_sentences(found)]


def student_rows(facts: CardFacts) -> list[tuple[str, str]]:
    """Settings of a student; code switching and frozen parts only if they are used."""
    loss, student, data = (facts.config.get(name, {}) for name in ("loss", "student", "data"))
    chosen = ("vocabulary", "keep_pieces", "new_embeddings", "lowercase", "word_order")
    added = loss.get("add", ())
    names = {loss.get("name", "?"), *(one.split("=")[0].strip() for one in added)}
    used = [f"temperature={loss['temperature']}"] if names & set(LOSSES_OF["temperature"]) else []
    used += pairs(loss["ot"]) if names & {"transport", "ot_contrastive"} else []
    rows = [
        ("loss", " ".join([loss.get("name", "?"), *used, *(f"+ {one}" for one in added)])),
        ("pairs a step", str(data.get("global_batch", "?"))),
        ("vocabulary", " ".join(pairs({name: student[name] for name in chosen if name in student}))),
        ("trained as", facts.sides),
    ]
    frozen = [f"the first {student['freeze_layers']} layers"] if student.get("freeze_layers") else []
    frozen += ["embeddings"] if student.get("freeze_embeddings") else []
    if frozen:
        rows.append(("frozen", ", ".join(frozen)))
    if data.get("code_switch"):
        source = "a given lexicon" if data.get("lexicon") else "a lexicon from the plans of the untrained student"
        rows.append(("code switching to English", f"{data['code_switch']:.0%} of the words in {source}"))
    return rows


def text_rows(facts: CardFacts) -> list[tuple[str, str]]:
    """Settings shared by students and teachers: encoder, initial weights with hashes, and run."""
    encoder = facts.tower.encoder
    shape = f"{encoder.family}, {encoder.layers} layers, width {encoder.width}, {encoder.vocab_size:,} pieces"
    begun = ["randomly initialised layers; word embeddings: principal components of those of"] if resized(facts) else []
    for role, model in (
        ("teacher", facts.teacher),
        ("encoder" if "encoder" in facts.config else "student", facts.start),
    ):
        files = facts.env.get("inputs", {}).get(f"{role}.path", {})
        weights = [sha256[:12] for name, sha256 in files.items() if name.endswith(".safetensors")]
        if model.name:
            begun.append(f"{role} {code(model.name)}" + (f" (sha256 {', '.join(weights)})" if weights else ""))
    return [
        ("encoder", f"{shape}, vectors of {facts.tower.vector_width}"),
        ("initialised from", "; ".join(begun) or "not recorded"),
        *run_rows(facts),
    ]


def resized(facts: CardFacts) -> bool:
    """Whether the student has randomly initialised layers of another width, so that it has no base model."""
    return bool(facts.config.get("student", {}).get("size", {}).get("width"))
