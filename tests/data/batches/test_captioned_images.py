"""Learning from captions and pictures: which pairs they make, what a batch of pictures holds, and whole runs."""

import itertools
import json
import shutil
from dataclasses import replace
from hashlib import blake2b

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.commands.train import main
from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    LossConfig,
    LossName,
    OptimizerConfig,
    OtConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from optical_jax.config.validation import validate
from optical_jax.data.batches.bitext import MixedSource
from optical_jax.data.batches.captioned_images import read_captioned_images
from optical_jax.data.text.bitext import load_bitext
from optical_jax.errors import ConfigError, MachineError
from optical_jax.losses import LOSSES, distillation_loss
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.runs.folder import RunFolder
from optical_jax.runs.load import load
from optical_jax.runs.pair import open_source
from optical_jax.towers.tower import encode
from optical_jax.training.loop import put as put_batch
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.state import init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.training.student.image_cache import cached_images
from optical_jax.training.student.start import load_teacher_pair
from optical_jax.training.student.task import prepare, read_images
from optical_jax.training.task import begin
from optical_jax.types import TokenVectors
from tests.helpers.image_sets import NAMES, SIZE, TRAIN, WIDTH, write_images, write_pair
from tests.helpers.source_folders import jsonl, put


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pairs") / "pair")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("sets") / "things")


def config(pair, folder, **data) -> Config:
    settings = {"bitext": (f"sw=captions:{folder}",), "pictures": str(folder), "global_batch": 8}
    return Config(
        teacher=TeacherConfig(path=str(pair), max_length=12),
        student=StudentConfig(vocabulary="train", vocab_size=120, max_length=12),
        data=DataConfig(**settings | {"batching": "buckets", "buckets": (12,)} | data),
        loss=LossConfig("transport"),
        optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=0),
        training=TrainingConfig(steps=4, log_every=2, dev_every=4),
        checkpoint=CheckpointConfig(every=4),
    )


def images_of(cfg):
    """Who encodes the images, and their captions, as `prepare` reads them."""
    return read_images(cfg, load_teacher_pair(cfg), load_bitext(cfg.data))


def cached(parts, cfg, root):
    return cached_images(*images_of(cfg), root, 1.0, parts.mesh, lambda line: None)


# ---- captions with pictures ----------------------------------------------------------------------------------------


def test_captions_come_with_their_pictures(pictures):
    cfg = DataConfig(bitext=(f"sw=captions:{pictures}",), pictures=str(pictures))
    found = read_captioned_images(cfg, ["sw"], load_bitext(cfg).dev)
    named = [found.ids[n] for n in found.picture["sw"]]
    assert list(zip(named, found.captions["sw"], strict=True)) == [
        (english.replace(" ", "-"), foreign) for english, foreign in NAMES[:TRAIN]
    ]
    (report,) = found.reports()
    assert (report["captions"], report["pictures"], report["dropped"]) == (TRAIN, TRAIN, {})
    assert {path.rsplit("/", 1)[1] for path in found.inputs()} == {
        "captions.sw.train.jsonl",
        "images.train.npz",
        "things: pictures",
    }
    assert len(set(found.digests)) == TRAIN


def test_captions_that_are_left_out_are_counted(tmp_path):
    """One twice on a picture, one that is a dev pair's foreign side; of the others two pictures are kept."""
    lines = [("a", "jua"), ("a", "Jua!"), ("a", "anga"), ("b", "mvua"), ("c", "paka"), ("d", "mbwa")]
    put(tmp_path, {"captions.sw.train.jsonl": jsonl(*({"_id": name, "text": text} for name, text in lines))})
    np.savez(tmp_path / "images.train.npz", ids=list("abcd"), images=np.zeros((4, 8, 8, 3), np.uint8))
    put(tmp_path, {"sw.train.tsv": "sun\tjua\n", "dev.tsv": "cat\tPAKA\n"})
    cfg = DataConfig(bitext=(str(tmp_path / "sw.train.tsv"),), dev=(f"sw={tmp_path / 'dev.tsv'}",))
    cfg = replace(cfg, pictures=str(tmp_path))
    dev = load_bitext(cfg).dev
    found = read_captioned_images(cfg, ["sw"], dev)
    assert found.captions["sw"] == ["jua", "anga", "mvua", "mbwa"]
    assert found.dropped["sw"] == {"duplicate": 1, "in_dev": 1}
    some = read_captioned_images(replace(cfg, max_pairs=2), ["sw"], dev)
    assert some.dropped["sw"] == {"duplicate": 1, "in_dev": 1, "over_max_pairs": 2}
    assert len(some.captions["sw"]) == 2


# ---- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.4, 1.0])
def test_pictures_take_their_share_of_any_stretch(share):
    mixed = MixedSource(list(range(100)), [f"picture {n}" for n in range(100)], share)  # pyright: ignore
    found = [mixed[n] for n in range(40)]
    texts, of_images = ([x for x in found if isinstance(x, kind)] for kind in (int, str))
    assert len(of_images) == int(40 * share)
    # Each kind in its own order, none left out.
    assert texts == list(range(len(texts)))
    assert of_images == [f"picture {n}" for n in range(len(of_images))]


def test_the_teachers_side_is_what_its_tower_makes_of_the_pictures(pair, pictures, tmp_path):
    """Against the tower on pixels made by hand: the picture less a half, twice."""
    cfg = config(pair, pictures, pictures_share=1.0)
    parts = prepare(cfg, None)
    vectors = cached(parts, cfg, tmp_path)
    parts.loader.read_images_from(vectors)
    teacher = load(pair, part="image")
    with np.load(pictures / "images.train.npz") as file:
        pixels = dict(zip(file["ids"].tolist(), file["images"].astype(np.float32) / 127.5 - 1, strict=True))
    batch = next(parts.loader)
    assert isinstance(batch.teacher, TokenVectors)
    assert batch.teacher.vectors.shape == (8, (SIZE // 4) ** 2, WIDTH)
    assert batch.teacher.mask.all()
    words = {foreign: english.replace(" ", "-") for english, foreign in NAMES}
    for row in range(8):
        ids, keep = batch.student.ids[row], batch.student.attend[row]
        text = parts.models["student"].tokenizer.decode(ids[keep], skip_special_tokens=True)
        expected = encode(teacher, pixels[words[text]][None]).vectors[0]
        np.testing.assert_allclose(batch.teacher.vectors[row], expected, atol=2e-3)  # float16


def test_a_pooled_teacher_has_one_vector_a_picture(pair, pictures, tmp_path):
    cfg = config(pair, pictures, pictures_share=1.0)
    cfg = replace(cfg, teacher=replace(cfg.teacher, pooling="auto"))
    parts = prepare(cfg, None)
    parts.loader.read_images_from(cached(parts, cfg, tmp_path))
    assert next(parts.loader).teacher.vectors.shape == (8, 1, WIDTH)


def test_pictures_are_encoded_once(pair, pictures, tmp_path):
    cfg, said = config(pair, pictures), []
    parts, images = prepare(cfg, None), images_of(cfg)
    for _ in range(2):
        cached_images(*images, tmp_path, 1.0, parts.mesh, said.append)
    assert [line.split(",")[0] for line in said] == [
        f"picture vectors: {TRAIN} pictures encoded",
        "picture vectors: 0 pictures encoded",
    ]
    # Damage is seen, and made good; beyond the limit nothing is written.
    (file,) = tmp_path.rglob("*.vectors")
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    vectors = cached_images(*images, tmp_path, 1.0, parts.mesh, said.append)
    assert "1 pictures encoded" in said[-1]
    vectors.rows(np.arange(TRAIN))
    with pytest.raises(ConfigError, match=r"teacher.cache_gib=1e-09: with the vectors of 24 pictures"):
        cached_images(*images, tmp_path / "other", 1e-9, parts.mesh, said.append)


def test_damage_while_a_run_goes_on_is_told(pair, pictures, tmp_path):
    cfg = config(pair, pictures)
    parts = prepare(cfg, None)
    vectors = cached(parts, cfg, tmp_path)
    vectors.cache._found.clear()
    with pytest.raises(MachineError, match="run the same command again to recompute them"):
        vectors.rows(np.array([0]))


@pytest.mark.parametrize("batching", ["packed", "buckets"])
def test_batches_repeat_and_resume(pair, pictures, tmp_path, batching):
    cfg = config(pair, pictures, batching=batching, pictures_share=0.4)
    cfg = replace(cfg, student=replace(cfg.student, sides="both"))

    def batches(start, count):
        parts = prepare(cfg, None)
        parts.loader.read_images_from(cached(parts, cfg, tmp_path))
        if start:
            parts.loader.restore({**parts.loader.state(), "next_batch": start})
        return list(itertools.islice(parts.loader, count))

    whole, rest = batches(0, 10), batches(4, 6)
    assert [isinstance(batch.teacher, TokenVectors) for batch in whole] == [n in (2, 4, 7, 9) for n in range(10)]
    for a, b in zip(whole[4:], rest, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_batches_hold_is_in_their_fingerprint(pair, pictures, tmp_path):
    def state(**data):
        return prepare(config(pair, pictures, **data), None).loader.state()["fingerprint"]

    assert len({state(), state(pictures_share=0.25), state(pictures="")}) == 3
    assert state() == state()


# ---- every loss ----------------------------------------------------------------------------------------------------


def one_step(cfg, tmp_path):
    """The metrics of a step on pictures, and of one on captions."""
    parts = prepare(cfg, None)
    parts.loader.read_images_from(cached(parts, cfg, tmp_path))
    mesh = make_mesh(cfg.mesh, jax.devices()[:1])
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    found = []
    with jax.set_mesh(mesh):
        step = make_train_step(cfg, parts.models["student"].cfg, parts.models["teacher"].cfg, mesh, tx)
        teacher = jax.device_put(
            parts.models["teacher"].params, params_shardings(tower_specs(parts.models["teacher"].cfg), mesh)
        )
        state = init_train_state(parts.models["student"].params, tower_specs(parts.models["student"].cfg), mesh, tx)
        for batch in itertools.islice(parts.loader, 2):
            state, metrics = step(state, teacher, put_batch(batch, named_sharding(mesh, ("batch",))))
            found.append(jax.device_get(metrics))
    return found


encode_jitted = jax.jit(encode_tokens, static_argnames="cfg")


@pytest.fixture(scope="module", params=["none", "auto"])
def sides(request, pair, pictures, tmp_path_factory):
    """What the student makes of a batch of captions, and its teacher's side: of a picture batch and of a text one."""
    cfg = config(pair, pictures)
    cfg = replace(cfg, teacher=replace(cfg.teacher, pooling=request.param))
    parts = prepare(cfg, None)
    parts.loader.read_images_from(cached(parts, cfg, tmp_path_factory.mktemp("vectors")))
    found = []
    for batch in itertools.islice(parts.loader, 2):
        student = encode_jitted(parts.models["student"].params, batch.student, parts.models["student"].cfg)
        teacher = batch.teacher
        if not isinstance(teacher, TokenVectors):
            teacher = encode_jitted(parts.models["teacher"].params, teacher, parts.models["teacher"].cfg)
        vectors, mask = jnp.asarray(teacher.vectors, jnp.float32), jnp.asarray(teacher.mask)
        found.append((student, TokenVectors(vectors, mask)))
    return found


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_learns_from_captions_and_from_pictures(name: LossName, sides):
    """Tokens and patches, or one vector each: finite, and there is something to learn."""
    cfg = LossConfig(name)

    @jax.jit
    @jax.value_and_grad
    def loss_and_grad(vectors, student, teacher):
        return distillation_loss(replace(student, vectors=vectors), teacher, cfg).loss

    for student, teacher in sides:
        loss, grad = loss_and_grad(student.vectors, student, teacher)
        assert np.isfinite(loss)
        assert np.isfinite(grad).all()
        assert np.abs(grad).max() > 0


def test_transport_between_single_vectors_is_the_cosine(pair, pictures, tmp_path):
    cfg = config(pair, pictures)
    cfg = replace(cfg, teacher=replace(cfg.teacher, pooling="auto"))
    by_loss = {
        name: [metrics["loss"] for metrics in one_step(replace(cfg, loss=LossConfig(name)), tmp_path)]
        for name in ("transport", "pooled_cosine")
    }
    np.testing.assert_allclose(by_loss["transport"], by_loss["pooled_cosine"], rtol=1e-4)


# ---- settings and runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "loss", "said"),
    [
        ({"pictures_share": 0.0}, LossConfig("transport"), "data.pictures_share=0.0 is not valid"),
        ({"pictures_share": 1.5}, LossConfig("transport"), "data.pictures_share=1.5 is not valid"),
        ({"pictures": "", "pictures_share": 0.2}, LossConfig("transport"), "which is empty; set data.pictures"),
        ({}, LossConfig("transport", ot=OtConfig(masses="idf")), "the patches of data.pictures have no such weight"),
    ],
)
def test_impossible_settings(data, loss, said):
    cfg = replace(config("p", "s", **data), loss=loss)
    with pytest.raises(ConfigError, match=said):
        validate(cfg, needs_run=False)


def test_a_teacher_without_a_tower_of_pictures_is_refused(pictures):
    cfg = config("configs/tiny/teacher", pictures)
    with pytest.raises(ConfigError, match=r"needs a tower of pictures, and teacher.path=configs/tiny/teacher has none"):
        prepare(cfg, None)


FLAGS = (
    "--student.vocabulary train --student.vocab-size 120 --student.max-length 12 --teacher.max-length 12 "
    "--data.global-batch 8 --loss.name contrastive --optimizer.warmup-steps 0 --training.steps 4 "
    "--training.log-every 2 --training.dev-every 4 --checkpoint.every 2"
)


def test_the_run_keeps_which_pictures_its_student_and_its_teacher_saw(pair, pictures, tmp_path):
    """By digest: of the 24 of the train split, and what lies beside the teacher."""
    taught_by = shutil.copytree(pair, tmp_path / "pair")
    (taught_by / "seen_pictures.json").write_text(json.dumps(["00", "ff"]))
    cfg = config(taught_by, pictures)
    begin(cfg, RunFolder(tmp_path / "run"), prepare(cfg, None))
    assert open_source(str(tmp_path / "run")).seen_images == ["00", "ff"]
    with np.load(pictures / "images.train.npz") as file:
        expected = [blake2b(b"8x8x3" + one.tobytes(), digest_size=16).hexdigest() for one in file["images"]]
    assert json.loads((tmp_path / "run" / "seen_pictures.json").read_text()) == expected


@pytest.mark.slow
def test_a_run_from_captions_and_pictures_stops_and_goes_on(pair, pictures, tmp_path, capsys):
    """The same run again, but all that came after its first checkpoint is lost."""
    data = ["--data.bitext", f"sw=captions:{pictures}", "--data.pictures", str(pictures)]
    flags = ["--teacher.path", str(pair), *data, *FLAGS.split()]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*flags, "--run", str(whole)]) == 0, capsys.readouterr().err
    assert "sw pictures: 24 captions of 24 pictures" in capsys.readouterr().out
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "4")
    lines = (parts / "metrics.jsonl").read_text().splitlines()[:-1]
    (parts / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert main([*flags, "--run", str(parts)]) == 0
    said = capsys.readouterr().out
    assert "at step 2 of 4" in said
    assert "picture vectors: 0 pictures encoded" in said
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (whole, parts)]
    assert last[0]["params_sha256"] == last[1]["params_sha256"]
    report = json.loads((whole / "bitext.json").read_text())
    assert report["pictures"][0]["captions"] == TRAIN
    inputs = json.loads((whole / "env.json").read_text())["inputs"]
    assert set(inputs) == {"bitext", "pictures", "teacher.path"}
    # What is told before the first step: batches of both kinds.
    assert main(["--dry-run", *flags]) == 0
    assert "4 patches" in capsys.readouterr().out
