"""What of transport matters: plans, their sharpness, masses; and the losses that configs/studies/losses.py leaves out.

python -m optical_jax study configs/studies/plans.py --workers 2

The student, data and budget of configs/studies/losses.py, in Swahili, one seed and without tuning: everything at the
learning rate that tuning chose for transport there, which suits transport. Told by dev pairs alone, no collection is
asked. It tells which ideas are worth a trial of their own, no more. About ten minutes on two cores. Results:
docs/results.md.
"""

from dataclasses import replace

import losses
from losses import transport

from optical_jax.config import Config, LossConfig
from optical_jax.studies.design import Arm, Study

RATE = 2e-3


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    return Arm(name, about, {"only": losses.with_loss(loss, RATE)})


def switched(share: float) -> Config:
    config = losses.with_loss(transport(epsilon=0.01), RATE)
    return replace(config, data=replace(config.data, code_switch=share))


ARMS = (
    arm("epsilon0.01", "Balanced transport, sharp.", transport(epsilon=0.01)),
    arm("epsilon0.02", "Balanced transport.", transport(epsilon=0.02)),
    arm("epsilon0.05", "Balanced transport, blurred.", transport(epsilon=0.05)),
    arm("falling", "Epsilon falls from 0.1 to 0.01 in the first half.", transport(epsilon=0.01, epsilon_start=0.1)),
    arm("unbalanced", "Mass may stay where moving it costs much.", transport(plan="unbalanced", epsilon=0.01)),
    arm("partial", "Four fifths of the mass are moved.", transport(plan="partial", epsilon=0.01, iterations=200)),
    arm("ipot", "Transport without regularisation, nearly.", transport(plan="ipot")),
    arm("exact", "The best one-to-one assignment.", transport(plan="exact")),
    arm("greedy", "The greedy one-to-one assignment.", LossConfig("greedy")),
    arm("argmax", "Each student token and its nearest teacher token.", transport(plan="argmax")),
    arm("softmax", "The same, softened.", transport(plan="softmax", epsilon=0.01)),
    arm("uniform", "No plan: every token learns from all.", transport(plan="uniform")),
    arm("idf", "Rare tokens carry more mass.", transport(epsilon=0.01, masses="idf")),
    arm("learned", "The student learns what its tokens carry.", transport(epsilon=0.01, masses="learned")),
    arm("through", "The gradient goes through the plan.", transport(epsilon=0.05, gradient="through")),
    arm("gromov", "Gromov-Wasserstein, half of it cosines.", LossConfig("gromov_wasserstein")),
    arm(
        "relational",
        "Distances between the texts of a batch, and cosines.",
        LossConfig("relational", add=("pooled_cosine=1",)),
    ),
    arm("score_kl", "The teacher's scores among the batch's texts.", LossConfig("score_kl")),
    arm(
        "ot_contrastive",
        "Each sentence must find its own translation among the batch's, by the cost of transport.",
        LossConfig("ot_contrastive", temperature=0.02),
    ),
    arm("pooled_and_transport", "Pooled cosine and transport.", transport(add=("pooled_cosine=1",), epsilon=0.01)),
    Arm("code_switch", "A fifth of the words in English, by the plans themselves.", {"only": switched(0.2)}),
)


def get_study() -> Study:
    return replace(
        losses.get_study(),
        folder="runs/studies/plans",
        title="What of transport matters",
        question=(
            "Optimal transport has many settings and rivals. Which of them change what a student learns, at the same "
            "learning rate and budget? One seed, one language and dev pairs alone: a screening, not a trial."
        ),
        arms=ARMS,
        languages=("sw",),
        collections=(),
        seeds=(0,),
        tuning_languages=(),
        data=(
            "2,200 Swahili sentence pairs from TICO-19 (health texts, CC0). Nothing was tuned, "
            "and no collection is asked: the figures are of dev pairs kept from training, as retrieval."
        ),
    )
