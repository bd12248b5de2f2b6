"""Any number of pictures to blocks of vectors: the same as all at once, in order, and never many in memory."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np
import pytest

from optical_jax.config import HeadConfig, ImageEncoderConfig, ImageTowerConfig, MeshConfig
from optical_jax.data.pixels import HALF, PictureRecipe, picture_pixels
from optical_jax.errors import ConfigError, DataError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh
from optical_jax.retrieval.search import rank
from optical_jax.towers.images import AHEAD, encode_images
from optical_jax.towers.tower import Tower, encode
from tests import ROOT

CFG = ImageTowerConfig(
    ImageEncoderConfig(image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=32), HeadConfig(projection=8)
)
RECIPE = PictureRecipe((8, 8), None, mean=HALF, std=HALF)
TOWER = Tower(init_params(tower_specs(CFG), jax.random.key(0)), CFG, recipe=RECIPE)
IDS = [f"p{n}" for n in range(21)]


class Drawn(Mapping):
    """Noise, drawn when it is asked for; counts how often, and how many of them were decoded at most unasked for."""

    def __init__(self, ids, broken=""):
        self.ids, self.broken, self.asked, self.lock = list(ids), broken, [], threading.Lock()

    def __getitem__(self, identity):
        with self.lock:
            self.asked.append(identity)
        if identity == self.broken:
            raise DataError(f"{identity}: broken")
        return np.random.default_rng(int(identity[1:])).integers(0, 256, (10, 12, 3), np.uint8)

    def __iter__(self):
        return iter(self.ids)

    def __len__(self):
        return len(self.ids)


def all_at_once(tower):
    drawn = Drawn(IDS)
    return encode(tower, np.stack([picture_pixels(drawn[one], RECIPE) for one in IDS]), batch_size=8)


def by_position(blocks):
    found = {}
    for block in blocks:
        vectors, mask = np.asarray(block.vectors.vectors), np.asarray(block.vectors.mask)
        found |= {int(n): row[real] for n, row, real in zip(block.positions, vectors, mask, strict=True)}
    return found


@pytest.mark.parametrize("batch", [4, 21, 64])
def test_the_vectors_are_those_of_all_pictures_at_once(batch):
    pictures, told = Drawn(IDS), []
    found = by_position(encode_images(TOWER, pictures, IDS, batch_size=batch, threads=3, advance=told.append))
    assert sorted(found) == list(range(len(IDS)))
    assert sorted(pictures.asked) == sorted(IDS)
    assert sum(told) == len(IDS)
    for n, vectors in enumerate(np.asarray(all_at_once(TOWER).vectors)):
        np.testing.assert_allclose(found[n], vectors, atol=1e-6)


def test_pooled_vectors_point_where_the_mean_points():
    found = by_position(encode_images(TOWER, Drawn(IDS), IDS, pooled=True, batch_size=8))
    means = np.asarray(all_at_once(TOWER).vectors).mean(axis=1)
    for n, mean in enumerate(means):
        assert found[n].shape == (1, 8)
        np.testing.assert_allclose(found[n][0], mean / np.linalg.norm(mean), atol=1e-5)


def test_over_a_mesh_it_is_the_same():
    alone = by_position(encode_images(TOWER, Drawn(IDS), IDS, batch_size=5))
    with jax.set_mesh(make_mesh(MeshConfig())):
        spread = by_position(encode_images(TOWER, Drawn(IDS), IDS, batch_size=5))
    for n, vectors in alone.items():
        np.testing.assert_allclose(spread[n], vectors, atol=1e-6)


def test_blocks_are_ranked():
    """Every picture finds itself first: MaxSim with itself is the number of its patches."""
    queries = list(encode_images(TOWER, Drawn(IDS), IDS))
    found = rank({"": queries}, IDS, encode_images(TOWER, Drawn(IDS), IDS))[""]
    assert found.documents[:, 0].tolist() == list(range(len(IDS)))
    np.testing.assert_allclose(found.scores[:, 0], 4.0, atol=1e-5)


def test_few_pictures_are_decoded_ahead(monkeypatch):
    """Whoever takes one block at a time has all the others waiting, but for a few batches."""
    monkeypatch.setattr("optical_jax.towers.images.rows_of", lambda length: 2)
    ids = [f"p{n}" for n in range(60)]
    pictures = Drawn(ids)
    taken = 0
    for block in encode_images(TOWER, pictures, ids, batch_size=2, threads=4):
        # What was handed over, what the device works on, and what is decoded or waited for.
        assert len(pictures.asked) <= taken + 2 * (1 + AHEAD + AHEAD)
        taken += len(block.positions)
    assert taken == 60


def test_a_broken_picture_is_named_and_an_early_stop_ends():
    with pytest.raises(DataError, match="p9: broken"):
        list(encode_images(TOWER, Drawn(IDS, broken="p9"), IDS, batch_size=4))
    blocks = encode_images(TOWER, Drawn(IDS), IDS, batch_size=4)
    next(blocks)
    blocks.close()


def test_what_cannot_be_encoded():
    with pytest.raises(ConfigError, match="has no image preprocessing"):
        next(encode_images(replace(TOWER, recipe=None), Drawn(IDS), IDS))
    with pytest.raises(ConfigError, match="batch_size=0"):
        next(encode_images(TOWER, Drawn(IDS), IDS, batch_size=0))
    assert list(encode_images(TOWER, Drawn([]), [])) == []


@pytest.mark.slow
def test_ten_thousand_pictures_take_little_memory():
    """Of 256 x 256 pixels: decoded at once they would be 2 GB, their pixels 7.8 GB, their vectors 1.3."""
    code = """
import numpy as np, jax
from tests.towers.test_images import Drawn
from optical_jax.config import HeadConfig
from optical_jax.data.pixels import HALF, PictureRecipe
from optical_jax.config import ImageEncoderConfig, ImageTowerConfig
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.towers.images import encode_images
from optical_jax.towers.tower import Tower

class Large(Drawn):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    def __getitem__(self, identity):
        return self.noise.copy()

encoder = ImageEncoderConfig(image_size=256, patch_size=32, width=32, layers=1, heads=2, mlp_width=32)
cfg = ImageTowerConfig(encoder, HeadConfig(projection=512))
recipe = PictureRecipe((256, 256), None, mean=HALF, std=HALF)
tower = Tower(init_params(tower_specs(cfg), jax.random.key(0)), cfg, recipe=recipe)
ids = [f"p{n}" for n in range(10_000)]
assert sum(len(block.positions) for block in encode_images(tower, Large(ids), ids)) == 10_000
# Not ru_maxrss, which a process begins with that of the one that started it.
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) // 1024)
"""
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert int(out.stdout) < 1500
