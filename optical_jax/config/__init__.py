"""Every setting of every training, as frozen dataclasses. Standard library only, so that `--help` stays fast.

`Config` configures a student, `TeacherStageConfig` an English teacher, `ImageStageConfig` an image-text teacher.
"""

from optical_jax.config.image_teacher import (
    DRAWN_SIZE,
    IMAGE_DEV_METRICS,
    AugmentationConfig,
    ImageDataConfig,
    ImageSideConfig,
    ImageStageConfig,
    TextSideConfig,
)
from optical_jax.config.losses import ImageTextLossConfig, LossConfig, LossName, OtConfig, RankingLossConfig
from optical_jax.config.run import (
    CheckpointConfig,
    MeshConfig,
    OptimizerConfig,
    TrainingConfig,
    expand_path,
    expand_variables,
    to_json,
)
from optical_jax.config.student import LOW_RESOURCE, Config, DataConfig, SizeConfig, StudentConfig, TeacherConfig
from optical_jax.config.teacher import DEV_METRICS, RankingDataConfig, StartConfig, TeacherStageConfig
from optical_jax.config.towers import (
    Activation,
    AnyEncoderConfig,
    Attention,
    Dtype,
    EncoderConfig,
    HeadConfig,
    ImageEncoderConfig,
    ImageTowerConfig,
    Remat,
    TowerConfig,
    identity,
)
