"""The README.md of an exported pair of towers: what read what, what it learned from, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optical_jax.config.validation import parse_licences
from optical_jax.export.markdown import block, code, pairs, table, yaml_list, yaml_text
from optical_jax.export.recipe import quoted
from optical_jax.export.student_card import Model
from optical_jax.towers.pair import TowerPair

COMPARED = {
    "pooled": "Mean vectors are compared: one of a text, one of a picture.",
    "tokens": "Each token is compared with its best patch, and each patch with its best token (FILIP).",
}


@dataclass(frozen=True)
class PairFacts:
    """What a run's files tell of it; what they lack is left out."""

    name: str
    """The run's name."""
    folder: str
    """The exported folder's name, as the code on the card loads it."""
    pair: TowerPair
    step: int
    """The checkpoint that was exported."""
    text: Model
    """Where the tower of texts began."""
    image: Model
    """Likewise; no name where it was drawn."""
    license: str = ""
    """Licence of the weights; empty where nobody stated one."""
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    """images.json of the run."""
    metrics: Sequence[Mapping[str, Any]] = ()
    """The lines of metrics.jsonl."""

    @property
    def language(self) -> str:
        return self.config.get("data", {}).get("language", "en")


def image_teacher_card(facts: PairFacts) -> str:
    """The whole card."""
    sections = front_matter, title, usage, training_data, licences, results, settings
    return "\n\n".join(section(facts).strip("\n") for section in sections) + "\n"


def front_matter(facts: PairFacts) -> str:
    """YAML, as the hub reads it."""
    lines = ["---", *yaml_list("language", [facts.language])]
    if facts.license:
        lines.append(f"license: {yaml_text(facts.license)}")
    lines += ["library_name: optical_jax", *yaml_list("tags", ["image-text-retrieval", "vision", "optical_jax"])]
    lines += yaml_list("base_model", [model.name for model in (facts.text, facts.image) if model.hub])
    return "\n".join([*lines, "---"])


def title(facts: PairFacts) -> str:
    side, text = facts.config.get("text", {}), code(facts.text.name) or "an encoder of texts"
    if not side.get("locked"):
        text = f"began as {text}"
    elif width := side.get("projection"):
        text = f"is {text}, as it was, but for a projection to {width} dimensions that was trained"
    else:
        text = f"is {text}, as it was"
    image = f"began as {code(facts.image.name)}" if facts.image.name else "was drawn at random"
    return (
        f"# {facts.name}\n\nTwo towers whose vectors agree: texts in {yaml_text(facts.language)} find pictures, and "
        f"pictures find texts. The tower of texts {text}; that of pictures {image}. "
        f"{COMPARED[facts.pair.interaction]} Students of other languages may be taught by the tower of texts and find "
        "the same pictures "
        "([OPTICAL](https://arxiv.org/abs/2301.12566), trained with optical_jax)."
    )


SCORES = {
    "pooled": (
        "sums = (one.vectors.sum(axis=1) for one in found)\n"
        "means = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in sums)\n"
        'scores = np.einsum("be,ne->bn", *means)  # cosines of mean vectors [texts, pictures]\n'
    ),
    "tokens": "scores = optical_jax.maxsim(*found)  # [texts, pictures]\n",
}


def usage(facts: PairFacts) -> str:
    folder, size = quoted(facts.folder), facts.pair.image.recipe.size
    lines = (
        "from pathlib import Path\n\nimport numpy as np\n\nimport optical_jax\n"
        "from optical_jax.data.pixels import picture_pixels\nfrom optical_jax.data.rgb import read_rgb\n\n"
        f'texts = optical_jax.load({folder}, part="text")\npictures = optical_jax.load({folder}, part="image")\n'
        f'pixels = np.stack([picture_pixels(read_rgb(Path("a.jpg")), pictures.recipe)])  # {size[0]} x {size[1]}\n'
        'found = optical_jax.encode(texts, ["..."]), optical_jax.encode(pictures, pixels)\n'
        f"{SCORES[facts.pair.interaction]}"
    )
    taught = f"python train.py --teacher.path {facts.folder} --data.bitext FILE --run STUDENT"
    return f"## Use\n\n{block(lines)}\n\nTo teach a student by it: `{taught}`"


def training_data(facts: PairFacts) -> str:
    found = facts.images.get("train", [])
    if not found:
        return "## Training data\n\nThe run has no record of its data."
    rows = [(one["set"], one["split"], f"{one['pictures']:,}", f"{one['captions']:,}") for one in found]
    parts = ["## Training data", table(("set", "split", "pictures", "captions"), rows, numbers=2)]
    data = facts.config.get("data", {})
    if data.get("dev_split") in data.get("splits", ()):
        parts.append(f"The pictures of the split {code(data['dev_split'])} are among them.")
    return "\n\n".join(parts)


def licences(facts: PairFacts) -> str:
    stated = parse_licences(facts.config.get("licences", ()))
    own = f"These weights: {facts.license}. " if facts.license else "Licence of these weights: not stated. "
    lines = ["## Licences", own + ("What they are made of:" if stated else "Nor are those of their parts.")]
    return "\n\n".join([*lines, *([table(("part", "licence"), list(stated.items()))] if stated else [])])


def results(facts: PairFacts) -> str:
    at = {line["step"]: line["dev"] for line in facts.metrics if "dev" in line}
    if facts.step not in at:
        return f"## Results\n\nNo dev figures were taken at step {facts.step}."
    note = (
        "Captions look for their picture among all of a set's dev split (t2i), and pictures for a caption (i2t); the "
        f"share that finds a right one among the first 1, 5 and 10. {trained_on(facts)}".rstrip()
    )
    names = list(dict.fromkeys(name for figures in at[facts.step].values() for name in figures))
    rows = [
        (one, when, *(f"{at[step][one][name]:.3f}" for name in names))
        for one in at[facts.step]
        for step, when in ((0, "before"), (facts.step, "after"))
        if one in at.get(step, {})
    ]
    return f"## Results\n\n{note}\n\n{table(('set', 'training', *names), rows, numbers=len(names))}"


def trained_on(facts: PairFacts) -> str:
    """How many of the dev pictures and captions were trained on, as far as the run tells."""
    data, dev = facts.config.get("data", {}), facts.images.get("dev")
    if dev is None:  # a run that did not count them
        return "These pictures were trained on." if data.get("dev_split") in data.get("splits", ()) else ""
    there, seen = (
        {of: sum(one[part + of] for one in dev) for of in ("pictures", "captions")} for part in ("", "seen_")
    )
    if seen == there:
        return "These pictures and captions were trained on."
    if seen["pictures"]:
        told = f"Of these {there['pictures']:,} pictures {seen['pictures']:,} were trained on"
    elif facts.image.name:
        told = "No such picture is known to have been trained on"
    else:
        told = "No such picture was trained on"
    if seen["captions"]:
        told += f"; of their {there['captions']:,} captions {seen['captions']:,} stand among those trained on"
    return f"{told}."


def settings(facts: PairFacts) -> str:
    cfg, env, text, shape = facts.config, facts.env, facts.pair.text.cfg, facts.pair.image_cfg.encoder
    rows = [
        ("texts", f"{text.encoder.family}, {text.encoder.layers} layers, width {text.encoder.width}"),
        (
            "pictures",
            f"vision transformer, {shape.layers} layers, width {shape.width}, {shape.grid} x {shape.grid} patches of "
            f"{shape.patch_size} pixels",
        ),
        ("vectors", f"of {text.vector_width}"),
        ("loss", " ".join(pairs(cfg.get("loss", {})))),
        ("pairs a step", str(cfg.get("data", {}).get("global_batch", "?"))),
        ("steps", f"{facts.step} of {cfg.get('training', {}).get('steps', '?')}"),
        ("optimiser", " ".join(["AdamW", *pairs(cfg.get("optimizer", {}))])),
        ("seed", str(cfg.get("seed", "?"))),
    ]
    if env:
        versions = {"optical_jax": env["optical_jax"], "Python": env["python"], **env["packages"]}
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
        rows.append(("device", f"{env['device_count']} x {env['device']}"))
        files = env.get("inputs", {}).get("images", {})
        rows += [("data, sha256", f"{path.rsplit('/', 1)[-1]} {sha256[:12]}") for path, sha256 in files.items()]
    return f"## Settings and versions\n\n{table(('what', 'value'), rows)}"
