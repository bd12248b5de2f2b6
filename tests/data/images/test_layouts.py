"""Public sets of pictures with captions, each from a tiny folder laid out as its makers lay theirs out."""

import gzip
import json
import shutil

import pytest

from optical_jax.data.images.captions import NOT_THERE
from optical_jax.data.images.flickr_entities import Box, Phrase, Regions, parse_caption
from optical_jax.data.images.layouts import LAYOUTS
from optical_jax.data.images.sources import is_image_set, read_flickr_entities, read_image_set
from optical_jax.errors import ConfigError, DataError
from tests.helpers.image_folders import (
    CASES,
    COCO,
    ENTITIES,
    FLICKR,
    GREY,
    RED,
    URLS,
    XFLICKR,
    colour_of,
    lay_out,
    wit_rows,
)
from tests.helpers.source_folders import jsonl, put

BY_NAME = {case[0]: case for case in CASES}


def made(tmp_path, name):
    _, _, texts, pictures, _, _ = BY_NAME[name]
    return lay_out(tmp_path, texts, pictures)


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_read_as_laid_out(tmp_path, case):
    """Named, and told by the files; captions in the order of the files, pictures of the split alone."""
    name, split, texts, pictures, expected, colours = case
    folder = lay_out(tmp_path, texts, pictures)
    for spec in (f"{name}:{folder}", str(folder)):
        found = read_image_set(spec, split)
        assert (found.name, found.split) == (name, "val" if split == "dev" else split)
        assert found.captions == expected
        assert {language: list(of) for language, of in found.captions.items()} == {
            language: list(of) for language, of in expected.items()
        }
        near = {identity: colour_of(rgb) for identity, rgb in found.pictures.items()}
        assert near == colours
        assert all(path.is_file() for path in found.files)
        assert found.left_out == ({"no reference caption": 1, "no local picture": 1} if name == "wit" else {})


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_languages_and_text_alone(tmp_path, case):
    name, split, texts, pictures, expected, _ = case
    folder = lay_out(tmp_path, texts, pictures)
    language = list(expected)[-1]
    assert list(read_image_set(str(folder), split, [language]).captions) == [language]
    for path in ("flickr30k-images", "train2014", "val2014", "images"):
        shutil.rmtree(folder / path, ignore_errors=True)
    found = read_image_set(str(folder), split, [language], text_only=True)
    assert found.pictures is None
    if name != "wit":  # which has then the rows without a picture too
        assert found.captions == {language: expected[language]}
    with pytest.raises(DataError, match=r"lacks .*images"):
        read_image_set(str(folder), split)
    with pytest.raises((ConfigError, DataError), match="xx"):
        read_image_set(str(folder), split, ["xx"], text_only=True)


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - {"wit"}))
def test_a_missing_picture_is_named_with_the_line_that_wants_it(tmp_path, name):
    folder = made(tmp_path, name)
    gone = next(path for path in sorted(folder.rglob("*.jpg")) if path.name != "99.jpg")
    gone.unlink()
    with pytest.raises(DataError, match=rf":[ \d]?.*: image '{gone.stem}(\.jpg)?' is not in .*; add it, or remove"):
        read_image_set(f"{name}:{folder}", BY_NAME[name][1])


@pytest.mark.parametrize(
    ("name", "file", "text", "split", "message"),
    [
        ("flickr30k", "dataset_flickr30k.json", "{", "val", "not JSON"),
        ("flickr30k", "dataset_flickr30k.json", '{"a": 1}', "val", "not JSON with a list of images"),
        ("flickr30k", "dataset_flickr30k.json", '{"images": [{"split": "val"}]}', "val", r"images\[0\]: not an image"),
        ("flickr30k", "dataset_flickr30k.json", '{"images": []}', "val", r"flickr30k\.json: no caption of split=val"),
        ("multi30k", "test_2017_mscoco.de", "one\n", "test_2017_mscoco", "has 1 lines and .* has 2"),
        ("multi30k", "test_2017_mscoco.de", "one\n\n", "test_2017_mscoco", r"\.de:2: .* empty caption"),
        ("multi30k", "test_2017_mscoco.txt", "", "test_2017_mscoco", r"mscoco\.txt: empty file"),
        ("xtd10", "STAIR/test_1kcaptions_jp.txt", "a\nb\nc\n", "test", "has 3 lines and .* has 2"),
        ("xm3600", "captions.jsonl", "{\n", "test", r"captions\.jsonl:1: not JSON"),
        ("xm3600", "captions.jsonl", jsonl({"image/key": "a", "sw": {}}), "test", r"captions\.jsonl:1: not an image"),
        ("xm3600", "captions.jsonl", jsonl(7), "test", r"captions\.jsonl:1: not an image"),
        ("xm3600", "captions.jsonl", jsonl({"sw": {"caption": ["a"]}}), "test", r"captions\.jsonl:1: not an image"),
        ("xflickrco", "annotations/id/test.jsonl", jsonl({"sentences": ["x"]}), "test", r"id/test\.jsonl:1: no"),
        ("xflickrco", "annotations/id/test.jsonl", jsonl([]), "test", r"id/test\.jsonl:1: not an image"),
        ("wit", "pictures.tsv", "x\n", "train", r"pictures\.tsv:1: 1 columns"),
        ("wit", "pictures.tsv", f"{URLS[0]}\tnone.jpg\n", "train", r"pictures\.tsv:1: there is no .*none\.jpg"),
        ("wit", "wit_v1.val.all-0.tsv", "a\tb\n", "val", r"all-0\.tsv:1: no column language"),
        ("wit", "wit_v1.val.all-0.tsv", wit_rows() + "a\tb\n", "val", r"all-0\.tsv:2: 2 columns, .* has 17"),
        ("wit", "wit_v1.val.all-0.tsv", wit_rows(("sw", URLS[2], "x")), "val", "no row has .* no local picture 1"),
    ],
)  # fmt: skip
def test_broken_files(tmp_path, name, file, text, split, message):
    case = next((case for case in CASES if case[:2] == (name, split)), BY_NAME[name])
    folder = put(lay_out(tmp_path, case[2], case[3]), {file: text})
    with pytest.raises(DataError, match=message):
        read_image_set(f"{name}:{folder}", split)


def test_a_shard_cut_off(tmp_path):
    folder = made(tmp_path, "wit")
    shard = folder / "wit_v1.train.all-00000-of-00010.tsv.gz"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"00000-of-00010\.tsv\.gz: broken"):
        read_image_set(f"wit:{folder}", "train")
    shard.write_bytes(gzip.compress(b"\xff\xfe"))
    with pytest.raises(DataError, match=r"00000-of-00010\.tsv\.gz: broken"):
        read_image_set(f"wit:{folder}", "train")


LINES = [case for case in CASES if case[0] in ("multi30k", "xtd10", "xflickrco", "xm3600", "wit")]


@pytest.mark.parametrize("case", LINES, ids=[f"{case[0]} {case[1]}" for case in LINES])
def test_a_file_unpacked_beside_its_archive_is_read_once(tmp_path, case):
    """The plain one, whatever the archive holds."""
    name, split, texts, pictures, expected, _ = case
    plain = {file.removesuffix(".gz"): text for file, text in texts.items()}
    found = read_image_set(
        f"{name}:{lay_out(tmp_path, plain | {f'{file}.gz': 'x' for file in plain}, pictures)}", split
    )
    assert found.captions == expected
    assert not [path for path in found.files if path.suffix == ".gz"]


@pytest.mark.parametrize(
    ("name", "gone", "split", "languages"),
    [
        ("flickr30k", [], "train", []),
        ("flickr30k_entities", ["val.txt"], "dev", []),
        ("multi30k", ["test_2017_mscoco.de"], "test_2017_mscoco", []),
        ("multi30k", [], "test_2017_mscoco", ["cs"]),
        ("xtd10", [], "dev", []),
        ("xtd10", [], "test", ["am"]),
        ("xm3600", [], "test", ["am"]),
        ("xflickrco", [], "dev", []),
        ("xflickrco", [], "train_1", ["de"]),
        ("wit", [], "dev", []),
        ("wit", [], "train", ["am"]),
    ],
)
def test_a_split_or_language_that_is_not_there_is_told_apart(tmp_path, name, gone, split, languages):
    folder = made(tmp_path, name)
    for file in gone:
        (folder / file).unlink()
    with pytest.raises(NOT_THERE):
        read_image_set(f"{name}:{folder}", split, languages, text_only=True)


def test_captions_without_the_names_of_their_pictures_are_broken(tmp_path):
    folder = made(tmp_path, "multi30k")
    (folder / "test_2017_mscoco.txt").unlink()
    with pytest.raises(DataError, match="lacks the names of its images") as error:
        read_image_set(f"multi30k:{folder}", "test_2017_mscoco", text_only=True)
    assert not isinstance(error.value, NOT_THERE)


def test_wit_by_a_list_of_files(tmp_path):
    folder = lay_out(
        tmp_path,
        {
            "wit_v1.test.all-0.tsv": wit_rows(("sw", URLS[0], "Mto"), ("fil", URLS[1], "Ilog")),
            "pictures.tsv": f"{URLS[1]}\tmine/one.png\n",
        },
        {"mine/one.png": RED},
    )
    found = read_image_set(f"wit:{folder}", "test")
    assert found.captions == {"tl": {URLS[1]: (URLS[1], "Ilog")}}
    assert colour_of(found.pictures[URLS[1]]) == RED
    assert found.left_out == {"no local picture": 1}
    with pytest.raises(DataError, match=r"no row in sw has a caption and a local image"):
        read_image_set(f"wit:{folder}", "test", ["tl", "sw"])


def test_captions_and_pictures_apart(tmp_path):
    annotations = put(tmp_path / "a", XFLICKR)
    pictures = lay_out(tmp_path / "b", {}, {f"flickr30k-images/{FLICKR}": GREY, f"val2014/{COCO}": RED})
    found = read_image_set(f"xflickrco:{annotations},{pictures}", "train_1", ["id"])
    assert found.captions == {"id": {COCO: (COCO, "Tiga.")}}
    assert colour_of(found.pictures[COCO]) == RED


def test_our_own_form_is_told_first(tmp_path):
    folder = lay_out(tmp_path, {"captions.sw.dev.jsonl": jsonl({"_id": "a", "text": "x"})}, {"images/a.png": RED})
    assert read_image_set(str(folder)).captions == {"sw": {"a": ("a", "x")}}


def test_what_names_no_set(tmp_path):
    folder = made(tmp_path / "x", "xm3600")
    with pytest.raises(ConfigError, match=r"no set is called m3c; there are coco, flickr30k"):
        read_image_set(f"m3c:{folder}")
    with pytest.raises(DataError, match=r"none is not a folder"):
        read_image_set(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"none is not a folder"):
        read_image_set(f"xm3600:{tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no known layout"):
        read_image_set(str(tmp_path / "empty"))
    made(tmp_path / "x", "xtd10")
    with pytest.raises(ConfigError, match="looks like xm3600 and xtd10; write NAME:FOLDER"):
        read_image_set(str(folder), "test")
    with pytest.raises(ConfigError, match=r"split=dev: .* has test"):
        read_image_set(f"xm3600:{folder}")
    with pytest.raises(DataError, match=r"lacks captions: no file dataset_coco\.json"):
        read_image_set(f"coco:{folder}")


def test_every_layout_is_tried():
    assert set(BY_NAME) == set(LAYOUTS)


# ---- Flickr30k Entities ------------------------------------------------------------------------------------------


def test_phrases_and_boxes(tmp_path):
    found = read_flickr_entities(f"flickr30k_entities:{made(tmp_path, 'flickr30k_entities')}", "dev")
    assert list(found.captions.captions["en"]) == list(found.phrases) == ["36979.jpg#0", "36979.jpg#1"]
    assert found.phrases["36979.jpg#0"] == (
        Phrase("A group of friends", 0, "1", ("people",)),
        Phrase("cards", 5, "2", ("other",)),
        Phrase("the end", 7, "0", ("notvisual",)),
    )
    assert found.phrases["36979.jpg#1"][2] == Phrase("a red hat", 5, "4", ("clothing", "other"))
    people, hat = Box(0, 10, 99, 374), Box(200, 1, 200, 1)
    assert found.regions == {"36979.jpg": Regions(375, 500, {"1": (people, hat), "4": (hat,)})}
    for identity, phrases in found.phrases.items():
        words = found.captions.captions["en"][identity].text.split()
        for phrase in phrases:
            assert words[phrase.first_word :][: len(phrase.text.split())] == phrase.text.split()


def test_markup_that_is_odd():
    assert parse_caption("[/EN#0/notvisual ] A [/EN#1/other cup], [half] full]", "x") == (
        "A cup , [half] full]",
        (Phrase("", 0, "0", ("notvisual",)), Phrase("cup", 1, "1", ("other",))),
    )
    for line in ("[/EN#1/people A man", "[/EN#/people A man]", "[/EN#1 A man]", "a [/EN#1/x [b]]"):
        with pytest.raises(DataError, match=r"1\.txt:3: broken markup"):
            parse_caption(line, "1.txt:3")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Sentences/36979.txt", "A [/EN#1/people man\n", r"36979\.txt:1: broken markup"),
        ("Annotations/36979.xml", "<annotation>", r"36979\.xml: not an image annotation"),
        ("Annotations/36979.xml", "<annotation/>", r"36979\.xml: not an image annotation \(no size/height\)"),
        ("Annotations/36979.xml", ENTITIES["Annotations/36979.xml"].replace("<name>2</name>", ""), "has no name"),
        (
            "Annotations/36979.xml",
            ENTITIES["Annotations/36979.xml"].replace(">11<", ">one<"),
            "not an image annotation",
        ),
        ("Annotations/36979.xml", ENTITIES["Annotations/36979.xml"].replace(">11<", ">999<"), "ends before it begins"),
        ("val.txt", "36979\n1\n", r"val\.txt:2: there is no .*1\.txt"),
    ],
)
def test_broken_entities(tmp_path, file, text, message):
    folder = put(made(tmp_path, "flickr30k_entities"), {file: text})
    with pytest.raises(DataError, match=message):
        read_flickr_entities(str(folder), "val")


def test_missing_entities(tmp_path):
    folder = made(tmp_path, "flickr30k_entities")
    (folder / "Annotations" / "36979.xml").unlink()
    with pytest.raises(DataError, match=r"36979\.xml: cannot be read: No such file"):
        read_flickr_entities(str(folder), "val", text_only=True)
    (folder / "val.txt").unlink()
    with pytest.raises(DataError, match="lacks the ids of val"):
        read_flickr_entities(str(folder), "val")
    with pytest.raises(ConfigError, match="coco has no boxes"):
        read_flickr_entities(f"coco:{folder}")


def test_a_folder_whose_captions_are_misnamed_is_no_collection_of_texts(tmp_path):
    put(tmp_path, {"captions.sw.jsonl": '{"_id": "a", "text": "x"}\n'})
    with pytest.raises(DataError, match=r"captions\.sw\.jsonl: call it captions\.LANG\.SPLIT\.jsonl"):
        is_image_set(str(tmp_path))


IMAGE = {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "A dog."}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"dataset_coco\.json: not JSON"),
        ("[]", r"dataset_coco\.json: not JSON with a list of images"),
        ('{"images": 7}', r"dataset_coco\.json: not JSON with a list of images"),
        ('{"images": {"a": 1}}', r"dataset_coco\.json: not JSON with a list of images"),
        ('{"annotations": []}', r"dataset_coco\.json: not JSON with a list of images"),
        ("[" * 100_000, r"dataset_coco\.json: not JSON"),
        ('{"images": [' + "9" * 5000 + "]}", r"dataset_coco\.json: not JSON that can be read \(a number"),
        ('{"images": ["a"]}', r"dataset_coco\.json: images\[0\]: not an image"),
        (json.dumps({"images": [IMAGE | {"sentences": "A dog."}]}), r"images\[0\]: not an image; it must have"),
        (json.dumps({"images": [IMAGE | {"sentences": [{"raw": None}]}]}), r"images\[0\]: not an image"),
        (json.dumps({"images": [IMAGE, IMAGE | {"filename": 3}]}), r"images\[1\]: not an image"),
        (json.dumps({"images": [IMAGE | {"filename": "a\ud83d.jpg"}]}), r"half a surrogate pair \(\\ud83d\)"),
    ],
)
def test_json_of_another_kind(tmp_path, text, message):
    put(tmp_path, {"dataset_coco.json": text})
    with pytest.raises(DataError, match=message):
        read_image_set(f"coco:{tmp_path}", "test", text_only=True)


@pytest.mark.parametrize(
    ("name", "file", "line", "message"),
    [
        # A text where a list belongs would be read letter by letter.
        ("xm3600", "captions.jsonl", {"image/key": "a", "sw": {"caption": "Mvua"}}, "captions.jsonl:1: not an image"),
        ("xm3600", "captions.jsonl", {"sw": {"caption": ["Mvua"]}}, "captions.jsonl:1: not an image"),
        ("xm3600", "captions.jsonl", {"image/key": "a", "sw": {"caption": ["x\udc00"]}}, ":1: half a surrogate pair"),
        ("xflickrco", "de/test.jsonl", {"sentences": "Hund", "img_path": "a.jpg"}, "test.jsonl:1: not an image"),
        ("xflickrco", "de/test.jsonl", {"sentences": ["a\ud800"], "img_path": "a.jpg"}, ":1: half a surrogate pair"),
    ],
)
def test_json_lines_of_another_kind(tmp_path, name, file, line, message):
    put(tmp_path, {file: json.dumps(line) + "\n"})
    with pytest.raises(DataError, match=message):
        read_image_set(f"{name}:{tmp_path}", "test", text_only=True)


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends_of_other_machines(tmp_path, end):
    files = {"train.en": "A dog.\nRain.\n", "train.de": "Ein Hund.\nRegen.\n", "train.txt": f"{FLICKR}\n{COCO}\n"}
    put(tmp_path, {name: text.replace("\n", end) for name, text in files.items()})
    found = read_image_set(f"multi30k:{tmp_path}", "train", text_only=True)
    assert {caption.picture: caption.text for caption in found.captions["de"].values()} == {
        FLICKR: "Ein Hund.", COCO: "Regen.",
    }  # fmt: skip


def test_an_annotation_without_a_size(tmp_path):
    put(tmp_path, ENTITIES | {"Annotations/36979.xml": "<a><size><width>0</width><height>9</height></size></a>"})
    with pytest.raises(DataError, match=r"36979\.xml: an image of 0 x 9 pixels; both must be above 0"):
        read_flickr_entities(f"flickr30k_entities:{tmp_path}", text_only=True)


def test_a_picture_of_another_format_in_a_public_set_is_named(tmp_path):
    folder = put(tmp_path, {"dataset_coco.json": json.dumps({"images": [IMAGE]}), "images/a.svg": "<svg/>"})
    with pytest.raises(DataError, match=r"image 'a\.jpg' is not in .*images; a\.svg is there, and is not read \(SVG"):
        read_image_set(f"coco:{folder}", "test")
