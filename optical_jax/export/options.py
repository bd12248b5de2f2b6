"""Flags of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExportCommand:
    """Write a run's student (or its teacher in training) as a Hugging Face folder: weights, tokenizer, model card.

    transformers.AutoModel loads it with the same hidden states, Sentence Transformers 6 with the same token vectors. Of
    an image-text teacher's run: a folder of both its towers, text/ and image/, each such a folder.
    """

    run: str
    """Run folder."""
    out: str
    """Folder to write; an earlier export there is replaced."""
    checkpoint: str = "last"
    """Which checkpoint: last, best, or a step."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type the weights are written in; float16 halves the folder."""
    license: str = ""
    """Licence of the weights, for the model card, such as cc-by-4.0; the run's `licences` are those of its parts."""
