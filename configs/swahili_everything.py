"""Swahili from all the bitext at hand (40.7k pairs), part of it non-commercial or of doubtful copyright.

python train.py --config configs/swahili_everything.py --run runs/swahili_everything

Weights from this run must not be published; docs/data.md says which sets are why. Otherwise as configs/swahili.py.
"""

from dataclasses import replace

import swahili

from optical_jax.config import Config, DataConfig


def get_config() -> Config:
    sets = (*swahili.SHIPPABLE, "bible", "mafand_nc")
    return replace(
        swahili.get_config(),
        run="runs/swahili_everything",
        data=DataConfig(bitext=swahili.bitext(*sets)),
        licences=swahili.licences(*sets),
    )
