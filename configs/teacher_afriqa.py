"""An English teacher from all-MiniLM-L6-v2 and AfriQA's 1.4k English questions with their Wikipedia passages.

Negatives first (a minute on two cores), from the passages of the training questions alone, so that none of the dev
questions' is ever seen:

python -m optical_jax mine --by bm25 --train '$OPTICAL_DATA/retrieval/afriqa/qrels/train.tsv' --pool files \
  --collection '$OPTICAL_DATA/retrieval/afriqa' --depth 1 30 --negatives 12 --out runs/afriqa_bm25.tsv
python -m optical_jax mine --by "$OPTICAL_MODELS/all-MiniLM-L6-v2" --depth 1 30 --negatives 12 --pool files \
  --train '$OPTICAL_DATA/retrieval/afriqa/qrels/train.tsv' --collection '$OPTICAL_DATA/retrieval/afriqa' \
  --out runs/afriqa_model.tsv
python -m optical_jax teacher --config configs/teacher_afriqa.py --run runs/teacher

It does not beat the encoder's own vectors, and a harsher training harms them: figures in docs/teacher.md. For encoders
that know less, and for data of your own, it is where to start from.
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
            path="$OPTICAL_MODELS/all-MiniLM-L6-v2", projection=128, document_length=256, frozen_layers=5
        ),
        data=RankingDataConfig(
            train=(
                "$OPTICAL_DATA/retrieval/afriqa/qrels/train.tsv",
                "runs/afriqa_bm25.tsv",
                "runs/afriqa_model.tsv",
            ),
            collection="$OPTICAL_DATA/retrieval/afriqa",
            passages=2,
            passage_length=80,
            global_batch=16,
            row_length=160,
            dev_queries=60,
            dev_documents=150,
        ),
        optimizer=OptimizerConfig(peak_lr=2e-5, warmup_steps=5),
        training=TrainingConfig(steps=60, log_every=10, dev_every=0),
        checkpoint=CheckpointConfig(every=20),
        licences=("afriqa=CC BY 4.0 (passages: Wikipedia, CC BY-SA)", "model=Apache-2.0"),
    )
