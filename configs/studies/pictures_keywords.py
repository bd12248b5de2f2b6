"""Do keywords beside captions bring low-resource students nearer to the pictures?

python -m optical_jax study configs/studies/pictures_keywords.py --workers 2

Two arms of configs/studies/pictures_more.py with three seeds: captions alone, and with the keywords that CLDR has
beside the names of emoji. Needs what that study needs. 54 runs of under a minute. Results: docs/results-images.md.
"""

from dataclasses import replace

import pictures
import pictures_more

from optical_jax.studies.design import Study


def get_study() -> Study:
    return replace(
        pictures_more.get_study(),
        folder="runs/studies/pictures_keywords",
        title="Do keywords bring low-resource students nearer to the pictures?",
        question=(
            "Most names that a student misses have a word which no name it learned from has. Does it find more "
            "pictures if it learns the keywords of the same emoji beside their names?"
        ),
        arms=tuple(arm for arm in pictures_more.ARMS if arm.name in ("captions", "keywords")),
        seeds=(0, 1, 2),
        data=f"{pictures.DATA} One arm learns the keywords of the emoji whose names it learns beside these.",
    )
