"""Swahili with embeddings counted before they are trained: the start that measures best (docs/results.md).

python train.py --config configs/swahili_lexicon.py --run runs/swahili_lexicon

As configs/swahili_everything.py, but each new piece starts at the average of the English pieces it translates to
(IBM Model 1 over the bitext). The start is good, so the steps are fewer and smaller.
"""

from dataclasses import replace

import swahili_everything

from optical_jax.config import Config


def get_config() -> Config:
    base = swahili_everything.get_config()
    return replace(
        base,
        run="runs/swahili_lexicon",
        student=replace(base.student, new_embeddings="lexicon"),
        optimizer=replace(base.optimizer, peak_lr=1e-4, warmup_steps=30),
        training=replace(base.training, steps=150, dev_every=50),
    )
