"""Make configs/tiny/teacher: a random encoder of two layers, and a vocabulary of its bitext's English sentences.

python tests/reference/make_tiny_teacher.py

Random weights still tell words apart (each word has a vector of its own), so that MaxSim under them works as word
matching does: enough for a run that must take seconds.
"""

from pathlib import Path

import jax
import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.models.formats.export import save_tower
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params

TINY = Path(__file__).parents[2] / "configs" / "tiny"


def main() -> None:
    files = (TINY / "sw.train.tsv", TINY / "sw.dev.tsv")
    english = [line.split("\t")[0] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    tokenizer = train_vocabulary(english, vocab_size=200, lowercase=True)
    encoder = EncoderConfig(
        vocab_size=len(tokenizer),
        width=48,
        layers=2,
        heads=4,
        mlp_width=96,
        max_positions=64,
        pad_id=tokenizer.pad_token_id,
    )
    cfg = TowerConfig(encoder, HeadConfig(query_length=32, document_length=32))
    params = jax.tree.map(np.asarray, init_params(tower_specs(cfg), jax.random.key(0)))
    save_tower(params, cfg, tokenizer, TINY / "teacher")


if __name__ == "__main__":
    main()
