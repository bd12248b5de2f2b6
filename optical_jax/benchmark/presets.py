"""Benchmark presets: four sizes of towers, and bitext for them, from a file or random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from optical_jax.config import DataConfig, EncoderConfig, HeadConfig, TowerConfig
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs, TokenSide, take_texts, tokenize_pairs
from optical_jax.errors import ConfigError, DataError
from optical_jax.types import Params

if TYPE_CHECKING:
    from optical_jax.data.text.bitext import Bitext

Preset = Literal["tiny", "mini", "base", "large"]

VECTOR_WIDTH = 128
MAX_LENGTH = 64

ENCODERS: dict[str, EncoderConfig] = {
    "tiny": EncoderConfig(vocab_size=1000, width=64, layers=2, heads=4, mlp_width=256),
    # all-MiniLM-L6-v2
    "mini": EncoderConfig(width=384, layers=6, heads=12, mlp_width=1536),
    # XLM-R
    "base": EncoderConfig(
        "xlm-roberta", 250_002, 768, 12, 12, 3072, max_positions=514, type_vocab_size=1, norm_eps=1e-5, pad_id=1
    ),
    "large": EncoderConfig(
        "xlm-roberta", 250_002, 1024, 24, 16, 4096, max_positions=514, type_vocab_size=1, norm_eps=1e-5, pad_id=1
    ),
}

MEAN_LENGTHS = (50.0, 31.0)
"""Mean tokens of random pairs' sides before truncation, as of TICO-19's Swahili and English in BERT's vocabulary."""


@dataclass(frozen=True)
class Work:
    """Inputs of a benchmark: towers, their parameters, and tokenised pairs."""

    tower: TowerConfig
    student: Params
    teacher: Params
    pairs: TokenizedPairs
    source: str
    """Source of the pairs."""


def preset_tower(preset: Preset, dtype: Literal["float32", "bfloat16"]) -> TowerConfig:
    """Tower config of both sides."""
    if preset not in get_args(Preset):
        raise ConfigError(f"preset={preset} is not valid; use one of {', '.join(get_args(Preset))}")
    return TowerConfig(
        replace(ENCODERS[preset], dtype=dtype), HeadConfig(projection=VECTOR_WIDTH, document_length=MAX_LENGTH)
    )


def make_work(preset: Preset, dtype: Literal["float32", "bfloat16"], bitext: str, teacher: str, pairs: int) -> Work:
    """Towers and the first `pairs` pairs of a file, repeated if it has fewer.

    Preset mini takes the weights of `teacher` for both sides; otherwise weights are random.

    Raises:
      ConfigError, DataError: no such folder, file or preset.
    """
    import jax

    from optical_jax.models.late_interaction import tower_specs
    from optical_jax.params import init_params

    tower = preset_tower(preset, dtype)
    if teacher and preset == "mini":
        from optical_jax.models.formats.pretrained import open_model

        found = open_model(teacher).tower()
        encoder = replace(found.cfg.encoder, dtype=dtype)
        tower = replace(tower, encoder=encoder)
        head = {"head": tower_specs(tower)["head"]}
        student, frozen = ({**found.params, **init_params(head, jax.random.key(seed))} for seed in (1, 2))
    else:
        student, frozen = (init_params(tower_specs(tower), jax.random.key(seed)) for seed in (1, 2))
    if not bitext:
        return Work(tower, student, frozen, drawn_pairs(pairs, tower.encoder), "drawn")
    return Work(tower, student, frozen, read_pairs(bitext, teacher, pairs, tower), bitext)


def read_pairs(bitext: str, teacher: str, count: int, tower: TowerConfig) -> TokenizedPairs:
    """The first `count` pairs of a file, tokenised by the tokenizer of `teacher` on both sides."""
    from optical_jax.data.tokenization import load_tokenizer
    from optical_jax.models.formats.finding import find_folder

    if not teacher:
        raise ConfigError("bitext is given, but no tokenizer for it; name a folder with one: --teacher DIR")
    tokenizer = load_tokenizer(find_folder(teacher, None))
    if max(tokenizer.get_vocab().values()) >= tower.encoder.vocab_size:
        raise ConfigError(
            f"teacher={teacher}: its tokenizer has more ids than the preset's {tower.encoder.vocab_size}; "
            "use preset mini, base or large"
        )
    side = TokenSide(tokenizer, HeadConfig(), MAX_LENGTH)
    found = read_language(bitext)
    first = replace(found, english=found.english[:count], foreign=found.foreign[:count])
    return first_pairs(tokenize_pairs(first, side, side), count)


def read_language(bitext: str) -> Bitext:
    """Read all pairs of a file.

    Raises:
      DataError: the file has more than one language.
    """
    from optical_jax.data.text.bitext import read_bitext

    everything = DataConfig(bitext=(bitext,), dev_pairs=0, max_length_ratio=1e9, keep_equal=True)
    found = list(read_bitext(everything).values())
    if len(found) != 1:
        raise DataError(f"{bitext} has {len(found)} languages; use a file of one")
    return found[0]


def first_pairs(pairs: TokenizedPairs, count: int) -> TokenizedPairs:
    which = np.arange(count) % len(pairs)
    return TokenizedPairs(take_texts(pairs.student, which), take_texts(pairs.teacher, which))


def drawn_pairs(count: int, encoder: EncoderConfig) -> TokenizedPairs:
    """Random pairs with the length distribution of real bitext: correlated sides, truncated at MAX_LENGTH."""
    rng = np.random.default_rng(0)
    common = rng.gamma(4.0, 0.25, count)

    def side(mean: float) -> FlatTokens:
        lengths = np.clip(np.rint(mean * common * rng.normal(1.0, 0.1, count)), 4, MAX_LENGTH).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = rng.integers(5, encoder.vocab_size, offsets[-1]).astype(np.int32)
        return FlatTokens(ids, offsets, None, None, encoder.pad_id)

    return TokenizedPairs(side(MEAN_LENGTHS[0]), side(MEAN_LENGTHS[1]))
