"""Swahili by the recipe that measures best, from all the bitext at hand (docs/results.md).

python train.py --config configs/swahili_lexicon.py --run runs/swahili_lexicon

The recipe is that of configs/own_language.py, the pairs are those of configs/swahili_everything.py: each new piece
starts at the average of the English pieces it translates to, counted in the pairs (IBM Model 1, both ways), so the
steps are few. Weights from this run must not be published.
"""

from dataclasses import replace

import own_language
import swahili_everything

from optical_jax.config import Config


def get_config() -> Config:
    everything = swahili_everything.get_config()
    return replace(
        own_language.get_config(),
        run="runs/swahili_lexicon",
        data=everything.data,
        licences=everything.licences,
    )
