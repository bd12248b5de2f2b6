"""Swahili from bitext that may ship: TICO-19, storybooks, AfriQA questions, Wikipedia's app (4.3k pairs).

python train.py --config configs/swahili.py --run runs/swahili

The student is the teacher's body with a WordPiece vocabulary trained on the Swahili side; pieces that English has too
keep its embeddings, the others are drawn. What to expect: docs/results.md. $OPTICAL_DATA names the folder of the
data; docs/data.md tells how to get each set from its origin.
"""

from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)

SHIPPABLE = ("tico19", "storybooks", "afriqa", "wikiapp")

LICENCES = {
    "tico19": "CC0 1.0",
    "storybooks": "CC BY: name the authors",
    "pratham": "CC BY: name the authors",
    "afriqa": "CC BY 4.0",
    "tatoeba": "CC BY 2.0 FR",
    "wikiapp": "Apache-2.0",
    "bible": "stated as CC0, which is in doubt: weights must not be published",
    "mafand_nc": "CC BY-NC 4.0: weights must not be published",
}
"""Of each set's side in our languages, as docs/data.md has it."""


def bitext(*sets: str) -> tuple[str, ...]:
    return tuple(f"$OPTICAL_DATA/bitext/{name}/sw.train.tsv.gz" for name in sets)


def licences(*sets: str) -> tuple[str, ...]:
    """For the model card: of the sets, and of all-MiniLM-L6-v2."""
    return ("teacher=Apache-2.0", *(f"{name}={LICENCES[name]}" for name in sets))


def get_config() -> Config:
    return Config(
        run="runs/swahili",
        teacher=TeacherConfig(path="sentence-transformers/all-MiniLM-L6-v2"),
        student=StudentConfig(vocabulary="train", vocab_size=12_000),
        data=DataConfig(bitext=bitext(*SHIPPABLE)),
        optimizer=OptimizerConfig(peak_lr=5e-4, warmup_steps=50),
        training=TrainingConfig(steps=400, dev_every=100),
        checkpoint=CheckpointConfig(every=100),
        licences=licences(*SHIPPABLE),
    )
