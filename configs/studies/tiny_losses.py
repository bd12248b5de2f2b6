"""The smallest whole study, to see what a study writes: two losses, two trials each, two seeds, a minute.

python -m optical_jax study configs/studies/tiny_losses.py

On a random teacher and 72 pairs (configs/tiny.py) it says nothing about
the losses; for that: configs/studies/losses.py.
"""

from dataclasses import replace
from pathlib import Path

import tiny

from optical_jax.config import Config, LossConfig
from optical_jax.studies.design import Arm, Study


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    base = tiny.get_config()
    training = replace(base.training, steps=40, dev_every=20)
    base = replace(base, loss=loss, training=training, checkpoint=replace(base.checkpoint, every=40, keep=1))
    return Arm(
        name, about, {f"lr{lr:g}": replace(base, optimizer=replace(base.optimizer, peak_lr=lr)) for lr in (1e-3, 5e-3)}
    )


def in_language(config: Config, language: str) -> Config:
    """Its one language is in the config already."""
    return config


def get_study() -> Study:
    return Study(
        folder="runs/studies/tiny",
        title="A study to try the command with",
        question="Whether the command works; nothing else can be learned from a random teacher.",
        arms=(
            arm(
                "transport",
                "OPTICAL's loss: the cost of moving the student's tokens onto the teacher's.",
                LossConfig("transport"),
            ),
            arm("pooled_cosine", "The cosine of the mean vectors.", LossConfig("pooled_cosine")),
        ),
        in_language=in_language,
        languages=("sw",),
        collections=(str(Path(__file__).parent.parent / "tiny" / "collection"),),
        seeds=(0, 1),
        tuning_languages=("sw",),
        data="Seventy-two hand-written Swahili-English pairs.",
    )
