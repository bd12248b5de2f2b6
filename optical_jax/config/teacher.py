"""Every setting of a teacher's training, as frozen dataclasses. Imports the standard library alone.

The stage before `optical_jax.config.student`: from a plain English encoder and judged passages to the retriever that
``teacher.path`` names. Optimizer, steps, mesh and checkpoints have the settings of every run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import RankingLossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat

DEV_METRICS = ("R@1", "R@10", "RR@10", "nDCG@10", "AP")
"""Figures of a dev line; any of them may be `checkpoint.best_metric`."""


@dataclass(frozen=True)
class StartConfig:
    """The encoder that becomes the teacher, and the head it is given."""

    path: str = ""
    """Folder or hub name of the weights to start from."""
    projection: int = 128
    """Width of a token vector; 0 keeps the encoder's own, or the projection the weights come with."""
    projection_start: Literal["principal", "random"] = "principal"
    """Where a new projection starts: at the principal directions of the encoder's token vectors (scores start close to
    those without), or drawn."""
    markers: bool = False
    """Mark queries and passages with tokens of their own, [Q] and [D], as ColBERT does; a ColBERT keeps its own."""
    augment_queries: bool | None = None
    """Fill queries up to query_length with [MASK] tokens, whose vectors count; None does as a ColBERT at `path` does,
    and of a plain encoder does not."""
    skip_punctuation: bool | None = None
    """Drop the vectors of passages' punctuation; None as above."""
    special_tokens: bool | None = None
    """Keep the vectors of [CLS], [SEP] and the markers; None as above, and of a plain encoder keeps them."""
    query_length: int | None = None
    """Queries are cut to this many tokens; None as above, and 32 of a plain encoder."""
    document_length: int | None = None
    """Passages are cut to this many tokens, in training to data.passage_length, if that is less; None as above, and 180
    of a plain encoder."""
    frozen_layers: int | None = None
    """Embeddings and so many of the lower layers stay as they are, which also saves their backward pass; none trains
    everything."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"
    """What the backward pass computes again, to save memory: nothing, all but dense maps (dots), or layers (full)."""


@dataclass(frozen=True)
class RankingDataConfig:
    """Who is relevant to whom, and how batches are made of it."""

    train: tuple[str, ...] = ()
    """Judgements (BEIR or TREC qrels), triples (.tsv) and lists (.jsonl), each plain or .gz; what several say of one
    query is joined. docs/teacher.md has the forms."""
    collection: str = ""
    """Where ids lead to passages: a BEIR folder, or a file of id<TAB>text or of JSON lines."""
    queries: str = ""
    """Where ids lead to queries, a file likewise; empty takes the folder's queries.<language>.jsonl."""
    language: str = "en"
    passages: int = 8
    """Passages a query has in a batch: one that is relevant, the others negatives drawn from its own."""
    passage_length: int = 0
    """Passages are cut to so many tokens while training; 0 cuts them as encoder.document_length says."""
    global_batch: int = 32
    """Queries a step, over all devices."""
    row_length: int = 256
    """Tokens of a row of packed passages, if none is longer."""
    dev: str = ""
    """BEIR folder for the dev figures; empty holds training queries out."""
    dev_split: str = "dev"
    hold_out: float = 0.1
    """Share of the training queries that are held out where there is no dev folder; 0 for no dev figures."""
    dev_queries: int = 200
    """At most so many dev queries."""
    dev_documents: int = 2000
    """Rank at most so many documents for them, the judged ones among them."""


@dataclass(frozen=True)
class TeacherStageConfig:
    """One training of a teacher. `python -m optical_jax teacher --config configs/teacher_afriqa.py`."""

    run: str = ""
    """Run folder; everything the run writes goes there."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """What to do with an unfinished run in the folder."""
    encoder: StartConfig = field(default_factory=StartConfig)
    data: RankingDataConfig = field(default_factory=RankingDataConfig)
    loss: RankingLossConfig = field(default_factory=RankingLossConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(peak_lr=2e-5))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    licences: tuple[str, ...] = ()
    """Licence of each part the weights are made of, for the model card: NAME=LICENCE."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""
