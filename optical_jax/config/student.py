"""Every setting of a run, as frozen dataclasses. Imports the standard library alone.

A config file (``configs/x.py``) returns a `Config` from ``get_config()``; flags override single fields. Field
docstrings are the help texts of the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import LossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat

LOW_RESOURCE = ("sw", "so", "tl", "mr", "yo", "ha", "am", "km", "ne", "ig", "rw", "zu", "bem", "tw")
"""Languages that count as low-resource in tables of results; every other one is high-resource."""


# ---- the settings of a run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherConfig:
    path: str = ""
    """Folder or hub name of the English retriever (Hugging Face, Stanford ColBERT, PyLate, Sentence Transformers), or
    of CLIP or SigLIP, whose tower of texts it is then."""
    max_length: int = 64
    """English sentences are cut to this many tokens while training."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    """As student.attention."""
    augment_queries: bool | None = None
    """[MASK] query augmentation, of student and teacher alike; None does as the teacher's checkpoint says."""
    skip_punctuation: bool | None = None
    """Leave punctuation of documents out; None does as the teacher's checkpoint says."""
    special_tokens: bool | None = None
    """Keep the vectors of [CLS], [SEP] and markers; None does as the teacher's checkpoint says."""
    cache: str = ""
    """Folder that keeps the teacher's token vectors (float16), so that each English text is encoded once, whatever
    epochs, languages and runs come; several runs may share it. Empty encodes them in every step."""
    cache_gib: float = 16.0
    """Most GiB all files under it may hold, of any teacher and run, once this run's texts are added; where they would
    hold more, none is added and the teacher runs in every step."""
    pooling: Literal["none", "auto", "mean", "cls"] = "none"
    """`none`: a vector a token (late interaction) whatever the checkpoint says; `auto`: as it says; else one a text."""


@dataclass(frozen=True)
class SizeConfig:
    """Shape of a student's encoder that is drawn anew instead of starting from weights; all 0 for none."""

    width: int = 0
    layers: int = 0
    heads: int = 0
    mlp_width: int = 0


@dataclass(frozen=True)
class StudentConfig:
    path: str = ""
    """Folder or hub name of the student's starting weights; empty starts from the teacher's. A raw start names the
    plain encoder that the teacher itself was made from."""
    head: Literal["own", "teacher", "drawn", "fitted"] = "own"
    """Projection to the teacher's vectors: own, that of `path` (drawn if it has none of that width); teacher, the
    teacher's, for an encoder of the teacher's width; drawn, at random; fitted, the linear map by least squares from the
    vectors of `path` of the bitext's English texts to the teacher's: with training.steps=0 a whole baseline."""
    ridge: float = 1.0
    """head=fitted: pull of that map towards zero, against a sum of squared errors of unit vectors over all texts."""
    sides: Literal["queries", "documents", "both"] = "queries"
    """What foreign texts are learned as: queries; documents (their marker, no vectors of punctuation if the teacher
    leaves them out); both, in turn: every pair once as each in two passes, so that a batch costs no more."""
    freeze_embeddings: bool = False
    """Leave the embeddings of words, positions and types, and their norm, as they start."""
    freeze_layers: int = 0
    """Leave the first layers, so many, as they start."""
    size: SizeConfig = field(default_factory=SizeConfig)
    """A body of another size: layers drawn at random, word embeddings shrunk from the starting weights'."""
    word_order: bool = True
    """False makes a student that does not see the order of words: all positions share one embedding, their mean, which
    is not trained. For small students on little text, who else learn places of words before words."""
    vocabulary: Literal["keep", "train"] = "keep"
    """`keep` uses the tokenizer at `path`; `train` makes one from the bitext's foreign side."""
    vocab_size: int = 12_000
    """Pieces of a trained vocabulary."""
    keep_pieces: bool = False
    """A trained vocabulary stands beside the starting one's pieces instead of replacing them: names, numbers and
    borrowed words are read as they are in English."""
    lowercase: bool = True
    """A trained vocabulary folds case (accents always stay)."""
    new_embeddings: Literal["random", "lexicon"] = "random"
    """Embeddings of pieces the starting vocabulary lacks: drawn from its embeddings' distribution, or averaged
    over the English pieces they translate to (counted in the bitext)."""
    max_length: int = 64
    """Foreign sentences are cut to this many tokens while training."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    """How tokens read each other in training: plain products (xla), or a kernel that keeps no scores, on NVIDIA (cudnn)
    or TPU (splash), in bfloat16. auto takes a kernel for rows of 512 tokens and more, where it runs."""
    remat: Remat = "none"
    """What the backward pass computes again, to save memory: nothing, all but dense maps (dots), or whole layers
    (full)."""


@dataclass(frozen=True)
class DataConfig:
    bitext: tuple[str, ...] = ()
    """Training files: <lang>.<split>.tsv[.gz] | .jsonl[.gz], or sw=PATH; Moses: sw=ENGLISH_FILE,FOREIGN_FILE; captions
    of the same pictures: sw=captions:FOLDER or sw=captions:NAME:FOLDER, and the keywords beside them sw=keywords:FOLDER
    (docs/images.md)."""
    dev: tuple[str, ...] = ()
    """Dev files in the same forms; empty takes <lang>.dev.* beside each <lang>.train.*, or holds pairs out."""
    max_pairs: int = 0
    """At most so many training pairs a language, chosen by a hash of their English so that languages which translate
    the same texts keep the same ones; 0 takes all."""
    dev_pairs: int = 500
    """At most so many dev pairs a language are used, or held out of training where there is no dev file; 0 for none."""
    english_column: str = "0"
    """Column number of a TSV, or key of a JSONL object, that holds the English side."""
    foreign_column: str = "1"
    score_column: str = ""
    """Column or key of a quality score; empty for none."""
    min_score: float | None = None
    """Pairs scored below it are dropped and counted."""
    min_chars: int = 1
    max_chars: int = 1200
    max_length_ratio: float = 4.0
    """Pairs whose sides differ more in characters are dropped and counted (Chinese, Japanese and Korean ones count
    three; two sides under 20 characters are let be)."""
    keep_equal: bool = False
    """Keep pairs whose sides are the same text: for a student of the teacher's own language, such as a smaller one."""
    pictures: str = ""
    """A set of pictures with captions in the bitext's languages, FOLDER or NAME:FOLDER (docs/images.md). Some batches
    are then of its train split: captions for the student, and for the teacher what the image tower that goes with it
    makes of their pictures. The teacher must be a pair of towers."""
    pictures_share: float = 0.5
    """Share (above 0, at most 1) of the batches that are of pictures."""
    max_bad_lines: int = 0
    """So many broken lines a file are listed and skipped; one more is an error."""
    code_switch: float = 0.0
    """Share (0 to 1) of the foreign words with a known translation that are replaced by it, anew in each of four passes
    over the pairs. The words are those that the plans between untrained student and teacher pair up in the bitext."""
    lexicon: tuple[str, ...] = ()
    """Translations for code_switch instead, one file a language: sw=FILE, lines of a word, a tab and its English."""
    temperature: float = 1.0
    """Language sampling: share of a language ~ pairs ** (1 / temperature). 1 draws a language as often as it has pairs;
    more favours the small ones."""
    weights: tuple[str, ...] = ()
    """Sampling weights instead of the temperature, one a language: sw=2 so=1."""
    global_batch: int = 64
    """Pairs a step, over all devices."""
    batching: Literal["packed", "buckets"] = "packed"
    """packed: texts end to end in rows, any lengths in a batch, one shape; buckets: a batch is of about one length."""
    row_length: int = 64
    """Tokens of a row of packed texts, if no text is longer."""
    buckets: tuple[int, ...] = (16, 24, 32, 48, 64)
    """Padded lengths for batching=buckets. One compilation each."""


@dataclass(frozen=True)
class Config:
    """One training run. `python train.py --config configs/x.py` gives the values, flags override them."""

    run: str = ""
    """Run folder; everything the run writes goes there."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """What to do with an unfinished run in the folder."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    low_resource: tuple[str, ...] = LOW_RESOURCE
    """Languages counted as low-resource in tables."""
    licences: tuple[str, ...] = ()
    """Licence of each part the weights are made of, for the model card: tico19='CC0 1.0' teacher=Apache-2.0. A part is
    the folder of a file LANG.SPLIT.*, the name of any other file, teacher or student."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


# ---- JSON ------------------------------------------------------------------------------------------------------
