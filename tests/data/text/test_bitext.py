import gzip
import hashlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optical_jax.config import DataConfig
from optical_jax.data.text.bitext import read_bitext, text_key
from optical_jax.errors import ConfigError, DataError

PAIRS = [
    ("The child reads.", "Mtoto anasoma."),
    ("Water is life.", "Maji ni uhai."),
    ("Good morning", "Habari ya asubuhi"),
]


def config(*bitext, **settings):
    return DataConfig(bitext=tuple(str(entry) for entry in bitext), **settings)


def tsv(path, pairs=PAIRS, tail=""):
    return write(path, "".join(f"{a}\t{b}{tail}\n" for a, b in pairs))


def jsonl(path, records):
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


def write(path, text):
    raw = text if isinstance(text, bytes) else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def pairs_of(bitext):
    return list(zip(bitext.english, bitext.foreign, strict=True))


def numbered(n, start=0):
    """n pairs that no rule drops."""
    return [(f"English sentence number {i} here", f"sentensi ya kiswahili namba {i}") for i in range(start, start + n)]


def accounted(bitext):
    report = bitext.report
    assert report.kept == len(bitext) == len(bitext.english) == len(bitext.foreign)
    assert report.lines == report.kept + sum(report.dropped.values()) + len(report.bad_lines)
    return True


# ---- forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sw.train.tsv", "sw.train.tsv.gz"])
def test_tsv(tmp_path, name):
    path = tsv(tmp_path / name)
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert [(f.path, f.sha256) for f in bitext.files] == [(str(path), hashlib.sha256(path.read_bytes()).hexdigest())]
    assert bitext.report.english_characters == sum(len(a) for a, _ in PAIRS)
    assert bitext.report.foreign_characters == sum(len(b) for _, b in PAIRS)
    assert accounted(bitext)


def test_any_two_columns(tmp_path):
    path = write(tmp_path / "sw.train.tsv", "7\tMaji ni uhai.\tx\tWater is life.\n")
    bitext = read_bitext(config(path, english_column="3", foreign_column="1"))["sw"]
    assert pairs_of(bitext) == [("Water is life.", "Maji ni uhai.")]


def test_scores_below_the_least_are_dropped(tmp_path):
    path = write(tmp_path / "sw.train.tsv", "One day\tSiku moja\t1.1\nTwo days\tSiku mbili\t0.4\nA week\tWiki\t0.5\n")
    bitext = read_bitext(config(path, score_column="2", min_score=0.5))["sw"]
    assert bitext.english == ["One day", "A week"]
    assert bitext.report.dropped == {"low_score": 1}
    assert len(read_bitext(config(path, score_column="2"))["sw"]) == 3


@pytest.mark.parametrize("name", ["sw.train.jsonl", "sw.train.jsonl.gz"])
def test_jsonl(tmp_path, name):
    path = jsonl(tmp_path / name, [{"en": a, "sw": b, "id": 1} for a, b in PAIRS])
    assert pairs_of(read_bitext(config(path))["sw"]) == PAIRS


def test_jsonl_keys(tmp_path):
    path = jsonl(tmp_path / "sw.train.jsonl", [{"src": a, "tgt": b, "laser": 1.2} for a, b in PAIRS])
    cfg = config(path, english_column="src", foreign_column="tgt", score_column="laser", min_score=1.0)
    assert pairs_of(read_bitext(cfg)["sw"]) == PAIRS


@pytest.mark.parametrize("end", ["", ".gz"])
def test_moses(tmp_path, end):
    english = write(tmp_path / f"t.en{end}", "".join(a + "\n" for a, _ in PAIRS))
    foreign = write(tmp_path / f"t.sw{end}", "".join(b + "\n" for _, b in PAIRS))
    bitext = read_bitext(config(f"sw={english},{foreign}"))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert [file.path for file in bitext.files] == [str(english), str(foreign)]


def test_language_by_name_or_given(tmp_path):
    a, b = tsv(tmp_path / "bem.train.tsv", PAIRS[:1]), tsv(tmp_path / "any name.txt", PAIRS[1:])
    bitexts = read_bitext(config(a, f"sw={b}"))
    assert {language: len(bitext) for language, bitext in bitexts.items()} == {"bem": 1, "sw": 2}
    with pytest.raises(ConfigError, match=r"no language; name the file LANG\.SPLIT\.tsv"):
        read_bitext(config(b))


def test_many_files_of_a_language_are_joined_and_repeats_counted(tmp_path):
    a, b = tsv(tmp_path / "a/sw.train.tsv", PAIRS), tsv(tmp_path / "b/sw.train.tsv.gz", [*PAIRS, ("New", "Mpya")])
    bitext = read_bitext(config(a, b))["sw"]
    assert pairs_of(bitext) == [*PAIRS, ("New", "Mpya")]
    assert bitext.report.dropped == {"duplicate": 3}
    assert accounted(bitext)


def test_variables(tmp_path, monkeypatch):
    tsv(tmp_path / "sw.train.tsv")
    monkeypatch.setenv("OPTICAL_DATA", str(tmp_path))
    for entry in ("$OPTICAL_DATA/sw.train.tsv", "sw=${OPTICAL_DATA}/sw.train.tsv"):
        assert len(read_bitext(config(entry))["sw"]) == 3
    monkeypatch.delenv("OPTICAL_DATA")
    with pytest.raises(ConfigError, match=r"\$OPTICAL_DATA is not set; export OPTICAL_DATA=FOLDER"):
        read_bitext(config("$OPTICAL_DATA/sw.train.tsv"))


def test_bytes_at_the_edges(tmp_path):
    """A byte order mark, Windows line ends, no end of the last line, a Unicode line separator inside a text."""
    raw = "\ufeffThe child reads.\tMtoto anasoma.\r\nGood\u2028morning\tHabari ya asubuhi"
    bitext = read_bitext(config(write(tmp_path / "sw.train.tsv", raw)))["sw"]
    assert pairs_of(bitext) == [("The child reads.", "Mtoto anasoma."), ("Good\u2028morning", "Habari ya asubuhi")]


# ---- cleaning --------------------------------------------------------------------------------------------------


def test_texts_are_nfc_and_stripped(tmp_path):
    path = tsv(tmp_path / "yo.train.tsv", [(" Cafe\u0301 ", "\u00a0o\u0323mo\u0323 na\u0300a\u0301 ")])
    bitext = read_bitext(config(path))["yo"]
    assert pairs_of(bitext) == [("Café", "ọmọ nàá")]
    assert all(unicodedata.is_normalized("NFC", text) for text in bitext.foreign)


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("Hi", "Habari zenu"), "too_short"),
        (("x" * 41, "y" * 20), "too_long"),
        (("A sentence of some length here", "Hapana"), "length_ratio"),
        (("OK, COVID-19!", "ok covid 19"), "equal_sides"),
        (("the CHILD reads", "mtoto anasoma!"), "duplicate"),
    ],
)
def test_reasons_to_drop(tmp_path, pair, reason):
    path = tsv(tmp_path / "sw.train.tsv", [*PAIRS, pair])
    bitext = read_bitext(config(path, min_chars=3, max_chars=40))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert bitext.report.dropped == {reason: 1}


def test_equal_sides_may_stay(tmp_path):
    path = tsv(tmp_path / "en.train.tsv", [("The rain falls", "The rain falls"), ("Go", "Go!")])
    kept = read_bitext(config(path, keep_equal=True))["en"]
    assert pairs_of(kept) == [("The rain falls", "The rain falls"), ("Go", "Go!")]


@pytest.mark.parametrize(
    "pair", [("Go", "Nenda zako sasa"), ("It says that the water is cold today.", "据说今天水很冷。")]
)
def test_ratio_lets_short_pairs_and_dense_scripts_be(tmp_path, pair):
    assert pairs_of(read_bitext(config(tsv(tmp_path / "xx.train.tsv", [pair])))["xx"]) == [pair]


def test_text_key():
    assert text_key("The child: reads!") == text_key("\uff34\uff28\uff25  child reads") == "thechildreads"
    assert text_key("?!") == "?!"
    assert text_key("की") != text_key("का")


clean_text = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\ufeff"), max_size=30)


@given(rows=st.lists(st.tuples(clean_text, clean_text), min_size=1, max_size=20))
def test_every_line_is_accounted_for(tmp_path_factory, rows):
    path = tsv(tmp_path_factory.mktemp("rows") / "sw.train.tsv", [*PAIRS, *rows])
    bitext = read_bitext(config(path, max_bad_lines=100, checks="warn"))["sw"]
    assert accounted(bitext)
    assert bitext.report.lines == len(rows) + 3
    empty = [(not a.strip()) + (not b.strip()) for a, b in rows]
    assert len(bitext.report.bad_lines) == empty.count(1)
    assert bitext.report.dropped["blank"] == empty.count(2)
    keys = [(text_key(a), text_key(b)) for a, b in pairs_of(bitext)]
    assert len(set(keys)) == len(keys)


# ---- faults ----------------------------------------------------------------------------------------------------

GOOD = b"The child reads.\tMtoto anasoma.\n"


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("sw.train.tsv", b"no tab here\n", "no tab"),
        ("sw.train.tsv", b" \tMaji\n", "the english side is empty"),
        ("sw.train.tsv", b"Water\t\n", "the foreign side is empty"),
        ("sw.train.tsv.gz", b"Water\tMa\xffji\n", "not UTF-8 (byte 9 of the line)"),
        ("sw.train.jsonl", b"{\n", "not JSON"),
        ("sw.train.jsonl", b"[1]\n", "not a JSON object"),
        ("sw.train.jsonl", b'{"en": "Water"}\n', "no key 'sw'"),
        ("sw.train.jsonl", b'{"en": "Water", "sw": 3}\n', "the foreign side is not a text"),
    ],
)
def test_broken_line_is_named_or_skipped(tmp_path, name, bad, message):
    good = b'{"en": "The child reads.", "sw": "Mtoto anasoma."}\n' if "jsonl" in name else GOOD
    path = write(tmp_path / name, good + bad)
    with pytest.raises(DataError) as e:
        read_bitext(config(path))
    assert str(e.value).startswith(f"{path}:2: {message}")
    assert "data.max_bad_lines=0" in str(e.value)
    bitext = read_bitext(config(path, max_bad_lines=1))["sw"]
    assert pairs_of(bitext) == [("The child reads.", "Mtoto anasoma.")]
    assert len(bitext.report.bad_lines) == 1
    assert bitext.report.bad_lines[0].startswith(f"{path}:2: {message}")
    assert accounted(bitext)


def test_bad_lines_are_allowed_by_file(tmp_path):
    a, b = write(tmp_path / "a/sw.train.tsv", GOOD + b"x\n"), write(tmp_path / "b/sw.train.tsv", b"y\nz\n" + GOOD)
    with pytest.raises(DataError, match=r"sw\.train\.tsv:2: no tab .bad line 2 of the file, data\.max_bad_lines=1"):
        read_bitext(config(a, b, max_bad_lines=1))
    assert len(read_bitext(config(a, b, max_bad_lines=2, checks="warn"))["sw"].report.bad_lines) == 3


def test_too_few_columns_and_bad_scores(tmp_path):
    path = write(tmp_path / "sw.train.tsv", b"Water\tMaji\thigh\n")
    with pytest.raises(DataError, match=r"sw\.train\.tsv:1: bad score 'high'"):
        read_bitext(config(path, score_column="2"))
    with pytest.raises(DataError, match=r"sw\.train\.tsv:1: 3 columns, no column 5"):
        read_bitext(config(path, foreign_column="5"))


def test_moses_faults(tmp_path):
    english = write(tmp_path / "t.en", "One\nTwo\nThree\n")
    faults = {
        "Moja kwanza": r"t\.en has 3 lines and .*t\.sw has 1; a Moses pair",
        "Moja\nMbili\nTatu\nNne\nTano": r"t\.en has 3 lines and .*t\.sw has 5",
        "Moja\n\nTatu\n": r"t\.sw:2: the foreign side is empty",
    }
    for text, message in faults.items():
        foreign = write(tmp_path / "t.sw", text)
        with pytest.raises(DataError, match=message):
            read_bitext(config(f"sw={english},{foreign}"))
    with pytest.raises(ConfigError, match=r"a Moses pair .* has no scores"):
        read_bitext(config(f"sw={english},{english}", score_column="2"))
    with pytest.raises(ConfigError, match="LANG=ENGLISH_FILE,FOREIGN_FILE"):
        read_bitext(config(f"{english},{english}"))


@pytest.mark.parametrize("name", ["sw.train.tsv", "sw.train.tsv.gz", "sw.train.jsonl"])
def test_empty_file(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: empty file"):
        read_bitext(config(write(tmp_path / name, "")))
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: empty file"):
        read_bitext(config(tmp_path / name))


def test_broken_gzip(tmp_path):
    path = tsv(tmp_path / "sw.train.tsv.gz", numbered(2000))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"sw\.train\.tsv\.gz: broken gzip after line \d+ .*; fetch the file again"):
        read_bitext(config(path))
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match=r"named \.gz but not gzip"):
        read_bitext(config(path))


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"absent/sw\.train\.tsv: no such file"):
        read_bitext(config(tmp_path / "absent/sw.train.tsv"))
    with pytest.raises(DataError, match="is a folder"):
        read_bitext(config(f"sw={tmp_path}"))
    with pytest.raises(ConfigError, match=r"data\.bitext is empty"):
        read_bitext(config())


def test_settings_that_cannot_be(tmp_path):
    path = tsv(tmp_path / "sw.train.tsv")
    with pytest.raises(ConfigError, match=r"data\.english_column=en: .*tsv has the columns The child reads\., Mtoto "):
        read_bitext(config(path, english_column="en"))
    with pytest.raises(ConfigError, match=r"data\.min_score=1\.0 needs data\.score_column"):
        read_bitext(config(path, min_score=1.0))
    with pytest.raises(DataError, match=r"no sw pair is left of 3 lines \(too_short 3\)"):
        read_bitext(config(path, min_chars=100, checks="warn"))
    with pytest.raises(DataError, match=r"3 of 3 pairs are left out \(too short 3\)"):
        read_bitext(config(path, min_chars=100))
