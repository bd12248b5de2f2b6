"""Your own language, from a file of pairs: English<TAB>yours, one pair a line.

python train.py --config configs/own_language.py --run runs/mine --data.bitext xx=pairs.tsv

A vocabulary of your language beside the English one, whose pieces start at the English they translate to (counted in
your pairs), then some minutes of training by the loss that measured best of seven (docs/results.md). The teacher is
fetched from the Hugging Face hub once (90 MB). Without a network, or to have it over within a minute, take the small
one that comes along: --teacher.path optical_jax/english_teacher. What to change for how many pairs: docs/settings.md.
"""

from optical_jax.config import (
    CheckpointConfig,
    Config,
    LossConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)


def get_config() -> Config:
    return Config(
        run="runs/mine",
        teacher=TeacherConfig(path="sentence-transformers/all-MiniLM-L6-v2"),
        student=StudentConfig(vocabulary="train", keep_pieces=True, new_embeddings="lexicon"),
        loss=LossConfig("pooled_contrastive", temperature=0.05),
        optimizer=OptimizerConfig(peak_lr=3e-4, warmup_steps=10),
        training=TrainingConfig(steps=100, log_every=10, dev_every=50),
        checkpoint=CheckpointConfig(every=50),
    )
