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

from dataclasses import replace

import own_teacher

from optical_jax.config import TeacherStageConfig


def get_config() -> TeacherStageConfig:
    own = own_teacher.get_config()
    return replace(
        own,
        encoder=replace(own.encoder, path="$OPTICAL_MODELS/all-MiniLM-L6-v2"),
        data=replace(
            own.data,
            train=(
                "$OPTICAL_DATA/retrieval/afriqa/qrels/train.tsv",
                "runs/afriqa_bm25.tsv",
                "runs/afriqa_model.tsv",
            ),
            collection="$OPTICAL_DATA/retrieval/afriqa",
        ),
        licences=("afriqa=CC BY 4.0 (passages: Wikipedia, CC BY-SA)", "model=Apache-2.0"),
    )
