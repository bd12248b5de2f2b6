"""Command-line flags of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExportCommand:
    """Export a run's trained student or teacher as a Hugging Face folder: weights, tokenizer, model card.

    transformers.AutoModel loads it with the same hidden states, PyLate and Sentence Transformers 6 with the same token
    vectors. An image-text teacher is exported as a folder with both towers, text/ and image/, each in this format.
    """

    run: str
    """Run folder."""
    out: str
    """Output folder; of an earlier export there, the files that it wrote are replaced."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a step number."""
    dtype: Literal["float32", "float16"] = "float32"
    """Data type of the exported weights; float16 halves their size."""
    license: str = ""
    """Licence of the weights on the model card, such as cc-by-4.0; `licences` of the run states those of its parts."""
