"""The second stage of the English teacher: the same, blind to the order of words.

python train.py --config configs/english_teacher_2.py --run runs/english_teacher_2

So small a body learned places of words: "red house" and "house red" had their vectors by position, not by word, and so
had every student that it taught. configs/english_teacher.py tells what comes before and after.
"""

from dataclasses import replace

import english_teacher

from optical_jax.config import Config, StudentConfig


def get_config() -> Config:
    base = english_teacher.get_config()
    return replace(
        base,
        run="runs/english_teacher_2",
        student=StudentConfig(path="runs/english_teacher/export", max_length=48, word_order=False),
        optimizer=replace(base.optimizer, peak_lr=3e-4, warmup_steps=30),
        training=replace(base.training, steps=300, log_every=20, dev_every=100),
        checkpoint=replace(base.checkpoint, every=100),
    )
