"""Somali, Swahili, Tagalog and Marathi in one student, from bitext that may ship (45.8k pairs).

python train.py --config configs/low_resource.py --run runs/low_resource

The recipe of configs/own_language.py, as often for each language as alone: every language gets the same share of the
batches, and steps and pieces of the vocabulary are those of four students. `alone(language)` is one of the four.
What to expect: docs/results.md.
"""

from dataclasses import replace

import own_language
import swahili

from optical_jax.config import Config

SHIPPABLE = {
    "so": ("tico19", "storybooks"),
    "sw": ("tico19", "storybooks", "afriqa", "wikiapp"),
    "tl": ("tico19", "storybooks", "wikiapp"),
    "mr": ("tico19", "pratham", "tatoeba", "wikiapp"),
}
"""Sets under licences that let trained weights be published (docs/data.md)."""


def files(language: str, *sets: str) -> tuple[str, ...]:
    return tuple(f"$OPTICAL_DATA/bitext/{name}/{language}.train.tsv.gz" for name in sets)


def alone(language: str) -> Config:
    """A student of one language."""
    base = own_language.get_config()
    data = replace(base.data, bitext=files(language, *SHIPPABLE[language]))
    return replace(base, run=f"runs/{language}", data=data, licences=swahili.licences(*SHIPPABLE[language]))


def together(bitext: tuple[str, ...], run: str) -> Config:
    """One student of all four."""
    base, count = own_language.get_config(), len(SHIPPABLE)
    sets = dict.fromkeys(path.split("/")[-2] for path in bitext)
    return replace(
        base,
        run=run,
        data=replace(base.data, bitext=bitext, weights=tuple(f"{language}=1" for language in SHIPPABLE)),
        student=replace(base.student, vocab_size=count * base.student.vocab_size),
        training=replace(base.training, steps=count * base.training.steps, dev_every=count * base.training.dev_every),
        licences=swahili.licences(*sets),
    )


def get_config() -> Config:
    bitext = tuple(path for language, sets in SHIPPABLE.items() for path in files(language, *sets))
    return together(bitext, "runs/low_resource")
