"""The smallest whole run: a random tiny teacher, 72 hand-written Swahili-English pairs, seconds on a CPU.

python train.py --config configs/demo.py --run runs/demo
python eval.py --run runs/demo --collection configs/demo/collection --lang sw

It shows that everything works together, not what the method is worth: for that see docs/results.md.
"""

from pathlib import Path

from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)


def get_config() -> Config:
    demo = Path(__file__).parent / "demo"
    return Config(
        run="runs/demo",
        teacher=TeacherConfig(path=str(demo / "teacher"), max_length=16),
        student=StudentConfig(vocabulary="train", vocab_size=200, max_length=16),
        data=DataConfig(bitext=(str(demo / "sw.train.tsv"),), global_batch=16, buckets=(16,)),
        optimizer=OptimizerConfig(peak_lr=5e-3, warmup_steps=10),
        training=TrainingConfig(steps=200, log_every=20, dev_every=50),
        checkpoint=CheckpointConfig(every=50),
        licences=("demo=Apache-2.0", "teacher=Apache-2.0"),
    )
