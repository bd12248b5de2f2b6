"""A run's sides and switched words, from its settings to its batches, and when it goes on."""

import itertools
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from optical_jax.config import Config, DataConfig, StudentConfig, TeacherConfig
from optical_jax.config.validation import validate
from optical_jax.data.text.code_switch import lexicon_file, read_lexicon
from optical_jax.errors import ConfigError
from optical_jax.runs.folder import RunFolder
from optical_jax.training.student.task import prepare
from optical_jax.training.task import begin


def settings(**data) -> Config:
    return Config(
        run="runs/x",
        teacher=TeacherConfig(path="configs/tiny/teacher", max_length=16),
        student=StudentConfig(vocabulary="train", new_embeddings="lexicon", vocab_size=200, max_length=16),
        data=DataConfig(bitext=("configs/tiny/sw.train.tsv",), global_batch=16, **data),
    )


def batches(parts, count: int = 20) -> list:
    return [jax.tree.leaves(batch) for batch in itertools.islice(parts.loader, count)]


def same(a: list, b: list) -> bool:
    return all(np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def test_a_run_that_goes_on_switches_the_same_words(tmp_path):
    """By the lexicon in its folder: the plans are not asked again, and without the file it is refused."""
    cfg = settings(code_switch=0.5)
    validate(cfg)
    folder, parts = RunFolder(tmp_path / "run"), prepare(cfg, None)
    assert parts.lexicons["sw"]
    folder.path.mkdir()
    begin(cfg, folder, parts)
    file = lexicon_file(folder.path, "sw")
    assert {w: e.english for w, e in read_lexicon(file).items()} == {
        w: e.english for w, e in parts.lexicons["sw"].items()
    }
    first, again = batches(parts), prepare(cfg, folder)
    assert again.loader.state()["fingerprint"] == parts.loader.state()["fingerprint"]
    assert same(first, batches(again))

    # Each word by another: the folder's lexicon is what counts.
    file.write_text("mwalimu\tbread\n", "utf-8")
    assert not same(first, batches(prepare(cfg, folder)))
    file.unlink()
    with pytest.raises(ConfigError, match=r"lexicon.sw.tsv, a lexicon of this run.s code switching, is missing"):
        prepare(cfg, folder)


def test_a_given_lexicon_and_both_sides(tmp_path, capsys):
    """Four versions, every second one of documents; a teacher without markers is told of."""
    file = tmp_path / "own.tsv"
    file.write_text("mwalimu\tteacher\n", "utf-8")
    cfg = settings(code_switch=1.0, lexicon=(f"sw={file}",))
    cfg = replace(cfg, student=replace(cfg.student, sides="both"))
    parts = prepare(cfg, None)
    assert "queries and documents differ only in their maximum length" in " ".join(capsys.readouterr().out.split())
    tokens = parts.loader.layout.pairs.student
    pairs = len(tokens) // 4
    tokenizer = parts.models["student"].tokenizer
    texts = [tokenizer.decode(tokens.ids[a:b]) for a, b in itertools.pairwise(tokens.offsets.tolist())]
    foreign = [line.split("\t")[1] for line in Path("configs/tiny/sw.train.tsv").read_text("utf-8").splitlines()]
    assert any("mwalimu" in text.lower() for text in foreign)
    assert not any("mwalimu" in text for text in texts)
    assert sum("teacher" in text for text in texts[:pairs]) > 0
