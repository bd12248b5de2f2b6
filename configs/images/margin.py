"""The image-text teacher that students are evaluated with: configs/images/teacher.py, trained on for a wider margin.

python -m optical_jax image_teacher --config configs/images/teacher.py --run runs/images_first
python -m optical_jax image_teacher --config configs/images/margin.py --run runs/images

Here the temperature stays at 0.1. Where it was learned it fell to 0.024; then captions are told apart by small
differences of cosines, which the vectors of a student, near the English ones but not equal to them, may not keep. One
and the same students find a quarter to a third more emoji by this tower if transport or pooled cosine taught them, and
more still if pooled contrastive did (docs/results-images.md). A tower trained so from the start, for 2,000 steps, found
fewer.

The same for a teacher that has not seen the dev images:

python -m optical_jax image_teacher --config configs/images/teacher.py --data.splits train \\
  --run runs/images_unseen_first
python -m optical_jax image_teacher --config configs/images/margin.py --image.path runs/images_unseen_first \\
  --data.splits train --run runs/images_unseen
"""

from dataclasses import replace

import teacher

from optical_jax.config import ImageStageConfig, ImageTextLossConfig


def get_config() -> ImageStageConfig:
    first = teacher.get_config()
    return replace(
        first,
        run="runs/images",
        image=replace(first.image, path=first.run),
        loss=ImageTextLossConfig(temperature=0.1, learn_scale=False),
        optimizer=replace(first.optimizer, peak_lr=7e-4),
        training=replace(first.training, steps=1500),
    )
