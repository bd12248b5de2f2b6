"""What a model is: the shape of an encoder, its head, a tower of both."""

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
    """Shape of one Transformer encoder of texts, as a Hugging Face ``config.json`` states it.

    BERT and its kin are post-norm; the text encoders of CLIP and SigLIP are pre-norm, the former causal.
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
    """What padding is to RoBERTa and XLM-R, which count places by it, and to SigLIP, which reads it."""
    eos_id: int | None = None
    """CLIP: the id whose first token stands for a pooled text. 2 means the highest id of the text instead, as the first
    checkpoints have it, which name a wrong one."""
    dtype: Dtype = "float32"
    """Type of activations; parameters, softmax and norms stay float32."""
    attention: Attention = "auto"
    """How tokens read each other: plain products (xla), or a kernel that keeps no scores, on NVIDIA (cudnn) or TPU
    (splash). `auto` decides by device, type and length. All are one function up to rounding."""
    remat: Remat = "none"
    """What the backward pass computes again instead of finding it kept: nothing; all but the outputs of dense maps
    (dots); or whole layers (full)."""

    @property
    def first_position(self) -> int:
        """Row of the position table that a text begins at. RoBERTa and XLM-R count from pad_id + 1."""
        return self.pad_id + 1 if self.family in ("roberta", "xlm-roberta") else 0

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        return self.max_positions - self.first_position


@dataclass(frozen=True)
class HeadConfig:
    """From hidden states to the vectors that are compared: late interaction, or one pooled vector."""

    projection: int = 0
    """Width of the projection; 0 keeps the encoder's own width."""
    projection_bias: bool = False
    """The projection adds a bias, as that of SigLIP's texts."""
    pooling: Literal["none", "mean", "cls", "eos", "last", "map"] = "none"
    """`none` gives a vector a token or patch (late interaction); the others one a text or picture: the mean's, the
    first token's (`cls`), the end-of-text token's (`eos`, CLIP's texts), that of the last position (`last`, SigLIP's
    texts), or a learned query's (`map`, SigLIP's pictures)."""
    query_marker_id: int | None = None
    """Token id inserted after [CLS] on queries (ColBERT's [Q]); None inserts nothing."""
    document_marker_id: int | None = None
    query_length: int = 64
    """Queries are cut to this many tokens, special tokens and marker included."""
    document_length: int = 256
    augment_queries: bool = False
    """Fill queries up to query_length with [MASK] tokens, whose vectors count (ColBERT's query augmentation)."""
    attend_to_augmentation: bool = False
    """Let the other tokens attend to those [MASK] tokens."""
    skip_punctuation: bool = False
    """Drop the vectors of punctuation tokens of documents."""
    special_tokens: bool = True
    """Keep the vectors of [CLS], [SEP] and the markers."""
    masses: Literal["none", "norm", "learned"] = "none"
    """What vectors carry as weight beside what their inputs do: nothing, their length before it is made one, or the
    logit of a linear map of theirs that is learned with the rest (a parameter of the head)."""


@dataclass(frozen=True)
class TowerConfig:
    """An encoder and its head: all that `encode_tokens` needs beside parameters and inputs."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)

    @property
    def vector_width(self) -> int:
        """E, the width of a token vector. Student and teacher must agree in it."""
        return self.head.projection or self.encoder.width


def identity(cfg: TowerConfig) -> dict[str, Any]:
    """What tells a tower's function from others', beside its weights: all but how it is computed."""
    found = to_json(cfg)
    for name in ("attention", "remat"):
        del found["encoder"][name]
    # As before there was a choice, so that what was kept by identity stays valid.
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
    """Shape of one vision transformer (ViT), as the ``vision_config`` of a Hugging Face ``config.json`` states it."""

    family: Literal["clip", "siglip"] = "clip"
    image_size: int = 224
    """Height and width in pixels of the pictures that the position table is for."""
    patch_size: int = 32
    """Height and width in pixels of a patch. What is left of a picture at its right and lower edge is not read."""
    interpolate: bool = False
    """Read pictures of other sizes too, with the position table resized to them (bicubic); else they are refused."""
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
        """Patches along a side of a picture of `image_size`."""
        return self.image_size // self.patch_size


AnyEncoderConfig = EncoderConfig | ImageEncoderConfig
"""What blocks, attention and heads need of an encoder both have, by the same names."""


@dataclass(frozen=True)
class ImageTowerConfig(TowerConfig):
    """A tower whose encoder reads pictures: all that is done with the vectors of a tower is done with its own."""

    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)  # pyright: ignore
