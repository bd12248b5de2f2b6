"""Model card of an image-text teacher: a dual encoder of texts and images."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCardData

from optical_jax.export.card import Model, RunFacts, block, card_of, code, dev_metrics, licences, pairs, run_rows, table
from optical_jax.export.recipe import quoted
from optical_jax.towers.pair import TowerPair

COMPARED = {
    "pooled": "Texts and images are scored by the cosine of their mean vectors.",
    "tokens": "Texts and images are scored by late interaction of tokens and patches (FILIP).",
}


@dataclass(frozen=True, kw_only=True)
class PairFacts(RunFacts):
    """Records of a run that trains a dual encoder."""

    pair: TowerPair
    text: Model
    """Base model of the text encoder."""
    image: Model
    """Base model of the image encoder; no name for random weights."""
    images: Mapping[str, Any] = field(default_factory=dict)
    """images.json."""


def image_teacher_card(facts: PairFacts) -> str:
    """Model card of an image-text teacher."""
    data = ModelCardData(
        language=[language_of(facts)],
        license=facts.license or None,
        library_name="optical_jax",
        tags=["image-text-retrieval", "vision", "optical_jax"],
        base_model=[model.name for model in (facts.text, facts.image) if model.hub] or None,
    )
    note = (
        "Recall@1, 5 and 10 of text-to-image (t2i) and image-to-text (i2t) retrieval among all images and captions of "
        f"a set's dev split. {trained_on(facts)}".rstrip()
    )
    sections = {
        "Use": usage(facts),
        "Training data": training_data(facts),
        "Licences": licences(facts),
        "Results": dev_metrics(facts, note, ("set", "training"), {0: "before", facts.step: "after"}),
        "Settings and versions": [table(("what", "value"), settings(facts))],
    }
    return card_of(facts, data, description(facts), sections)


def language_of(facts: PairFacts) -> str:
    return facts.config.get("data", {}).get("language", "en")


def description(facts: PairFacts) -> str:
    side, text = facts.config.get("text", {}), code(facts.text.name) or "a text encoder"
    if not side.get("locked"):
        text = f"was initialised from {text}"
    elif width := side.get("projection"):
        text = f"is {text}, frozen, with a trained projection to {width} dimensions"
    else:
        text = f"is {text}, frozen"
    image = f"was initialised from {code(facts.image.name)}" if facts.image.name else "was trained from scratch"
    return (
        f"A dual encoder of texts and images, for image-text retrieval in {language_of(facts)} in both directions. "
        f"The text encoder {text}; the image encoder {image}. "
        f"{COMPARED[facts.pair.interaction]} The text encoder can be the teacher of students in "
        "other languages, which then retrieve the same images "
        "([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )


SCORES = {
    "pooled": (
        "sums = (one.vectors.sum(axis=1) for one in found)\n"
        "means = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in sums)\n"
        'scores = np.einsum("be,ne->bn", *means)  # cosines of mean vectors [texts, images]\n'
    ),
    "tokens": "scores = optical_jax.maxsim(*found)  # [texts, images]\n",
}


def usage(facts: PairFacts) -> list[str]:
    folder, size = quoted(facts.folder), facts.pair.image.recipe.size
    lines = (
        "from pathlib import Path\n\nimport numpy as np\n\nimport optical_jax\n"
        "from optical_jax.data.pixels import picture_pixels\nfrom optical_jax.data.rgb import read_rgb\n\n"
        f'texts = optical_jax.load({folder}, part="text")\npictures = optical_jax.load({folder}, part="image")\n'
        f'pixels = np.stack([picture_pixels(read_rgb(Path("a.jpg")), pictures.recipe)])  # {size[0]} x {size[1]}\n'
        'found = optical_jax.encode(texts, ["..."]), optical_jax.encode(pictures, pixels)\n'
        f"{SCORES[facts.pair.interaction]}"
    )
    taught = f"optical_jax train --teacher.path {shlex.quote(facts.folder)} --data.bitext FILE --run STUDENT"
    return [block(lines), f"To train a student with it: `{taught}`"]


def training_data(facts: PairFacts) -> list[str]:
    found = facts.images.get("train", [])
    if not found:
        return ["The run has no record of its training data."]
    rows = [(one["set"], one["split"], f"{one['pictures']:,}", f"{one['captions']:,}") for one in found]
    dev = [f"The images of the split {code(facts.config['data']['dev_split'])} are among them."]
    return [table(("set", "split", "images", "captions"), rows, numbers=2), *(dev if trains_on_dev(facts) else [])]


def trains_on_dev(facts: PairFacts) -> bool:
    data = facts.config.get("data", {})
    return data.get("dev_split") in data.get("splits", ())


def trained_on(facts: PairFacts) -> str:
    """Sentence on the train/dev overlap: how many dev images and captions were trained on, if recorded."""
    dev = facts.images.get("dev")
    if dev is None:  # an old run without the counts
        return "These images were trained on." if trains_on_dev(facts) else ""
    there, seen = (
        {of: sum(one[part + of] for one in dev) for of in ("pictures", "captions")} for part in ("", "seen_")
    )
    if seen == there:
        return "These images and captions were trained on."
    if seen["pictures"]:
        told = f"Of these {there['pictures']:,} images {seen['pictures']:,} were trained on"
    elif facts.image.name:
        told = "None of these images is known to have been trained on"
    else:
        told = "None of these images was trained on"
    if seen["captions"]:
        told += f"; of their {there['captions']:,} captions {seen['captions']:,} are among those trained on"
    return f"{told}."


def settings(facts: PairFacts) -> list[tuple[str, str]]:
    cfg, text, image = facts.config, facts.pair.text.cfg, facts.pair.image_cfg.encoder
    patches = f"{image.grid} x {image.grid} patches of {image.patch_size} pixels"
    files = facts.env.get("inputs", {}).get("images", {})
    return [
        ("texts", f"{text.encoder.family}, {text.encoder.layers} layers, width {text.encoder.width}"),
        ("images", f"vision transformer, {image.layers} layers, width {image.width}, {patches}"),
        ("vectors", f"of {text.vector_width}"),
        ("loss", " ".join(pairs(cfg.get("loss", {})))),
        ("pairs a step", str(cfg.get("data", {}).get("global_batch", "?"))),
        *run_rows(facts),
        *(("data, sha256", f"{path.rsplit('/', 1)[-1]} {sha256[:12]}") for path, sha256 in files.items()),
    ]
