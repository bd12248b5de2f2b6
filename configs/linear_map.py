"""The cheap baseline: a multilingual encoder as it is, and a linear map of its vectors into the teacher's space.

python train.py --config configs/linear_map.py --run runs/linear --teacher.path PAIR --student.path MULTILINGUAL \
  --data.bitext sw=captions:flowers

Nothing is trained: the map is fitted by least squares to the English side of the pairs (docs/images.md).
"""

from optical_jax.config import Config, StudentConfig, TrainingConfig


def get_config() -> Config:
    return Config(student=StudentConfig(head="fitted"), training=TrainingConfig(steps=0))
