"""One student of eighteen languages, English among them, from names of emoji and picture books' pages: the encoder
that a linear map is of.

python train.py --config configs/images/multilingual.py --run runs/images_multilingual
python -m optical_jax export --run runs/images_multilingual --out runs/images_multilingual/export

It learns from captions alone, no image is looked at. Nor does it learn from runs/images, the dual encoder that
configs/studies/pictures.py asks: in whose space it would lie already, with nothing left for a map to do. Its teacher,
and where it begins, is the small English model that comes with the package. That model imitates all-MiniLM-L6-v2, which
is the pair's text tower, from another body and other text; so the two spaces are akin, and the map has less to do than
between strangers. It needs $OPTICAL_DATA. Dev pairs are held out of the train splits, so that the dev splits are left
for the study, whose baseline begins here.
"""

from itertools import chain

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

ENGLISH = "optical_jax/english_teacher"
EMOJI = "$OPTICAL_DATA/imagetext/noto_emoji"
PAGES = "$OPTICAL_DATA/imagetext/storybook_pages"
LANGUAGES = (
    "en", "am", "ar", "de", "es", "fi", "fr", "ha", "it", "km", "mr", "ne", "ru", "so", "sw", "tl", "yo", "zh",
)  # fmt: skip
WITH_PAGES = {*LANGUAGES} - {"fi", "mr", "ne"}


def captions(language: str) -> tuple[str, ...]:
    """Names of emoji in a language, and texts of pages where there are some, with the English ones."""
    sets = (EMOJI, PAGES) if language in WITH_PAGES else (EMOJI,)
    return tuple(f"{language}=captions/train:{found}" for found in sets)


def get_config() -> Config:
    return Config(
        run="runs/images_multilingual",
        teacher=TeacherConfig(path=ENGLISH, max_length=48),
        student=StudentConfig(
            path=ENGLISH,
            vocabulary="train",
            vocab_size=16_000,
            keep_pieces=True,
            new_embeddings="lexicon",
            max_length=48,
        ),
        # English learns from itself: a map is fitted to what this student makes of English.
        data=DataConfig(bitext=tuple(chain.from_iterable(map(captions, LANGUAGES))), keep_equal=True, global_batch=128),
        loss=LossConfig("pooled_contrastive"),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=50),
        training=TrainingConfig(steps=1500, log_every=50, dev_every=500),
        checkpoint=CheckpointConfig(every=500),
        licences=("noto_emoji=Unicode-3.0", "storybook_pages=CC BY 4.0", "teacher=Apache-2.0", "student=Apache-2.0"),
    )
