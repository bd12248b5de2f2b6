"""A tiny set that is drawn: grounds of one colour with a bar of another, and captions that name both."""

import itertools
import json
from pathlib import Path

import numpy as np

COLOURS = {
    "red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40), "white": (250,) * 3,
    "black": (10,) * 3,
}  # fmt: skip
EDGE = 24


def picture(ground: str, bar: str, upright: bool) -> np.ndarray:
    drawn = np.empty((EDGE, EDGE, 3), np.uint8)
    drawn[:] = COLOURS[ground]
    middle = slice(EDGE // 3, 2 * EDGE // 3)
    drawn[(slice(None), middle) if upright else middle] = COLOURS[bar]
    return drawn


def write_set(folder: Path, *, dev_every: int = 4, lang: str = "en") -> Path:
    """60 pictures, every so many of dev, each with two captions but for the first of a split, which has one."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [(g, b, u) for g, b in itertools.permutations(COLOURS, 2) for u in (True, False)]
    for split in ("train", "dev"):
        some = [one for n, one in enumerate(every) if (n % dev_every == 0) == (split == "dev")]
        ids = [f"{ground}-{bar}-{'up' if upright else 'flat'}" for ground, bar, upright in some]
        np.savez(folder / f"images.{split}.npz", ids=ids, images=np.stack([picture(*one) for one in some]))
        lines = [
            {"_id": name, "text": text}
            for n, (name, (ground, bar, upright)) in enumerate(zip(ids, some, strict=True))
            for text in (f"{bar} on {ground} {'up' if upright else 'flat'}", f"the {ground} with {bar}")[
                : 2 if n else 1
            ]
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"captions.{lang}.{split}.jsonl").write_text(text, encoding="utf-8")
    return folder
