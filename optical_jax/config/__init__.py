"""Every setting, as frozen dataclasses; standard library alone.

`Config` is a student's training, `TeacherStageConfig` an English teacher's, `ImageStageConfig` an image-text teacher's.
"""

from optical_jax.config.image_teacher import (
    DEV_FIGURES as DEV_FIGURES,
)
from optical_jax.config.image_teacher import (
    DRAWN_SIZE as DRAWN_SIZE,
)
from optical_jax.config.image_teacher import (
    AugmentationConfig as AugmentationConfig,
)
from optical_jax.config.image_teacher import (
    ImageDataConfig as ImageDataConfig,
)
from optical_jax.config.image_teacher import (
    ImageSideConfig as ImageSideConfig,
)
from optical_jax.config.image_teacher import (
    ImageStageConfig as ImageStageConfig,
)
from optical_jax.config.image_teacher import (
    TextSideConfig as TextSideConfig,
)
from optical_jax.config.losses import LossConfig as LossConfig
from optical_jax.config.losses import LossName as LossName
from optical_jax.config.losses import OtConfig as OtConfig
from optical_jax.config.student import (
    LOW_RESOURCE as LOW_RESOURCE,
)
from optical_jax.config.student import (
    Activation as Activation,
)
from optical_jax.config.student import (
    Attention as Attention,
)
from optical_jax.config.student import (
    CheckpointConfig as CheckpointConfig,
)
from optical_jax.config.student import (
    Config as Config,
)
from optical_jax.config.student import (
    DataConfig as DataConfig,
)
from optical_jax.config.student import (
    Dtype as Dtype,
)
from optical_jax.config.student import (
    EncoderConfig as EncoderConfig,
)
from optical_jax.config.student import (
    HeadConfig as HeadConfig,
)
from optical_jax.config.student import (
    MeshConfig as MeshConfig,
)
from optical_jax.config.student import (
    OptimizerConfig as OptimizerConfig,
)
from optical_jax.config.student import (
    Remat as Remat,
)
from optical_jax.config.student import (
    SizeConfig as SizeConfig,
)
from optical_jax.config.student import (
    StudentConfig as StudentConfig,
)
from optical_jax.config.student import (
    TeacherConfig as TeacherConfig,
)
from optical_jax.config.student import (
    TowerConfig as TowerConfig,
)
from optical_jax.config.student import (
    TrainingConfig as TrainingConfig,
)
from optical_jax.config.student import (
    expand_path as expand_path,
)
from optical_jax.config.student import (
    expand_variables as expand_variables,
)
from optical_jax.config.student import (
    identity as identity,
)
from optical_jax.config.student import (
    to_json as to_json,
)
from optical_jax.config.teacher import (
    DEV_METRICS as DEV_METRICS,
)
from optical_jax.config.teacher import (
    RankingDataConfig as RankingDataConfig,
)
from optical_jax.config.teacher import (
    RankingLossConfig as RankingLossConfig,
)
from optical_jax.config.teacher import (
    StartConfig as StartConfig,
)
from optical_jax.config.teacher import (
    TeacherStageConfig as TeacherStageConfig,
)
