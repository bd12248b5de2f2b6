"""Text files of pairs as people have them: CSV and TSV with quotes and headers, JSON, encodings, blank lines."""

import csv
import gzip
import io
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optical_jax.config import DataConfig
from optical_jax.data.text.bitext import load_bitext, read_bitext
from optical_jax.data.text.entries import parse_entry
from optical_jax.data.text.report import report_lines
from optical_jax.errors import ConfigError, DataError
from tests.data.text.test_bitext import PAIRS, accounted, config, pairs_of, write


def read(path, language="sw", **settings):
    """Every line that the reader of a file gives, without filters."""
    notes = []
    lines = list(parse_entry(f"{language}={path}", "data.bitext").lines(DataConfig(**settings), notes))
    return lines, notes


def pairs_in(path, language="sw", **settings):
    lines, _ = read(path, language, **settings)
    assert not [line.fault for line in lines if line.fault]
    return [(line.english, line.foreign) for line in lines if not line.left_out]


def faults(path, language="sw", **settings):
    lines, _ = read(path, language, **settings)
    return [(line.where.removeprefix(str(path)), line.fault) for line in lines if line.fault]


def table(pairs, delimiter=",", quoting=csv.QUOTE_MINIMAL, header=None):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    writer.writerows([*([header] if header else []), *pairs])
    return out.getvalue()


# ---- delimiters ------------------------------------------------------------------------------------------------

COMMAS = [("Well, come in.", "Karibu, ingia."), ('He said "yes".', "Alisema ndiyo."), ("Rice; beans", "Wali; maharage")]


@pytest.mark.parametrize(("delimiter", "name"), [(",", "comma"), (";", "semicolon"), ("\t", None)])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("ending", ["csv", "CSV", "csv.gz"])
def test_a_csv_is_read_by_its_delimiter(tmp_path, delimiter, name, quoting, ending):
    path = write(tmp_path / f"sw.train.{ending}", table(COMMAS, delimiter, quoting))
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == COMMAS
    assert accounted(bitext)
    said = f"delimiter {name}" if name else "cells in quotes"
    assert bitext.report.notes == [f"{path}: {said}"]
    assert f"  {path}: {said}" in report_lines({"train": [bitext.report]})


def test_a_text_file_without_tabs_is_a_csv_only_with_better_evidence(tmp_path):
    prose = write(tmp_path / "a.txt", "Well, come in.\nWater, please.\nYes, thanks.\n")
    assert {fault for _, fault in faults(prose)} == {"no tab; if others divide its cells, see --data.delimiter"}
    assert pairs_in(prose, delimiter="comma")[0] == ("Well", "come in.")
    headed = write(tmp_path / "b.txt", "en,sw\nWater,Maji\n")
    quoted = write(tmp_path / "c.dat", '"Water","Maji"\n')
    assert pairs_in(headed) == pairs_in(quoted) == [("Water", "Maji")]


@pytest.mark.parametrize("name", ["semicolon", ";"])
def test_the_delimiter_can_be_set(tmp_path, name):
    path = write(tmp_path / "a.csv", "One, two;Moja, mbili\n")
    with pytest.raises(ConfigError, match=r"may be divided by semicolon or comma; name one, .*--data\.delimiter semi"):
        pairs_in(path)
    assert pairs_in(path, delimiter=name) == [("One, two", "Moja, mbili")]
    assert pairs_in(write(tmp_path / "b.tsv", "One|Moja\n"), delimiter="pipe") == [("One", "Moja")]
    excel = write(tmp_path / "c.csv", "sep=;\r\nOne, two;Moja, mbili\r\n")
    assert pairs_in(excel) == [("One, two", "Moja, mbili")]


def test_a_comma_within_an_unquoted_cell_is_a_fault(tmp_path):
    rows = [*[(f"Line {n}", f"Mstari {n}") for n in range(5)], ("Well", " come", "Karibu")]
    path = write(tmp_path / "sw.train.csv", "".join(",".join(row) + "\n" for row in rows))
    fault = "3 columns instead of 2; a text with a comma in it must be in quotes"
    assert faults(path) == [(":6", fault)]
    with pytest.raises(DataError, match=r"csv:6: 3 columns instead of 2"):
        read_bitext(config(path))


def test_bad_delimiters_and_encodings_are_refused(tmp_path):
    path = write(tmp_path / "sw.train.tsv", "Water\tMaji\n")
    for name in ("tabs", '"', "\n"):
        with pytest.raises(ConfigError, match=r"data\.delimiter=.* is not valid; use tab, comma, semicolon, pipe or"):
            read_bitext(config(path, delimiter=name))
    for name in ("latin-99", "base64", "rot13", "unicode_escape", "punycode", "a\0b"):
        with pytest.raises(ConfigError, match=r"data\.encoding=.* is not a text encoding; use one such as utf-8"):
            read_bitext(config(path, encoding=name))
    with pytest.raises(ConfigError, match=r"data\.english_column is empty; give a column's name, or its number"):
        read_bitext(config(path, english_column=""))
    with pytest.raises(ConfigError, match=r"data\.score_column=9+\.\.\. is not valid; count columns from 0"):
        read_bitext(config(path, score_column="9" * 5000))


# ---- quotes ----------------------------------------------------------------------------------------------------

BARE = [
    'He said "yes"\tAlisema "ndiyo"\n',
    '"Yes," he said\tNdiyo\nWater\tMaji\n',
    '"Go\tNenda\n"Stay\tBaki\n',
    '"Go!"\tNenda\nWater\tMaji\n',
    '"Go!"\t"Nenda!"\nWater\tMaji\n',
    '5" pipe\tBomba la inchi 5"\n',
    '"Go\tNenda\nhome"\tNyumbani\n',
    'Go\t"Nenda\nnow"\tsasa\n',
    '"\t"\n',
]


@pytest.mark.parametrize("text", BARE)
def test_quotes_in_plain_tab_files_are_text(tmp_path, text):
    path = write(tmp_path / "sw.train.tsv", text)
    assert pairs_in(path) == [tuple(line.split("\t")) for line in text.splitlines()]
    assert read(path)[1] == []


QUOTED = [('He said "yes"', "Alisema ndiyo"), ("Water", "Maji"), ("One\tTwo", "Moja"), ("Rain\nand wind", "Mvua")]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_cells_of_a_tab_file_are_in_quotes_where_a_program_wrote_them(tmp_path, quoting):
    path = write(tmp_path / "sw.train.tsv", table(QUOTED, "\t", quoting))
    lines, notes = read(path)
    assert [(line.english, line.foreign) for line in lines] == QUOTED
    assert [line.where for line in lines] == [f"{path}:{n}" for n in (1, 2, 3, 4)]
    assert notes == [f"{path}: cells in quotes"]


EXCEL = 'Water\tMaji\n"Go, child"\t"Nenda, mtoto"\n"Rain, wind"\tMvua na upepo\n"He said ""yes"""\tNdiyo\n'
"""Excel's text with tabs."""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_excel_quotes_cells_with_its_list_separator(tmp_path, encoding, separator):
    path = write(tmp_path / "a.txt", EXCEL.replace(",", separator).encode(encoding))
    one = f"Go{separator} child", f"Nenda{separator} mtoto"
    two = f"Rain{separator} wind", "Mvua na upepo"
    assert pairs_in(path) == [("Water", "Maji"), one, two, ('He said "yes"', "Ndiyo")]


@pytest.mark.parametrize("line", ["Go, child\tNenda\n", '"Go"\tNenda\n', 'He said "yes"\tNdiyo\n'])
def test_a_comma_outside_of_quotes_leaves_them_as_text(tmp_path, line):
    text = EXCEL.replace('""yes""', "yes") + line
    assert pairs_in(write(tmp_path / "a.tsv", text)) == [tuple(line.split("\t")) for line in text.splitlines()]


def test_numbers_need_no_quotes(tmp_path):
    """As R writes tables."""
    text = '"en"\t"sw"\t"score"\n"Water"\t"Maji"\t0.5\n"Rain, and wind"\t"Mvua"\t-1e-3\n'
    path = write(tmp_path / "sw.train.tsv", text)
    assert pairs_in(path, score_column="score") == [("Water", "Maji"), ("Rain, and wind", "Mvua")]


def test_lines_within_cells_keep_the_file_s_numbers(tmp_path):
    path = write(tmp_path / "sw.train.csv", 'en,sw\r\n"One\r\ntwo","Moja\r\nmbili"\r\nThree,\r\n"Four",Nne\r\n')
    lines, _ = read(path)
    assert [line.where.rpartition(":")[2] for line in lines] == ["1", "2", "5", "6"]
    assert (lines[1].english, lines[1].foreign) == ("One\ntwo", "Moja\nmbili")
    assert faults(path) == [(":5", "the foreign side is empty")]


@pytest.mark.parametrize(
    ("text", "found", "pairs"),
    [
        ('"One,Moja\nTwo,Mbili\nThree,Tatu\n', {1: "a quote mark begins a cell and none ends it"}, 2),
        ('One,Moja\n"Two" x,Mbili\nThree,Tatu\n', {2: "a cell in quotes goes on after its end"}, 2),
        ('One,Moja\n"Two\n" x,Mbili\nThree,Tatu\n', {2: "a cell in quotes goes on after its end"}, 2),
        ('"Say \\"hi\\"",Sema\nThree,Tatu\n', {1: "a cell in quotes goes on after its end"}, 1),
        (b'One,Moja\n"Two\nMb\xffili",Mbili\nThree,Tatu\n', {3: "not UTF-8 (byte 3 of the line)"}, 2),
    ],
)
def test_a_broken_quote_costs_its_line(tmp_path, text, found, pairs):
    path = write(tmp_path / "sw.train.csv", text)
    lines, _ = read(path, delimiter="comma")
    first = {}
    for line in lines:
        if line.fault:
            first.setdefault(int(line.where.rpartition(":")[2]), line.fault)
    for number, fault in found.items():
        assert first[number].startswith(fault)
    assert sum(not line.fault for line in lines) == pairs


def test_an_endless_cell_is_bounded(tmp_path):
    path = write(tmp_path / "sw.train.csv", '"One,Moja\n' + "Two,Mbili\n" * 60_000)
    (fault,) = faults(path)
    assert fault[0] == ":1"
    assert fault[1].startswith("a cell of more than 131,072 characters")


# ---- headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "english", "foreign"),
    [
        ("en,sw", 0, 1),
        ("sw,en", 1, 0),
        ("Swahili,English", 1, 0),
        ("id,English,Kiswahili", 1, 2),
        ("id,source,target", 1, 2),
        ("target,source", 1, 0),
        ("swh_Latn,eng_Latn,score", 1, 0),
        ("en,fr,sw", 0, 2),
        (",sentence,translation", 1, 2),
        ("speaker,en,sw", 1, 2),
        ("text_en,text_sw", 0, 1),
        ("Kiingereza,Kiswahili", 0, 1),
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_header_names_the_columns(tmp_path, header, english, foreign, delimiter):
    cells = ["7"] * (header.count(",") + 1)
    cells[english], cells[foreign] = "Water", "Maji"
    rows = "".join(delimiter.join(row) + "\n" for row in (header.split(","), cells))
    path = write(tmp_path / ("a.csv" if delimiter == "," else "a.tsv"), rows)
    lines, notes = read(path)
    assert [(line.english, line.foreign) for line in lines[1:]] == [("Water", "Maji")]
    assert lines[0].left_out == "header"
    names = header.split(",")
    assert notes[0].endswith(
        f"header, columns english {names[english]} ({english}), foreign {names[foreign]} ({foreign})"
    )


@pytest.mark.parametrize(
    ("language", "header"),
    [
        ("de", "ID;Englisch;Deutsch"),
        ("fr", "ID;Anglais;Français"),
        ("am", "ID;English;አማርኛ"),
        ("hi", "ID;अंग्रेज़ी;हिन्दी"),
        ("zh", "ID;英文;中文"),
    ],
)
def test_headers_in_the_languages_themselves(tmp_path, language, header):
    path = write(tmp_path / "a.csv", f"{header}\n1;Water;Maji\n")
    assert pairs_in(path, language) == [("Water", "Maji")]


@pytest.mark.parametrize(
    ("language", "first"),
    [
        ("sw", ("English", "Kiingereza")),
        ("de", ("English", "Englisch")),
        ("de", ("German", "Deutsch")),
        ("sw", ("Text", "Maandishi")),
        ("sw", ("source", "chanzo")),
        ("de", ("Text", "Text")),
        ("de", ("Original", "Original")),
        ("de", ("Source", "Quelle")),
        ("es", ("No", "Si")),
        ("fr", ("Sentence", "Phrase")),
        ("nl", ("score", "score")),
        ("id", ("Language", "Bahasa")),
    ],
)
def test_a_first_pair_of_words_is_no_header(tmp_path, language, first):
    path = write(tmp_path / "a.tsv", "\t".join(first) + "\nWater\tMaji\n")
    assert pairs_in(path, language) == [first, ("Water", "Maji")]


def test_columns_by_name(tmp_path):
    rows = [["Nr", "Swahili text", "Quelle", "q"], ["1", "Maji", "Water", "0.9"], ["2", "Mvua", "Rain", "0.1"]]
    text = "".join(";".join(row) + "\n" for row in rows)
    path = write(tmp_path / "sw.train.csv", text)
    named = {"english_column": "quelle", "foreign_column": "Swahili text", "score_column": "q", "document_column": "Nr"}
    lines, _ = read(path, **named)
    assert [(line.english, line.score, line.document) for line in lines[1:]] == [
        ("Water", 0.9, "1"),
        ("Rain", 0.1, "2"),
    ]
    assert pairs_of(read_bitext(config(path, min_score=0.5, **named))["sw"]) == [("Water", "Maji")]
    with pytest.raises(
        ConfigError, match=r"data\.english_column=English: .*csv has the columns Nr, Swahili text, Quelle"
    ):
        read_bitext(config(path, english_column="English", foreign_column="1"))
    assert pairs_in(path, english_column="2", foreign_column="Swahili text")[0] == ("Water", "Maji")


def test_codes_beside_texts_are_no_header(tmp_path):
    path = write(tmp_path / "a.tsv", "1\teng\tWater\t2\tswh\tMaji\n3\teng\tRain\t4\tswh\tMvua\n")
    assert pairs_in(path, english_column="2", foreign_column="5") == [("Water", "Maji"), ("Rain", "Mvua")]
    headed = write(tmp_path / "b.tsv", "id\teng\tswh\n1\tWater\tMaji\n")
    assert pairs_in(headed, english_column="1", foreign_column="2") == [("Water", "Maji")]


def test_rows_longer_than_their_header_are_faults(tmp_path):
    path = write(tmp_path / "a.csv", "en,sw\nWell, come,Karibu\nGo, child,Nenda\n")
    assert [number for number, _ in faults(path)] == [":2", ":3"]
    assert pairs_in(write(tmp_path / "b.csv", "en,sw\nWater,Maji,\nRain,Mvua,\n")) == [
        ("Water", "Maji"),
        ("Rain", "Mvua"),
    ]


def test_a_header_may_be_longer_than_its_rows(tmp_path):
    assert pairs_in(write(tmp_path / "a.csv", "en,sw,notes\nWater,Maji\nRain,Mvua\n")) == [
        ("Water", "Maji"),
        ("Rain", "Mvua"),
    ]


def test_a_header_of_other_languages_is_refused(tmp_path):
    path = write(tmp_path / "sw.train.csv", "en,fr\nWater,Eau\n")
    with pytest.raises(
        ConfigError, match=r"which column is the sw side .*the columns en, fr\); add --data\.foreign-col"
    ):
        read_bitext(config(path))


# ---- encodings ---------------------------------------------------------------------------------------------------

GERMAN = [("The door", "Die Tür"), ("Streets", "Straßen")]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.json"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, codec, name):
    form = {"tsv": table(GERMAN, "\t"), "csv": table(GERMAN), "json": json.dumps(GERMAN, ensure_ascii=False)}
    form["jsonl"] = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in GERMAN)
    path = write(tmp_path / name, form[name[2:]].encode(codec))
    lines, notes = read(path, "de")
    assert [(line.english, line.foreign) for line in lines] == GERMAN
    assert any(f"read as {codec}" in note for note in notes) == (codec != "utf-8-sig")


def test_another_encoding_is_named_never_guessed(tmp_path):
    moses = [
        write(tmp_path / f"t.{k}", "".join(p[n] + "\n" for p in GERMAN).encode("cp1252"))
        for n, k in ((0, "en"), (1, "de"))
    ]
    entries = {
        "tsv": write(tmp_path / "a.tsv", table(GERMAN, "\t").encode("cp1252")),
        "csv": write(tmp_path / "a.csv", table(GERMAN).encode("cp1252")),
        "jsonl": write(tmp_path / "a.jsonl", '["The door", "Die Tür"]\n["Streets", "Straßen"]\n'.encode("cp1252")),
        "moses": f"{moses[0]},{moses[1]}",
    }
    for entry in entries.values():
        with pytest.raises(DataError, match=r":1: not UTF-8 .*--data\.encoding windows-1252"):
            read_bitext(config(f"de={entry}"))
        bitext = read_bitext(config(f"de={entry}", encoding="windows-1252"))["de"]
        assert pairs_of(bitext) == GERMAN
        assert any(note.endswith("read as windows-1252") for note in bitext.report.notes)


def test_utf16_without_a_mark_is_named(tmp_path):
    path = write(tmp_path / "a.tsv", table(GERMAN, "\t").encode("utf-16-le"))
    with pytest.raises(DataError, match=r"UTF-16 without a byte order mark, .* or add --data\.encoding utf-16-le"):
        pairs_in(path, "de")
    assert pairs_in(path, "de", encoding="utf-16-le") == GERMAN


# ---- blank lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "Water\tMaji\n\n \t \nRain\tMvua\n\n"),
        ("a.csv", "Water,Maji\n\n,\nRain,Mvua\n\n"),
        ("a.jsonl", '["Water", "Maji"]\n\n \n["Rain", "Mvua"]\n\n'),
    ],
)
def test_blank_lines_are_counted(tmp_path, name, text):
    bitext = read_bitext(config(f"sw={write(tmp_path / name, text)}"))["sw"]
    assert pairs_of(bitext) == [("Water", "Maji"), ("Rain", "Mvua")]
    assert bitext.report.dropped == {"blank": 3}
    assert bitext.report.lines == 5
    assert accounted(bitext)


def test_blank_lines_of_a_moses_pair(tmp_path):
    english, foreign = write(tmp_path / "t.en", "Water\n\nRain\n"), write(tmp_path / "t.sw", "Maji\n \nMvua\n")
    bitext = read_bitext(config(f"sw={english},{foreign}"))["sw"]
    assert pairs_of(bitext) == [("Water", "Maji"), ("Rain", "Mvua")]
    assert bitext.report.dropped == {"blank": 1}
    write(foreign, "Maji\nx\nMvua\n")
    with pytest.raises(DataError, match=r"t\.en:2: the english side is empty"):
        read_bitext(config(f"sw={english},{foreign}"))


# ---- JSON --------------------------------------------------------------------------------------------------------

SHAPES = {
    "objects": [{"en": a, "sw": b} for a, b in PAIRS],
    "lists": [list(pair) for pair in PAIRS],
    "hub": [{"id": str(n), "translation": {"en": a, "sw": b}} for n, (a, b) in enumerate(PAIRS)],
    "words": [{"source": a, "target": b} for a, b in PAIRS],
    "codes": [{"swh_Latn": b, "eng_Latn": a} for a, b in PAIRS],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "indent"), [("a.jsonl", None), ("a.ndjson", None), ("a.json", None), ("a.json", 1)])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_json(tmp_path, shape, name, indent, packed):
    values = SHAPES[shape]
    lines = "".join(json.dumps(value) + "\n" for value in values)
    for n, text in enumerate([json.dumps(values, indent=indent), *([lines] if indent is None else [])]):
        assert pairs_in(write(tmp_path / str(n) / (name + packed), text)) == PAIRS


def test_json_keys_that_are_missing_are_named_with_those_there(tmp_path):
    path = write(tmp_path / "sw.train.jsonl", '{"question": "Maji?", "answer": "Water?"}\n')
    said = r"no key 'en'; keys here: question, answer \(set data\.english_column and data\.foreign_column\)"
    with pytest.raises(DataError, match=said):
        read_bitext(config(path))
    assert pairs_in(path, english_column="answer", foreign_column="question") == [("Water?", "Maji?")]
    other = write(tmp_path / "b.jsonl", '{"id": "1", "translation": {"en": "Water", "fr": "Eau"}}\n')
    assert faults(other)[0][1].startswith("no key 'sw'; keys here: id, en, fr ")
    one = write(tmp_path / "a.jsonl", '{"text": "Water", "sw": "Maji"}\n')
    assert pairs_in(one, english_column="text") == [("Water", "Maji")]


def test_json_arrays_count_faults_by_line(tmp_path):
    text = '[\n {"en": "Water", "sw": "Maji"},\n {"en": "Rain\\ud83d", "sw": "Mvua"},\n\n 3, null,\n ["Go", "Nenda"]]\n'
    path = write(tmp_path / "a.json", text)
    found = faults(path)
    assert [where for where, _ in found] == [":3", ":5", ":5"]
    assert "half a surrogate pair" in found[0][1]
    bitext = read_bitext(config(f"sw={path}", max_bad_lines=3, checks="warn"))["sw"]
    assert pairs_of(bitext) == [("Water", "Maji"), ("Go", "Nenda")]
    assert accounted(bitext)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n["a", "b"],\n["c"\n', r"a\.json:3: not a JSON array"),
        ('[\n["a", "b"]\n["c", "d"]]', r"a\.json:3: not a JSON array \(a comma or \]"),
        ('[["a", "b"]] x', r"a\.json:1: not a JSON array \(it goes on"),
        ("[" * 100_000, r"nested too deep"),
        ("[" + "1" * 10_000 + "]", r"too many digits"),
        ('{\n "en": "Water"\n}', r"a\.json:1: one JSON object over several lines"),
        ('{"en": "Water"}', r"no key 'sw'; keys here: en"),
        ('"Water"', "not a JSON object or a list of two texts"),
        ('["a", "b", "c"]', "not a JSON object or a list of two texts"),
        ('{"en": "Water", "sw": ["Maji"]}', r"the foreign side is not a text \(\['Maji'\]\)"),
    ],
)
def test_json_that_is_no_pairs(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_bitext(config(f"sw={write(tmp_path / 'a.json', text)}"))


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "tab", "txt", "ndjson", "json", "TSV", "Csv.GZ"])
def test_the_language_and_the_dev_split_by_the_name(tmp_path, form):
    def text(pairs):
        return json.dumps(pairs) if "json" in form else table(pairs, "," if "csv" in form.lower() else "\t")

    train = write(tmp_path / f"sw.train.{form}", text(PAIRS))
    if form.endswith("GZ"):
        train.write_bytes(gzip.compress(train.read_bytes()))
    write(tmp_path / "sw.dev.csv", table([("A new day", "Siku mpya")]))
    splits = load_bitext(config(train))
    assert pairs_of(splits.train["sw"]) == PAIRS
    assert pairs_of(splits.dev["sw"]) == [("A new day", "Siku mpya")]


def test_a_dollar_in_a_name_that_exists_is_no_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", str(tmp_path))
    monkeypatch.delenv("5", raising=False)
    folder = tmp_path / "us$5"
    path = write(folder / "sw.train.$x.tsv", "Water\tMaji\n")
    write(folder / "$x.en", "Water\n")
    write(folder / "$x.sw", "Maji\n")
    for entry in (path, "$WHERE/us$5/sw.train.$x.tsv", f"{folder}/$x.en,$WHERE/us$5/$x.sw"):
        assert pairs_in(entry) == [("Water", "Maji")]
    with pytest.raises(ConfigError, match=r"\$x is not set; export x=FOLDER"):
        pairs_in("$WHERE/$x.tsv")


# ---- round trips -------------------------------------------------------------------------------------------------

# Texts as a file can hold them, without white space at their ends, which is not part of a sentence.
cell = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
rows = st.lists(st.tuples(cell, cell), min_size=1, max_size=8)


@settings(max_examples=200)
@given(
    rows=rows, delimiter=st.sampled_from([",", ";", "\t"]), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
)
def test_what_csv_writes_comes_back(tmp_path_factory, rows, delimiter, quoting):
    # A cell with tabs and line ends is not told from plain lines of pairs, which keep their quotes.
    assume(delimiter != "\t" or not any("\t" in cell and "\n" in cell for row in rows for cell in row))
    header = ("English", "Swahili")
    path = write(tmp_path_factory.mktemp("rows") / "a.csv", table(rows, delimiter, quoting, header=header))
    assert pairs_in(path, delimiter=delimiter if delimiter != "\t" else "") == rows


@given(rows=rows, shape=st.sampled_from(["array", "lines"]), ascii_only=st.booleans())
def test_what_json_writes_comes_back(tmp_path_factory, rows, shape, ascii_only):
    values = [{"en": a, "sw": b} for a, b in rows]
    text = [json.dumps(value, ensure_ascii=ascii_only) for value in ([values] if shape == "array" else values)]
    path = write(tmp_path_factory.mktemp("rows") / "a.json", "\n".join(text))
    assert pairs_in(path) == rows


plain = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\ufeff\0"), min_size=1, max_size=12)


@settings(max_examples=200)
@given(rows=st.lists(st.tuples(plain, plain), min_size=1, max_size=6))
def test_plain_tab_files_are_read_as_they_are(tmp_path_factory, rows):
    """Quotes stay, unless all of them are those of a program that quotes cells; then the cells are what it meant."""
    path = write(tmp_path_factory.mktemp("rows") / "a.tsv", "".join(f"{a}\t{b}\n" for a, b in rows))
    lines, notes = read(path)
    split = [(a, b) for a, b in rows]
    if any("cells in quotes" in note for note in notes):
        split = [tuple(cells) for cells in csv.reader(io.StringIO(path.read_text("utf-8")), delimiter="\t")]
    found = [(line.english, line.foreign) for line in lines if not line.left_out and not line.fault]
    kept = [(a, b) for a, b in split if a.strip() and b.strip()]
    assert found == kept or any("header" in note for note in notes)
