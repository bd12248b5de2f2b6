"""What `make demo` trains: one student of six languages, on names from CLDR, in a minute or two on two cores.

python -m optical_jax names --lang so sw tl ha de fr --out runs/demo/names
python train.py --config configs/demo.py --run runs/demo
python eval.py --run runs/demo --collection runs/demo/names --split test

As in configs/own_language.py a student starts from what it can count, but it is taught by OPTICAL's own loss, and all
is sized to the small teacher and short phrases. The start: the teacher's body, and a vocabulary trained on
the foreign side whose pieces start at the English ones they translate to, counted in the names. What comes out: see
README.md.
"""

from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)

LANGUAGES = ("so", "sw", "tl", "ha", "de", "fr")
NAMES = "runs/demo/names"


def get_config() -> Config:
    return Config(
        run="runs/demo",
        teacher=TeacherConfig(path="optical_jax/english_teacher", max_length=24),
        student=StudentConfig(
            vocabulary="train", vocab_size=9000, new_embeddings="lexicon", word_order=False, max_length=24
        ),
        data=DataConfig(
            bitext=tuple(f"{NAMES}/{language}.train.tsv" for language in LANGUAGES),
            global_batch=64,
        ),
        loss=LossConfig("transport"),
        optimizer=OptimizerConfig(peak_lr=4e-3, warmup_steps=50),
        training=TrainingConfig(steps=600, log_every=20, dev_every=200),
        checkpoint=CheckpointConfig(every=200),
        licences=("names=Unicode-3.0", "teacher=Apache-2.0"),
    )
