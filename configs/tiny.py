"""The smallest whole run, for trying out flags: a random teacher, 72 hand-written Swahili-English pairs, seconds.

python train.py --config configs/tiny.py --run runs/tiny
python eval.py --run runs/tiny --collection configs/tiny/collection --lang sw

It shows that everything works together, not what the method is worth: for that see configs/demo.py and docs/results.md.
"""

from pathlib import Path

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


def get_config() -> Config:
    tiny = Path(__file__).parent / "tiny"
    return Config(
        run="runs/tiny",
        teacher=TeacherConfig(path=str(tiny / "teacher"), max_length=16),
        student=StudentConfig(vocabulary="train", vocab_size=200, max_length=16),
        data=DataConfig(bitext=(str(tiny / "sw.train.tsv"),), global_batch=16),
        loss=LossConfig("transport"),
        optimizer=OptimizerConfig(peak_lr=5e-3, warmup_steps=10),
        training=TrainingConfig(steps=200, log_every=20, dev_every=50),
        checkpoint=CheckpointConfig(every=50),
        licences=("tiny=Apache-2.0", "teacher=Apache-2.0"),
    )
