"""The model card: what it tells of a run, what it keeps to itself, and its code, run as it stands there."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from optical_jax.commands.export import main
from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    StudentConfig,
    TeacherConfig,
    TowerConfig,
    to_json,
)
from optical_jax.export.card import Model
from optical_jax.export.student_card import CardFacts, file_and_set, model_card
from tests.commands.test_export import make_run

PLAIN = HeadConfig(query_length=10, document_length=16)
PROJECTED = replace(PLAIN, projection=8)
CONFIG = Config(
    run="/home/joe/secret/runs/x",
    teacher=TeacherConfig(path="/home/joe/models/minilm"),
    licences=("tico19=CC0 1.0", "mafand_nc=CC BY-NC 4.0: weights must not be published", "unused=MIT"),
)


def bitext_of(language: str, *paths: str, kept: int = 90, **dropped: int) -> dict[str, Any]:
    files = [{"path": path, "sha256": f"{n}" * 64} for n, path in enumerate(paths)]
    lines = kept + sum(dropped.values())
    return {"language": language, "files": files, "lines": lines, "kept": kept, "dropped": dropped, "bad_lines": []}


def evaluation_of(checkpoint: int, collection: str = "flores_sib") -> dict[str, Any]:
    def figures(value: float) -> dict[str, float]:
        return {"R@1": value, "R@10": value + 0.1, "nDCG@10": value + 0.05, "queries": 1002}

    return {
        "collection": collection,
        "split": "dev",
        "scoring": "maxsim",
        "run": "/home/joe/secret/runs/x",
        "checkpoint": checkpoint,
        "languages": {"sw": figures(0.8), "no": figures(0.7)},
        "references": {"untrained": {"sw": figures(0.3), "no": figures(0.2)}, "bm25": {"sw": figures(0.1)}},
        "shared_with_training": {"sw": 3, "no": 0},
    }


FACTS = CardFacts(
    name="x",
    folder="x_encoder",
    tower=TowerConfig(EncoderConfig(), PROJECTED),
    step=150,
    teacher=Model("minilm", hub=False),
    start=Model("", hub=False),
    config=to_json(CONFIG),
    env={
        "optical_jax": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux-of-joe",
        "device": "cpu",
        "device_count": 2,
        "packages": {"jax": "0.10.2"},
        "inputs": {"teacher.path": {"model.safetensors": "ab" * 32, "vocab.txt": "cd" * 32}},
        "resumed": [],
    },
    bitext={
        "train": [
            bitext_of("sw", "/home/joe/data/tico19/sw.train.tsv.gz", "../mafand_nc/sw.train.tsv", duplicate=10),
            bitext_of("no", "/home/joe/no.train.tsv", "data/pairs.tsv"),
        ],
        "dev": [bitext_of("sw", "data/tico19/sw.dev.tsv.gz", kept=44)],
    },
    metrics=[
        {"step": 0, "dev": {"sw": {"R@1": 0.25, "RR@10": 0.375}}},
        {"step": 20, "loss": 1.0},
        {"step": 150, "dev": {"sw": {"R@1": 0.5, "RR@10": 0.625}}},
    ],
    evaluations=[evaluation_of(150)],
)


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of every row of every table, heads and rules included."""
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"]


def python_blocks(text: str, info: str = "python") -> list[str]:
    return re.findall(rf"^```{info}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


# ---- what the hub reads ------------------------------------------------------------------------------------------


def test_front_matter_is_what_the_hub_wants():
    """Norwegian is no boolean; a licence in words survives YAML."""
    assert front_matter(model_card(FACTS)) == {
        "language": ["sw", "no"],
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["colbert", "late-interaction", "cross-lingual", "optical_jax"],
    }
    teacher, start = Model("org/minilm", hub=True), Model("org/xlmr", hub=True)
    assert front_matter(model_card(replace(FACTS, license="cc-by-4.0", teacher=teacher)))["license"] == "cc-by-4.0"
    wordy = 'other: "as is", #1'
    assert front_matter(model_card(replace(FACTS, license=wordy)))["license"] == wordy
    assert front_matter(model_card(replace(FACTS, teacher=teacher)))["base_model"] == "org/minilm"
    assert front_matter(model_card(replace(FACTS, teacher=teacher, start=start)))["base_model"] == "org/xlmr"
    # Weights that began at a folder of this machine are not the teacher's.
    assert "base_model" not in front_matter(model_card(replace(FACTS, teacher=teacher, start=Model("mine", hub=False))))


def test_the_hub_library_reads_it():
    from huggingface_hub import ModelCard

    data = ModelCard(model_card(replace(FACTS, license="cc-by-4.0"))).data
    assert (data.license, data.language, data.pipeline_tag) == ("cc-by-4.0", ["sw", "no"], "sentence-similarity")


def test_no_path_of_the_machine_is_told():
    card = model_card(FACTS)
    for word in ("joe", "secret", "/home", "Linux"):
        assert word not in card


@pytest.mark.parametrize(
    ("path", "name", "part"),
    [
        ("/data/bitext/tico19/sw.train.tsv.gz", "tico19/sw.train.tsv.gz", "tico19"),
        ("tico19/zh_Hans.train.jsonl", "tico19/zh_Hans.train.jsonl", "tico19"),
        ("sw.train.tsv", "sw.train.tsv", "sw.train.tsv"),
        ("/home/joe/sw.train.tsv", "sw.train.tsv", "sw.train.tsv"),
        ("/data/joe/pairs.tsv", "pairs.tsv", "pairs.tsv"),
    ],
)
def test_names_of_files_and_parts(path, name, part):
    assert file_and_set(path) == (name, part)


# ---- what it tells -----------------------------------------------------------------------------------------------


def test_training_data():
    text = section(model_card(FACTS), "Languages and training data")
    assert rows(text)[2:6] == [
        ["sw", "tico19/sw.train.tsv.gz", "0" * 12],
        ["sw", "mafand_nc/sw.train.tsv", "1" * 12],
        ["no", "no.train.tsv", "0" * 12],
        ["no", "pairs.tsv", "1" * 12],
    ]
    assert rows(text)[8:] == [["sw", "90", "100", "duplicate 10"], ["no", "90", "90", "none"]]
    assert "is selected: sw 44." in text


def test_licences_word_for_word_and_what_lacks_one_by_name():
    text = section(model_card(FACTS), "Licences")
    assert "not stated: the parts are licensed as listed; check before publishing" in text
    assert rows(text)[2:] == [["tico19", "CC0 1.0"], ["mafand_nc", "CC BY-NC 4.0: weights must not be published"]]
    assert "Without a stated licence: `teacher`, `no.train.tsv`, `pairs.tsv`." in text
    assert "unused" not in text

    whole = (*CONFIG.licences, "teacher=Apache-2.0", "no.train.tsv=a | b", "pairs.tsv=MIT")
    facts = replace(FACTS, license="cc-by-nc-4.0", config=to_json(replace(CONFIG, licences=whole)))
    text = section(model_card(facts), "Licences")
    assert "These weights: cc-by-nc-4.0." in text
    assert "not stated" not in text
    assert "Without" not in text
    assert ["no.train.tsv", r"a \| b"] in rows(text)
    assert "`student`" in section(model_card(replace(facts, start=Model("xlmr", hub=False))), "Licences")


def test_figures_of_this_checkpoint():
    text = section(model_card(FACTS), "Results")
    assert "### flores_sib, dev, maxsim" in text
    assert rows(text) == [
        ["language", "system", "queries", "R@1", "R@10", "nDCG@10"],
        ["---", "---", "---:", "---:", "---:", "---:"],
        ["sw", "student", "1002", "0.800", "0.900", "0.850"],
        ["sw", "untrained", "1002", "0.300", "0.400", "0.350"],
        ["sw", "BM25", "1002", "0.100", "0.200", "0.150"],
        ["no", "student", "1002", "0.700", "0.800", "0.750"],
        ["no", "untrained", "1002", "0.200", "0.300", "0.250"],
        ["language", "system", "R@1", "RR@10"],
        ["---", "---", "---:", "---:"],
        ["sw", "student", "0.500", "0.625"],
        ["sw", "untrained", "0.250", "0.375"],
    ]
    assert "Training pairs that share a text with its queries or the documents judged for them: sw 3, no 0." in text


def test_figures_of_another_checkpoint_are_not_given_as_its_own():
    text = section(model_card(replace(FACTS, evaluations=[evaluation_of(100)], metrics=FACTS.metrics[:2])), "Results")
    assert "flores_sib (dev, maxsim) was evaluated at checkpoint 100, not at the one exported here, 150" in text
    assert "--checkpoint 150" in text
    assert "0.800" not in text
    assert "No dev metrics were computed at step 150." in text
    both = section(model_card(replace(FACTS, evaluations=[evaluation_of(150), evaluation_of(9, "other")])), "Results")
    assert "0.800" in both
    assert "other (dev, maxsim) was evaluated at checkpoint 9" in both


def test_a_run_that_was_not_evaluated_is_told_how():
    text = section(model_card(replace(FACTS, evaluations=[])), "Results")
    assert "Not evaluated yet: `optical_jax eval --run RUN --collection DIR --lang sw no --checkpoint 150`" in text


def test_settings_and_versions():
    found = dict(rows(section(model_card(FACTS), "Settings and versions")))
    assert found["loss"] == "pooled_contrastive temperature=0.05"
    other = replace(CONFIG, loss=LossConfig("greedy", add=("transport=0.5",)))
    found = dict(rows(section(model_card(replace(FACTS, config=to_json(other))), "Settings and versions")))
    assert found["loss"].startswith("greedy cost=cosine ")
    assert found["loss"].endswith(" + transport=0.5")
    assert "epsilon=0.05" in found["loss"]
    assert "temperature" not in found["loss"]
    assert found["steps"] == "150 of 1000"
    assert "peak_lr=0.0005" in found["optimiser"]
    assert found["initialised from"] == "teacher `minilm` (sha256 abababababab)"
    assert found["versions"] == "optical_jax 0.1.0, Python 3.11.7, jax 0.10.2"
    assert found["device"] == "2 x cpu"
    greedy = to_json(CONFIG) | {"loss": {"name": "greedy", "ot": {"epsilon": 0.05}}}
    assert dict(rows(section(model_card(replace(FACTS, config=greedy)), "Settings and versions")))["loss"] == "greedy"


def test_documents_come_from_the_hub_only_where_its_model_is_the_teacher_as_it_was_used():
    own = 'load("teacher", side="document")'
    assert own in model_card(FACTS)
    hub = replace(FACTS, teacher=Model("org/minilm", hub=True))
    assert 'load("org/minilm", side="document")' in model_card(hub)
    changed = Config(teacher=TeacherConfig(path="org/minilm", special_tokens=False))
    assert own in model_card(replace(hub, config=to_json(changed)))


# ---- the command -------------------------------------------------------------------------------------------------


def make_whole_run(folder: Path) -> None:
    """`make_run`'s with what a training writes beside it."""
    make_run(folder)
    bitext = str(folder.parent / "tico19" / "sw.train.tsv.gz")
    config = Config(
        run=str(folder),
        teacher=TeacherConfig(path="org/minilm"),
        student=StudentConfig(path=str(folder)),
        data=DataConfig(bitext=(bitext,)),
        licences=("tico19=CC0 1.0",),
    )
    (folder / "config.json").write_text(json.dumps(to_json(config)))
    (folder / "env.json").write_text(json.dumps(FACTS.env))
    (folder / "bitext.json").write_text(json.dumps({"train": [bitext_of("sw", bitext)], "dev": []}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in FACTS.metrics))
    (folder / "eval" / "flores_sib-dev").mkdir(parents=True)
    (folder / "eval" / "flores_sib-dev" / "metrics.json").write_text(json.dumps(evaluation_of(2)))


def test_the_command_writes_the_card(tmp_path, capsys):
    make_whole_run(tmp_path / "run")
    flags = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "so_encoder")]
    assert main([*flags, "--license", "cc-by-4.0"]) == 0
    card = (tmp_path / "so_encoder" / "README.md").read_text("utf-8")
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert front_matter(card)["language"] == ["sw"]
    assert "0.800" in section(card, "Results")
    assert "Without a stated licence: `teacher`, `student`." in card
    assert str(tmp_path) not in card
    assert "\n# run\n" in card
    for source in python_blocks(card):
        compile(source, "card", "exec")
    assert 'folder = "so_encoder"' in card
    # The last checkpoint is the one that was evaluated, the best is not.
    assert main([*flags, "--checkpoint", "best"]) == 0
    card = (tmp_path / "so_encoder" / "README.md").read_text("utf-8")
    assert "was evaluated at checkpoint 2, not at the one exported here, 1;" in card
    assert "license" not in front_matter(card)


def test_a_broken_record_is_one_line(tmp_path, capsys):
    make_whole_run(tmp_path / "run")
    (tmp_path / "run" / "bitext.json").write_text("{")
    assert main(["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "bitext.json is not valid JSON" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
