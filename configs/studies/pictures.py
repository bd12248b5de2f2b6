"""Finding images in fifteen languages: which loss teaches a student from captions alone?

python -m optical_jax study configs/studies/pictures.py --workers 2

A student a language from 1,250 names of emoji and up to 1,057 pages of picture books, the same start, budget and number
of tuning trials for every loss, three seeds. It is taught by the text tower alone, and then asked for 161 emoji and
162 pages that it did not see, with two image towers: one that learned these very images by their English
captions ("seen"), and one that did not ("unseen"). Needs $OPTICAL_DATA and $OPTICAL_MODELS; both pairs of towers
(configs/images/margin.py tells how); and for the linear map runs/images_multilingual/export, an encoder that did not
learn from them (configs/images/multilingual.py; ENCODER may be any other, such as one of the hub). 300 runs, 45 of them
without a step: about an hour and a half on two cores. Results: docs/results-images.md.
"""

from dataclasses import replace

import losses
from images.multilingual import EMOJI, PAGES, captions

from optical_jax.config import Config, DataConfig, LossConfig, OtConfig, StudentConfig, TeacherConfig
from optical_jax.studies.design import Arm, Study

LOW = ("sw", "so", "tl", "mr", "ha", "am", "yo", "km", "ne")
HIGH = ("fr", "de", "es", "ru", "zh", "ar")
FOLDER = "runs/studies/pictures"
TEXTS = "$OPTICAL_MODELS/all-MiniLM-L6-v2"
SEEN = "runs/images"
UNSEEN = "runs/images_unseen"
ENCODER = "runs/images_multilingual/export"
RATES = (3e-3, 6e-3)


def base() -> Config:
    """The small student of configs/studies/losses.py, with fewer pieces, for shorter texts."""
    config = losses.base()
    return replace(
        config,
        teacher=TeacherConfig(path=TEXTS, max_length=48, cache=f"{FOLDER}/teacher-vectors"),
        student=replace(config.student, vocab_size=3000, max_length=48),
        data=DataConfig(global_batch=64, row_length=48),
    )


def in_language(config: Config, language: str) -> Config:
    return replace(config, data=replace(config.data, bitext=captions(language)))


def arm(name: str, about: str, loss: LossConfig) -> Arm:
    return tuned(name, about, replace(base(), loss=loss))


def tuned(name: str, about: str, config: Config, rates: tuple[float, ...] = RATES) -> Arm:
    """A trial a learning rate."""
    trials = {f"lr{rate:g}": replace(config, optimizer=replace(config.optimizer, peak_lr=rate)) for rate in rates}
    return Arm(name, about, trials)


def linear_map() -> Arm:
    student = StudentConfig(path=ENCODER, head="fitted", max_length=48)
    config = replace(base(), student=student, training=replace(base().training, steps=0))
    about = (
        "A multilingual encoder as it is, and a linear map of its vectors into the teacher's space, by least squares "
        "over the English captions alone. The encoder learned from the same captions, but in eighteen languages "
        "together and 192,000 pairs seen instead of 6,400, by a smaller English model that itself imitates the texts' "
        "tower: it is nearer to the teacher than one from elsewhere."
    )
    return Arm("linear_map", about, {"one": config}, baseline=True)


TRANSPORT = LossConfig("transport", ot=OtConfig(epsilon=0.05))
CONTRASTIVE = LossConfig("contrastive", temperature=0.05)
ARMS = (
    arm("transport", "OPTICAL: the cost of moving the student's token vectors onto the teacher's.", TRANSPORT),
    arm("pooled_cosine", "The cosine of the two sides' mean vectors.", LossConfig("pooled_cosine")),
    arm("pooled_mse", "Squared distance of the mean vectors (Reimers and Gurevych).", LossConfig("pooled_mse")),
    arm("contrastive", "Each caption must find its own translation among the batch's, by MaxSim.", CONTRASTIVE),
    arm(
        "pooled_contrastive",
        "The same by mean vectors.",
        LossConfig("pooled_contrastive", temperature=0.05),
    ),
    linear_map(),
)


DATA = (
    "Captions of the train splits in each language with their English ones: 1,250 names of emoji (Unicode CLDR, "
    "images of Noto Emoji), and texts of pages of African Storybook, 28 to 1,057 where there are any (none in "
    "Marathi and Nepali). A tenth is held out as dev pairs, which alone tuning looks at, ranked token by token. The "
    "collections are the dev splits: 161 emoji with names in all languages, 162 pages with texts for 8 to 112 of them "
    "a language (none in Hausa, Khmer and Marathi). No student learned from these images or captions, though a few "
    "short texts (6 German, 2 Arabic, 2 Tagalog) stand in both splits. Images are read by two towers: one learned "
    "these very images by their English captions (by-images), the other did not (by-images_unseen)."
)


def get_study() -> Study:
    return Study(
        folder=FOLDER,
        title="Finding images in a language learned from 1,100 to 2,000 captions: which loss?",
        question=(
            "A dual encoder knows which English captions belong to which images. A small student encoder learns "
            "another language from captions of other images, as pairs of texts. Does optimal transport between words "
            "find images better than other losses, when data, start, budget and care are the same?"
        ),
        arms=ARMS,
        in_language=in_language,
        languages=(*LOW, *HIGH),
        # As the pair's towers were trained to be compared.
        scoring="pooled",
        collections=tuple(f"{found} by {pair}" for pair in (SEEN, UNSEEN) for found in (EMOJI, PAGES)),
        tuning_languages=("sw", "am", "zh"),
        data=DATA,
    )
