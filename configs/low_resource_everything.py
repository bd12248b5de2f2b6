"""As configs/low_resource.py, with all the Swahili bitext at hand (82.1k pairs in all).

python train.py --config configs/low_resource_everything.py --run runs/low_resource_everything

Weights from this run must not be published; docs/data.md says which of the Swahili sets are why. For the other three
languages there is no bitext beyond what may ship.
"""

import low_resource

from optical_jax.config import Config


def get_config() -> Config:
    base = low_resource.get_config()
    extra = low_resource.files("sw", "bible", "mafand_nc")
    return low_resource.together((*base.data.bitext, *extra), "runs/low_resource_everything")
