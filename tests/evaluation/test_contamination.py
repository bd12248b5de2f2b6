"""What an evaluation on pictures records beside its figures: what was learned from, left out, and ranked by whom."""

import json
import shutil
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.evaluate import main
from optical_jax.config import DataConfig, ImageStageConfig
from optical_jax.data.batches.captioned_images import read_captioned_images
from optical_jax.data.text.bitext import load_bitext
from optical_jax.evaluation import evaluate
from optical_jax.export.card import Model
from optical_jax.export.image_teacher_card import PairFacts, description, trained_on
from optical_jax.export.student_card import evaluation
from optical_jax.towers.pair import load_pair
from optical_jax.training.image_teacher.data import read_stage_data
from tests.helpers.drawn_images import write_set
from tests.helpers.image_folders import CASES, lay_out, wit_rows
from tests.helpers.image_runs import (
    ENGLISH,
    NAMES,
    make_pair,
    make_set,
    make_student_run,
    make_teacher_run,
    write_captions,
)
from tests.helpers.source_folders import put


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return make_pair(tmp_path_factory.mktemp("pairs") / "pair", seed=60)


def evaluated(*flags: str, out: Path) -> dict:
    assert main([*flags, "--out", str(out)]) == 0
    return json.loads(out.read_text("utf-8"))


def digests(folder: Path, *names: str) -> list[str]:
    return [blake2b((folder / f"{name}.png").read_bytes(), digest_size=16).hexdigest() for name in names]


# ---- of an image-text teacher's own dev pictures -------------------------------------------------------------------


def test_dev_pictures_that_are_learned_from_are_counted(tmp_path):
    """Of the drawn set the 14 captions "the GROUND with BAR" of dev pictures are also of their twins, which lie flat.

    Then two dev pictures stand in the train split under other names.
    """
    folder = write_set(tmp_path / "bars")
    cfg = replace(ImageStageConfig().data, images=(str(folder),))

    def seen(**more) -> tuple[int, int, str]:
        found = read_stage_data(replace(cfg, **more.pop("settings", {})), **more)
        (dev,) = found.report["dev"]
        assert (dev["set"], dev["pictures"], dev["captions"]) == ("bars", 15, 29)
        return dev["seen_pictures"], dev["seen_captions"], found.lines()[-1].partition("captions, ")[2]

    assert seen() == (0, 14, "0 and 14 of them trained on")
    assert seen(settings={"splits": ("train", "dev")}) == (15, 29, "all of them trained on")
    with np.load(folder / "images.dev.npz") as file:
        first = file["images"][0]
    before = blake2b(b"24x24x3" + first.tobytes(), digest_size=16).hexdigest()
    assert seen(seen_before=[before]) == (1, 14, "1 and 14 of them trained on")
    assert before in read_stage_data(cfg, [before]).seen
    with np.load(folder / "images.train.npz") as file, np.load(folder / "images.dev.npz") as dev:
        images = np.concatenate([file["images"], dev["images"][:2]])
        ids = [*file["ids"], "one", "other"]
    np.savez(folder / "images.train.npz", ids=ids, images=images)
    assert seen() == (2, 14, "2 and 14 of them trained on")


def facts(pair: Path, dev: dict | None, config: dict, image: str = "") -> PairFacts:
    """Of a run's record of one dev split of 15 pictures and 29 captions."""
    images = {} if dev is None else {"dev": [{"pictures": 15, "captions": 29} | dev]}
    return PairFacts(
        name="run",
        folder="out",
        pair=load_pair(pair),
        step=1,
        text=Model("minilm", hub=False),
        image=Model(image, hub=False),
        config=config,
        images=images,
    )


@pytest.mark.parametrize(
    ("seen", "image", "said"),
    [
        ((15, 29), "", "These images and captions were trained on."),
        ((0, 0), "", "None of these images was trained on."),
        ((0, 0), "clip", "None of these images is known to have been trained on."),
        ((0, 14), "", "None of these images was trained on; of their 29 captions 14 are among those trained on."),
        ((3, 0), "", "Of these 15 images 3 were trained on."),
        (
            (3, 7),
            "clip",
            "Of these 15 images 3 were trained on; of their 29 captions 7 are among those trained on.",
        ),
    ],
)
def test_the_card_tells_by_count_what_was_trained_on(pair, seen, image, said):
    counts = dict(zip(("seen_pictures", "seen_captions"), seen, strict=True))
    assert trained_on(facts(pair, counts, {}, image)) == said


def test_of_a_run_that_did_not_count_the_card_says_only_what_the_splits_tell(pair):
    for splits, said in ((["train"], ""), (["train", "dev"], "These images were trained on.")):
        assert trained_on(facts(pair, None, {"data": {"dev_split": "dev", "splits": splits}})) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"locked": True, "projection": 0}, "The text encoder is `minilm`, frozen; the image encoder"),
        (
            {"locked": True, "projection": 40},
            "is `minilm`, frozen, with a trained projection to 40 dimensions; the image encoder",
        ),
        ({"locked": False, "projection": 0}, "The text encoder was initialised from `minilm`; the image encoder"),
    ],
)
def test_the_card_tells_what_of_the_texts_tower_was_trained(pair, settings, said):
    assert said in description(facts(pair, None, {"text": settings}))


# ---- of pictures that are ranked -----------------------------------------------------------------------------------


def test_pictures_that_were_learned_from_are_told(pair, tmp_path, capsys):
    """Two by the tower of pictures, of which one by the student too; of another tower nothing is known."""
    drawn, run = make_set(tmp_path / "drawn"), make_student_run(tmp_path / "runs" / "a", seed=0)
    command = ["--run", str(run), "--collection", str(drawn), "--lang", "sw"]
    out = tmp_path / "m.json"
    figures = evaluated(*command, out=out)
    assert figures["pictures_trained_on"] == {"image_tower": None, "student": 0}
    assert "image tower" not in capsys.readouterr().out

    shown = digests(drawn / "images.dev", "p0", "p3")
    (run / "teacher" / "seen_pictures.json").write_text(json.dumps([*shown, "00"]))
    (run / "seen_pictures.json").write_text(json.dumps(shown[:1]))
    config = json.loads((run / "config.json").read_text())
    config["data"]["pictures"] = "somewhere"
    (run / "config.json").write_text(json.dumps(config))
    figures = evaluated(*command, out=out)
    assert figures["pictures_trained_on"] == {"image_tower": 2, "student": 1}
    # The pairs 0 to 4 and 6 have a Swahili caption, 5 the English one of p5, which has no Swahili one.
    assert figures["shared_with_training"] == {"sw": 6}
    told = ["Of its 6 pictures the image tower is known to have learned from 2.",
            "Of its 6 pictures the student was shown 1."]  # fmt: skip
    printed = capsys.readouterr().out
    assert "6 of 8 sw pairs share a text with the captions of drawn" in printed
    assert all(line in printed for line in told)
    assert evaluation(figures)[2:] == ["Training pairs that share a text with its captions: sw 6.", *told]

    # By another pair: of what it learned from nothing is known, nor, once the record is gone, of what was shown.
    (run / "seen_pictures.json").unlink()
    (tmp_path / "runs" / "sw.train.tsv").unlink()
    figures = evaluated(*command, "--pictures-by", str(pair), out=out)
    assert figures["pictures_trained_on"] == {"image_tower": None, "student": None}
    assert figures["shared_with_training"] is None
    printed = capsys.readouterr().out
    assert "training text could not be checked against the captions of drawn: " in printed
    assert "known to have learned" not in printed
    assert "was shown" not in printed


def test_of_an_image_text_teacher_the_captions_are_told(tmp_path, capsys):
    """Its training set has the first two English captions of those that are evaluated, and another."""
    drawn, run = make_set(tmp_path / "drawn"), make_teacher_run(tmp_path / "run", seed=40)
    learned = make_set(tmp_path / "learned")
    texts = [ENGLISH[0].upper(), ENGLISH[1], "Something else."]
    rows = [(name, text, "") for name, text in zip(NAMES, texts, strict=False)]
    write_captions(learned, {"en": rows}, split="train")
    shutil.copytree(learned / "images.dev", learned / "images.train")
    data = {"images": [str(learned)], "splits": ["train"], "language": "en"}
    (run / "config.json").write_text(json.dumps({"text": {}, "image": {}, "data": data}))
    (run / "model" / "seen_pictures.json").write_text(json.dumps(digests(drawn / "images.dev", *NAMES[:3])))
    flags = ["--run", str(run), "--collection", str(drawn), "--lang", "en"]
    figures = evaluated(*flags, out=tmp_path / "m.json")
    assert figures["shared_with_training"] == {"en": 2}
    assert figures["pictures_trained_on"] == {"image_tower": 3}
    assert "2 of 3 en captions are among the captions of drawn" in capsys.readouterr().out


# ---- rows that are left out ----------------------------------------------------------------------------------------


def test_rows_that_are_left_out_are_counted_where_they_are_used(pair, tmp_path, capsys):
    _, split, texts, pictures, *_ = next(case for case in CASES if case[0] == "wit")
    folder, left_out = lay_out(tmp_path / "wit", texts, pictures), {"no reference caption": 1, "no local picture": 1}
    flags = ["--model", str(pair), "--collection", f"wit:{folder}", "--split", split, "--max-unknown", "1"]
    assert evaluated(*flags, out=tmp_path / "m.json")["left_out"] == left_out
    told = "no reference caption 1, no local picture 1"
    assert f"left out in all languages of the set: {told}" in capsys.readouterr().out

    found = read_captioned_images(DataConfig(pictures=f"wit:{folder}"), ["sw", "so"], {})
    assert [one["left_out_of_all_languages"] for one in found.reports()] == [left_out] * 2
    assert found.lines()[-1] == f"sw, so pictures: left out of wit:{folder}: {told}"


def test_rows_without_a_caption_are_counted_in_the_bitext(tmp_path):
    """Two rows of the two languages; of the three Swahili captions that are there one has no English beside it."""
    urls = [f"https://x.org/{n}.jpg" for n in range(4)]
    rows = [("en", urls[0], "A river."), ("en", urls[1], "A town."), ("en", urls[2], " "), ("sw", urls[0], "Mto."),
            ("sw", urls[1], "Mji."), ("sw", urls[2], "Ziwa."), ("sw", urls[3], ""), ("so", urls[3], "")]  # fmt: skip
    put(tmp_path, {"wit_v1.train.all-0.tsv": wit_rows(*rows)})
    report = load_bitext(DataConfig(bitext=(f"sw=captions:wit:{tmp_path}",), dev_pairs=0)).train["sw"].report
    assert report.dropped == {"no reference caption (en, sw)": 2, "no_english_caption": 1}
    assert (report.lines, report.kept) == (5, 2)


# ---- figures that are used again -----------------------------------------------------------------------------------


def test_figures_are_used_again_only_of_the_same_pictures_and_towers(tmp_path, monkeypatch):
    drawn, run = make_set(tmp_path / "drawn"), make_student_run(tmp_path / "a", seed=0)
    by, done = make_pair(tmp_path / "pair", seed=60), []
    evaluate_run = evaluate.evaluate_run
    monkeypatch.setattr(evaluate, "evaluate_run", lambda *args: done.append(1) or evaluate_run(*args))
    command = ["--compare", str(run), str(run), "--collection", str(drawn), "--lang", "sw", "--pictures-by", str(by)]
    metrics = run / "eval" / "drawn-dev" / "metrics.json"

    def evaluations() -> int:
        """In a comparison of the run with itself: none or one, for the second time it is there."""
        done.clear()
        assert main(command) == 0
        return len(done)

    assert evaluations() == 1
    before = json.loads(metrics.read_text())
    assert evaluations() == 0
    # A picture is another one, under the same name.
    shutil.copy(drawn / "images.dev" / "p0.png", drawn / "images.dev" / "p1.png")
    assert evaluations() == 1
    after = json.loads(metrics.read_text())
    assert {name for name in before["inputs"] if before["inputs"][name] != after["inputs"][name]} == {"pictures"}
    assert evaluations() == 0
    # The pair has gone on, in the same place.
    shutil.rmtree(by)
    make_pair(by, seed=61)
    assert evaluations() == 1
    assert json.loads(metrics.read_text())["image_tower"] != after["image_tower"]
    # So it has where it is compared otherwise.
    (by / "pair.json").write_text(json.dumps({"interaction": "pooled", "logit_scale": 2.0}))
    assert evaluations() == 1
    assert json.loads(metrics.read_text())["scoring"] == "pooled"
