"""Evaluate a run or a model on a collection: python eval.py --run runs/x --collection DIR --lang sw"""

import sys

from optical_jax.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
