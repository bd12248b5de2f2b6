"""An English image-text teacher from emoji and pages of picture books, beside all-MiniLM-L6-v2 as it is.

python -m optical_jax image_teacher --config configs/images/teacher.py --run runs/images_first

2,952 images to learn from, and 323 of the dev splits, whose English captions it learns too: a student is then asked
in its own language for images that its teacher knows ("seen"). A teacher that has not seen them, which from so few
images learns little of what others show:

python -m optical_jax image_teacher --config configs/images/teacher.py --data.splits train \\
  --run runs/images_unseen_first

The image tower is drawn and small; the text tower stays, so that its token vectors are those that students of
any language learn from, and are computed once. configs/images/margin.py goes on from here.
"""

from optical_jax.config import (
    CheckpointConfig,
    ImageDataConfig,
    ImageSideConfig,
    ImageStageConfig,
    OptimizerConfig,
    TextSideConfig,
    TrainingConfig,
)


def get_config() -> ImageStageConfig:
    return ImageStageConfig(
        run="runs/images_first",
        text=TextSideConfig(path="$OPTICAL_MODELS/all-MiniLM-L6-v2"),
        image=ImageSideConfig(image_size=96, patch_size=12, width=192, layers=6, heads=3, mlp_width=768),
        data=ImageDataConfig(
            images=("$OPTICAL_DATA/imagetext/noto_emoji", "$OPTICAL_DATA/imagetext/storybook_pages"),
            splits=("train", "dev"),
            global_batch=64,
        ),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=100, weight_decay=0.05, schedule="cosine"),
        training=TrainingConfig(steps=2000, log_every=25, dev_every=250),
        checkpoint=CheckpointConfig(every=250, best_metric="t2i R@5"),
        licences=(
            "noto_emoji=Apache-2.0 (pictures), Unicode License V3 (texts)",
            "storybook_pages=CC BY 4.0",
            "text=Apache-2.0",
        ),
    )
