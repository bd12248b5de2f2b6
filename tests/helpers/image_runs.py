"""Tiny pairs of towers, runs taught by them, and a drawn set of pictures with captions in several languages."""

import json
from pathlib import Path

import jax
import numpy as np

from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    ImageEncoderConfig,
    ImageTowerConfig,
    TowerConfig,
    to_json,
)
from optical_jax.data.pixels import HALF, PictureRecipe
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.models.formats.export import save_tower
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from tests.commands.test_evaluate import PAIRS, STEP, add_checkpoint

ENGLISH, SWAHILI = (list(texts) for texts in zip(*PAIRS, strict=True))
SIDE, PATCH = 12, 4
RECIPE = PictureRecipe(resize=SIDE, crop=(SIDE, SIDE), resample="bilinear", mean=HALF, std=HALF)
NAMES = [f"p{n}" for n in range(6)]


def text_config(pooling="none") -> TowerConfig:
    encoder = EncoderConfig(vocab_size=120, width=16, layers=1, heads=2, mlp_width=32, max_positions=32)
    return TowerConfig(encoder, HeadConfig(projection=8, query_length=32, document_length=32, pooling=pooling))


def image_config(pooling="none") -> ImageTowerConfig:
    encoder = ImageEncoderConfig(image_size=SIDE, patch_size=PATCH, width=16, layers=1, heads=2, mlp_width=32)
    return ImageTowerConfig(encoder, HeadConfig(projection=8, pooling=pooling))


def draw(cfg: TowerConfig, seed: int):
    """Far enough from nothing that pictures and texts differ."""
    params = init_params(tower_specs(cfg), jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + 0.2 * rng.standard_normal(x.shape).astype(np.float32), params)


def write_image_tower(folder: Path, seed: int, pooling="none") -> Path:
    cfg = image_config(pooling)
    save_tower(draw(cfg, seed), cfg, None, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(RECIPE.to_json()))
    return folder


def make_pair(folder: Path, seed: int, interaction="tokens", pooling=("none", "none")) -> Path:
    """A pair of ours: text/, image/ and pair.json."""
    cfg = text_config(pooling[0])
    save_tower(draw(cfg, seed), cfg, train_vocabulary(ENGLISH, 120, True), folder / "text")
    write_image_tower(folder / "image", seed + 1, pooling[1])
    (folder / "pair.json").write_text(json.dumps({"interaction": interaction, "logit_scale": 2.0}))
    return folder


def make_student_run(folder: Path, seed: int, *, with_image=True) -> Path:
    """A student taught by the texts of a pair, whose tower of pictures lies beside its teacher."""
    cfg = text_config()
    save_tower(draw(cfg, seed), cfg, train_vocabulary(ENGLISH, 120, True), folder / "teacher")
    save_tower(draw(cfg, seed + 1), cfg, train_vocabulary(SWAHILI, 120, True), folder / "student")
    if with_image:
        write_image_tower(folder / "teacher" / "image", seed + 3)
    (folder.parent / "sw.train.tsv").write_text("\n".join(map("\t".join, PAIRS)) + "\n", "utf-8")
    config = to_json(Config(run=str(folder), data=DataConfig(bitext=(str(folder.parent / "sw.train.tsv"),))))
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    add_checkpoint(folder, STEP, draw(cfg, seed + 2))
    return folder


def make_teacher_run(folder: Path, seed: int, interaction="tokens") -> Path:
    """The training of an image-text teacher: both towers in model/, and in the checkpoint."""
    make_pair(folder / "model", seed, interaction)
    (folder / "config.json").write_text(json.dumps({"text": {}, "image": {}}), "utf-8")
    trained = {"text": draw(text_config(), seed + 10), "image": draw(image_config(), seed + 11)}
    add_checkpoint(folder, STEP, trained | {"loss": {"log_scale": np.float32(2.0)[None], "bias": np.zeros(1)}})
    return folder


def picture(n: int) -> np.ndarray:
    """A drawing: wide, high or square, of one colour with a bar in another."""
    rng = np.random.default_rng(n)
    height, width = [(12, 18), (20, 12), (14, 14)][n % 3]
    rgb = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    rgb[:, n : n + 3] = rng.integers(0, 256, 3)
    return rgb


def write_images(folder: Path, names=NAMES) -> Path:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        Image.fromarray(picture(n)).save(folder / f"{name}.png")
    return folder


CAPTIONS = {
    "en": [(name, ENGLISH[n], "") for n, name in enumerate(NAMES)],
    # Of p5 none; of p1 two, with ids of their own.
    "sw": [
        ("p0", SWAHILI[0], ""),
        ("p1", SWAHILI[1], "first"),
        ("p1", SWAHILI[6], "second"),
        *((name, SWAHILI[n], "") for n, name in enumerate(NAMES[:5]) if n > 1),
    ],
    "de": [(name, ENGLISH[n][::-1], "") for n, name in enumerate(NAMES)],
}


def write_captions(folder: Path, captions=CAPTIONS, split="dev") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for language, rows in captions.items():
        lines = [json.dumps({"_id": p, "text": t} | ({"caption_id": c} if c else {})) for p, t, c in rows]
        (folder / f"captions.{language}.{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def make_set(folder: Path) -> Path:
    write_images(folder / "images.dev")
    return write_captions(folder)
