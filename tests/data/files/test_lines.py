"""Lines of text files: encodings, line ends, faults, files of other kinds."""

import codecs
import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optical_jax.data.files import lines
from optical_jax.data.files.lines import raw_lines, read_json_lines, read_lines, text_form
from optical_jax.errors import DataError

TEXTS = ["Mwalimu ananunua maji.", "Çà et là, 12\u00a0000 francs", "水を買う", "", "😀 \u2028 joins"]
"""The last one has a character that some tools take for a line end; here it is text."""


def written(folder, data: bytes, name="texts.txt"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be with mark"])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_in_any_unicode_encoding_and_with_any_line_end(tmp_path, end, encoding, packed):
    text = "".join(line + end for line in TEXTS)
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be with mark" else b""
    data = mark + text.encode(encoding.split()[0])
    path = written(tmp_path, gzip.compress(data) if packed else data)
    assert list(raw_lines(path)) == [(n, line, "") for n, line in enumerate(TEXTS, start=1)]
    assert list(read_lines(path)) == [(n, line) for n, line in enumerate(TEXTS, start=1) if line]


def test_a_named_encoding(tmp_path):
    path = written(tmp_path, "café\nnaïve €\n".encode("windows-1252"))
    assert [text for _, text, _ in raw_lines(path, "windows-1252")] == ["café", "naïve €"]
    assert text_form(path, "windows-1252") == ("windows-1252", "\n")
    assert [fault for *_, fault in raw_lines(path)] == [f"not UTF-8 (byte {n} of the line)" for n in (4, 3)]


def test_bytes_outside_of_a_named_encoding_are_a_fault_of_their_line(tmp_path):
    path = written(tmp_path, b"fine\nb\x81d\nfine\n")
    assert list(raw_lines(path, "windows-1252")) == [
        (1, "fine", ""),
        (2, "", "byte 0x81 is not windows-1252"),
        (3, "fine", ""),
    ]


def test_a_line_that_is_not_utf8_is_the_only_one_lost(tmp_path):
    path = written(tmp_path, b"fine\n\xc3\xa9 caf\xe9\nfine\n")
    assert list(raw_lines(path))[1] == (2, "", "not UTF-8 (byte 7 of the line)")
    with pytest.raises(DataError, match=r"texts.txt:2: not UTF-8 \(byte 7 of the line\); .* save the file as UTF-8"):
        list(read_lines(path))


def test_half_a_surrogate_pair_is_not_text(tmp_path):
    path = written(tmp_path, codecs.BOM_UTF16_LE + "ab\ud83d\nfine\n".encode("utf-16-le", "surrogatepass"))
    (_, text, fault), second = raw_lines(path)
    assert (text, second) == ("", (2, "fine", ""))
    assert fault.startswith(r"half a surrogate pair (\ud83d)")
    # As UTF-8 such bytes are not valid at all.
    encoded = written(tmp_path, "ab\ud83d\n".encode("utf-8", "surrogatepass"), "encoded.txt")
    assert list(raw_lines(encoded)) == [(1, "", "not UTF-8 (byte 3 of the line)")]


@pytest.mark.parametrize(
    ("data", "line", "fault"),
    [
        (b"one\ntwo\rthree\n", 2, "a carriage return (CR) within the line"),
        (b"x" * 10 + b"\r" + b"y" * lines.SNIFFED + b"\nz\rend", 2, "a line feed (LF) within the line"),
    ],
)
def test_mixed_line_ends_are_a_fault(tmp_path, data, line, fault):
    number, text, found = list(raw_lines(written(tmp_path, data)))[line - 1]
    assert (number, text) == (line, "")
    assert found.startswith(fault)


def test_doubled_carriage_returns_end_one_line(tmp_path):
    assert [text for _, text, _ in raw_lines(written(tmp_path, b"one\r\r\ntwo\r\r\n"))] == ["one", "two"]


def test_crlf_at_the_end_of_what_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "SNIFFED", 4)
    assert [text for _, text, _ in raw_lines(written(tmp_path, b"one\r\ntwo\r\n"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04\x14\x00", "a zip archive or an Office file"),
        (b"%PDF-1.7\n", "a PDF, not a text file; save its text"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "pointer of Git LFS.*git lfs pull",
        ),
        (b"\r\n<!DOCTYPE html><html>", "an HTML page.*fetch the file again"),
        (b"\xef\xbb\xbf<html lang=en>", "an HTML page"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"BZh91AY", "packed by bzip2.*unpack it"),
        (b"name" + b"\0" * 253 + b"ustar\x0000", "a tar archive"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        ("Maji\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_other_kinds_are_named(tmp_path, data, what, packed):
    path = written(tmp_path, gzip.compress(data) if packed else data)
    for read in (raw_lines, read_lines):
        with pytest.raises(DataError, match=what) as caught:
            list(read(path))
        assert str(path) in str(caught.value)


def test_broken_files(tmp_path):
    whole = gzip.compress(b"one line\n" * 1000)
    for data, what in [(whole[:-20], "broken gzip after line"), (whole[:20] + b"\0" * 20, "broken gzip")]:
        with pytest.raises(DataError, match=what):
            list(raw_lines(written(tmp_path, data, "texts.txt.gz")))
    with pytest.raises(DataError, match="but not gzip"):
        list(raw_lines(written(tmp_path, b"plain\n", "plain.gz")))
    with pytest.raises(DataError, match="empty file"):
        list(raw_lines(written(tmp_path, b"")))
    with pytest.raises(DataError, match="cannot be read"):
        list(raw_lines(tmp_path))
    with pytest.raises(DataError, match=r"not utf-16 after line 1"):
        list(raw_lines(written(tmp_path, codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le") + b"\0")))


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 100)
    with pytest.raises(DataError, match=r":2: a line of more than 100 characters"):
        list(raw_lines(written(tmp_path, b"short\n" + b"x" * 200)))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "cut \\ud83d"}', r"half a surrogate pair \(\\ud83d\)"),
        ('{"\\udc00": 1}', "half a surrogate pair"),
        ("[" * 100_000, "nested too deep"),
        ("9" * 5000, "too many digits"),
        ('{"text": ', r"not JSON \(Expecting value, column 10\)"),
    ],
)
def test_json_lines_that_are_refused(tmp_path, line, what):
    path = written(tmp_path, f'{{"text": "\\ud83d\\ude00"}}\n{line}\n'.encode())
    values = read_json_lines(path)
    assert next(values) == (1, {"text": "😀"})
    with pytest.raises(DataError, match=rf"texts.txt:2: .*{what}"):
        next(values)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = written(tmp_path_factory.getbasetemp(), data, "bytes")
    with contextlib.suppress(DataError):
        for _, text, fault in raw_lines(path):
            assert not (text and fault)
            text.encode()
            assert "\r" not in text
            assert "\n" not in text
