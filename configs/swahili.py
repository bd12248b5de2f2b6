"""Swahili from bitext that may ship: TICO-19, storybooks, AfriQA questions, Wikipedia's app (4.3k pairs).

python train.py --config configs/swahili.py --run runs/swahili

The student is the teacher's body with a WordPiece vocabulary trained on the Swahili side. $OPTICAL_DATA names the
folder of the data; docs/data.md tells how to get each set from its origin.
"""

from optical_jax.config import Config, DataConfig, OptimizerConfig, StudentConfig, TeacherConfig, TrainingConfig


def get_config() -> Config:
    sets = ("tico19", "storybooks", "afriqa", "wikiapp")
    return Config(
        run="runs/swahili",
        teacher=TeacherConfig(path="sentence-transformers/all-MiniLM-L6-v2"),
        student=StudentConfig(vocabulary="train", vocab_size=12_000),
        data=DataConfig(bitext=tuple(f"$OPTICAL_DATA/bitext/{name}/sw.train.tsv.gz" for name in sets)),
        optimizer=OptimizerConfig(peak_lr=5e-4),
        training=TrainingConfig(steps=1000),
    )
