"""What brings low-resource students nearer to the images: more steps, more texts, keywords, a larger student?

python -m optical_jax study configs/studies/pictures_more.py --workers 2

Transport in nine languages at four times the budget of configs/studies/pictures.py: from captions alone; with all texts
that may ship (docs/data.md) beside them; with the keywords that CLDR has beside the names of emoji; and either of these
by a student with the teacher's own body. Needs what that study needs, but the linear map's encoder, and a third pair,
trained on with a margin for 3,000 more steps:

python -m optical_jax image_teacher --config configs/images/margin.py --image.path runs/images \\
  --training.steps 3000 --run runs/images_longer

45 runs, the largest of some minutes on a core. Results: docs/results-images.md.
"""

from dataclasses import replace

import pictures
from images.multilingual import EMOJI, PAGES, captions
from low_resource import files

from optical_jax.config import Config
from optical_jax.studies.design import Arm, Study

FOLDER = "runs/studies/pictures_more"
RATE = 3e-3
SETS = {
    "sw": ("tico19", "storybooks", "afriqa", "wikiapp"),
    "so": ("tico19", "storybooks"),
    "tl": ("tico19", "storybooks", "wikiapp"),
    "mr": ("tico19", "pratham", "wikiapp"),
    "ha": ("tico19", "storybooks", "afriqa", "wikiapp"),
    "am": ("tico19", "storybooks"),
    "yo": ("storybooks", "afriqa"),
    "km": ("tico19", "storybooks", "wikiapp"),
    "ne": ("tico19", "wikiapp"),
}
"""Texts beside captions; without Marathi's 31,000 pairs of tatoeba, among which a thousand captions would be lost."""
LONGER = "runs/images_longer"


def base() -> Config:
    config = pictures.base()
    return replace(
        config,
        teacher=replace(config.teacher, cache=f"{FOLDER}/teacher-vectors"),
        loss=pictures.TRANSPORT,
        optimizer=replace(config.optimizer, peak_lr=RATE),
        training=replace(config.training, steps=400, dev_every=200),
        checkpoint=replace(config.checkpoint, every=400),
    )


def beside(config: Config, what: str) -> Config:
    """What is learned beside captions stands in data.bitext until the language is known."""
    return replace(config, data=replace(config.data, bitext=(what,)))


def in_language(config: Config, language: str) -> Config:
    more = {
        (): (),
        ("texts",): files(language, *SETS[language]),
        ("keywords",): (f"{language}=keywords/train:{EMOJI}",),
    }[config.data.bitext]
    return replace(config, data=replace(config.data, bitext=(*captions(language), *more)))


def with_body(config: Config) -> Config:
    optimizer = replace(config.optimizer, peak_lr=RATE / 10)
    return replace(config, student=replace(config.student, path=pictures.TEXTS), optimizer=optimizer)


ARMS = (
    Arm("captions", "Captions alone.", {"one": base()}),
    Arm("texts", "All texts that may ship beside them.", {"one": beside(base(), "texts")}),
    Arm("body", "The same by a student with the teacher's own body.", {"one": with_body(beside(base(), "texts"))}),
    Arm("keywords", "Captions, and the keywords of the same emoji.", {"one": beside(base(), "keywords")}),
    Arm(
        "keywords_body",
        "The same by a student with the teacher's own body.",
        {"one": with_body(beside(base(), "keywords"))},
    ),
)


def get_study() -> Study:
    return replace(
        pictures.get_study(),
        folder=FOLDER,
        title="What brings low-resource students nearer to the images?",
        question=(
            "A small student of a thousand captions finds images in its language less often than its English "
            "teacher. Do more steps, other texts of the language, keywords, or a larger student make up for it?"
        ),
        arms=ARMS,
        collections=(*pictures.get_study().collections, *(f"{found} by {LONGER}" for found in (EMOJI, PAGES))),
        in_language=in_language,
        languages=pictures.LOW,
        tuning_languages=(),
        seeds=(0,),
        data=f"{pictures.DATA} Two arms learn other texts of the language beside them: health, stories, "
        "interfaces; two the keywords of the emoji whose names they learn.",
    )
