"""Your own images with English captions: a small image tower beside a text tower that stays as it is.

python -m optical_jax image_teacher --config configs/own_images.py --run runs/pair --data.images flowers

The image tower is drawn and small; the text tower stays, so that its token vectors are those that students of
any language learn from, and are computed once. It is fetched from the Hugging Face hub (90 MB); the small one that
comes along takes no network: --text.path optical_jax/english_teacher. The settings are those of
configs/images/teacher.py, which learned from 3,000 images (docs/results-images.md).
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
        run="runs/pair",
        text=TextSideConfig(path="sentence-transformers/all-MiniLM-L6-v2"),
        image=ImageSideConfig(image_size=96, patch_size=12, width=192, layers=6, heads=3, mlp_width=768),
        data=ImageDataConfig(global_batch=64),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=100, weight_decay=0.05, schedule="cosine"),
        training=TrainingConfig(steps=2000, log_every=25, dev_every=250),
        checkpoint=CheckpointConfig(every=250, best_metric="t2i R@5"),
    )
