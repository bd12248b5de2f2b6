"""What of the bitext trains and what is held out, how many pairs are taken, and what the reports say."""

import hashlib
import json
from collections import Counter

import pytest

from optical_jax.config import Config, DataConfig
from optical_jax.data.text.bitext import load_bitext, overlap, read_bitext
from optical_jax.data.text.entries import for_each_language
from optical_jax.data.text.report import report_lines
from optical_jax.errors import DataError
from tests.data.text.test_bitext import GOOD, accounted, config, numbered, pairs_of, tsv, write

# ---- dev -------------------------------------------------------------------------------------------------------


def test_dev_beside_train(tmp_path):
    train = tsv(tmp_path / "sw.train.tsv.gz", numbered(50))
    leaked = [numbered(1, 3)[0], ("Another English side", numbered(1, 4)[0][1]), (numbered(1, 5)[0][0], "Nyingine")]
    tsv(tmp_path / "sw.dev.tsv", [*numbered(20, 100), *leaked])
    splits = load_bitext(config(train))
    assert pairs_of(splits.train["sw"]) == numbered(50)
    assert pairs_of(splits.dev["sw"]) == numbered(20, 100)
    assert splits.dev["sw"].report.dropped == {"in_training": 3}
    assert accounted(splits.dev["sw"])


def test_dev_is_cut_by_a_hash_whatever_the_order(tmp_path):
    train = tsv(tmp_path / "sw.train.tsv", numbered(50))
    chosen = []
    for order in (1, -1):
        tsv(tmp_path / "sw.dev.tsv", numbered(40, 100)[::order])
        dev = load_bitext(config(train, dev_pairs=15)).dev["sw"]
        assert dev.report.dropped == {"over_dev_pairs": 25}
        assert accounted(dev)
        chosen.append(pairs_of(dev)[::order])
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) < set(numbered(40, 100))
    assert len(chosen[0]) == 15


def test_max_pairs_keeps_the_same_english_in_every_language(tmp_path):
    english = [f"Sentence number {n}" for n in range(40)]
    sw = tsv(tmp_path / "sw.train.tsv", [(text, f"sentensi ya {text}") for text in english])
    so = tsv(tmp_path / "so.train.tsv", [(text, f"jumlad ah {text}") for text in english[::-1]])
    train = load_bitext(config(sw, so, max_pairs=15, dev_pairs=0)).train
    assert set(train["sw"].english) == set(train["so"].english)
    assert len(train["sw"]) == 15
    assert train["sw"].english == [one for one in english if one in train["sw"].english]
    assert train["sw"].report.dropped == {"over_max_pairs": 25}
    assert accounted(train["sw"])


def test_dev_given_wins_over_siblings(tmp_path):
    train = tsv(tmp_path / "sw.train.tsv", numbered(50))
    tsv(tmp_path / "sw.dev.tsv", numbered(20, 100))
    other = tsv(tmp_path / "other.tsv", numbered(7, 200))
    splits = load_bitext(config(train, dev=(f"sw={other}",)))
    assert pairs_of(splits.dev["sw"]) == numbered(7, 200)
    with pytest.raises(DataError, match=r"no sw dev pair is left of 50 lines \(in_training 50\)"):
        load_bitext(config(train, dev=(str(train),)))


def test_held_out_pairs_leave_training(tmp_path):
    # Half the English sentences have a second translation: none of their pairs may be held out.
    pairs = [*numbered(100), *((english, f"tafsiri nyingine ya {foreign}") for english, foreign in numbered(50))]
    path = tsv(tmp_path / "sw.train.tsv", pairs)
    splits = load_bitext(config(path))
    train, dev = splits.train["sw"], splits.dev["sw"]
    assert len(dev) == 15
    assert Counter(pairs_of(train)) + Counter(pairs_of(dev)) == Counter(pairs)
    assert not set(dev.english) & set(train.english)
    assert not set(dev.foreign) & set(train.foreign)
    assert train.report.dropped == {"held_out": 15}
    assert accounted(train)
    assert accounted(dev)
    assert len(load_bitext(config(path, dev_pairs=4)).dev["sw"]) == 4
    backwards = load_bitext(config(tsv(path, pairs[::-1]))).dev["sw"]
    assert pairs_of(backwards)[::-1] == pairs_of(dev)


def test_no_dev_where_none_is_wanted_or_none_can_be(tmp_path):
    path = tsv(tmp_path / "sw.train.tsv", numbered(30))
    none = load_bitext(config(path, dev_pairs=0))
    assert not none.dev
    assert len(none.train["sw"]) == 30
    few = load_bitext(config(tsv(tmp_path / "so.train.tsv", numbered(9))))
    assert not few.dev
    assert len(few.train["so"]) == 9


# ---- reports ---------------------------------------------------------------------------------------------------


def test_report_as_json_and_as_lines(tmp_path):
    path = write(tmp_path / "sw.train.tsv", b"x\n" + GOOD + GOOD + b"Water\tMaji\n")
    bitext = read_bitext(config(path, max_bad_lines=1))["sw"]
    report = json.loads(json.dumps(bitext.report.as_json()))
    assert report == {
        "language": "sw",
        "files": [{"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
        "lines": 4,
        "kept": 2,
        "dropped": {"duplicate": 1},
        "notes": [],
        "bad_lines": [f"{path}:1: no tab"],
        "warnings": report["warnings"],
        "refusals": [],
        "same_texts": False,
        "english_characters": 21,
        "foreign_characters": 18,
        "lengths": {},
    }
    assert report_lines({"train": [bitext.report]}) == [
        "sw train: 2 pairs of 4 lines in 1 file",
        "  left out: bad lines 1, duplicate 1",
        f"  bad line: {path}:1: no tab",
        "  pair 1: The child reads. | Mtoto anasoma.",
        "  pair 2: The child reads. | Mtoto anasoma.",
        "  pair 3: Water | Maji",
        f"  warning: {report['warnings'][0]}",
    ]


def test_overlap_counts_pairs_with_a_shared_side(tmp_path):
    train = read_bitext(config(tsv(tmp_path / "sw.train.tsv"), tsv(tmp_path / "so.train.tsv", numbered(2))))
    assert overlap(train, ["the child READS", "maji ni uhai", "unrelated"]) == {"sw": 2, "so": 0}


def test_one_student_a_language(tmp_path):
    for name in ("sw.train.tsv", "so.train.tsv", "more.tsv", "sw.dev.tsv"):
        (tmp_path / name).write_text("a\tb\n", "utf-8")
    sw, so, more, dev = (str(tmp_path / n) for n in ("sw.train.tsv", "so.train.tsv", "more.tsv", "sw.dev.tsv"))
    data = DataConfig(bitext=(sw, so, f"sw={more}"), dev=(dev,), weights=("sw=2", "so=1"), temperature=3.0)
    found = for_each_language(Config(run="runs/all", seed=4, data=data))
    assert list(found) == ["sw", "so"]
    assert [one.run for one in found.values()] == ["runs/all/sw", "runs/all/so"]
    assert (found["sw"].data.bitext, found["sw"].data.dev) == ((sw, f"sw={more}"), (dev,))
    assert (found["so"].data.bitext, found["so"].data.dev) == ((so,), ())
    assert all((one.data.weights, one.seed, one.data.temperature) == ((), 4, 3.0) for one in found.values())
