"""How many pairs, and which loss: 300 and 1,000 of the texts of which configs/studies/losses.py takes 2,200.

python -m optical_jax study configs/studies/pairs.py --workers 2

Student, budget and tuned settings as there, in Swahili and Somali: a run with fewer pairs sees each more often. Not
tuned again, for who has 300 pairs has none to tune on. About half an hour on two cores. Results: docs/results.md.
"""

from dataclasses import replace

import losses
from losses import transport

from optical_jax.config import LossConfig
from optical_jax.studies.design import Arm, Study

PAIRS = (300, 1000)
LOSSES = {
    "pooled_contrastive": (LossConfig("pooled_contrastive", temperature=0.05), 1e-3),
    "contrastive": (LossConfig("contrastive", temperature=0.02), 1e-3),
    "pooled_cosine": (LossConfig("pooled_cosine"), 1e-3),
    "transport": (transport(epsilon=0.01), 2e-3),
}
"""With what tuning chose there."""


def arm(name: str, pairs: int) -> Arm:
    config = losses.with_loss(*LOSSES[name])
    return Arm(
        f"{name}-{pairs}",
        f"{name} on {pairs:,} pairs.",
        {"tuned": replace(config, data=replace(config.data, max_pairs=pairs))},
    )


def get_study() -> Study:
    return replace(
        losses.get_study(),
        folder="runs/studies/pairs",
        title="How many pairs, and which loss",
        question="Does the best loss depend on how many sentence pairs there are? The same texts, fewer of them.",
        arms=tuple(arm(name, pairs) for pairs in PAIRS for name in LOSSES),
        languages=("sw", "so"),
        collections=("$OPTICAL_DATA/retrieval/flores_sib",),
        seeds=(0, 1),
        tuning_languages=(),
        data=(
            "300 and 1,000 of TICO-19's training pairs (health texts, CC0) in Swahili and in Somali, drawn by a hash "
            "of the English sentence; an arm's vocabulary, lexicon and dictionary are counted in its own. "
            "Nothing was tuned: settings are those that tuning chose for 2,200 pairs. The collection is read once, for "
            "the tables: FLORES sentences that look for their English one."
        ),
    )
