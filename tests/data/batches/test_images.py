"""Batches of pictures with captions: what an epoch holds, resuming, processes, threads, broken pictures."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from optical_jax.config import DataConfig, HeadConfig
from optical_jax.data.batches.images import PixelRows, captions_in_order, make_image_loader
from optical_jax.data.images.captions import read_image_folder
from optical_jax.data.pixels import Augmentation, PictureRecipe, augmented_pixels, picture_pixels
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.errors import ConfigError, DataError
from tests.helpers.image_folders import encoded
from tests.helpers.source_folders import jsonl, put

RAW = PictureRecipe(resize=(6, 5), crop=None, resample="nearest", scale=None, mean=None, std=None)
HEAD = HeadConfig(query_length=20, document_length=20)
WORDS = [f"{a}{b}" for a in "bdfgjklmnprstvwz" for b in "aeiou"]
TOKENIZER = train_vocabulary([" ".join(WORDS)], 400)


@pytest.fixture
def flowers(tmp_path):
    """Picture n is of the grey n. In sw all 13 have one caption, in so 5 have 1 to 5 of them."""
    images = np.array([np.full((4, 7, 3), n) for n in range(13)], np.uint8)
    np.savez(tmp_path / "images.train.npz", ids=np.array([f"p{n}" for n in range(13)]), images=images)
    swahili = [{"_id": f"p{n}", "text": WORDS[n]} for n in range(13)]
    somali = [{"_id": f"p{n}", "text": f"{WORDS[n]} {WORDS[20 + m]}"} for n in range(5) for m in range(n + 1)]
    put(tmp_path, {"captions.sw.train.jsonl": jsonl(*swahili), "captions.so.train.jsonl": jsonl(*somali)})
    return tmp_path


def read(folder, *languages):
    return read_image_folder(folder, "train", languages)


def made(found, batch=4, seed=0, recipe=RAW, *, head=HEAD, data=None, **settings):
    return make_image_loader(
        found, TOKENIZER, head, recipe, DataConfig(global_batch=batch, **(data or {})), seed, **settings
    )


def take(loader, n):
    return list(itertools.islice(loader, n))


def shown(batch):
    """(picture, words of its caption) of every row, told by the pixels and the tokens."""
    pixels = batch.images.pixels
    assert pixels.shape[1:] == (6, 5, 3)
    assert pixels.dtype == np.float32
    assert (pixels == pixels[:, :1, :1, :1]).all()
    texts = TOKENIZER.batch_decode(batch.texts.ids, skip_special_tokens=True)
    return list(zip(pixels[:, 0, 0, 0].astype(int).tolist(), texts, strict=True))


def assert_same(a, b):
    np.testing.assert_array_equal(a.images.pixels, b.images.pixels)
    np.testing.assert_array_equal(a.texts.ids, b.texts.ids)
    np.testing.assert_array_equal(a.picture, b.picture)


# ---- what an epoch holds -----------------------------------------------------------------------------------------


def test_an_epoch_holds_every_picture_with_its_caption(flowers):
    """13 pictures in 16 places: the last 3 are the first of the next pass, so none comes twice more than another."""
    loader = made(read(flowers, "sw"))
    assert loader.epoch_size == 4
    times: Counter[int] = Counter()
    for epoch in range(13):
        rows = [row for batch in take(loader, 4) for row in shown(batch)]
        assert all(text == WORDS[picture] for picture, text in rows)
        times.update(picture for picture, _ in rows)
        assert len(times) == 13
        assert max(times.values()) - min(times.values()) == (epoch < 12)
    assert set(times.values()) == {16}


def test_captions_take_turns(flowers):
    """5 pictures in batches of 5: an epoch is a pass. After n passes each of n captions has come once."""
    loader = made(read(flowers, "so"), batch=5)
    passes = [dict(shown(batch)) for batch in take(loader, 20)]
    for picture in range(5):
        captions = {f"{WORDS[picture]} {WORDS[20 + m]}" for m in range(picture + 1)}
        met = [texts[picture] for texts in passes]
        for start in range(0, 20 - picture, picture + 1):
            assert set(met[start : start + picture + 1]) == captions
    first = {tuple(sorted(dict(shown(next(made(read(flowers, "so"), 5, seed)))).items())) for seed in range(12)}
    assert len(first) > 3


def test_languages_share_an_epoch(flowers):
    found = read(flowers)
    loader = made(found, batch=6)
    times = Counter(len(text.split()) for batch in take(loader, 3) for _, text in shown(batch))
    assert times == {1: 13, 2: 5}
    even = made(found, batch=6, data={"weights": ("sw=1", "so=1")})
    assert Counter(len(text.split()) for batch in take(even, 3) for _, text in shown(batch)) == {1: 9, 2: 9}
    assert len(captions_in_order(found)) == 13 + 1 + 2 + 3 + 4 + 5


def test_one_picture_has_one_number(flowers):
    numbers: dict[int, set[int]] = {}
    for batch in take(made(read(flowers), batch=6), 6):
        for (picture, _), number in zip(shown(batch), batch.picture.tolist(), strict=True):
            numbers.setdefault(picture, set()).add(number)
    assert sorted(len(of) for of in numbers.values()) == [1] * 13
    assert set.union(*numbers.values()) == set(range(13))


def test_order_is_drawn_by_epoch_and_seed(flowers):
    found = read(flowers, "sw")

    def order(seed):
        return [picture for batch in take(made(found, 13, seed), 2) for picture, _ in shown(batch)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[:13] != order(0)[13:]


def test_texts_have_one_padded_length(flowers):
    found = read(flowers, "so")
    tokens = max(len(TOKENIZER(text).input_ids) for text in captions_in_order(found))
    loader = made(found)
    assert loader.text_length == -(-tokens // 8) * 8
    for batch in take(loader, 4):
        assert batch.texts.ids.shape == (4, loader.text_length)
        assert (batch.texts.ids == TOKENIZER.pad_token_id).tolist() == (~batch.texts.attend).tolist()
    assert made(found, max_length=3).text_length == 3
    assert made(found, side="document", head=dataclasses.replace(HEAD, document_length=5)).text_length <= 5


# ---- resuming, processes, threads --------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 4, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_restored_it_goes_on_with_the_same_batches(flowers, position, threads):
    found, how = read(flowers), Augmentation()
    whole = take(made(found, augmentation=how, threads=threads), position + 3)
    loader = made(found, augmentation=how, threads=threads)
    take(loader, position)
    state = loader.state()
    assert state["next_batch"] == position
    again = made(found, augmentation=how, threads=1)
    again.restore(state)
    for a, b in zip(take(again, 3), whole[position:], strict=True):
        assert_same(a, b)


def test_a_position_of_other_data_is_refused(flowers):
    state = made(read(flowers)).state()
    for other in (
        made(read(flowers, "sw")),
        made(read(flowers), seed=1),
        made(read(flowers), batch=6),
        made(read(flowers), recipe=dataclasses.replace(RAW, resize=(5, 5))),
        made(read(flowers), augmentation=Augmentation()),
        made(read(flowers), data={"temperature": 2.0}),
    ):
        with pytest.raises(ConfigError, match="is of other pairs"):
            other.restore(state)
    made(read(flowers), threads=2).restore(state)


@pytest.mark.parametrize("processes", [2, 4])
def test_parts_of_the_processes_are_the_batch(flowers, processes):
    found, how = read(flowers), Augmentation()
    whole = take(made(found, augmentation=how), 6)
    parts = [take(made(found, augmentation=how, process_index=p, process_count=processes), 6) for p in range(processes)]
    for step, batch in enumerate(whole):
        mine = [part[step] for part in parts]
        np.testing.assert_array_equal(np.concatenate([b.images.pixels for b in mine]), batch.images.pixels)
        np.testing.assert_array_equal(np.concatenate([b.texts.ids for b in mine]), batch.texts.ids)
        np.testing.assert_array_equal(np.concatenate([b.picture for b in mine]), batch.picture)


def test_pixels_are_the_recipes_and_the_augmentations(tmp_path):
    """The key of a picture is made of the seed, the purpose, the batch and the row."""
    rgb = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    np.savez(tmp_path / "images.train.npz", ids=np.array(["a", "b", "c"]), images=rgb)
    put(tmp_path, {"captions.sw.train.jsonl": jsonl(*({"_id": name, "text": "ba"} for name in "abc"))})
    found, recipe, how = read(tmp_path), PictureRecipe(resize=16, crop=(16, 16)), Augmentation()
    (plain,), changed = take(made(found, 3, recipe=recipe), 1), take(made(found, 3, 7, recipe, augmentation=how), 2)
    for row, n in enumerate(plain.picture.tolist()):
        np.testing.assert_array_equal(plain.images.pixels[row], picture_pixels(rgb[n], recipe))
    for index, batch in enumerate(changed):
        for row, n in enumerate(batch.picture.tolist()):
            key = (7, 3944118809, index, row)
            np.testing.assert_array_equal(batch.images.pixels[row], augmented_pixels(rgb[n], recipe, how, key))


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_a_broken_picture_is_named(tmp_path):
    """Not a bug's traceback, though it comes out of a thread."""
    put(tmp_path, {"captions.sw.train.jsonl": jsonl(*({"_id": f"p{n}", "text": WORDS[n]} for n in range(4)))})
    (tmp_path / "images").mkdir()
    for n in range(4):
        (tmp_path / "images" / f"p{n}.png").write_bytes(encoded((n, n, n))[: None if n else 40])
    with pytest.raises(DataError, match=r"p0\.png: .*(corrupt|truncated)"):
        take(made(read(tmp_path), threads=2), 2)


def test_settings_that_cannot_be(flowers):
    with pytest.raises(ConfigError, match="text only"):
        made(read_image_folder(flowers, "train", text_only=True))
    for batch, processes in ((0, 1), (4, 3)):
        with pytest.raises(ConfigError, match=rf"data\.global_batch={batch} does not divide over {processes}"):
            made(read(flowers), batch, process_count=processes)
    with pytest.raises(ConfigError, match=r"data\.threads=0"):
        made(read(flowers), threads=0)
    with pytest.raises(ConfigError, match=r"data\.temperature=0"):
        made(read(flowers), data={"temperature": 0.0})


# ---- for evaluation ----------------------------------------------------------------------------------------------


def test_rows_of_pixels(flowers):
    rows = PixelRows(read(flowers).pictures, ["p7", "p2", "p7"], RAW)
    assert (len(rows), rows.shape, rows.dtype) == (3, (3, 6, 5, 3), np.float32)
    assert rows[0:2][:, 0, 0, 0].tolist() == [7, 2]
    assert rows[2:9].shape == (1, 6, 5, 3)
    assert rows[3:3].shape == (0, 6, 5, 3)


def test_the_real_pages(data_dir):
    """Pictures of many shapes, CLIP's recipe, two languages, one epoch of dev."""
    found = read_image_folder(data_dir / "imagetext" / "storybook_pages", "dev", ["sw", "so"])
    loader = made(found, 16, recipe=PictureRecipe(), augmentation=Augmentation(), head=HeadConfig(query_length=64))
    assert loader.epoch_size == 6  # 60 and 29 captions, one a picture
    for batch in take(loader, 6):
        assert batch.images.pixels.shape == (16, 224, 224, 3)
        assert np.isfinite(batch.images.pixels).all()
        assert abs(batch.images.pixels).max() < 3
