"""Teach a student a language from bitext: python train.py --config configs/x.py --run runs/x"""

import sys

from optical_jax.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
