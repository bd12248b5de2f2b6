"""A tiny pair of towers with random weights, and a tiny set of pictures with captions in two languages."""

import json
from pathlib import Path

import jax
import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, ImageEncoderConfig, ImageTowerConfig, TowerConfig
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.models.formats.export import export_pair
from optical_jax.models.formats.pretrained import Pair, Pretrained
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from tests.helpers.source_folders import jsonl, put

NOUNS = {"sun": "jua", "rain": "mvua", "dog": "mbwa", "cat": "paka", "tree": "mti", "house": "nyumba", "fish": "samaki"}
COLOURS = {"red": "nyekundu", "green": "kijani", "blue": "buluu", "white": "nyeupe"}
NAMES = [(f"{colour} {noun}", f"{NOUNS[noun]} {COLOURS[colour]}") for noun in NOUNS for colour in COLOURS]
"""English and Swahili names of 28 things."""
TRAIN = 24
"""Of them; the others are the dev split."""
SIZE, PATCH, WIDTH = 8, 4, 16
"""Of the pictures and patches in pixels, and of all vectors."""


def write_pair(folder: Path, seed: int = 0, pictures_seed: int | None = None) -> Path:
    """CLIP's files, with the tokenizer of `NAMES`; with `pictures_seed` another tower beside the same of texts."""
    tokenizer = train_vocabulary([english for english, _ in NAMES], 100)
    sizes = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "activation": "quick_gelu", "norm_eps": 1e-5}
    text = TowerConfig(
        EncoderConfig("clip", len(tokenizer), max_positions=16, eos_id=tokenizer.sep_token_id, **sizes),
        HeadConfig(projection=WIDTH, pooling="eos", query_length=16, document_length=16),
    )
    image = ImageTowerConfig(
        ImageEncoderConfig("clip", SIZE, PATCH, **sizes), HeadConfig(projection=WIDTH, pooling="cls")
    )
    towers = []
    for n, cfg in enumerate((text, image)):
        start = seed if n == 0 or pictures_seed is None else pictures_seed
        rng = np.random.default_rng((start, n))
        params = jax.tree.map(np.asarray, init_params(tower_specs(cfg), jax.random.key(start + n)))
        # As drawn it takes all pictures for nearly one.
        params = jax.tree.map(lambda x, rng=rng: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32), params)
        towers.append(Pretrained(params, cfg, None, folder))
    export_pair(Pair(*towers, logits={"logit_scale": np.float32(1.0)}), tokenizer, folder)
    # As exported, a folder is read as it was whatever pooling is asked for; CLIP's own has no such file.
    (folder / "optical_jax.json").unlink()
    recipe = {"do_resize": False, "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}}
    recipe |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "CLIPImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    return folder


def write_images(folder: Path, languages=("en", "sw"), seed: int = 0) -> Path:
    """captions.LANG.SPLIT.jsonl and images.SPLIT.npz."""
    rng = np.random.default_rng(seed)
    for split, some in (("train", NAMES[:TRAIN]), ("dev", NAMES[TRAIN:])):
        ids = [english.replace(" ", "-") for english, _ in some]
        put(
            folder,
            {
                f"captions.{language}.{split}.jsonl": jsonl(
                    *({"_id": one, "text": texts[language != "en"]} for one, texts in zip(ids, some, strict=True))
                )
                for language in languages
            },
        )
        images = rng.integers(0, 256, (len(ids), SIZE, SIZE, 3), dtype=np.uint8)
        np.savez(folder / f"images.{split}.npz", ids=ids, images=images)
    return folder
