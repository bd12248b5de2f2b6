"""Pairs from Excel, Parquet, `datasets` folders, TMX, XLIFF, PO and zip archives; faults and bounds of each."""

import contextlib
import gzip
import json
import re
import sys
import time
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optical_jax.data.text.bitext import load_bitext, read_bitext
from optical_jax.errors import ConfigError, DataError
from tests.data.text.test_bitext import PAIRS, accounted, config, numbered, pairs_of, write
from tests.data.text.test_formats import faults, pairs_in, read

ROWS = [list(pair) for pair in PAIRS]
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
"""A billion laughs: 12 entities, each of ten of the one before."""


# ---- Excel -------------------------------------------------------------------------------------------------------


def workbook(path, rows, name="Pairs", **others):
    book = openpyxl.Workbook()
    book.active.title = name
    for row in rows:
        book.active.append(row)
    for other, cells in others.items():
        sheet = book.create_sheet(other)
        for row in cells:
            sheet.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


@pytest.mark.parametrize("name", ["sw.train.xlsx", "sw.train.XLSX"])
def test_excel(tmp_path, name):
    path = workbook(tmp_path / name, [["id", "Swahili", "English"], *([n, b, a] for n, (a, b) in enumerate(PAIRS))])
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert bitext.report.dropped == {"header": 1}
    assert accounted(bitext)
    assert bitext.report.notes == [f"{path}: sheet Pairs, header, columns english English (2), foreign Swahili (1)"]


def test_excel_without_header_with_blank_rows_and_a_score(tmp_path):
    rows = [["Water", "Maji", 0.9], [], [None, " ", None], ["Rain\nand wind", "Mvua", 1]]
    lines, _ = read(workbook(tmp_path / "a.xlsx", rows), score_column="2")
    assert [(line.english, line.foreign, line.score) for line in lines if not line.left_out] == [
        ("Water", "Maji", 0.9),
        ("Rain\nand wind", "Mvua", 1.0),
    ]
    assert [line.left_out for line in lines] == ["", "blank", "blank", ""]
    assert [line.where[-2:] for line in lines] == [":1", ":2", ":3", ":4"]


def test_sheets(tmp_path):
    path = workbook(tmp_path / "a.xlsx", ROWS, More=[["Night", "Usiku"]])
    assert pairs_in(path) == PAIRS
    assert pairs_in(f"{path}#More") == [("Night", "Usiku")]
    with pytest.raises(ConfigError, match=r"a\.xlsx#Else: no such sheet; the workbook has Pairs, More"):
        pairs_in(f"{path}#Else")
    tsv = write(tmp_path / "b.tsv", "Night\tUsiku\n")
    with pytest.raises(ConfigError, match=r"b\.tsv#More: a \.tsv file has no parts"):
        pairs_in(f"{tsv}#More")


def test_cells_that_are_no_text_are_faults(tmp_path):
    rows = [["Water", "Maji"], ["Rain", 12], ["#N/A", "Mvua"], ["Wind", None]]
    path = workbook(tmp_path / "a.xlsx", rows)
    assert faults(path) == [
        (":2", "the foreign side is not a text (12)"),
        (":3", "the english side is not a text (#N/A)"),
        (":4", "the foreign side is empty"),
    ]


def test_the_first_sheet_is_the_first_that_is_shown(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["x", "y"]], Shown=ROWS)
    book = openpyxl.load_workbook(path)
    book["Pairs"].sheet_state = "hidden"
    book.active = 1
    book.save(path)
    assert pairs_in(path) == PAIRS
    assert pairs_in(f"{path}#Pairs") == [("x", "y")]


def test_a_title_above_a_header(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["Our pairs"], ["Swahili", "English"], *([b, a] for a, b in PAIRS)])
    lines, _ = read(path)
    assert [(line.english, line.foreign) for line in lines[2:]] == PAIRS
    assert faults(path) == [(":1", "1 columns, no column 1 (counted from 0)")]


def test_formulas(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["Water", "Maji"], ["=A1", "Mvua"], ["=A1", "=B1"], ["Wind", "Upepo"]])
    assert faults(path) == [
        (":2", "the english side is not a text (a formula without a value, =A1)"),
        (":3", "the english side is not a text (a formula without a value, =A1)"),
    ]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet, left = "xl/worksheets/sheet1.xml", [b"Rain", b"", b""]
    valued = re.sub(
        rb'<c r="(\w+)"><f>(.*?)</f><v ?/>|<c r="(\w+)"><f>(.*?)</f><v></v>',
        lambda found: (
            b'<c r="%s" t="str"><f>%s</f><v>%s</v>' % (found[1] or found[3], found[2] or found[4], left.pop(0))
        ),
        members[sheet],
    )
    assert not left
    lines, _ = read(zipped(tmp_path / "b.xlsx", **members | {sheet: valued}))
    assert [line.english for line in lines] == ["Water", "Rain", "", "Wind"]
    assert lines[2].left_out == "blank"


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_workbooks_that_are_none(tmp_path):
    path = workbook(tmp_path / "a.xlsx", ROWS)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    broken = {
        "half": members | {sheet: members[sheet][:200]},
        "lost": {name: text for name, text in members.items() if name != "xl/workbook.xml"},
        "laughs": members | {sheet: f"<?xml version='1.0'?><!DOCTYPE x [{LAUGHS}]><x>&l11;</x>"},
        "other": {"word/document.xml": "<x/>"},
    }
    for name, parts in broken.items():
        with pytest.raises(DataError, match=rf"{name}\.xlsx: (not a workbook that can be read|the sheet)"):
            pairs_in(zipped(tmp_path / f"{name}.xlsx", **parts))
    for text in (b"en,sw\nWater,Maji\n", path.read_bytes()[:300], b"PK\x03\x04"):
        with pytest.raises(DataError, match=r"b\.xlsx: not a zip archive that can be read"):
            pairs_in(write(tmp_path / "b.xlsx", text))


def test_bombs_are_refused_before_they_unpack(tmp_path):
    zeros = bytes(100_000_000)
    start = time.monotonic()
    for name, member in (("a.xlsx", "xl/workbook.xml"), ("b.zip", "t.tsv")):
        path = zipped(tmp_path / name, **{member: zeros})
        assert path.stat().st_size < 200_000
        with pytest.raises(DataError, match=r"unpacks from \d+,\d+ to 100,000,000 bytes, which no text does"):
            pairs_in(path)
    assert time.monotonic() - start < 60


# ---- Parquet and data sets ---------------------------------------------------------------------------------------


def test_parquet(tmp_path):
    path = tmp_path / "sw.train.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3], "sw": [b for _, b in PAIRS], "en": [a for a, _ in PAIRS]}), path)
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert bitext.report.notes == [f"{path}: columns taken: english en, foreign sw"]
    pq.write_table(pa.table({"q": ["Water"], "a": ["Maji"], "doc": ["D"]}), path)
    with pytest.raises(ConfigError, match=r"which column is the English side is not clear .*the columns q, a, doc"):
        read_bitext(config(path))
    lines, _ = read(path, english_column="q", foreign_column="a", document_column="doc")
    assert [(line.english, line.foreign, line.document) for line in lines] == [("Water", "Maji", "D")]
    with pytest.raises(ConfigError, match=r"data\.score_column=s: .*has the columns q, a, doc"):
        read(path, english_column="q", foreign_column="a", score_column="s")


def test_the_hub_s_translations(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(
        pa.table({"id": ["0", "1"], "translation": [{"en": "Water", "sw": "Maji"}, {"en": "Rain", "sw": None}]}), path
    )
    assert faults(path) == [(":2", "the foreign side is not a text (None)")]
    assert read(path)[0][0].english == "Water"


def test_rows_that_are_not_utf8_are_faults(tmp_path):
    sides = pa.Array.from_buffers(pa.string(), 2, pa.array([b"Maji", b"M\xffvua"], pa.binary()).buffers())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"en": ["Water", "Rain"], "sw": sides}), path)
    lines, _ = read(path)
    assert (lines[0].foreign, lines[1].fault) == ("Maji", "not UTF-8 (byte 2 of the text)")


def test_broken_parquet(tmp_path):
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"en": [a for a, _ in numbered(100)], "sw": [b for _, b in numbered(100)]}), whole)
    for text in (whole.read_bytes()[:-40], b"PAR1", b"nonsense"):
        with pytest.raises(DataError, match=r"a\.parquet: cannot be read after row 0"):
            pairs_in(write(tmp_path / "a.parquet", text))


def stream(path, rows, new=pa.ipc.new_stream):
    table = pa.table({"en": [a for a, _ in rows], "sw": [b for _, b in rows]})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def saved_split(folder, rows):
    """As Dataset.save_to_disk writes it, in two shards."""
    names = [f"data-{n:05}-of-00002.arrow" for n in range(2)]
    for n, name in enumerate(names):
        stream(folder / name, rows[n::2])
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": name} for name in names]}))
    write(folder / "dataset_info.json", "{}")


def test_damaged_arrow_files_are_refused(tmp_path):
    """Arrow maps a file as it is: offsets beyond its end would end the process."""
    whole = stream(tmp_path / "a.arrow", numbered(50)).read_bytes()
    offsets = whole.index(b"English") - 64
    for start in range(offsets - 200, offsets, 8):
        path = write(tmp_path / "b.arrow", whole[:start] + b"\xff\xff\xff\x7f" + whole[start + 4 :])
        with contextlib.suppress(DataError):
            assert len(pairs_in(path)) == 50


def test_arrow_files(tmp_path):
    assert pairs_in(stream(tmp_path / "a.arrow", PAIRS)) == PAIRS
    assert pairs_in(stream(tmp_path / "b.arrow", PAIRS, pa.ipc.new_file)) == PAIRS


def test_data_sets_saved_to_disk(tmp_path):
    saved_split(tmp_path / "one", numbered(4))
    assert sorted(pairs_in(tmp_path / "one")) == numbered(4)
    for split, start in (("train", 0), ("validation", 50), ("test", 90)):
        saved_split(tmp_path / "many" / split, numbered(20, start))
    splits = load_bitext(config(f"sw={tmp_path / 'many'}"))
    assert sorted(pairs_of(splits.train["sw"])) == sorted(numbered(20))
    assert sorted(pairs_of(splits.dev["sw"])) == sorted(numbered(20, 50))
    assert len(splits.train["sw"].files) == 2
    given = load_bitext(config(f"sw={tmp_path / 'many'}#test", dev=(f"sw={tmp_path / 'many'}",)))
    assert sorted(pairs_of(given.train["sw"])) == sorted(numbered(20, 90))
    with pytest.raises(ConfigError, match=r"no split extra; name one of test, train, validation, as in FOLDER#test"):
        pairs_in(f"{tmp_path / 'many'}#extra")


def test_folders_of_shards(tmp_path):
    for n in range(2):
        for split, start in (("train", 0), ("validation", 50)):
            path = tmp_path / "data" / f"{split}-{n:05}-of-00002.parquet"
            path.parent.mkdir(exist_ok=True)
            rows = numbered(20, start)[n * 10 : n * 10 + 10]
            pq.write_table(pa.table({"en": [a for a, _ in rows], "sw": [b for _, b in rows]}), path)
    splits = load_bitext(config(f"sw={tmp_path}"))
    assert pairs_of(splits.train["sw"]) == numbered(20)
    assert pairs_of(splits.dev["sw"]) == numbered(20, 50)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: is a folder, not a file"):
        pairs_in(tmp_path / "empty")


# ---- TMX -----------------------------------------------------------------------------------------------------------


def tmx(*units, head=""):
    body = "".join(
        "<tu>" + "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in unit) + "</tu>\n"
        for unit in units
    )
    whole = f'<tmx version="1.4"><header srclang="en"/><body>\n{body}</body></tmx>\n'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{whole}'


@pytest.mark.parametrize("name", ["sw.train.tmx", "sw.train.TMX", "sw.train.tmx.gz"])
def test_tmx(tmp_path, name):
    units = [[("sw-KE", b), ("fr", "-"), ("en-US", a)] for a, b in PAIRS]
    path = write(tmp_path / name, tmx(*units, [("en", "Only"), ("fr", "Seul")], [("en", "x"), ("sw", " ")]))
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert bitext.report.dropped == {"other_languages": 1, "untranslated": 1}
    assert accounted(bitext)
    assert bitext.report.notes == [f"{path}: languages taken en and sw, en-US and sw-KE (of en, en-US, fr, sw, sw-KE)"]


def test_tmx_formatting_entities_and_properties(tmp_path):
    text = tmx(
        [("en", 'Press <bpt i="1">&lt;b&gt;</bpt>Go<ept i="1">&lt;/b&gt;</ept> &amp; <hi>wait</hi>'), ("sw", "Bonyeza")]
    )
    assert pairs_in(write(tmp_path / "a.tmx", text)) == [("Press Go & wait", "Bonyeza")]
    text = text.replace("<tu>", '<tu><prop type="d">D1</prop><prop type="q">0.5</prop>')
    lines, _ = read(write(tmp_path / "a.tmx", text), document_column="d", score_column="q")
    assert (lines[0].document, lines[0].score) == ("D1", 0.5)
    assert faults(tmp_path / "a.tmx", document_column="e") == [
        (":3", "no property for data.document_column in this unit")
    ]
    named = tmx([("en", "&who; waits"), ("sw", "Anangoja")], head='<!DOCTYPE tmx [<!ENTITY who "Someone">]>')
    assert faults(write(tmp_path / "b.tmx", named))[0][1].startswith("the entity &who;, which is not expanded")


def test_tmx_of_other_languages(tmp_path):
    path = write(tmp_path / "a.tmx", tmx([("en", "Water"), ("fr", "Eau")], [("de", "Wasser"), ("en", "Water")]))
    with pytest.raises(DataError, match=r"no unit in en and sw; languages in the file: de, en, fr"):
        pairs_in(path)
    assert pairs_in(path, "de") == [("Water", "Wasser")]
    assert pairs_in(path, "fra") == [("Water", "Eau")]


LAUGHING = f"<!DOCTYPE tmx [{LAUGHS}]>"


@pytest.mark.parametrize("name", ["a.tmx", "a.xlf"])
def test_xml_that_is_broken_or_a_bomb(tmp_path, name):
    whole = tmx(*([("en", a), ("sw", b)] for a, b in numbered(500)))
    bomb = tmx([("en", "&l11;"), ("sw", "x")], head=LAUGHING).replace("<header", '<header x="&l11;"')
    outside = tmx([("en", "&f;"), ("sw", "x")], head='<!DOCTYPE tmx [<!ENTITY f SYSTEM "file:///etc/hostname">]>')
    start = time.monotonic()
    for text in (whole[:-400], bomb, "no XML", "<html>", whole.replace("namba 7<", "namba \x01<"), "<a>" * 100_000):
        with pytest.raises(DataError, match=rf"{name}(:\d+)?: (not XML that can be read|no unit|this is an HTML page)"):
            pairs_in(write(tmp_path / name, text))
    if name == "a.tmx":
        assert faults(write(tmp_path / name, outside))[0][1].startswith("the entity &f;")
    cut = gzip.compress(whole.encode())[:-50]
    (tmp_path / f"{name}.gz").write_bytes(cut)
    with pytest.raises(DataError, match="broken gzip after line"):
        pairs_in(tmp_path / f"{name}.gz")
    assert time.monotonic() - start < 60


# ---- XLIFF ---------------------------------------------------------------------------------------------------------

XLIFF1 = """<?xml version="1.0"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file source-language="{}" target-language="{}" original="a"><body><group>
<trans-unit id="1"><source>Water <g id="1">now</g><x id="2"/></source>
<target state="final">Maji <g id="1">sasa</g></target>
<alt-trans><source>Fire</source><target>Moto</target></alt-trans></trans-unit>
<trans-unit id="2"><source>Rain</source></trans-unit>
<trans-unit id="3"><source>Wind</source><target state="needs-translation">Wind</target></trans-unit>
</group></body></file></xliff>
"""
XLIFF2 = """<?xml version="1.0"?>
<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="{}" trgLang="{}"><file id="f">
<unit id="u"><segment><source>Water <pc id="1">now</pc></source><target>Maji <pc id="1">sasa</pc></target></segment>
<segment><source>Rain</source></segment></unit></file></xliff>
"""


@pytest.mark.parametrize("ending", ["xlf", "xliff", "XLF", "xlf.gz"])
@pytest.mark.parametrize(
    ("text", "left_out"), [(XLIFF1, {"untranslated": 1, "fuzzy": 1}), (XLIFF2, {"untranslated": 1})]
)
def test_xliff(tmp_path, ending, text, left_out):
    path = write(tmp_path / f"sw.train.{ending}", text.format("en-GB", "sw"))
    bitext = read_bitext(config(path))["sw"]
    assert pairs_of(bitext) == [("Water now", "Maji sasa")]
    assert bitext.report.dropped == left_out
    assert accounted(bitext)


@pytest.mark.parametrize("text", [XLIFF1, XLIFF2])
def test_the_direction_of_xliff(tmp_path, text):
    path = write(tmp_path / "a.xlf", text.format("swh", "en"))
    assert pairs_in(path) == [("Maji sasa", "Water now")]
    assert read(path)[1] == [f"{path}: English is the target, swh the source"]
    assert pairs_in(write(path, text.format("swh", "en").replace("<xliff", "<!-- a --><xliff"))) != []
    with pytest.raises(DataError, match=r"a\.xlf: from en to fr, not en and sw"):
        pairs_in(write(path, text.format("en", "fr")))
    with pytest.raises(ConfigError, match=r"data\.score_column=q: .*a\.xlf has no columns"):
        pairs_in(path, score_column="q")


# ---- PO ------------------------------------------------------------------------------------------------------------

PO = r"""msgid ""
msgstr ""
"Language: {language}\n"
"Content-Type: text/plain; charset={charset}\n"
"Plural-Forms: nplurals=2; plural=n != 1;\n"

# a note
#: a.c:3
msgid "The door \"A\""
msgstr ""
"Die T{u}r "
"\"A\""

#, fuzzy
msgid "Edit"
msgstr "Hm"

msgid "Open"
msgstr ""

msgid "one file"
msgid_plural "many files"
msgstr[0] "eine Datei"
msgstr[1] "viele Dateien"

#~ msgid "Old"
#~ msgstr "Alt"
"""
GERMAN = [('The door "A"', 'Die Tür "A"'), ("one file", "eine Datei"), ("many files", "viele Dateien")]


@pytest.mark.parametrize(("codec", "charset"), [("utf-8", "UTF-8"), ("utf-8", "CHARSET"), ("cp1252", "windows-1252")])
@pytest.mark.parametrize("ending", ["po", "PO", "po.gz"])
def test_po(tmp_path, codec, charset, ending):
    text = PO.format(language="de_AT", charset=charset, u="ü").encode(codec)
    path = write(tmp_path / f"de.train.{ending}", text)
    bitext = read_bitext(config(path))["de"]
    assert pairs_of(bitext) == GERMAN
    assert bitext.report.dropped == {"header": 1, "fuzzy": 1, "untranslated": 1, "obsolete": 1}
    assert accounted(bitext)
    assert bitext.report.notes == ([f"{path}: read as windows-1252"] if codec == "cp1252" else [])
    assert [line.where for line in read(path, "de")[0]][1:3] == [f"{path}:7", f"{path}:14"]


def test_po_faults(tmp_path):
    wrong = PO.format(language="fr", charset="UTF-8", u="ü").encode("cp1252")
    with pytest.raises(DataError, match=r"a\.po:11: not UTF-8 .*--data\.encoding windows-1252"):
        pairs_in(write(tmp_path / "a.po", wrong), "de")
    assert pairs_in(tmp_path / "a.po", "de", encoding="windows-1252") == GERMAN
    assert (
        f"{tmp_path / 'a.po'}: its header says that it is in fr" in read(tmp_path / "a.po", "de", encoding="cp1252")[1]
    )
    plural = b'msgid "a"\nmsgid_plural "b"\nmsgstr[f] "c"\n'
    for text in (b'msgid "a', b"hello", b'msgid "a"\nmsgid "b"\n', plural):
        with pytest.raises(DataError, match=r"a\.po: not a PO file that can be read"):
            pairs_in(write(tmp_path / "a.po", text))
    with pytest.raises(DataError, match=r"a\.po: nonsense is not an encoding"):
        pairs_in(write(tmp_path / "a.po", PO.format(language="de", charset="nonsense", u="u")))


# ---- zip -----------------------------------------------------------------------------------------------------------

ENGLISH, SWAHILI = ("".join(pair[n] + "\n" for pair in PAIRS) for n in (0, 1))


def test_a_moses_pair_in_an_archive(tmp_path):
    path = zipped(
        tmp_path / "en-sw.txt.zip",
        **{"README": "x", "GV.en-sw.en": ENGLISH, "GV.en-sw.sw": SWAHILI, "GV.en-sw.ids": "x"},
    )
    bitext = read_bitext(config(f"sw={path}"))["sw"]
    assert pairs_of(bitext) == PAIRS
    assert [file.path for file in bitext.files] == [str(path)]
    assert bitext.report.notes == [f"{path}: read GV.en-sw.en and GV.en-sw.sw in it"]
    assert pairs_in(zipped(tmp_path / "b.zip", **{"d/t.eng_Latn": ENGLISH, "d/t.swh_Latn": SWAHILI})) == PAIRS


@pytest.mark.parametrize("name", ["p.tmx", "p.csv", "x/p.jsonl", "p.tsv.gz"])
def test_other_files_in_an_archive(tmp_path, name):
    texts = {
        "p.tmx": tmx(*([("en", a), ("sw", b)] for a, b in PAIRS)),
        "p.csv": "".join(f'"{a}","{b}"\n' for a, b in PAIRS),
        "x/p.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "p.tsv.gz": gzip.compress("".join(f"{a}\t{b}\n" for a, b in PAIRS).encode()),
    }
    path = zipped(tmp_path / "a.zip", **{name: texts[name], "LICENSE.txt": "free"})
    assert pairs_in(path) == PAIRS
    assert read(path)[0][0].where.startswith(f"{path}#{name}:")


def test_archives_with_several_files_or_none(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"a.en": ENGLISH, "a.sw": SWAHILI, "b.en": "Night\n", "b.sw": "Usiku\n"})
    with pytest.raises(ConfigError, match=r"a\.zip: several files of pairs; name one, as in .*a\.zip#a: a, b"):
        pairs_in(path)
    assert pairs_in(f"{path}#b") == [("Night", "Usiku")]
    with pytest.raises(ConfigError, match=r"a\.zip#c: no such file in the archive; it has a\.en, a\.sw"):
        pairs_in(f"{path}#c")
    with pytest.raises(DataError, match=r"no pairs of en and sw in the archive; it has a\.en, a\.fr"):
        pairs_in(zipped(tmp_path / "b.zip", **{"a.en": "x", "a.fr": "x"}))
    with pytest.raises(DataError, match=r"c\.zip#a\.en has 1 lines and .*c\.zip#a\.sw has 2"):
        pairs_in(zipped(tmp_path / "c.zip", **{"a.en": "x\n", "a.sw": "x\ny\n"}))
    with pytest.raises(DataError, match=r"d\.zip#a\.tsv: empty file"):
        pairs_in(zipped(tmp_path / "d.zip", **{"a.tsv": ""}))
    damaged = bytearray(path.read_bytes())
    damaged[40:60] = bytes(20)
    for data in (bytes(damaged), path.read_bytes()[:100]):
        with pytest.raises(DataError, match=r"e\.zip: (cannot be unpacked|not a zip archive)"):
            pairs_in(f"{write(tmp_path / 'e.zip', data)}#a")


# ---- other kinds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xls", r"a spreadsheet that is not \.xlsx \(\.xls\); save it as \.xlsx or \.csv"),
        ("a.ODS", r"a spreadsheet"),
        ("a.docx", r"a word processor's document"),
        ("a.pdf", r"a PDF"),
        ("a.tar.gz", r"an archive \(\.tar\); unpack it"),
        ("a.sqlite", r"a database"),
        ("a.xml", r"name a TMX file \.tmx"),
        ("a.srt", r"subtitles in one language"),
        ("a.pot", r"a template of translations"),
        ("a.sdlxliff", r"an XLIFF file of a translation program \(\.sdlxliff\); name it \.xliff"),
        ("a.xlsx.gz", r"a \.xlsx file packed again by gzip; unpack it"),
    ],
)
def test_files_of_other_kinds_are_named_with_the_remedy(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        pairs_in(write(tmp_path / name, gzip.compress(b"x") if name.endswith("gz") else b"x"))


@pytest.mark.parametrize("name", ["a.xlsx", "a.zip", "a.parquet", "a.arrow", "a.tmx", "a.xliff", "a.po", "a.json"])
def test_what_is_in_a_file_of_another_kind_is_named(tmp_path, name):
    path = write(tmp_path / name, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(DataError, match=rf"{name}: this is a pointer of Git LFS.*; run git lfs pull"):
        pairs_in(path)
    with pytest.raises(DataError, match=rf"{name}: this is an HTML page.*; fetch the file again"):
        pairs_in(write(path, "<!DOCTYPE html>\n<html><p>404</html>\n"))


def test_an_encrypted_workbook(tmp_path):
    with pytest.raises(DataError, match=r"a\.xlsx: this is an old or encrypted Office file"):
        pairs_in(write(tmp_path / "a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))


# ---- round trips ---------------------------------------------------------------------------------------------------

cell = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=15
).filter(lambda text: text.strip() and "_x" not in text and not text.startswith(("=", "#")))
rows = st.lists(st.tuples(cell, cell), min_size=1, max_size=6)


@settings(max_examples=30)
@given(rows=rows)
def test_what_a_workbook_holds_comes_back(tmp_path_factory, rows):
    path = workbook(tmp_path_factory.mktemp("rows") / "a.xlsx", [("English", "Swahili"), *rows])
    assert pairs_in(path) == rows


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(*[st.text(min_size=1, max_size=15).filter(str.strip)] * 2), min_size=1, max_size=6))
def test_what_parquet_holds_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    pq.write_table(pa.table({"en": [a for a, _ in rows], "sw": [b for _, b in rows]}), path)
    assert pairs_in(path) == rows


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=200),
    name=st.sampled_from(
        ["a.xlsx", "a.zip", "a.parquet", "a.arrow", "a.tmx", "a.xlf", "a.po", "a.csv", "a.json", "a.tmx.gz"]
    ),
)
@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"PAR1", b"\xff\xff\xff\xff", b"<tmx>", b"\x1f\x8b\x08", b'"a,'])
def test_any_bytes_are_read_or_refused(tmp_path_factory, start, data, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(start + data)
    try:
        lines, _ = read(path)
    except (DataError, ConfigError):
        return
    for line in lines:
        assert line.fault or line.left_out or (line.english.strip() and line.foreign.strip())


@pytest.mark.parametrize(
    ("name", "library"),
    [("a.xlsx", "openpyxl"), ("a.parquet", "pyarrow"), ("a.tmx", "lxml"), ("a.xlf", "lxml"), ("a.po", "translate")],
)
def test_missing_libraries_are_named(tmp_path, monkeypatch, name, library):
    path = workbook(tmp_path / name, ROWS) if name == "a.xlsx" else write(tmp_path / name, "x\n")
    for module in (library, "translate.storage.pypo"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'optical_jax\[files\]'"):
        pairs_in(path)
