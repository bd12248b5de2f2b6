"""Do keywords beside captions bring low-resource students nearer to the images?

python -m optical_jax study configs/studies/pictures_keywords.py --workers 2

Two arms of configs/studies/pictures_more.py with three seeds: captions alone, and with the keywords that CLDR has
beside the names of emoji; and the latter with 25 pairs held out for a look at training, not a tenth, since nothing is
chosen by them here. Needs what that study needs. 81 runs of under a minute. Results: docs/results-images.md.
"""

from dataclasses import replace

import pictures
import pictures_more

from optical_jax.studies.design import Arm, Study

LEARNED = tuple(arm for arm in pictures_more.ARMS if arm.name in ("captions", "keywords"))


def holding_less_out(arm: Arm, dev_pairs: int) -> Arm:
    trials = {
        name: replace(config, data=replace(config.data, dev_pairs=dev_pairs)) for name, config in arm.trials.items()
    }
    return Arm(f"{arm.name}_whole", f"The same, of all train captions but {dev_pairs} pairs.", trials)


def get_study() -> Study:
    return replace(
        pictures_more.get_study(),
        folder="runs/studies/pictures_keywords",
        title="Do keywords bring low-resource students nearer to the images?",
        question=(
            "Most names that a student misses have a word which no name it learned from has. Does it find more "
            "images if it learns the keywords of the same emoji beside their names?"
        ),
        arms=(*LEARNED, holding_less_out(LEARNED[-1], 25)),
        seeds=(0, 1, 2),
        data=f"{pictures.DATA} Two arms learn the keywords of the emoji whose names they learn beside these, and one "
        "of these two has 25 pairs held out, not a tenth: its figures of dev pairs are of other pairs.",
    )
