"""German and French captions as queries for the English ones of their image (Multi30k); no image is encoded.

python -m optical_jax study configs/studies/multi30k.py --workers 2

A student starts from translations counted in all train captions of its language, then sees 6,400 of them; the
collection is the dev split, 1,014 images with a caption in each language. Needs $OPTICAL_DATA and $OPTICAL_MODELS.
These captions are for non-commercial research, so what learns from them is not to be passed on. Results:
docs/results-images.md.
"""

from dataclasses import replace

import losses
import pictures

from optical_jax.config import Config, LossConfig, OtConfig
from optical_jax.studies.design import Arm, Study

FOLDER = "runs/studies/multi30k"
MULTI30K = "$OPTICAL_DATA/imagetext/multi30k"


def base() -> Config:
    """The small student and the budget of configs/studies/losses.py, and all captions to take them from."""
    config = losses.base()
    return replace(
        config,
        teacher=replace(config.teacher, cache=f"{FOLDER}/teacher-vectors"),
        data=replace(config.data, max_pairs=0),
    )


def in_language(config: Config, language: str) -> Config:
    return replace(config, data=replace(config.data, bitext=(f"{language}=captions/train:{MULTI30K}",)))


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    return pictures.tuned(name, about, replace(base(), loss=loss), rates=(1e-3, 3e-3))


ARMS = (
    arm("transport", "OPTICAL: moving token vectors.", LossConfig("transport", ot=OtConfig(epsilon=0.05))),
    arm("pooled_cosine", "The cosine of the mean vectors.", LossConfig("pooled_cosine")),
    arm("pooled_mse", "Squared distance of the mean vectors.", LossConfig("pooled_mse")),
    arm("contrastive", "To find one's own translation by MaxSim.", LossConfig("contrastive", temperature=0.05)),
    arm("pooled_contrastive", "The same by mean vectors.", LossConfig("pooled_contrastive", temperature=0.05)),
)


def get_study() -> Study:
    return Study(
        folder=FOLDER,
        title="From captions to captions: which loss?",
        question=(
            "Captions of 1,014 images in German and French are queries for the English captions of the same images. "
            "Does optimal transport between words teach a small student to find them better than other losses?"
        ),
        arms=ARMS,
        in_language=in_language,
        languages=("de", "fr"),
        collections=(f"captions:{MULTI30K}",),
        tuning_languages=("de",),
        data=(
            "Multi30k: 28,986 captions of Flickr30k in each language, translated from English; 500 of them held out as "
            "dev pairs, which alone tuning looks at. The collection is Multi30k's dev split."
        ),
    )
