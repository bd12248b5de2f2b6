"""The three losses that did best in configs/studies/losses.py, again at MiniLM's size, with all pairs that may ship.

python -m optical_jax study configs/studies/minilm.py --workers 2

Swahili (4,299 pairs) and Somali (2,894): the student is all-MiniLM-L6-v2's own body (six layers, 384 wide) with 12,000
pieces beside the English ones. Which three was decided by dev figures, before any collection was asked. About forty
minutes on two cores. Results: docs/results.md.
"""

from dataclasses import replace

import losses
import low_resource
from losses import transport

from optical_jax.config import Config, LossConfig
from optical_jax.studies.design import Arm, Study

RATES = (1e-4, 3e-4)


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    return Arm(name, about, {f"lr{rate:g}": large(losses.with_loss(loss, rate)) for rate in RATES})


def large(config: Config) -> Config:
    student = replace(config.student, path="$OPTICAL_MODELS/all-MiniLM-L6-v2", vocab_size=12_000)
    return replace(config, student=student, data=replace(config.data, max_pairs=0))


def in_language(config: Config, language: str) -> Config:
    files = low_resource.files(language, *low_resource.SHIPPABLE[language])
    return replace(config, data=replace(config.data, bitext=files))


def get_study() -> Study:
    return replace(
        losses.get_study(),
        folder="runs/studies/minilm",
        title="Teaching a language to a student of MiniLM's size: which loss?",
        question=(
            "Three losses did best for small students with 2,200 sentence pairs. Are they as good, and which is best, "
            "for a larger student that begins with the teacher's own weights, and with all pairs there are?"
        ),
        arms=(
            arm(
                "contrastive",
                "Each sentence must find its own translation among the batch's, by MaxSim.",
                LossConfig("contrastive", temperature=0.02),
            ),
            arm(
                "pooled_contrastive",
                "The same by mean vectors.",
                LossConfig("pooled_contrastive", temperature=0.05),
            ),
            arm(
                "transport_contrastive",
                "OPTICAL's transport, and twice the contrastive loss at temperature 0.05.",
                transport(epsilon=0.01, add=("contrastive=2",)),
            ),
        ),
        in_language=in_language,
        languages=("sw", "so"),
        collections=("$OPTICAL_DATA/retrieval/flores_sib",),
        tuning_languages=("so",),
        data=(
            "All pairs under licences that let trained weights be published: Swahili 4,299 (TICO-19, African "
            "Storybook, AfriQA's questions, the Wikipedia app), Somali 2,894 (the first two). The collection is that "
            "of the study of seven losses: FLORES sentences that look for their English one."
        ),
    )
