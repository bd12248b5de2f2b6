"""A fair trial: does optimal transport teach a language better than other losses?

python -m optical_jax study configs/studies/losses.py --workers 2

Thirteen languages, 2,200 pairs each of the same health texts (TICO-19), the same student, start, budget and number of
tuning trials for every loss, three seeds. All it needs: $OPTICAL_DATA and $OPTICAL_MODELS (docs/data.md). 357 runs of
half a minute to a minute and a half on a core each: about five hours on two; the same command goes on after a stop.
Results: docs/results.md.
"""

from dataclasses import replace
from typing import Any

from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    OtConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from optical_jax.studies.design import Arm, Study

LOW = ("sw", "so", "tl", "mr", "ha", "am", "km", "ne")
HIGH = ("fr", "es", "ru", "zh", "ar")
FOLDER = "runs/studies/losses"
TWO_RATES = (1e-3, 2e-3)
FOUR_RATES = (3e-4, 1e-3, 2e-3, 4e-3)


def base() -> Config:
    """The small student: the packaged English model's body, new pieces that start from a lexicon."""
    return Config(
        teacher=TeacherConfig(
            path="$OPTICAL_MODELS/all-MiniLM-L6-v2", max_length=48, cache=f"{FOLDER}/teacher-vectors"
        ),
        student=StudentConfig(
            path="optical_jax/english_teacher",
            vocabulary="train",
            vocab_size=4000,
            keep_pieces=True,
            new_embeddings="lexicon",
            max_length=64,
        ),
        data=DataConfig(max_pairs=2200, global_batch=64),
        optimizer=OptimizerConfig(warmup_steps=10),
        training=TrainingConfig(steps=100, log_every=20, dev_every=50),
        checkpoint=CheckpointConfig(every=100, keep=1, keep_best=False, copy_teacher=False),
    )


def in_language(config: Config, language: str) -> Config:
    file = f"$OPTICAL_DATA/bitext/tico19/{language}.train.tsv.gz"
    return replace(config, data=replace(config.data, bitext=(file,)))


def arm(name: str, about: str, losses: dict[str, LossConfig]) -> Arm:
    """Four trials an arm: one setting of the loss at four learning rates, or two settings at two."""
    rates = FOUR_RATES if len(losses) == 1 else TWO_RATES
    trials = {
        f"{label}-lr{rate:g}".lstrip("-"): with_loss(loss, rate) for label, loss in losses.items() for rate in rates
    }
    return Arm(name, about, trials)


def with_loss(loss: LossConfig, rate: float) -> Config:
    config = base()
    return replace(config, loss=loss, optimizer=replace(config.optimizer, peak_lr=rate))


def transport(add: tuple[str, ...] = (), **settings: Any) -> LossConfig:
    return LossConfig("transport", ot=OtConfig(**settings), add=add)


ARMS = (
    arm(
        "transport",
        "OPTICAL: the cost of moving the student's token vectors onto the teacher's, all mass of both sides moved.",
        {"eps0.05": transport(epsilon=0.05), "eps0.01": transport(epsilon=0.01)},
    ),
    arm(
        "transport_contrastive",
        "Transport, and the contrastive loss below.",
        {
            "add0.5": transport(epsilon=0.01, add=("contrastive=0.5",)),
            "add2": transport(epsilon=0.01, add=("contrastive=2",)),
        },
    ),
    arm(
        "greedy",
        "DR.DECR: the closest pair of tokens is matched again and again, one to one, and matches are drawn together.",
        {"": LossConfig("greedy")},
    ),
    arm(
        "pooled_cosine",
        "The cosine of the two sides' mean vectors; tokens are left to themselves.",
        {"": LossConfig("pooled_cosine")},
    ),
    arm("pooled_mse", "Squared distance of the mean vectors (Reimers and Gurevych).", {"": LossConfig("pooled_mse")}),
    arm(
        "contrastive",
        "Each sentence must find its own translation among the batch's, by MaxSim.",
        {
            "temperature0.05": LossConfig("contrastive", temperature=0.05),
            "temperature0.02": LossConfig("contrastive", temperature=0.02),
        },
    ),
    arm(
        "pooled_contrastive",
        "The same by mean vectors.",
        {
            "temperature0.05": LossConfig("pooled_contrastive", temperature=0.05),
            "temperature0.02": LossConfig("pooled_contrastive", temperature=0.02),
        },
    ),
)


def get_study() -> Study:
    return Study(
        folder=FOLDER,
        title="Teaching a language from 2,200 sentence pairs: which loss?",
        question=(
            "A retriever that knows English teaches a small student encoder another language from translated sentences "
            "alone. OPTICAL does it by optimal transport between the words of both sides. Is that better than other "
            "losses people use, when data, start, budget and care are the same?"
        ),
        arms=ARMS,
        in_language=in_language,
        languages=(*LOW, *HIGH),
        collections=tuple(f"$OPTICAL_DATA/retrieval/{name}" for name in ("flores_sib", "afriqa", "xquad_r")),
        tuning_languages=("sw", "am", "zh"),
        data=(
            "2,200 sentence pairs a language from TICO-19 (health texts, CC0), the same English sentences in every "
            "language where it has them. Tuning looks at TICO-19's dev pairs alone, as retrieval. The collections are "
            "read once, for the tables: FLORES sentences that look for their English one, AfriQA questions for English "
            "Wikipedia passages (Hausa), XQuAD-R questions for the English sentence with the answer (four languages)."
        ),
    )
