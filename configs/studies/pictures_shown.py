"""Does a student find more images when it has been shown some?

python -m optical_jax study configs/studies/pictures_shown.py --workers 2

Beside transport and contrastive on captions as pairs of texts stand the same two with every second batch of images:
a caption's tokens moved onto the patches of its image, or a caption that must find its image among the batch's.
Taught by both towers of runs/images, at lower rates, in four languages; the rest is that of configs/studies/pictures.py
and needs what that needs, but the linear map's encoder. 64 runs, half an hour on two cores. Results:
docs/results-images.md.
"""

from dataclasses import replace

import pictures
from images.multilingual import EMOJI, PAGES

from optical_jax.config import LossConfig
from optical_jax.studies.design import Arm, Study

FOLDER = "runs/studies/pictures_shown"
RATES = (1e-3, 3e-3)


def arm(name: str, about: str, loss: LossConfig, shown: str = "") -> Arm:
    config = pictures.base()
    teacher = replace(config.teacher, path=pictures.SEEN, cache=f"{FOLDER}/teacher-vectors")
    data = replace(config.data, pictures=shown)
    return pictures.tuned(name, about, replace(config, teacher=teacher, loss=loss, data=data), RATES)


ARMS = (
    arm("transport", "OPTICAL, on texts alone.", pictures.TRANSPORT),
    arm(
        "word_region_transport",
        "Transport; in every second batch from the caption's tokens onto the patches of its image.",
        pictures.TRANSPORT,
        EMOJI,
    ),
    arm("contrastive", "Each caption must find its own translation by MaxSim, on texts alone.", pictures.CONTRASTIVE),
    arm(
        "image_anchored_contrastive",
        "Contrastive; in every second batch each caption must find its image among the batch's.",
        pictures.CONTRASTIVE,
        EMOJI,
    ),
)


def get_study() -> Study:
    return replace(
        pictures.get_study(),
        folder=FOLDER,
        title="Does a student find more images when it has been shown some?",
        question=(
            "A student learns from captions as pairs of texts, or half of the time from captions with their images. "
            "Which finds more images that it was not shown, at the same budget?"
        ),
        arms=ARMS,
        languages=("sw", "so", "am", "zh"),
        tuning_languages=("sw", "zh"),
        collections=(EMOJI, PAGES, f"{EMOJI} by {pictures.UNSEEN}", f"{PAGES} by {pictures.UNSEEN}"),
        data=(
            f"{pictures.DATA} Where no tower is named it is the first. Two arms also see the emoji's images, those "
            "of the train split."
        ),
    )
