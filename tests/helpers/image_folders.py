"""Tiny sets of pictures laid out as their makers lay theirs out, and what must be read from each."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.source_folders import jsonl, put

FLICKR, COCO, COCO_TRAIN = "1000092795.jpg", "COCO_val2014_000000000042.jpg", "COCO_train2014_000000061844.jpg"


def encoded(colour, size=(16, 8), form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, form)
    return file.getvalue()


def lay_out(folder: Path, texts: dict[str, str], pictures: dict[str, tuple]) -> Path:
    """Texts under their names, and pictures of one colour each."""
    put(folder, texts)
    for name, colour in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(colour, form="JPEG" if path.suffix == ".jpg" else "PNG"))
    return folder


def colour_of(rgb) -> tuple[int, ...]:
    """JPEG keeps grey exactly, and other colours nearly."""
    assert np.ptp(rgb, axis=(0, 1)).max() == 0
    return tuple(int(round(value, -1)) for value in rgb[0, 0].tolist())


def karpathy(*images, dataset="x"):
    """(split, folder, file name, captions) each."""
    return json.dumps(
        {
            "images": [
                {
                    "filepath": folder,
                    "filename": name,
                    "imgid": n,
                    "split": split,
                    "sentids": list(range(len(texts))),
                    "sentences": [
                        {"tokens": text.lower().split(), "raw": text, "imgid": n, "sentid": m}
                        for m, text in enumerate(texts)
                    ],
                }
                for n, (split, folder, name, texts) in enumerate(images)
            ],
            "dataset": dataset,
        }
    )


def xm(key, **captions):
    tokens = {"caption/tokenized": ["x"], "caption/tokenized/lowercase": ["x"]}
    found = {language: {"caption": texts, **tokens} for language, texts in captions.items()}
    return {"image/key": key, "image/locale": "sw", **found}


WIT_COLUMNS = (
    "language", "page_url", "image_url", "page_title", "section_title", "hierarchical_section_title",
    "caption_reference_description", "caption_attribution_description", "caption_alt_text_description", "mime_type",
    "original_height", "original_width", "is_main_image", "attribution_passes_lang_id", "page_changed_recently",
    "context_page_description", "context_section_description",
)  # fmt: skip
URLS = [f"https://upload.wikimedia.org/wikipedia/commons/{n}/{n}{n}/P.jpg" for n in range(5)]


def wit_rows(*rows):
    """(language, address, caption) each."""
    lines = ["\t".join(WIT_COLUMNS)]
    for language, url, caption in rows:
        cells = dict.fromkeys(WIT_COLUMNS, "") | {"language": language, "image_url": url}
        cells["caption_reference_description"] = caption
        cells["context_page_description"] = "page " * 40_000  # longer than csv reads unasked
        lines.append("\t".join(cells.values()))
    return "\n".join(lines) + "\n"


def digest(name, url):
    return hashlib.new(name, url.encode()).hexdigest()


ENTITIES = {
    "Sentences/36979.txt": (
        "[/EN#1/people A group of friends] playing [/EN#2/other cards] in [/EN#0/notvisual the end] .\n"
        "[/EN#1/people Friends] in [/EN#3/scene a room] with [/EN#4/clothing/other a red hat]\n"
    ),
    "Sentences/65567.txt": "[/EN#7/animals A dog] runs\n",
    "Annotations/36979.xml": (
        "<annotation><filename>36979.jpg</filename>"
        "<size><width>500</width><height>375</height><depth>3</depth></size>"
        "<object><name>1</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>100</xmax><ymax>375</ymax></bndbox></object>"
        "<object><name>1</name><name>4</name>"
        "<bndbox><xmin>201</xmin><ymin>2</ymin><xmax>201</xmax><ymax>2</ymax></bndbox></object>"
        "<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>"
        "<object><name>2</name><scene>0</scene><nobndbox>1</nobndbox></object></annotation>"
    ),
    "Annotations/65567.xml": "<annotation><size><width>9</width><height>8</height></size></annotation>",
    "train.txt": "65567\n",
    "val.txt": "36979\n",
}

FLICKR_JSON = karpathy(
    ("test", "", "99.jpg", ["Not this one."]),
    ("val", "", FLICKR, ["Two young guys.", "Two  men\nin green ."]),
    ("val", "", "7.jpg", ["A dog."]),
)
COCO_JSON = karpathy(
    ("train", "train2014", COCO_TRAIN, ["A cat."]),
    ("restval", "val2014", COCO, ["A man.", "A man again."]),
    ("test", "val2014", "none.jpg", ["x"]),
)
XFLICKR = {
    "annotations/de/test.jsonl": jsonl(
        {"sentences": ["Ein Hund."], "id": "1000092795", "img_path": FLICKR},
        {"sentences": ["Ein Schild."], "id": 42, "img_path": COCO},
    ),
    "annotations/id/test.jsonl": jsonl({"sentences": ["Satu.", "Dua."], "id": 42, "img_path": COCO}),
    "annotations/id/train_1.jsonl": jsonl({"sentences": ["Tiga."], "id": 42, "img_path": COCO}),
}
XM = jsonl(
    xm("aa01", en=["A hut.", "A small hut."], fil=["Kubo."], sw=["Kibanda."]), xm("bb02", en=["Rain."], sw=["Mvua."])
)
GREY, RED, BLUE = (100, 100, 100), (250, 0, 0), (0, 0, 250)

CASES = [
    # name, split, texts, pictures, language -> caption id -> (picture, text), picture -> colour
    (
        "flickr30k", "dev",
        {"dataset_flickr30k.json": FLICKR_JSON},
        {f"flickr30k-images/{FLICKR}": GREY, "flickr30k-images/7.jpg": RED, "flickr30k-images/99.jpg": BLUE},
        {"en": {
            f"{FLICKR}#0": (FLICKR, "Two young guys."),
            f"{FLICKR}#1": (FLICKR, "Two men in green ."),
            "7.jpg": ("7.jpg", "A dog."),
        }},
        {FLICKR: GREY, "7.jpg": RED},
    ),
    (
        "coco", "train",
        {"annotations/dataset_coco.json": COCO_JSON},
        {f"train2014/{COCO_TRAIN}": GREY, f"val2014/{COCO}": RED},
        {"en": {
            COCO_TRAIN: (COCO_TRAIN, "A cat."),
            f"{COCO}#0": (COCO, "A man."),
            f"{COCO}#1": (COCO, "A man again."),
        }},
        {COCO_TRAIN: GREY, COCO: RED},
    ),
    (
        "flickr30k_entities", "val",
        ENTITIES,
        {"flickr30k-images/36979.jpg": GREY},
        {"en": {
            "36979.jpg#0": ("36979.jpg", "A group of friends playing cards in the end ."),
            "36979.jpg#1": ("36979.jpg", "Friends in a room with a red hat"),
        }},
        {"36979.jpg": GREY},
    ),
    (
        "multi30k", "val",
        {
            "data/task1/image_splits/val.txt": f"{FLICKR}\n7.jpg\n",
            "data/task1/raw/val.en.gz": "Two guys.\nA dog.\n",
            "data/task1/raw/val.fr": "Deux hommes.\nUn chien.\n",
            "data/task1/raw/train.en.gz": "x\n",
            "data/task1/tok/val.lc.norm.tok.en": "two guys .\na dog .\n",
            "data/task2/raw/val.1.en.gz": "x\ny\n",
        },
        {f"flickr30k-images/{FLICKR}": GREY, "flickr30k-images/7.jpg": RED},
        {
            "en": {FLICKR: (FLICKR, "Two guys."), "7.jpg": ("7.jpg", "A dog.")},
            "fr": {FLICKR: (FLICKR, "Deux hommes."), "7.jpg": ("7.jpg", "Un chien.")},
        },
        {FLICKR: GREY, "7.jpg": RED},
    ),
    (
        "multi30k", "train",
        {
            "task2/image_splits/train_images.txt": "7.jpg\n",
            "task2/raw/train.1.en.gz": "A dog.\n", "task2/raw/train.2.en.gz": "Dogs.\n",
            "task2/raw/train.1.de.gz": "Ein Hund.\n",
        },
        {"images/7.jpg": RED},
        {
            "en": {"7.jpg#0": ("7.jpg", "A dog."), "7.jpg#1": ("7.jpg", "Dogs.")},
            "de": {"7.jpg": ("7.jpg", "Ein Hund.")},
        },
        {"7.jpg": RED},
    ),
    (
        "multi30k", "test_2017_mscoco",
        {
            "test_2017_mscoco.txt": f"{COCO}#617960\n{COCO_TRAIN}#9819\n",
            "test_2017_mscoco.de": "Ein Mann.\nEine Katze.\n",
            "train.en": "x\n",
        },
        {f"train2014/{COCO_TRAIN}": GREY, f"val2014/{COCO}": RED},
        {"de": {COCO: (COCO, "Ein Mann."), COCO_TRAIN: (COCO_TRAIN, "Eine Katze.")}},
        {COCO_TRAIN: GREY, COCO: RED},
    ),
    (
        "xtd10", "test",
        {
            "XTD10/test_image_names.txt": f"{COCO_TRAIN}\n{COCO}\n",
            "XTD10/test_1kcaptions_ko.txt": "고양이.\n남자.\n",
            "STAIR/test_1kcaptions_jp.txt": "猫がいる\n男がいる\n",
        },
        {f"train2014/{COCO_TRAIN}": GREY, f"val2014/{COCO}": RED},
        {
            "ko": {COCO_TRAIN: (COCO_TRAIN, "고양이."), COCO: (COCO, "남자.")},
            "ja": {COCO_TRAIN: (COCO_TRAIN, "猫がいる"), COCO: (COCO, "男がいる")},
        },
        {COCO_TRAIN: GREY, COCO: RED},
    ),
    (
        "xm3600", "test",
        {"captions.jsonl": XM},
        {"images/aa01.jpg": GREY, "images/bb02.jpg": RED},
        {
            "en": {"aa01#0": ("aa01", "A hut."), "aa01#1": ("aa01", "A small hut."), "bb02": ("bb02", "Rain.")},
            "tl": {"aa01": ("aa01", "Kubo.")},
            "sw": {"aa01": ("aa01", "Kibanda."), "bb02": ("bb02", "Mvua.")},
        },
        {"aa01": GREY, "bb02": RED},
    ),
    (
        "xflickrco", "test",
        XFLICKR,
        {f"flickr30k-images/{FLICKR}": GREY, f"val2014/{COCO}": RED},
        {
            "de": {FLICKR: (FLICKR, "Ein Hund."), COCO: (COCO, "Ein Schild.")},
            "id": {f"{COCO}#0": (COCO, "Satu."), f"{COCO}#1": (COCO, "Dua.")},
        },
        {FLICKR: GREY, COCO: RED},
    ),
    (
        "wit", "train",
        {
            "wit_v1.train.all-00000-of-00010.tsv.gz": wit_rows(
                ("sw", URLS[0], "Mto Nile"), ("sw", URLS[1], ""), ("iw", URLS[3], 'A "quoted" word'),
            ),
            "wit_v1.train.all-00001-of-00010.tsv.gz": wit_rows(
                ("sw", URLS[2], "Haipo"), ("sw", URLS[0], "Nile"), ("so", URLS[4], '"two\nlines ""here"""'),
            ),
        },
        {
            f"images/{digest('sha256', URLS[0])}.jpg": GREY,
            f"images/{digest('md5', URLS[3])}.png": RED,
            f"images/aa/{digest('sha1', URLS[4])}.jpg": BLUE,
        },
        {
            "sw": {f"{URLS[0]}#0": (URLS[0], "Mto Nile"), f"{URLS[0]}#1": (URLS[0], "Nile")},
            "he": {URLS[3]: (URLS[3], 'A "quoted" word')},
            "so": {URLS[4]: (URLS[4], 'two lines "here"')},
        },
        {URLS[0]: GREY, URLS[3]: RED, URLS[4]: BLUE},
    ),
]  # fmt: skip
