"""The three trainings at tiny size: each one's command, flags, data and a run of it that nobody stopped."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.helpers.drawn_images import EDGE, write_set

TINY = ROOT / "configs" / "tiny" / "teacher"


@dataclass(frozen=True)
class Training:
    main: Callable[[Sequence[str]], int]
    flags: list[str]
    run: Path
    """Of `flags`. Tests share it: one that writes into it copies it first."""
    steps: tuple[int, ...]
    """Those that are logged; the last is the run's."""
    saved: int
    """The step of the checkpoint before the last."""
    folder: Path
    """The data of a teacher: a BEIR folder or a set of images."""


def train(main: Callable[[Sequence[str]], int], flags: list[str], run: Path) -> Path:
    assert main([*flags, "--run", str(run)]) == 0
    return run


STUDENT = [
    "--config", str(ROOT / "configs" / "tiny.py"),
    "--training.steps", "30", "--checkpoint.every", "10", "--training.log-every", "5",
]  # fmt: skip


def train_student(folder: Path) -> Training:
    from optical_jax.commands.train import main

    run = train(main, STUDENT, folder / "run")
    return Training(main, STUDENT, run, (5, 10, 15, 20, 25, 30), 20, ROOT / "configs" / "tiny")


def write_ranked(path: Path) -> Path:
    """A BEIR folder: 32 sentences, each looked for by its first words; English queries, half of them judged for dev."""
    (path / "qrels").mkdir(parents=True)
    texts = [line for line in (ROOT / "configs" / "tiny" / "documents.txt").read_text("utf-8").splitlines() if line]
    corpus = "".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    (path / "corpus.jsonl").write_text(corpus, "utf-8")
    queries = [{"_id": f"q{n}", "text": f"{text.split()[-1]} {text.split()[1]} {n}"} for n, text in enumerate(texts)]
    (path / "queries.en.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries), "utf-8")
    for split, some in (("train", texts[:20]), ("dev", texts[20:])):
        first = 0 if split == "train" else 20
        rows = [f"q{first + n}\td{first + n}\t1" for n in range(len(some))]
        (path / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", "utf-8")
    return path


FEW_STEPS = [
    "--optimizer.warmup-steps", "2", "--training.steps", "6",
    "--training.log-every", "2", "--checkpoint.every", "4", "--training.dev-every", "0",
]  # fmt: skip


def train_teacher(folder: Path) -> Training:
    from optical_jax.commands.mine import main as mine
    from optical_jax.commands.teacher import main

    data = write_ranked(folder / "tiny")
    mined = data / "mined.jsonl"
    judged = ["--train", str(data / "qrels" / "train.tsv"), "--collection", str(data)]
    assert mine([*judged, "--pool", "files", "--depth", "1", "9", "--negatives", "3", "--out", str(mined)]) == 0
    flags = [
        "--encoder.path", str(TINY), "--encoder.projection", "16", "--encoder.document-length", "24",
        "--data.train", str(data / "qrels" / "train.tsv"), str(mined), "--data.collection", str(data),
        "--data.passages", "2", "--data.global-batch", "8", "--data.row-length", "32", "--loss.kl", "0.5",
        "--optimizer.peak-lr", "1e-3", *FEW_STEPS,
    ]  # fmt: skip
    return Training(main, flags, train(main, flags, folder / "run"), (2, 4, 6), 4, data)


def train_image_teacher(folder: Path) -> Training:
    from optical_jax.commands.image_teacher import main

    data = write_set(folder / "bars")
    flags = [
        "--text.path", str(TINY), "--data.images", str(data), "--data.global-batch", "16",
        "--image.image-size", str(EDGE), "--image.patch-size", "8", "--image.width", "16", "--image.layers", "1",
        "--image.heads", "2", "--image.mlp-width", "32", *FEW_STEPS,
    ]  # fmt: skip
    return Training(main, flags, train(main, flags, folder / "run"), (2, 4, 6), 4, data)
