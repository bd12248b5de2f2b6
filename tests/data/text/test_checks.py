"""Checks of pairs before training: what is warned of, what stops it, and what passes in silence."""

import json
import os
import random
from dataclasses import replace

import pytest

from optical_jax.commands.check import main
from optical_jax.config import DataConfig
from optical_jax.data.text.bitext import load_bitext
from optical_jax.data.text.checks import check_dev, check_number, check_pairs
from optical_jax.errors import DataError
from optical_jax.runs.folder import RunFolder
from optical_jax.training.task import say_result
from tests import ROOT

WHO = {"teacher": "Mwalimu", "farmer": "Mkulima", "child": "Mtoto", "woman": "Mwanamke", "doctor": "Daktari"}
DID = {"reads": "anasoma", "buys": "ananunua", "sells": "anauza", "wants and sees": "anataka na kuona"}
WHAT = {
    "a book": "kitabu",
    "a house by the old river": "nyumba kando ya mto wa zamani",
    "water": "maji",
    "milk": "maziwa",
}
PAIRS = [
    (f"The {who} {did} {what} of the town", f"{wer} {tat} {was} ya mji")
    for who, wer in WHO.items()
    for did, tat in DID.items()
    for what, was in WHAT.items()
]
"""80 pairs whose lengths are related."""
ENGLISH, SWAHILI = [a for a, _ in PAIRS], [b for _, b in PAIRS]


def findings(english, foreign, language="sw", **settings):
    given = {"read": len(english), "left_out": {}} | settings
    return [found.message for found in check_pairs(language, english, foreign, **given)]


def stops(english, foreign, **settings):
    given = {"read": len(english), "left_out": {}} | settings
    return [found.message for found in check_pairs("sw", english, foreign, **given) if found.stops]


def test_good_pairs_pass_in_silence():
    assert findings(ENGLISH, SWAHILI) == []


def test_swapped_sides_stop_training():
    (message,) = stops(SWAHILI, ENGLISH)
    assert "the sides look swapped" in message
    assert "data.english_column" in message
    assert stops(ENGLISH, SWAHILI) == []


def test_short_names_are_not_judged():
    names = ["West Africa Time", "Swahili", "Shilling", "Kenya", "Monday", "Lake Victoria"]
    assert stops(["Saa za Afrika", "Kiswahili", "Shilingi", "Kenya", "Jumatatu", "Ziwa"] * 3, names * 3) == []


def test_a_student_of_english_is_not_swapped():
    shorter = [text.replace("The ", "the ") for text in ENGLISH]
    assert findings(ENGLISH, shorter, same_language=True) == []
    assert findings(ENGLISH, shorter, language="en") == []
    assert findings(ENGLISH, shorter)[0].startswith("both sides look English")


@pytest.mark.parametrize(
    ("left_out", "stopped"),
    [({"duplicate": 40, "too_long": 1}, True), ({"duplicate": 40}, False), ({"bad_lines": 60}, True), ({}, False)],
)
def test_more_than_half_left_out_stops_training(left_out, stopped):
    found = stops(ENGLISH, SWAHILI, read=80, left_out=left_out)
    assert bool(found) == stopped
    if found:
        assert found[0].startswith(f"{sum(left_out.values())} of 80 pairs are left out (")


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("{n}", "numbers, ids or addresses"),
        ("doc-{n}", "numbers, ids or addresses"),
        ("https://example.org/{n}", "numbers, ids or addresses"),
        ("news", "99% of the sw side repeat a text"),
        ("Ã© caf {n} Ã¨", "wrong decoding"),
        ("text &amp; <b>{n}</b> more", "HTML or XML"),
    ],
)
def test_columns_that_are_no_texts(cell, what):
    found = findings(ENGLISH, [cell.format(n=n) for n in range(len(ENGLISH))])
    assert any(what in message and ("data." in message or "remove it" in message) for message in found)


def test_shifted_lines_are_found_by_length():
    order = list(range(len(PAIRS))) * 5
    random.Random(0).shuffle(order)
    mixed, own = [SWAHILI[n] for n in order], [ENGLISH[n] for n in order]
    assert any("lines may be shifted" in message for message in findings(own, mixed[1:] + mixed[:1]))
    assert findings(own, mixed) == []
    # Captions of the same images are no translations of each other.
    assert findings(own, mixed[1:] + mixed[:1], parallel=False) == []


def test_other_scripts():
    assert "in Cyrillic script" in findings(["Учитель читает книгу в городе"] * 2 + ["Мать"] * 70, SWAHILI[:72])[0]


def test_another_language_than_its_code():
    pytest.importorskip("py3langid")
    (message,) = findings(ENGLISH, SWAHILI, language="so")
    assert "of the so side look like sw" in message
    assert findings(ENGLISH, SWAHILI, language="xx") == []


def test_few_pairs_and_another_domain():
    assert check_number("sw", 1000) == ""
    assert check_number("sw", 999).startswith("999 sw pairs are few")
    assert check_dev(ENGLISH, ENGLISH[:20]) == ""
    # All but "the" and "of", 2 of 7 words, are unknown.
    message = check_dev(ENGLISH, ["Viruses infect the lungs of older patients"])
    assert "71% of their English words are in no training pair" in message


# ---- in files ----------------------------------------------------------------------------------------------------


def write(folder, pairs, name="sw.train.tsv"):
    path = folder / name
    path.write_text("".join("\t".join(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def test_training_stops_unless_asked_to_go_on(tmp_path):
    cfg = DataConfig(bitext=(str(write(tmp_path, [(b, a) for a, b in PAIRS])),))
    with pytest.raises(DataError, match=r"sw.train.tsv: the sides look swapped.*--data.checks warn"):
        load_bitext(cfg)
    (report,) = [one.report for one in load_bitext(replace(cfg, checks="warn")).train.values()]
    assert [warning for warning in report.warnings if "swapped" in warning] == report.refusals
    assert "first" not in report.as_json()


def test_a_corpus_within_another_one_is_no_mistake(tmp_path):
    both = (str(write(tmp_path, PAIRS)), str(write(tmp_path, PAIRS, "sw.more.tsv")))
    report = load_bitext(DataConfig(bitext=both)).train["sw"].report
    assert report.dropped["duplicate"] == len(PAIRS)
    with pytest.raises(DataError, match=r"sw.more.tsv: 160 of 240 pairs are left out \(duplicate 160\)"):
        load_bitext(DataConfig(bitext=(str(write(tmp_path, PAIRS * 3, "sw.more.tsv")),)))


def test_check_shows_what_training_would_read(tmp_path, capsys):
    path = write(tmp_path, [*PAIRS, ("same", "same")])
    assert main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert "pair 1: The teacher reads a book of the town | Mwalimu anasoma kitabu ya mji" in shown
    assert f"left out as equal sides: {path}:81: same | same" in shown
    assert "English side: Latin script 100%" in shown
    assert "80 to" not in shown


def test_check_ends_with_3_where_training_would_stop(tmp_path, capsys):
    path = write(tmp_path, [(b, a) for a, b in PAIRS])
    assert main([str(path)]) == 3
    out, err = capsys.readouterr()
    assert "WARNING, training stops" in out
    assert err.startswith("error: training would stop")
    assert main([str(path), "--data.checks", "warn"]) == 0
    assert main([str(path), "--data.english-column", "1", "--data.foreign-column", "0"]) == 0


def test_check_needs_no_language(tmp_path, capsys):
    assert main([str(write(tmp_path, PAIRS, "pairs.txt"))]) == 0
    assert "und train: 80 pairs of 80 lines" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.txt")]) == 3
    assert capsys.readouterr().err == f"error: {tmp_path}/absent.txt: no such file; name one that exists\n"
    assert main([f"swahili={tmp_path / 'pairs.txt'}"]) == 2
    assert "swahili is not a language code" in capsys.readouterr().err


def test_an_id_column_is_shown_where_no_pair_is_left(tmp_path, capsys):
    path = tmp_path / "sw.train.tsv"
    path.write_text("".join(f"{n}\t{a}\t{n + 7}\t{b}\n" for n, (a, b) in enumerate(PAIRS)), encoding="utf-8")
    assert main([str(path)]) == 3
    told = capsys.readouterr().err
    assert "the first pair was read as 0 | The teacher reads a book of the town; see data.english_column" in told


def test_a_pipe_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "sw.train.tsv")
    assert main([str(tmp_path / "sw.train.tsv")]) == 3
    assert "is a pipe or a device, not a file; save it as one first" in capsys.readouterr().err


def test_check_compares_with_dev_pairs(tmp_path, capsys):
    dev = write(tmp_path, [("Viruses infect the lungs of older patients", "Virusi huambukiza mapafu")], "sw.other.tsv")
    assert main([str(write(tmp_path, PAIRS)), "--data.dev", str(dev)]) == 0
    assert "dev texts are of another domain" in capsys.readouterr().out


# ---- whole documents as dev pairs --------------------------------------------------------------------------------


def with_documents(tmp_path, documents):
    """Settings for PAIRS whose n-th pair is of the n-th document."""
    rows = zip(PAIRS, documents, strict=True)
    path = tmp_path / "sw.train.tsv"
    path.write_text("".join(f"{english}\t{foreign}\t{document}\n" for (english, foreign), document in rows), "utf-8")
    return DataConfig(bitext=(str(path),), dev_by="document", document_column="2")


def test_whole_documents_are_held_out(tmp_path):
    documents = [f"d{n // 4}" for n in range(len(PAIRS))]
    splits = load_bitext(with_documents(tmp_path, documents))
    train, dev = splits.train["sw"], splits.dev["sw"]
    assert not set(train.documents) & set(dev.documents)
    # A tenth of 80 pairs, by whole documents of 4.
    assert len(dev) == 8
    assert len(train) == 72
    assert train.report.dropped["held_out"] == 8
    assert not dev.report.same_texts


def test_dev_by_document_needs_documents(tmp_path):
    with pytest.raises(DataError, match=r"data.dev_by=document: 0 of 80 sw pairs name a document.*document_column"):
        load_bitext(with_documents(tmp_path, [""] * len(PAIRS)))


def test_held_out_lines_are_said_to_flatter(tmp_path):
    splits = load_bitext(DataConfig(bitext=(str(write(tmp_path, PAIRS)),)))
    assert splits.dev["sw"].report.same_texts
    given = load_bitext(DataConfig(bitext=(str(ROOT / "configs/tiny/sw.train.tsv"),)))
    assert not given.dev["sw"].report.same_texts
    assert json.dumps(splits.dev["sw"].report.as_json())


@pytest.mark.parametrize("same_texts", [True, False])
def test_the_result_says_where_dev_pairs_flatter(tmp_path, capsys, same_texts):
    dev = [{"step": step, "dev": {"sw": {"R@1": step / 10}}} for step in (0, 5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in dev))
    (tmp_path / "bitext.json").write_text(json.dumps({"dev": [{"language": "sw", "same_texts": same_texts}]}))
    say_result(RunFolder(tmp_path))
    shown = capsys.readouterr().out
    assert "R@1 0.000 -> 0.500" in shown
    assert ("lines of the training's own texts" in shown) == same_texts
