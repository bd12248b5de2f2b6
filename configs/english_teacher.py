"""The English teacher that ships with the package: all-MiniLM-L6-v2's token vectors, from a body eight times smaller.

python train.py --config configs/english_teacher.py --run runs/english_teacher
python -m optical_jax export --run runs/english_teacher --out runs/english_teacher/export
python train.py --config configs/english_teacher_2.py --run runs/english_teacher_2
python -m optical_jax export --run runs/english_teacher_2 --out optical_jax/english_teacher --dtype float16

Teacher and student read the same English sentences: the English sides of bitext whose licences let weights be published
(docs/data.md), each file read twice in its first column. Figures are in the card beside the weights.
"""

import swahili

from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    OtConfig,
    SizeConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)

SETS = {
    "tico19": ("sw", "fr", "tl"),
    "storybooks": ("am", "ar", "de", "es", "fr", "it", "ru", "so", "sw", "tl", "yo", "zh"),
    "pratham": ("mr",),
    "afriqa": ("ha", "ig", "rw", "sw", "yo", "zu"),
    "tatoeba": ("mr",),
    "wikiapp": ("de", "ru"),
    "bible": ("zh",),
}
"""Every language a set is taken from adds the sentences that the others lack; what repeats is read once."""


def english(split: str) -> tuple[str, ...]:
    return tuple(f"en=$OPTICAL_DATA/bitext/{name}/{lang}.{split}.tsv.gz" for name in SETS for lang in SETS[name])


def get_config() -> Config:
    return Config(
        run="runs/english_teacher",
        teacher=TeacherConfig(path="sentence-transformers/all-MiniLM-L6-v2", max_length=48),
        student=StudentConfig(
            vocabulary="train", vocab_size=8000, max_length=48, size=SizeConfig(192, layers=3, heads=6, mlp_width=768)
        ),
        data=DataConfig(
            bitext=english("train"),
            dev=english("dev"),
            foreign_column="0",
            keep_equal=True,
            global_batch=128,
            batching="buckets",
            buckets=(16, 32, 48),
        ),
        loss=LossConfig("transport", ot=OtConfig(epsilon=0.02)),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=150, schedule="cosine"),
        training=TrainingConfig(steps=1600, log_every=50, dev_every=400),
        checkpoint=CheckpointConfig(every=200, copy_teacher=False),
        licences=(
            *swahili.licences(*(name for name in SETS if name != "bible")),
            "bible=public domain (World English Bible)",
        ),
    )
