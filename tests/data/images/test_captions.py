"""The folder form of pictures with captions: what is read, and what is refused with file and line."""

import io
import json
import os
import shutil
import tarfile
import unicodedata

import numpy as np
import pytest
from PIL import Image

from optical_jax.data import rgb as decoding
from optical_jax.data.images.captions import Caption, read_image_folder
from optical_jax.data.images.finding import index_images
from optical_jax.errors import DataError
from tests.helpers.source_folders import jsonl, put

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255)}
SWAHILI = jsonl({"_id": "a", "text": "Nyekundu"}, {"_id": "b", "text": "Kijani "})
ENGLISH = jsonl(
    {"_id": "b", "text": "Green", "keywords": ["grass"]}, {"_id": "b", "text": "As grass"}, {"_id": "a", "text": "Red"}
)
CAPTIONS = {"captions.sw.dev.jsonl": SWAHILI, "captions.en.dev.jsonl.gz": ENGLISH, "captions.en.train.jsonl": ENGLISH}


def png(colour, size=(3, 2)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def write_tar(path, files, links=()):
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)


def write_folder(path):
    for name, colour in COLOURS.items():
        (path / name).with_suffix(".png").write_bytes(png(colour))


def put_images(folder, form):
    if form == "tar":
        write_tar(folder / "images.dev.tar", [(f"./{name}.png", png(colour)) for name, colour in COLOURS.items()])
    elif form == "npz":
        images = np.array([np.full((2, 3, 3), colour) for colour in COLOURS.values()], np.uint8)
        np.savez_compressed(folder / "images.dev.npz", ids=np.array(list(COLOURS)), images=images)
    else:
        (folder / form).mkdir()
        write_folder(folder / form)
        (folder / form / "README.txt").write_text("no picture")
        (folder / form / "._a.png").write_text("what a Mac leaves behind")


@pytest.mark.parametrize("form", ["tar", "npz", "images.dev", "images"])
def test_every_form_is_the_same_set(tmp_path, form):
    folder = put(tmp_path / "flowers", CAPTIONS)
    put_images(folder, form)
    found = read_image_folder(folder, "dev")
    assert (found.name, found.split) == ("flowers", "dev")
    assert found.captions == {
        "sw": {"a": Caption("a", "Nyekundu"), "b": Caption("b", "Kijani")},
        "en": {"b#0": Caption("b", "Green"), "b#1": Caption("b", "As grass"), "a": Caption("a", "Red")},
    }
    assert found.captions_of_images("en") == {"b": ["b#0", "b#1"], "a": ["a"]}
    # Pictures of the split alone are all in it; of a folder for every split those that its captions name.
    assert set(found.pictures) == (set("ab") if form == "images" else set("abc"))
    for name, rgb in found.pictures.items():
        np.testing.assert_array_equal(rgb, np.full((2, 3, 3), COLOURS[name], np.uint8), strict=True)
        assert name in found.pictures.where(name)
    packed = [f"images.dev.{form}"] if form in ("tar", "npz") else []
    assert {path.name for path in found.files} == {"captions.sw.dev.jsonl", "captions.en.dev.jsonl.gz", *packed}


def test_languages_and_splits(tmp_path):
    folder = put(tmp_path, CAPTIONS)
    put_images(folder, "images")
    assert list(read_image_folder(folder, "dev", ["sw"]).captions) == ["sw"]
    assert list(read_image_folder(folder, "train").captions) == ["en"]
    with pytest.raises(DataError, match=r"no captions\.sw\.train\.jsonl\[\.gz\]; its languages: en"):
        read_image_folder(folder, "train", ["sw"])
    with pytest.raises(DataError, match=r"no captions\.<lang>\.test\.jsonl\[\.gz\]; its splits: dev, train"):
        read_image_folder(folder, "test")


def test_text_alone_needs_no_pictures(tmp_path):
    folder = put(tmp_path, CAPTIONS)
    assert read_image_folder(folder, "dev", ["sw"], text_only=True).pictures is None
    with pytest.raises(DataError, match=r"no images\.dev\.tar, images\.dev\.npz, images\.dev and no images"):
        read_image_folder(folder, "dev", ["sw"])


def test_accents_are_composed_or_not(tmp_path):
    """A Mac calls the file e and an accent; an editor writes one letter."""
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": composed, "text": "x"})})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{apart}.png").write_bytes(png((9, 9, 9)))
    assert read_image_folder(tmp_path, "dev").pictures[composed].shape == (2, 3, 3)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    put(tmp_path, {"captions.sw.dev.jsonl": "\ufeff" + SWAHILI})
    assert list(read_image_folder(tmp_path, "dev", text_only=True).captions["sw"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        ("rose.jpeg", "did you mean 'rose.jpg'?"),
        ("leaf", "did you mean 'green/leaf.png'?"),
        ("green/rose", "did you mean 'rose.jpg'?"),
        ("sky", "add it, or remove the caption"),
    ],
)
def test_a_picture_that_is_not_there_may_have_another_name(tmp_path, identity, said):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": identity, "text": "x"})})
    for name in ("rose.jpg", "green/leaf.png"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "images" / name).write_bytes(png((9, 9, 9)))
    with pytest.raises(DataError) as error:
        read_image_folder(tmp_path, "dev")
    assert str(error.value).endswith(said)


def test_captions_under_a_name_that_is_none_are_not_passed_over(tmp_path):
    """The language is no code; the split is missing."""
    for name in ("captions.swahili.dev.jsonl", "captions.sw.jsonl.gz"):
        folder = put(tmp_path / name, {"captions.sw.dev.jsonl": SWAHILI, name: SWAHILI})
        with pytest.raises(DataError, match=rf"{name}: call it captions\.LANG\.SPLIT\.jsonl"):
            read_image_folder(folder, "dev", text_only=True)


def test_ids_with_the_endings_of_their_files(tmp_path):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "a.png", "text": "x", "caption_id": "one"})})
    put_images(tmp_path, "images")
    found = read_image_folder(tmp_path, "dev")
    assert found.captions == {"sw": {"one": Caption("a.png", "x")}}
    assert list(found.pictures) == ["a.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "a"', r"captions\.sw\.dev\.jsonl:2: not JSON \(.*, column \d+\); a line must be one JSON value"),
        ('["a", "x"]', r"captions\.sw\.dev\.jsonl:2: not a caption"),
        ('{"_id": "a"}', r"captions\.sw\.dev\.jsonl:2: not a caption"),
        ('{"_id": 7, "text": "x"}', r"captions\.sw\.dev\.jsonl:2: not a caption"),
        ('{"_id": "a", "text": "\\u200b\\u200d"}', r"captions\.sw\.dev\.jsonl:2: image 'a' has an empty caption"),
        ('{"_id": "a", "text": " "}', r"captions\.sw\.dev\.jsonl:2: image 'a' has an empty caption"),
        ('{"_id": "", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: image id '' is empty"),
        ('{"_id": " \\t", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: image id ' \\t' is empty"),
        ('{"_id": "a", "text": "x", "caption_id": " "}', r"captions\.sw\.dev\.jsonl:2: caption id ' ' is empty"),
        ('{"_id": "a b", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: image 'a b' is not in .*images"),
        ('{"_id": "a", "text": "x\\ud83d"}', r"captions\.sw\.dev\.jsonl:2: half a surrogate pair \(\\ud83d\)"),
        ('{"_id": "a\\ud83d", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: half a surrogate pair \(\\ud83d\)"),
        ('{"_id": "a", "text": "x", "n": ' + "1" * 5000 + "}", r"jsonl:2: not JSON that can be read \(a number"),
        ("[" * 100_000, r"captions\.sw\.dev\.jsonl:2: not JSON"),
        ('{"_id": "b", "text": "x", "caption_id": "1"}', r"jsonl:2: caption id '1' is already in .*jsonl:1"),
        ('{"_id": "1", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: caption id '1' is a duplicate"),
        ('{"_id": "d", "text": "x"}', r"captions\.sw\.dev\.jsonl:2: image 'd' is not in .*images"),
        ('{"_id": "a.png", "text": "x"}', r"jsonl:2: image 'a\.png' has the id 'a' in .*jsonl:1; use one id"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "a", "text": "y", "caption_id": "1"}) + line + "\n"})
    put_images(tmp_path, "images")
    with pytest.raises(DataError, match=message):
        read_image_folder(tmp_path, "dev")


@pytest.mark.parametrize("form", ["tar", "npz", "images.dev", "images"])
def test_names_with_spaces_have_ids_without(tmp_path, form):
    """Named with its ending or without; a caption's own id likewise."""
    rows = [{"_id": "red rose", "text": "Waridi", "caption_id": "rose 1"}, {"_id": "50% off.png", "text": "Bei"}]
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl(*rows)})
    files = {"red rose.png": (255, 0, 0), "50% off.png": (0, 255, 0), "not captioned.png": (0, 0, 255)}
    if form == "tar":
        write_tar(tmp_path / "images.dev.tar", [(name, png(colour)) for name, colour in files.items()])
    elif form == "npz":
        images = np.array([np.full((2, 3, 3), colour) for colour in files.values()], np.uint8)
        ids = ["red rose", "50% off.png", "not captioned"]
        np.savez(tmp_path / "images.dev.npz", ids=ids, images=images)
    else:
        (tmp_path / form).mkdir()
        for name, colour in files.items():
            (tmp_path / form / name).write_bytes(png(colour))
    found = read_image_folder(tmp_path, "dev")
    assert found.captions == {
        "sw": {"rose%201": Caption("red%20rose", "Waridi"), "50%25%20off.png": Caption("50%25%20off.png", "Bei")}
    }
    alone = {} if form == "images" else {"not%20captioned": (0, 0, 255)}
    colours = {"red%20rose": (255, 0, 0), "50%25%20off.png": (0, 255, 0), **alone}
    assert {name: tuple(rgb[0, 0]) for name, rgb in found.pictures.items()} == colours
    assert read_image_folder(tmp_path, "dev", text_only=True).captions == found.captions


def test_several_captions_of_a_name_with_a_space(tmp_path):
    rows = [{"_id": "red rose", "text": text} for text in ("Waridi", "Ua")]
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl(*rows)})
    found = read_image_folder(tmp_path, "dev", text_only=True)
    assert list(found.captions["sw"]) == ["red%20rose#0", "red%20rose#1"]


def test_a_file_name_that_is_not_utf8_is_named_as_it_is_printed(tmp_path):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "caf%E9", "text": "Kahawa"})})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(png((9, 9, 9)))
    found = read_image_folder(tmp_path, "dev")
    assert [rgb[0, 0, 0] for rgb in found.pictures.values()] == [9]


def test_a_picture_in_a_format_that_is_not_read_is_there_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "read_formats", lambda: ("JPEG", "PNG"))
    put(tmp_path, {"captions.en.dev.jsonl": jsonl({"_id": "goat", "text": "A goat"}, {"_id": "b", "text": "x"})})
    put_images(tmp_path, "images")
    (tmp_path / "images" / "goat.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x20meta")
    with pytest.raises(DataError) as error:
        read_image_folder(tmp_path, "dev")
    assert str(error.value) == (
        f"{tmp_path}/captions.en.dev.jsonl:1: image 'goat' is not in {tmp_path}/images; goat.heic is there, and is not "
        "read (HEIC, which needs pip install 'optical_jax[heic]'; or save it as JPEG)"
    )


def test_empty_captions(tmp_path):
    put(tmp_path, {"captions.sw.dev.jsonl": "\n"})
    put_images(tmp_path, "images")
    with pytest.raises(DataError, match=r"captions.sw.dev.jsonl is empty"):
        read_image_folder(tmp_path, "dev")


@pytest.mark.parametrize("named", ["a", "rose"])
def test_two_pictures_that_would_be_one_are_refused(tmp_path, named):
    """Captioned or not."""
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": named, "text": "x"})})
    put_images(tmp_path, "images.dev")
    for name in ("rose.jpg", "rose.png"):
        (tmp_path / "images.dev" / name).write_bytes(png((9, 9, 9)))
    with pytest.raises(DataError, match=r"images\.dev: rose\.jpg and rose\.png are both 'rose'; rename or remove one"):
        read_image_folder(tmp_path, "dev")


def test_two_pictures_of_one_name_of_which_one_is_named_with_its_ending(tmp_path):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "rose.jpg", "text": "x"})})
    put_images(tmp_path, "images.dev")
    for name, colour in (("rose.jpg", (9, 9, 9)), ("rose.png", (5, 5, 5))):
        (tmp_path / "images.dev" / name).write_bytes(png(colour))
    pictures = read_image_folder(tmp_path, "dev").pictures
    assert {name: rgb[0, 0, 0] for name, rgb in pictures.items() if "rose" in name} == {"rose.jpg": 9, "rose": 5}


def test_two_homes_of_pictures(tmp_path):
    put(tmp_path, CAPTIONS)
    put_images(tmp_path, "tar")
    put_images(tmp_path, "npz")
    with pytest.raises(DataError, match=r"both images\.dev\.tar and images\.dev\.npz; remove one"):
        read_image_folder(tmp_path, "dev")


# ---- pictures that are broken ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tar", "images"])
def test_a_broken_picture_is_named_when_it_is_asked_for(tmp_path, form):
    put(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "a", "text": "x"}, {"_id": "b", "text": "y"})})
    files = [("a.png", png((1, 2, 3))), ("b.png", b"")]
    if form == "tar":
        write_tar(tmp_path / "images.dev.tar", files)
    else:
        (tmp_path / "images").mkdir()
        for name, data in files:
            (tmp_path / "images" / name).write_bytes(data)
    pictures = read_image_folder(tmp_path, "dev").pictures
    assert pictures["a"][0, 0].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"images.*b\.png: empty"):
        pictures["b"]
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        pictures["a"]


def test_names_that_come_twice(tmp_path):
    write_tar(tmp_path / "twice.tar", [("a.png", b"x"), ("a.png", b"y")])
    with pytest.raises(DataError, match=r"twice\.tar: a\.png is a duplicate"):
        index_images(tmp_path / "twice.tar")
    np.savez(tmp_path / "twice.npz", ids=np.array(["a", "b", "a"]), images=np.zeros((3, 2, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"twice\.npz: id 'a' is a duplicate"):
        index_images(tmp_path / "twice.npz")
    write_tar(tmp_path / "alike.tar", [("a.png", b"x"), ("a.jpg", b"y"), ("b.jpg", b"z")])
    index = index_images(tmp_path / "alike.tar")
    assert (index.find("a.jpg"), index.find("b"), index.find("c")) == ("a.jpg", "b.jpg", None)
    with pytest.raises(DataError, match=r"alike\.tar: a\.png and a\.jpg are both 'a'"):
        index.find("a")


def test_archives_that_are_none(tmp_path):
    path = tmp_path / "images.dev.tar"
    for data in (b"", b"no archive" * 100):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"images\.dev\.tar: (broken|corrupt|no image|not an image)"):
            index_images(path)
    write_tar(path, [("a.png", png((1, 2, 3)) * 100)])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"images\.dev\.tar: broken, .*unexpected end of data"):
        index_images(path)
    write_tar(path, [("a.png", b"x")], links=["b.png"])
    with pytest.raises(DataError, match=r"b\.png is a link"):
        index_images(path)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, "a.png")
    with pytest.raises(DataError, match="without gzip"):
        index_images(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        index_images(tmp_path / "none.tar")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.array(["a"])}, "no array 'images'"),
        ({"images": np.zeros((1, 2, 2, 3), np.uint8)}, "no array 'ids'"),
        ({"ids": np.array(["a"]), "images": np.zeros((1, 2, 2, 3))}, "float64"),
        ({"ids": np.array(["a"]), "images": np.zeros((1, 2, 2), np.uint8)}, r"shape \(1, 2, 2\)"),
        ({"ids": np.array(["a"]), "images": np.zeros((2, 2, 2, 3), np.uint8)}, "for 1 ids"),
        ({"ids": np.array(["a"], object), "images": np.zeros((1, 2, 2, 3), np.uint8)}, "ids cannot be read"),
        ({"ids": np.array([], str), "images": np.zeros((0, 2, 2, 3), np.uint8)}, "no image in it"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path, arrays, message):
    np.savez(tmp_path / "images.dev.npz", **arrays)
    with pytest.raises(DataError, match=rf"images\.dev\.npz: .*{message}"):
        index_images(tmp_path / "images.dev.npz")


def test_a_broken_npz(tmp_path):
    (tmp_path / "images.dev.npz").write_bytes(b"PK\3\4" + b"x" * 50)
    with pytest.raises(DataError, match=r"images\.dev\.npz: ids cannot be read"):
        index_images(tmp_path / "images.dev.npz")


# ---- the real sets -----------------------------------------------------------------------------------------------


def test_noto_emoji(data_dir):
    """Counts of the data's own table."""
    for split, count, fewest in (("train", 1250, 1245), ("dev", 161, 161)):
        found = read_image_folder(data_dir / "imagetext" / "noto_emoji", split)
        assert len(found.pictures) == count
        assert len(found.captions) == 18
        assert {language: len(of) for language, of in found.captions.items()} == {
            language: fewest if language == "ha" else count for language in found.captions
        }
        assert next(iter(found.pictures.values())).shape == (72, 72, 3)


def test_storybook_pages(data_dir):
    folder = data_dir / "imagetext" / "storybook_pages"
    dev = read_image_folder(folder, "dev")
    assert len(dev.pictures) == 162
    assert {language: len(captions) for language, captions in dev.captions.items()} == json.loads(
        '{"am": 29, "ar": 33, "de": 33, "en": 162, "es": 41, "fr": 112, "it": 33, "ne": 8, "ru": 29, "so": 29,'
        ' "sw": 60, "tl": 37, "yo": 8, "zh": 57}'
    )
    assert all(max(rgb.shape) == 128 for rgb in dev.pictures.values())
    train = read_image_folder(folder, "train", ["en", "sw", "so"])
    assert len(train.pictures) == 1702
    assert {language: len(captions) for language, captions in train.captions.items()} == {
        "en": 1702,
        "sw": 1057,
        "so": 287,
    }


def test_multi30k_is_text_alone(data_dir):
    folder = data_dir / "imagetext" / "multi30k"
    for split, count in (("dev", 1014), ("devtest_2016", 1000), ("train", 28986)):
        found = read_image_folder(folder, split, text_only=True)
        assert {language: len(captions) for language, captions in found.captions.items()} == dict.fromkeys(
            ("cs", "de", "en", "fr"), count
        )
    with pytest.raises(DataError, match="the text can be read alone"):
        read_image_folder(folder, "dev")
