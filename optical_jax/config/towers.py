"""Model configs: text and image encoders, the retrieval head, and a tower of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from optical_jax.config.run import to_json

Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "xla", "cudnn", "splash"]
Remat = Literal["none", "dots", "full"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu"]


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of a Transformer text encoder, as in a Hugging Face ``config.json``.

    The BERT family is post-norm; the text encoders of CLIP and SigLIP are pre-norm, the former causal.
    """

    family: Literal["bert", "roberta", "xlm-roberta", "clip", "siglip"] = "bert"
    vocab_size: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_positions: int = 512
    """Rows of the position table (RoBERTa and XLM-R: two more than the longest text)."""
    type_vocab_size: int = 2
    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    pad_id: int = 0
    """Id of the padding token: RoBERTa and XLM-R number positions by it, and SigLIP attends to it."""
    eos_id: int | None = None
    """CLIP: end-of-text id; its first token is the pooled vector of a text. 2 means the highest id of the text instead,
    as in the first checkpoints, whose config names a wrong id."""
    dtype: Dtype = "float32"
    """Type of activations; parameters, softmax and norms stay float32."""
    attention: Attention = "auto"
    """Attention implementation: plain einsums (xla), or a flash-attention kernel on NVIDIA (cudnn) or TPU (splash).
    `auto` decides by device, dtype and length. All compute the same function up to rounding."""
    remat: Remat = "none"
    """Rematerialisation, what the backward pass recomputes: nothing; all but the outputs of dense layers (dots); or all
    layers (full)."""

    @property
    def first_position(self) -> int:
        """Row of the position table of a text's first token; RoBERTa and XLM-R count from pad_id + 1."""
        return self.pad_id + 1 if self.family in ("roberta", "xlm-roberta") else 0

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        return self.max_positions - self.first_position


@dataclass(frozen=True)
class HeadConfig:
    """Retrieval head, from hidden states to vectors: late interaction (one per token), or one pooled vector."""

    projection: int = 0
    """Width of the projection; 0 keeps the encoder's own width."""
    projection_bias: bool = False
    """The projection has a bias, as in SigLIP's text tower."""
    pooling: Literal["none", "mean", "cls", "eos", "last", "map"] = "none"
    """`none` gives one vector per token or patch (late interaction); the others one per text or image: the mean, the
    first token (`cls`), the end-of-text token (`eos`, CLIP's texts), the last position (`last`, SigLIP's texts), or
    attention pooling by a learned query (`map`, SigLIP's images)."""
    query_marker_id: int | None = None
    """Token id inserted after [CLS] on queries (ColBERT's [Q]); None inserts nothing."""
    document_marker_id: int | None = None
    query_length: int = 64
    """Queries are truncated to this many tokens, special tokens and marker included."""
    document_length: int = 256
    augment_queries: bool = False
    """Pad queries to query_length with [MASK] tokens whose vectors count (ColBERT's query augmentation)."""
    attend_to_augmentation: bool = False
    """Let the other tokens attend to those [MASK] tokens."""
    skip_punctuation: bool = False
    """Drop the vectors of punctuation tokens of documents."""
    special_tokens: bool = True
    """Keep the vectors of [CLS], [SEP] and the markers."""
    masses: Literal["none", "norm", "learned"] = "none"
    """Token weights for optimal transport: those of the inputs (none), the norm of the vectors before normalisation, or
    logits by a trained linear map of the vectors (a parameter of the head)."""


@dataclass(frozen=True)
class TowerConfig:
    """Config of a tower, an encoder and its head, as `encode_tokens` takes it."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)

    @property
    def vector_width(self) -> int:
        """E, the width of a token vector, which student and teacher share."""
        return self.head.projection or self.encoder.width


def identity(cfg: TowerConfig) -> dict[str, Any]:
    """The part of a config that determines a tower's outputs, for cache keys: all but attention and remat."""
    found = to_json(cfg)
    for name in ("attention", "remat"):
        del found["encoder"][name]
    # Fields added later are left out at their defaults, so that existing caches stay valid.
    for part, name, without in (
        ("head", "masses", "none"),
        ("head", "projection_bias", False),
        ("encoder", "eos_id", None),
    ):
        if found[part].get(name) == without:
            found[part].pop(name, None)
    return found


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Shape of a vision transformer (ViT), as the ``vision_config`` of a Hugging Face ``config.json``."""

    family: Literal["clip", "siglip"] = "clip"
    image_size: int = 224
    """Height and width in pixels of the images that the position table is for."""
    patch_size: int = 32
    """Height and width in pixels of a patch. Incomplete patches at the right and lower edge are cropped."""
    interpolate: bool = False
    """Accept images of other sizes too, by bicubic interpolation of the position embeddings; else they are an error."""
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5
    dtype: Dtype = "float32"
    """As in `EncoderConfig`, with the two below."""
    attention: Attention = "auto"
    remat: Remat = "none"

    @property
    def grid(self) -> int:
        """Patches per side of an image of `image_size`."""
        return self.image_size // self.patch_size


AnyEncoderConfig = EncoderConfig | ImageEncoderConfig
"""Both have the fields that blocks, attention and heads need, by the same names."""


@dataclass(frozen=True)
class ImageTowerConfig(TowerConfig):
    """Config of an image tower; its vectors are used like those of any tower."""

    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)  # pyright: ignore
