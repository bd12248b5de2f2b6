"""Settings of an image-text teacher's loss, as frozen dataclasses. Imports the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageTextLossConfig:
    name: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: a caption's own picture among the batch's and a picture's own caption, as CLIP; sigmoid: every pair by
    itself, as SigLIP."""
    interaction: Literal["pooled", "tokens"] = "pooled"
    """What is compared: one mean vector a side (pooled), or each token with its best patch and each patch with its best
    token, as FILIP (tokens)."""
    temperature: float = 0.0
    """Cosines are divided by it at the start; 0 starts where the paper of `name` does (softmax 0.07, sigmoid 0.1)."""
    bias: float = -10.0
    """sigmoid: what is added to every divided cosine at the start; most pairs are no pairs, so below zero."""
    learn_scale: bool = True
    """Temperature and bias are learned with the rest; the temperature never falls below 0.01."""

    @property
    def start_temperature(self) -> float:
        return self.temperature or {"softmax": 0.07, "sigmoid": 0.1}[self.name]
