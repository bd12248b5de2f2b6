"""Captions of the same pictures as bitext: which pairs they make, their dev pairs, and what is refused."""

import pytest

from optical_jax.config import DataConfig
from optical_jax.data.text.bitext import load_bitext
from optical_jax.data.text.code_switch import read_lexicons
from optical_jax.errors import ConfigError, DataError
from tests.helpers.image_folders import wit_rows
from tests.helpers.image_sets import NAMES, TRAIN, write_images
from tests.helpers.source_folders import jsonl, put


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("sets") / "things")


def test_captions_of_one_picture_are_sentence_pairs(pictures):
    splits = load_bitext(DataConfig(bitext=(f"sw=captions:{pictures}",)))
    train, dev = splits.train["sw"], splits.dev["sw"]
    assert list(zip(train.english, train.foreign, strict=True)) == NAMES[:TRAIN]
    assert set(zip(dev.english, dev.foreign, strict=True)) == set(NAMES[TRAIN:])
    assert sorted(file.path.rsplit("/", 1)[1] for file in train.files) == [
        "captions.en.train.jsonl",
        "captions.sw.train.jsonl",
    ]


def test_several_captions_of_a_picture_go_one_with_one(tmp_path):
    """a: two and two; b: three Swahili ones, of which the third takes the first English again; c: none in English."""
    sw = [("a", "moja"), ("b", "tatu"), ("a", "mbili"), ("b", "nne"), ("b", "tano"), ("c", "sita")]
    en = [("b", "three"), ("a", "one"), ("b", "four"), ("a", "two")]
    folder = put(
        tmp_path,
        {
            "captions.sw.train.jsonl": jsonl(*({"_id": name, "text": text} for name, text in sw)),
            "captions.en.train.jsonl.gz": jsonl(*({"_id": name, "text": text} for name, text in en)),
        },
    )
    found = load_bitext(DataConfig(bitext=(f"sw=captions:{folder}",), dev_pairs=0)).train["sw"]
    expected = {("one", "moja"), ("two", "mbili"), ("three", "tatu"), ("four", "nne"), ("three", "tano")}
    assert set(zip(found.english, found.foreign, strict=True)) == expected
    assert (found.report.lines, found.report.kept, found.report.dropped) == (6, 5, {"no_english_caption": 1})


def test_a_split_can_be_named_and_then_it_is_all_that_is_read(pictures):
    splits = load_bitext(DataConfig(bitext=(f"sw=captions/dev:{pictures}",), dev=(f"sw=captions/train:{pictures}",)))
    assert set(splits.train["sw"].foreign) == {foreign for _, foreign in NAMES[TRAIN:]}
    assert set(splits.dev["sw"].foreign) == {foreign for _, foreign in NAMES[:TRAIN]}
    alone = load_bitext(DataConfig(bitext=(f"sw=captions/train:{pictures}",)))
    # A tenth of 24, held out.
    assert (len(alone.train["sw"]), len(alone.dev["sw"])) == (22, 2)
    assert set(alone.train["sw"].foreign) | set(alone.dev["sw"].foreign) == {foreign for _, foreign in NAMES[:TRAIN]}
    beside = load_bitext(DataConfig(bitext=(f"sw=captions/train:{pictures}",), dev=(f"sw=captions:{pictures}",)))
    assert set(beside.dev["sw"].foreign) == {foreign for _, foreign in NAMES[TRAIN:]}


def with_keywords(folder, split="train", **of_language):
    """A set whose n-th picture has the n-th list of keywords of each language."""
    return put(
        folder,
        {
            f"captions.{language}.{split}.jsonl": jsonl(
                *({"_id": f"p{n}", "text": f"{language} {n}", "keywords": words} for n, words in enumerate(lists))
            )
            for language, lists in of_language.items()
        },
    )


def test_keywords_of_one_picture_are_a_pair_whatever_their_number(tmp_path):
    """The second picture has none in Swahili, the third none in English."""
    folder = with_keywords(tmp_path, sw=[["paka", "mnyama"], [], ["jua"]], en=[["cat"], ["dog"], None])
    found = load_bitext(DataConfig(bitext=(f"sw=keywords:{folder}",), dev_pairs=0)).train["sw"]
    assert (found.english, found.foreign) == (["cat"], ["paka, mnyama"])
    assert found.report.dropped == {"no_english_caption": 1, "no_keywords (en, sw)": 2}
    assert (found.report.lines, found.report.kept) == (4, 1)
    both = load_bitext(DataConfig(bitext=(f"sw=captions:{folder}", f"sw=keywords:{folder}"), dev_pairs=0)).train["sw"]
    assert set(both.foreign) == {"sw 0", "sw 1", "sw 2", "paka, mnyama"}


def test_dev_keywords_are_those_of_the_dev_split_or_held_out(tmp_path):
    words = {language: [[f"{language}{n}"] for n in range(20)] for language in ("en", "sw")}
    folder = with_keywords(tmp_path, **words)
    with_keywords(folder, "dev", en=[["star"]], sw=[[]])
    held_out = load_bitext(DataConfig(bitext=(f"sw=keywords:{folder}",)))
    assert (len(held_out.train["sw"]), len(held_out.dev["sw"])) == (20 - HELD_OUT, HELD_OUT)
    with_keywords(folder, "dev", en=[["star"]], sw=[["nyota"]])
    splits = load_bitext(DataConfig(bitext=(f"sw=keywords:{folder}",)))
    assert (len(splits.train["sw"]), splits.dev["sw"].foreign) == (20, ["nyota"])


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ([["paka"], "paka"], "captions.sw.train.jsonl:2: keywords are not texts"),
        ([["paka"], ["paka", 3]], "captions.sw.train.jsonl:2: keywords are not texts"),
        ([[], []], "captions.sw.train.jsonl has no keywords"),
        ([["paka"], [" "]], "captions.sw.train.jsonl:2: image 'p1' has an empty caption"),
    ],
)
def test_wrong_keywords(tmp_path, keywords, said):
    folder = with_keywords(tmp_path, sw=keywords, en=[["cat"], ["dog"]])
    with pytest.raises(DataError) as error:
        load_bitext(DataConfig(bitext=(f"sw=keywords:{folder}",), dev_pairs=0))
    assert said in str(error.value)


def test_a_public_layout_has_no_keywords(tmp_path):
    with pytest.raises(ConfigError, match="other formats have no keywords"):
        load_bitext(DataConfig(bitext=(f"sw=keywords:{put(tmp_path, MULTI30K)}",)))


def test_a_public_layout_by_its_name(tmp_path):
    folder = put(tmp_path, {"captions.jsonl": jsonl({"image/key": "a", "image/locale": "sw",
                 "en": {"caption": ["A hut."]}, "fil": {"caption": ["Kubo."]}})})  # fmt: skip
    entry = f"fil=captions/test:xm3600:{folder}"
    found = load_bitext(DataConfig(bitext=(entry,), dev_pairs=0)).train["fil"]
    assert (found.english, found.foreign) == (["A hut."], ["Kubo."])


MULTI30K = {
    "train.txt": "".join(f"{n}.jpg\n" for n in range(20)),
    "train.en.gz": "".join(f"A dog {n}.\n" for n in range(20)),
    "train.de": "".join(f"Ein Hund {n}.\n" for n in range(20)),
}
WIT = {
    "wit_v1.train.all-0.tsv": wit_rows(*((lang, f"u{n}", f"{lang} {n}") for lang in ("en", "de") for n in range(20)))
}
DEV_OF_WIT = "wit_v1.val.all-0.tsv"
HELD_OUT = 2
"""A tenth of 20."""


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("multi30k", MULTI30K),
        ("multi30k", MULTI30K | {"val.txt": "1.jpg\n"}),
        ("multi30k", MULTI30K | {"val.txt": "1.jpg\n", "val.en": "A cat.\n"}),
        ("wit", WIT),
        ("wit", WIT | {DEV_OF_WIT: wit_rows(("en", "u90", "A cat"), ("fr", "u90", "Un chat"))}),
        ("wit", WIT | {DEV_OF_WIT: wit_rows(("en", "u90", "A cat"), ("de", "u90", ""))}),
    ],
)
def test_without_a_dev_split_in_the_language_dev_pairs_are_held_out(tmp_path, name, files):
    splits = load_bitext(DataConfig(bitext=(f"de=captions:{name}:{put(tmp_path, files)}",)))
    assert (len(splits.train["de"]), len(splits.dev["de"])) == (20 - HELD_OUT, HELD_OUT)


@pytest.mark.parametrize(
    ("name", "files", "dev"),
    [
        ("multi30k", MULTI30K | {"val.txt": "1.jpg\n", "val.en": "A cat.\n", "val.de": "Eine Katze.\n"}, "Eine Katze."),
        ("wit", WIT | {DEV_OF_WIT: wit_rows(("en", "u90", "A cat"), ("de", "u90", "Eine Katze"))}, "Eine Katze"),
    ],
)
def test_a_dev_split_that_is_there_is_taken(tmp_path, name, files, dev):
    splits = load_bitext(DataConfig(bitext=(f"de=captions:{name}:{put(tmp_path, files)}",)))
    assert (len(splits.train["de"]), splits.dev["de"].foreign) == (20, [dev])


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("multi30k", MULTI30K | {"val.txt": "1.jpg\n2.jpg\n", "val.en": "A\n", "val.de": "B\n"}, "has 1 lines and"),
        ("multi30k", MULTI30K | {"val.en": "A cat.\n", "val.de": "Eine Katze.\n"}, "lacks the names of its images"),
        ("wit", WIT | {DEV_OF_WIT: "language\n"}, "no column image_url"),
    ],
)
def test_a_dev_split_that_is_broken_is_no_dev_split_that_is_not_there(tmp_path, name, files, said):
    with pytest.raises(DataError, match=said):
        load_bitext(DataConfig(bitext=(f"de=captions:{name}:{put(tmp_path, files)}",)))


@pytest.mark.parametrize(
    ("entry", "kind", "said"),
    [
        ("captions:{}", ConfigError, "write LANG=captions:"),
        ("sw={}", DataError, "is a folder, not a file (data.bitext=sw="),
        ("sw={}", DataError, "for the captions in it write sw=captions:"),
        ("keywords:{}", ConfigError, "no language for the keywords; write LANG=keywords:"),
        ("SW=captions:{}", ConfigError, "write sw=FILE"),
        ("sw=captions:{}/none", DataError, "none: no such folder (data.bitext=sw=captions:"),
        ("fr=captions:{}", DataError, "has no captions.fr.train.jsonl[.gz]; its languages: en, sw"),
        (
            "sw=captions/test:{}",
            DataError,
            "has no captions.<lang>.test.jsonl[.gz]; its splits: dev, train",
        ),
        ("sw=captions:nothing:{}", ConfigError, "no set is called nothing"),
    ],
)
def test_wrong_entries(pictures, entry, kind, said):
    with pytest.raises(kind) as error:
        load_bitext(DataConfig(bitext=(entry.format(pictures),)))
    assert said in str(error.value)


def test_captions_have_no_scores(pictures):
    with pytest.raises(ConfigError, match="have no scores"):
        load_bitext(DataConfig(bitext=(f"sw=captions:{pictures}",), score_column="2"))


def test_a_lexicon_is_no_caption(pictures):
    with pytest.raises(ConfigError, match="use one file per language"):
        read_lexicons((f"sw=captions:{pictures}",), ["sw"])
