"""Names from CLDR: what is left out, what is held out, and that nothing held out is trained on anywhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optical_jax.commands.names import main
from optical_jax.data.collections.collection import read_collection
from optical_jax.data.text.bitext import text_key
from optical_jax.data.text.names import nearly_equal, read_names, split_names, usable_pairs, words

LANGUAGES = ("so", "sw", "tl", "mr", "de", "fr")


@pytest.fixture(scope="module")
def splits():
    return split_names(LANGUAGES)


def test_sides_that_are_equal_or_nearly_so():
    assert nearly_equal("Canada", "Kanada")  # 5 of 6 letters: 2 * 5 / 12
    assert nearly_equal("Swiss Franc", "SWISS FRANC!")
    assert not nearly_equal("Germany", "Ujerumani")  # er, m, an at most: 2 * 5 / 16
    assert not nearly_equal("French", "फ्रेंच")


def test_one_translation_a_name_and_one_name_a_translation():
    english = {"a": "Burma", "b": "Myanmar", "c": "Time", "d": "Time", "e": "Canada", "f": "only English"}
    foreign = {"a": "Birmania", "b": "Birmania", "c": "hora", "d": "tiempo", "e": "Canadá", "g": "solo"}
    pairs, left_out = usable_pairs(english, foreign)
    assert pairs == {"Burma": "Birmania", "Time": "hora"}
    assert left_out == {"ambiguous": 2, "nearly_equal": 1}


def test_no_held_out_phrase_is_trained_on_in_any_language(splits):
    trained = {text_key(name) for names in splits.train.values() for name in names}
    held_out = {text_key(n) for split in (splits.dev, splits.test) for names in split.values() for n in names}
    assert not trained & held_out
    assert not {n for names in splits.dev.values() for n in names} & {n for m in splits.test.values() for n in m}
    for language in LANGUAGES:
        foreign = {text_key(text) for text in splits.train[language].values()}
        assert not foreign & {text_key(text) for text in splits.test[language].values()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_held_out_phrase_is_trained_on_in_its_language(splits, language):
    train, test = splits.train[language], splits.test[language]
    english = {word for name in train for word in words(name)}
    foreign = {word for text in train.values() for word in words(text)}
    assert len(test) >= 80
    for name, text in test.items():
        assert len(words(name)) > 1
        assert len(words(text)) > 1
        assert english.issuperset(words(name)), name
        assert foreign.issuperset(words(text)), text


def test_known_translations(splits):
    """By hand, from what CLDR shows for these languages."""
    every = {language: splits.train[language] | splits.dev[language] | splits.test[language] for language in LANGUAGES}
    assert every["sw"]["Germany"] == "Ujerumani"
    assert every["de"]["Swiss Franc"] == "Schweizer Franken"
    assert every["fr"]["Canadian French"] == "français canadien"
    assert every["mr"]["North Korea"] == "उत्तर कोरिया"
    assert "Samoa" not in every["tl"], "equal in both languages"


def test_one_language_does_not_leak_into_another():
    """Babel hands out shared objects; names must not depend on what was read before."""
    code = "from optical_jax.data.text.names import read_names; import json; print(json.dumps(read_names('es')))"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    for language in ("sw", "yo", "am"):
        read_names(language)
    assert read_names("es") == json.loads(alone)


def test_files_are_bitext_and_collection(tmp_path, capsys):
    out = tmp_path / "names"
    assert main(["--lang", "sw", "tl", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "sw: " in printed
    assert str(out) in printed
    collection = read_collection(out, "test")
    assert set(collection.queries) == {"sw", "tl"}
    splits = split_names(("sw", "tl"))
    for language in ("sw", "tl"):
        rows = [line.split("\t") for line in (out / f"{language}.train.tsv").read_text("utf-8").splitlines()]
        assert dict(rows) == splits.train[language]
        assert collection.is_parallel(language)
        asked = {collection.documents[q]: text for q, text in collection.queries[language].items()}
        assert asked == splits.test[language]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["--lang", "sw", "tl", "--out", str(out)]) == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["qq"], "lang=qq: CLDR has no such language"),
        (["swahili"], "lang=swahili: CLDR has no such language"),
        (["sw", "sw"], "names sw twice"),
        (["en"], "lang=en: CLDR has no names in it that differ"),
    ],
)
def test_a_wrong_language(languages, message, tmp_path, capsys):
    assert main(["--lang", *languages, "--out", str(tmp_path / "names")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "names").exists()


def test_out_is_a_file(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(["--lang", "sw", "--out", str(file)]) == 2
    assert "is a file" in capsys.readouterr().err
    assert Path(file).read_text() == "mine"


def test_a_second_call_replaces_the_first(tmp_path, capsys):
    """Numbers of names differ from call to call: what is left of the first would be judged by the second's."""
    out = tmp_path / "names"
    assert main(["--lang", "sw", "--out", str(out)]) == 0
    assert main(["--lang", "tl", "--out", str(out)]) == 0
    assert set(read_collection(out, "test").queries) == {"tl"}
    assert sorted(path.name for path in out.glob("*.tsv")) == ["tl.dev.tsv", "tl.train.tsv"]


def test_files_of_others_are_not_written_over(tmp_path, capsys):
    (tmp_path / "sw.train.tsv").write_text("mine")
    assert main(["--lang", "sw", "--out", str(tmp_path)]) == 2
    assert "has other files, which would be overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sw.train.tsv"]
    assert (tmp_path / "sw.train.tsv").read_text() == "mine"


def test_a_folder_inside_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["--lang", "sw", "--out", str(tmp_path / "file" / "names")]) == 2
    assert "is a file, or inside one" in capsys.readouterr().err
