"""Your own English teacher, from an encoder and judged passages; its lower layers stay as they are.

python -m optical_jax teacher --config configs/own_teacher.py --run runs/teacher --data.train triples.tsv

For a thousand or so queries, each with two passages in a batch: what to change for more, and what the files may look
like, is in docs/teacher.md.
"""

from optical_jax.config import (
    CheckpointConfig,
    OptimizerConfig,
    RankingDataConfig,
    StartConfig,
    TeacherStageConfig,
    TrainingConfig,
)


def get_config() -> TeacherStageConfig:
    return TeacherStageConfig(
        run="runs/teacher",
        encoder=StartConfig(
            path="sentence-transformers/all-MiniLM-L6-v2", projection=128, document_length=256, frozen_layers=5
        ),
        data=RankingDataConfig(
            passages=2, passage_length=80, global_batch=16, row_length=160, dev_queries=60, dev_documents=150
        ),
        optimizer=OptimizerConfig(peak_lr=2e-5, warmup_steps=5),
        training=TrainingConfig(steps=60, log_every=10, dev_every=0),
        checkpoint=CheckpointConfig(every=20),
    )
