"""German and French captions that look for the English ones of their picture (Multi30k), with no picture in sight.

python -m optical_jax study configs/studies/multi30k.py --workers 2

Students of 28,986 caption pairs a language; the collection is the dev split, 1,014 pictures with a caption in each
language. Needs $OPTICAL_DATA and $OPTICAL_MODELS. These captions are for non-commercial research, so what learns from
them is not to be passed on. Results: docs/results-images.md.
"""

from dataclasses import replace

import losses

from optical_jax.config import Config, TrainingConfig
from optical_jax.loss_config import LossConfig, OtConfig
from optical_jax.studies.design import Arm, Study

FOLDER = "runs/studies/multi30k"
CAPTIONS = "$OPTICAL_DATA/imagetext/multi30k"
RATES = (1e-3, 3e-3)


def base() -> Config:
    """The small student of configs/studies/losses.py, all captions, and twice the steps."""
    config = losses.base()
    return replace(
        config,
        teacher=replace(config.teacher, cache=f"{FOLDER}/teacher-vectors"),
        # Of ten thousand held-out pairs a thousand tell as much as all.
        data=replace(config.data, max_pairs=0, dev_pairs=1000),
        training=TrainingConfig(steps=200, log_every=20, dev_every=100),
        checkpoint=replace(config.checkpoint, every=200),
    )


def in_language(config: Config, language: str) -> Config:
    return replace(config, data=replace(config.data, bitext=(f"{language}=captions/train:{CAPTIONS}",)))


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    config = replace(base(), loss=loss)
    rates = {f"lr{rate:g}": replace(config.optimizer, peak_lr=rate) for rate in RATES}
    return Arm(name, about, {label: replace(config, optimizer=optimizer) for label, optimizer in rates.items()})


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
            "Captions of 1,014 pictures in German and French look for the English captions of the same pictures. Does "
            "optimal transport between words teach a small student to find them better than other losses?"
        ),
        arms=ARMS,
        in_language=in_language,
        languages=("de", "fr"),
        collections=(CAPTIONS,),
        tuning_languages=("de",),
        data=(
            "Multi30k: 28,986 captions of Flickr30k in each language, translated from English; 1,000 of them held out "
            "as dev pairs, which alone tuning looks at. The collection is Multi30k's dev split."
        ),
    )
