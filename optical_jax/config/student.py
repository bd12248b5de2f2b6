"""Settings of a student's training (distillation from a frozen teacher), as frozen dataclasses; standard library only.

A config file (``configs/x.py``) returns a `Config` from ``get_config()``; flags override single fields. Field
docstrings are the help texts of the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import LossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat
from optical_jax.config.vocabulary import MAX_UNKNOWN

LOW_RESOURCE = ("sw", "so", "tl", "mr", "yo", "ha", "am", "km", "ne", "ig", "rw", "zu", "bem", "tw")
"""Languages reported as low-resource in results tables; all others are high-resource."""


# ---- the settings of a run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherConfig:
    path: str = ""
    """Folder or hub name of the English retriever (Hugging Face, Stanford ColBERT, PyLate, Sentence Transformers), or
    of CLIP or SigLIP, whose text tower is used then."""
    max_length: int = 64
    """Truncate English sentences to this many tokens in training."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    """As student.attention."""
    augment_queries: bool | None = None
    """[MASK] query augmentation, of student and teacher alike; None follows the teacher's checkpoint."""
    skip_punctuation: bool | None = None
    """Drop the vectors of punctuation in documents; None follows the teacher's checkpoint."""
    special_tokens: bool | None = None
    """Keep the vectors of [CLS], [SEP] and markers; None follows the teacher's checkpoint."""
    cache: str = ""
    """Cache folder for the teacher's token vectors (float16): each English text is encoded once for all epochs,
    languages and runs that share the folder. Empty encodes texts in every step."""
    cache_gib: float = 16.0
    """Largest size in GiB of all files in the cache folder, of any teacher and run, including this run's texts; if they
    would exceed it, none is added and the teacher runs in every step."""
    pooling: Literal["none", "auto", "mean", "cls"] = "none"
    """`none`: one vector per token (late interaction), whatever the checkpoint says; `auto`: as the checkpoint says;
    else one per text."""


@dataclass(frozen=True)
class SizeConfig:
    """Shape of a student encoder with randomly initialised layers; all 0 starts from the weights instead."""

    width: int = 0
    layers: int = 0
    heads: int = 0
    mlp_width: int = 0


@dataclass(frozen=True)
class StudentConfig:
    path: str = ""
    """Folder or hub name of the student's initial weights; empty starts from the teacher's. For an untrained start,
    name the pretrained encoder that the teacher was fine-tuned from."""
    head: Literal["own", "teacher", "drawn", "fitted"] = "own"
    """Projection to the teacher's width: own, that of `path` (random if it has none of that width); teacher, the
    teacher's, for an encoder of the teacher's width; drawn, random; fitted, by least squares from the `path` vectors of
    the bitext's English texts to the teacher's: with training.steps=0 a complete baseline."""
    ridge: float = 1.0
    """head=fitted: ridge (L2) penalty of that regression, against the sum of squared errors of unit vectors over all
    texts."""
    sides: Literal["queries", "documents", "both"] = "queries"
    """Encode foreign texts in training as queries; as documents (with their marker, and without vectors of punctuation
    if the teacher drops them); or both, alternating: every pair once as each in two epochs, at no extra cost per
    batch."""
    freeze_embeddings: bool = False
    """Freeze the word, position and token-type embeddings and their norm."""
    freeze_layers: int = 0
    """Freeze this many of the first layers."""
    size: SizeConfig = field(default_factory=SizeConfig)
    """An encoder of another size: random layers, with word embeddings reduced from those of the initial weights."""
    word_order: bool = True
    """False makes the student ignore word order: all positions share one embedding, their mean, which is frozen. For
    small students and little data, which otherwise fit positions first."""
    vocabulary: Literal["keep", "train"] = "keep"
    """`keep` uses the tokenizer at `path`; `train` trains a WordPiece vocabulary on the foreign side of the bitext."""
    vocab_size: int = 12_000
    """Size of a trained vocabulary, in word pieces."""
    keep_pieces: bool = False
    """Add a trained vocabulary to the pieces of the initial one instead of replacing them, so that names, numbers and
    loanwords keep their English pieces."""
    lowercase: bool = True
    """Lower-case texts for a trained vocabulary (accents are kept)."""
    new_embeddings: Literal["random", "lexicon"] = "random"
    """Embeddings of pieces that the initial vocabulary lacks: random, from the distribution of its embeddings; or
    lexicon, the mean over the English pieces they translate to (counted in the bitext)."""
    max_length: int = 64
    """Truncate foreign sentences to this many tokens in training."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    """Attention in training: plain einsums (xla), or a flash-attention kernel on NVIDIA (cudnn) or TPU (splash), in
    bfloat16. auto takes a kernel for rows of 512 tokens and more, where one runs."""
    remat: Remat = "none"
    """What the backward pass recomputes to save memory: nothing, all but dense layers (dots), or all layers (full)."""


@dataclass(frozen=True)
class DataConfig:
    bitext: tuple[str, ...] = ()
    """Training files: TSV, CSV, JSON, Excel, TMX, XLIFF, PO, Parquet, zip (docs/data.md), named <lang>.<split>.tsv and
    the like, or sw=PATH; Moses: sw=ENGLISH_FILE,FOREIGN_FILE; captions of the same images: sw=captions:FOLDER or
    sw=captions:NAME:FOLDER, and the keywords beside them sw=keywords:FOLDER (docs/images.md)."""
    dev: tuple[str, ...] = ()
    """Dev files in the same formats; empty takes <lang>.dev.* beside each <lang>.train.*, or holds out training
    pairs."""
    max_pairs: int = 0
    """Largest number of training pairs per language, chosen by a hash of the English side, so that languages with the
    same English texts keep the same ones; 0 takes all."""
    dev_pairs: int = 500
    """Largest number of dev pairs per language, held out of training where there is no dev file; 0 for none."""
    dev_by: Literal["pair", "document"] = "pair"
    """Unit that is held out where no dev file is given: single pairs, or whole documents (needs data.document_column),
    which flatters less."""
    english_column: str = "0"
    """Column of the English side: its name in the file's header, its number from 0, or its key (JSON). With a header or
    keys, the default is the column that they name English."""
    foreign_column: str = "1"
    """Column of the other side, likewise; with a header or keys, the default is the one that they name the language."""
    score_column: str = ""
    """Column or key of a quality score; empty for none."""
    document_column: str = ""
    """Column or key of the name of the document that a pair is from; empty for none."""
    delimiter: str = ""
    """Delimiter of cells in text files: tab, comma, semicolon, pipe or another character; empty recognises it."""
    encoding: str = ""
    """Encoding of text files, such as windows-1252; empty for UTF-8, or what a file's byte order mark says."""
    min_score: float | None = None
    """Drop pairs with a lower quality score; the number dropped is reported."""
    min_chars: int = 1
    max_chars: int = 1200
    max_length_ratio: float = 4.0
    """Drop pairs whose sides differ by a larger factor in characters; the number dropped is reported. A Chinese,
    Japanese or Korean character counts as three; pairs with both sides under 20 characters are exempt."""
    keep_equal: bool = False
    """Keep pairs whose sides are the same text: for a student of the teacher's own language, such as a smaller one."""
    pictures: str = ""
    """A set of images with captions in the bitext's languages, FOLDER or NAME:FOLDER (docs/images.md). Some batches are
    then from its train split: the student encodes captions, and the teacher's image tower their images. The teacher
    must be a dual encoder."""
    pictures_share: float = 0.5
    """Share (above 0, at most 1) of the batches that are captioned images."""
    max_bad_lines: int = 0
    """Largest number of malformed lines per file, which are reported and skipped; one more is an error."""
    max_unknown: float = MAX_UNKNOWN
    """Largest share (0 to 1) of a side's tokens that its tokenizer may not know ([UNK]); more is an error before the
    first step. Above 0.02 there is a warning."""
    checks: Literal["stop", "warn"] = "stop"
    """stop: no training where more than half of a file's pairs are left out, or its sides look swapped; warn: train on
    them as they are."""
    code_switch: float = 0.0
    """Code-switching augmentation: share (0 to 1) of the foreign words with a known translation that are replaced by
    it, sampled anew in each of four passes over the pairs. Translations come from the transport plans between untrained
    student and teacher over the bitext."""
    lexicon: tuple[str, ...] = ()
    """Bilingual lexicon for code_switch instead, one file per language: sw=FILE, lines of word, tab, English word."""
    temperature: float = 1.0
    """Language sampling temperature: probability of a language ~ pairs ** (1 / temperature). 1 samples in proportion to
    size; larger values oversample small languages."""
    weights: tuple[str, ...] = ()
    """Sampling weights instead of the temperature, one per language: sw=2 so=1."""
    global_batch: int = 64
    """Pairs per step, over all devices."""
    batching: Literal["packed", "buckets"] = "packed"
    """packed: sequence packing, texts of any length end to end in rows of one shape; buckets: texts of similar length,
    padded."""
    row_length: int = 64
    """Tokens per row of packed texts, if no text is longer."""
    buckets: tuple[int, ...] = (16, 24, 32, 48, 64)
    """Padded lengths for batching=buckets, each compiled once."""


@dataclass(frozen=True)
class Config:
    """Train a student. `python train.py --config configs/x.py` gives the values, flags override them."""

    run: str = ""
    """Run folder for everything the run writes."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """Whether to resume an unfinished run in the folder."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    low_resource: tuple[str, ...] = LOW_RESOURCE
    """Languages reported as low-resource in tables."""
    licences: tuple[str, ...] = ()
    """Licence of each source of the weights, for the model card: tico19='CC0 1.0' teacher=Apache-2.0. A source is the
    folder of a file LANG.SPLIT.*, the name of any other file, teacher or student."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty uses HF_HOME."""


# ---- JSON ------------------------------------------------------------------------------------------------------
