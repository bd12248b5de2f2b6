"""An English image-text teacher from emoji and pages of picture books, beside all-MiniLM-L6-v2 as it is.

python -m optical_jax image_teacher --config configs/images/teacher.py --run runs/images_first

2,952 images to learn from, and 323 of the dev splits, whose English captions it learns too: a student is then asked
in its own language for images that its teacher knows ("seen"). A teacher that has not seen them, which from so few
images learns little of what others show:

python -m optical_jax image_teacher --config configs/images/teacher.py --data.splits train \\
  --run runs/images_unseen_first

The settings are those of configs/own_images.py; configs/images/margin.py goes on from here.
"""

from dataclasses import replace

import own_images

from optical_jax.config import ImageStageConfig, TextSideConfig


def get_config() -> ImageStageConfig:
    own = own_images.get_config()
    return replace(
        own,
        run="runs/images_first",
        text=TextSideConfig(path="$OPTICAL_MODELS/all-MiniLM-L6-v2"),
        data=replace(
            own.data,
            images=("$OPTICAL_DATA/imagetext/noto_emoji", "$OPTICAL_DATA/imagetext/storybook_pages"),
            splits=("train", "dev"),
        ),
        licences=(
            "noto_emoji=Apache-2.0 (pictures), Unicode License V3 (texts)",
            "storybook_pages=CC BY 4.0",
            "text=Apache-2.0",
        ),
    )
