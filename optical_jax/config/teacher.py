"""Settings of a teacher's training (English retriever, ranking losses), as frozen dataclasses; standard library only.

The stage before `optical_jax.config.student`: fine-tunes a pretrained English encoder on relevance judgements to the
retriever that ``teacher.path`` names. Optimizer, steps, mesh and checkpoints have the settings of every run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import RankingLossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat
from optical_jax.config.vocabulary import MAX_UNKNOWN

DEV_METRICS = ("R@1", "R@10", "RR@10", "nDCG@10", "AP")
"""Dev metrics; each may be `checkpoint.best_metric`."""


@dataclass(frozen=True)
class StartConfig:
    """Initial encoder of the teacher and its retrieval head."""

    path: str = ""
    """Folder or hub name of the initial weights."""
    projection: int = 128
    """Width of a token vector; 0 keeps the encoder's own, or the checkpoint's projection."""
    projection_start: Literal["principal", "random"] = "principal"
    """Initialisation of a new projection: the principal directions of the encoder's token vectors (initial scores stay
    close to those without a projection), or random."""
    markers: bool = False
    """Mark queries and passages with the special tokens [Q] and [D], as ColBERT does; a ColBERT keeps its own."""
    augment_queries: bool | None = None
    """Query augmentation: pad queries to query_length with [MASK] tokens whose vectors count. None follows a ColBERT
    checkpoint at `path`; False for a plain encoder."""
    skip_punctuation: bool | None = None
    """Drop the vectors of punctuation in passages; None follows a ColBERT checkpoint, and is False for a plain
    encoder."""
    special_tokens: bool | None = None
    """Keep the vectors of [CLS], [SEP] and the markers; None follows a ColBERT checkpoint, and is True for a plain
    encoder."""
    query_length: int | None = None
    """Truncate queries to this many tokens; None follows a ColBERT checkpoint, and is 32 for a plain encoder."""
    document_length: int | None = None
    """Truncate passages to this many tokens (in training to data.passage_length, if that is less); None follows a
    ColBERT checkpoint, and is 180 for a plain encoder."""
    frozen_layers: int | None = None
    """Freeze the embeddings and this many of the lower layers, which also saves their backward pass; None trains
    everything."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"
    """What the backward pass recomputes to save memory: nothing, all but dense layers (dots), or all layers (full)."""


@dataclass(frozen=True)
class RankingDataConfig:
    """Relevance judgements, queries and passages, and the batches made of them."""

    train: tuple[str, ...] = ()
    """Judgements (BEIR or TREC qrels), triples (.tsv) and scored lists (.jsonl), each plain or .gz; entries for the
    same query are merged. docs/teacher.md has the formats."""
    collection: str = ""
    """Passages by id: a BEIR folder, or a file of id<TAB>text or of JSON lines."""
    queries: str = ""
    """Queries by id, a file likewise; empty takes the folder's queries.<language>.jsonl."""
    language: str = "en"
    passages: int = 8
    """Passages per query in a batch: one relevant, the others sampled from its negatives."""
    passage_length: int = 0
    """Truncate passages to this many tokens in training; 0 uses encoder.document_length."""
    global_batch: int = 32
    """Queries per step, over all devices."""
    row_length: int = 256
    """Tokens per row of packed passages, if none is longer."""
    max_unknown: float = MAX_UNKNOWN
    """Largest share (0 to 1) of the queries' or the passages' tokens that the tokenizer may not know ([UNK]); more is
    an error before the first step. Above 0.02 there is a warning."""
    dev: str = ""
    """BEIR folder for the dev metrics; empty holds out training queries."""
    dev_split: str = "dev"
    hold_out: float = 0.1
    """Share of the training queries that are held out where there is no dev folder; 0 for no dev metrics."""
    dev_queries: int = 200
    """Largest number of dev queries."""
    dev_documents: int = 2000
    """Largest number of documents to rank for them, the judged ones included."""
    max_bad_lines: int = 0
    """Largest number of bad lines of these files to leave out: broken ones, ids without text or with two texts, and ids
    that are in no file."""


@dataclass(frozen=True)
class TeacherStageConfig:
    """Train a teacher: python -m optical_jax teacher --config configs/teacher_afriqa.py."""

    run: str = ""
    """Run folder for everything the run writes."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """Whether to resume an unfinished run in the folder."""
    encoder: StartConfig = field(default_factory=StartConfig)
    data: RankingDataConfig = field(default_factory=RankingDataConfig)
    loss: RankingLossConfig = field(default_factory=RankingLossConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(peak_lr=2e-5))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    licences: tuple[str, ...] = ()
    """Licence of each source of the weights, for the model card: NAME=LICENCE."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty uses HF_HOME."""
