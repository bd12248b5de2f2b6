"""CLIP and SigLIP as a user meets them: `load` and `encode`, a teacher of theirs, and code for other libraries."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optical_jax
from optical_jax.commands.train import main
from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    ImageEncoderConfig,
    ImageTowerConfig,
    StudentConfig,
    TeacherConfig,
    TowerConfig,
    identity,
    to_json,
)
from optical_jax.data.text.bitext import load_bitext
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.errors import ConfigError, DataError
from optical_jax.export.recipe import recipes
from optical_jax.models.formats.export import save_tower
from optical_jax.models.formats.pretrained import load_pretrained
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.models.nnx_module import TowerModule
from optical_jax.params import abstract_params, init_params
from optical_jax.partitioning import over_all_devices
from optical_jax.runs.load import load, load_reference, save_reference
from optical_jax.towers.tower import Tower, encode, hidden_states
from optical_jax.training.estimate import encoder_forward_flops, side_forward_flops
from optical_jax.training.student.start import load_teacher, make_student
from optical_jax.types import ImageInputs, PackedInputs
from tests import ROOT
from tests.models.formats.test_paired_files import as_big_vision, tensors
from tests.models.formats.test_paired_towers import PAIRS, golden
from tests.towers.test_tower import TEXTS, WORDS, one_by_one

SIGLIP = "siglip-sharded-bf16"
BODY = {"vocab_size": 96, "width": 24, "layers": 2, "heads": 4, "mlp_width": 40, "type_vocab_size": 0, "norm_eps": 1e-5}
CFGS = {
    "clip": TowerConfig(
        EncoderConfig("clip", **BODY, max_positions=40, activation="quick_gelu", eos_id=3),
        HeadConfig(16, pooling="eos", query_length=40, document_length=40),
    ),
    "siglip": TowerConfig(
        EncoderConfig("siglip", **BODY, max_positions=40, activation="gelu_tanh"),
        HeadConfig(16, projection_bias=True, pooling="last", query_length=40, document_length=40),
    ),
}  # [SEP], which every text ends with, is 3, and [PAD] 0.


def tower_of(family: str, pooling: str | None = None, seed: int = 0) -> Tower:
    """A random tower of texts with a vocabulary of its own."""
    cfg = CFGS[family]
    if pooling:
        cfg = dataclasses.replace(cfg, head=dataclasses.replace(cfg.head, pooling=pooling))
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(np.asarray, init_params(tower_specs(cfg), jax.random.key(seed)))
    params = jax.tree.map(lambda x: x + 0.2 * rng.standard_normal(x.shape).astype(np.float32), drawn)
    return Tower(params, cfg, train_vocabulary([" ".join(WORDS)] * 3, vocab_size=96))


# ---- load ------------------------------------------------------------------------------------------------------


def test_a_pair_gives_its_texts_for_queries_and_its_pictures_for_documents():
    for path in (PAIRS / "clip", PAIRS / SIGLIP):
        reads = {
            (side, part): isinstance(load(path, side, part=part).cfg, ImageTowerConfig)
            for side in ("query", "document")
            for part in ("auto", "text", "image")
        }
        assert [reads["query", part] for part in ("auto", "text", "image")] == [False, False, True]
        assert [reads["document", part] for part in ("auto", "text", "image")] == [True, False, True]


def test_one_file_of_big_vision(tmp_path):
    path = tmp_path / "siglip2_tiny4_14.npz"
    np.savez(path, **as_big_vision(tensors(PAIRS / SIGLIP), stacked=True))
    found = golden(SIGLIP)
    vectors = encode(load(path, "document", pooling="auto"), found["own_pixels"]).vectors
    np.testing.assert_allclose(vectors[:, 0], found["own_pooled"], atol=1e-5)
    with pytest.raises(ConfigError, match=r"x\.npz: no such folder"):
        load(tmp_path / "x.npz")


def test_a_teacher_that_is_not_copied_may_be_one_file(tmp_path):
    """A run refers to it by its weights, and knows when they are others."""
    path, tokenizer = tmp_path / "siglip2_tiny4_14.npz", tower_of("siglip").tokenizer
    arrays = as_big_vision(tensors(PAIRS / SIGLIP), stacked=True)
    (table,) = (name for name in arrays if name.endswith("txt/Embed_0/embedding"))
    # As many rows as the tokenizer has pieces.
    arrays[table] = np.pad(arrays[table], ((0, len(tokenizer) - len(arrays[table])), (0, 0)))
    np.savez(path, **arrays)
    tokenizer.save_pretrained(tmp_path)
    found = load_pretrained(str(path))
    save_reference(Tower(found.params, found.cfg, tokenizer), str(path), tmp_path / "run" / "teacher", None)
    again = load_reference(tmp_path / "run" / "teacher", None)
    assert again.cfg == found.cfg
    assert again.cfg.encoder.pad_id == tokenizer.pad_token_id == 0
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
    np.savez(path, **arrays | {"params/t": np.ones(1, np.float32)})
    with pytest.raises(ConfigError, match="holds other weights than the teacher"):
        load_reference(tmp_path / "run" / "teacher", None)


def test_a_part_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds a tower of texts alone, and none of pictures"):
        load("configs/tiny/teacher", part="image")
    with pytest.raises(ConfigError, match="is not a run, so it has no student"):
        load(PAIRS / "clip", part="student")
    image = load(PAIRS / "clip", part="image")
    save_tower(image.params, image.cfg, None, tmp_path / "image")
    assert load(tmp_path / "image").cfg == image.cfg
    with pytest.raises(ConfigError, match="holds a tower of pictures alone, and none of texts"):
        load(tmp_path / "image", part="text")


def test_what_a_tower_of_pictures_says_of_itself():
    tower = load(PAIRS / "clip", "document", pooling="auto")
    told = "Tower(clip, 2 layers, width 16, vectors of 8, 0.0 M parameters, pictures of 14 x 14 pixels)"
    assert repr(tower) == told


def test_configs_from_before_are_identified_as_before():
    """What is kept by identity (a cache of vectors) stays valid."""
    found = identity(TowerConfig())
    assert not {"eos_id"} & set(found["encoder"])
    assert not {"projection_bias", "masses"} & set(found["head"])
    assert identity(CFGS["clip"])["encoder"]["eos_id"] == 3
    assert identity(CFGS["siglip"])["head"]["projection_bias"]
    assert identity(ImageTowerConfig())["encoder"]["image_size"] == 224
    assert json.dumps(to_json(ImageTowerConfig()))


# ---- encode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["auto", "none"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_pictures_come_back_in_their_order(batch_size, pooling):
    tower = load(PAIRS / "clip", "document", pooling=pooling)
    pixels = np.random.default_rng(0).standard_normal((7, 14, 14, 3)).astype(np.float32)
    out = encode(tower, pixels, batch_size)
    assert isinstance(out.vectors, np.ndarray)
    assert out.mask.all()
    alone = jax.jit(encode_tokens, static_argnums=2)
    for n in range(7):
        one = alone(tower.params, ImageInputs(jnp.asarray(pixels[n : n + 1])), tower.cfg)
        np.testing.assert_allclose(out.vectors[n], one.vectors[0], atol=2e-6)
    with over_all_devices():
        spread = encode(tower, pixels, batch_size)
    np.testing.assert_allclose(spread.vectors, out.vectors, atol=2e-6)


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        (["a cat"], "this is list"),
        (np.zeros((2, 3, 14, 14), np.float32), r"\[2, 3, 14, 14\]"),
        (np.zeros((2, 14, 14, 3), np.uint8), "uint8"),
        (np.zeros((0, 14, 14, 3), np.float32), r"\[0, 14, 14, 3\]"),
    ],
)
def test_what_are_no_pictures(pictures, told):
    with pytest.raises(DataError, match=f"pictures are one float array .*{told}"):
        encode(load(PAIRS / "clip", "document"), pictures)


def test_pictures_for_a_tower_of_texts():
    with pytest.raises(ConfigError, match="reads texts and was given an array"):
        encode(tower_of("clip"), np.zeros((1, 14, 14, 3), np.float32))
    with pytest.raises(ConfigError, match="for pictures was given texts"):
        hidden_states(load(PAIRS / "clip", "document"), np.ones((1, 3), int), np.ones((1, 3), bool))


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("pooling", [None, "none", "mean"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_texts_as_on_a_cpu_and_as_on_an_accelerator(family, pooling, on_cpu, monkeypatch):
    from optical_jax.towers import text_batches
    from optical_jax.towers import tower as towers

    for module in (text_batches, towers):
        monkeypatch.setattr(module, "on_one_cpu", lambda: on_cpu)
    tower = tower_of(family, pooling)
    out = encode(tower, TEXTS[:9])
    for row, one in enumerate(one_by_one(tower, TEXTS[:9])):
        np.testing.assert_allclose(out.vectors[row][out.mask[row]], one.vectors[one.mask], atol=3e-6)


def test_the_module_reads_pictures_too():
    from flax import nnx

    encoder = ImageEncoderConfig(image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=16)
    module = TowerModule(ImageTowerConfig(encoder, HeadConfig(4, pooling="cls")), rngs=nnx.Rngs(0))
    assert module(ImageInputs(jnp.zeros((2, 8, 8, 3)))).vectors.shape == (2, 1, 4)


def test_the_flops_of_texts_that_are_filled_up():
    """Two rows of packed texts, four texts: of SigLIP they are four rows of its longest text."""
    packed = PackedInputs(*(np.zeros(shape) for shape in ((2, 16), (2, 16), (2, 16), (4, 9), (4, 9))))  # pyright: ignore
    pooled = 2.0 * 4 * 24 * 16
    for family, rows, length in (("clip", 2, 16), ("siglip", 4, 40)):
        cfg = CFGS[family]
        assert side_forward_flops(packed, cfg) == rows * encoder_forward_flops(cfg, length) + pooled


# ---- teachers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bitext(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("bitext") / "sw.train.tsv"
    file.write_text("".join(f"{text}\t{text} moja\n" for text in dict.fromkeys(TEXTS)), "utf-8")
    return file


@pytest.fixture(scope="module", params=["clip", "siglip"])
def teacher(request, tmp_path_factory) -> Path:
    tower = tower_of(request.param)
    folder = tmp_path_factory.mktemp("teachers") / request.param
    save_tower(tower.params, tower.cfg, tower.tokenizer, folder)
    return folder


def config(teacher: Path, bitext: Path, **student) -> Config:
    return Config(
        teacher=TeacherConfig(path=str(teacher), max_length=40),
        student=StudentConfig(max_length=40, **student),
        data=DataConfig(bitext=(str(bitext),)),
    )


def check_student(cfg: Config) -> Tower:
    student = make_student(cfg, load_teacher(cfg), load_bitext(cfg.data).train)
    shapes = jax.tree.map(lambda x: x.shape, abstract_params(tower_specs(student.cfg)))
    assert jax.tree.map(lambda x: x.shape, student.params) == shapes
    assert student.cfg.vector_width == 16
    assert encode(student, ["moja mbili"]).vectors.shape == (1, 1, 16)
    return student


def test_a_student_of_another_kind_pools_by_the_mean(teacher, bitext):
    student = check_student(config(teacher, bitext, path="configs/tiny/teacher"))
    assert (student.cfg.encoder.family, student.cfg.head.pooling, student.cfg.head.projection) == ("bert", "mean", 16)
    assert not student.cfg.head.projection_bias


def test_a_student_of_its_own_kind_pools_as_it_does(teacher, bitext):
    cfg = config(teacher, bitext)
    student, its_teacher = check_student(cfg), load_teacher(cfg)
    assert student.cfg.head == its_teacher.cfg.head
    same = encode(student, TEXTS[:3]).vectors, encode(its_teacher, TEXTS[:3]).vectors
    np.testing.assert_array_equal(*same)


def test_a_vocabulary_of_its_own_has_an_end_of_its_own(teacher, bitext):
    student = check_student(config(teacher, bitext, vocabulary="train", vocab_size=80))
    assert student.cfg.encoder.vocab_size <= 80
    ends = [student.tokenizer.sep_token_id if teacher.name == "clip" else None]
    assert [student.cfg.encoder.eos_id] == ends


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["auto", "none"])
def test_a_teacher_of_a_pair_teaches(teacher, bitext, tmp_path, pooling, capsys):
    """A run from its first step to its figures, whatever the teacher gives: one vector a text, or one a token."""
    if pooling == "none":
        tower = tower_of(teacher.name, "none")
        teacher = tmp_path / "tokens"
        save_tower(tower.params, tower.cfg, tower.tokenizer, teacher)
    run = tmp_path / "run"
    tiny, steps = ROOT / "configs" / "tiny.py", ["--training.steps", 4, "--training.log-every", 1]
    flags = ["--config", tiny, "--run", run, "--teacher.path", teacher, "--data.bitext", bitext, *steps]
    flags += ["--student.path", tiny.with_suffix("") / "teacher", "--data.global-batch", 8]
    flags += ["--data.dev-pairs", 4, "--student.max-length", 32]
    if pooling == "auto":
        flags += ["--loss.name", "pooled_cosine"]
    assert main(list(map(str, flags))) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    documents = optical_jax.encode(optical_jax.load(run, side="document"), TEXTS[:2])
    np.testing.assert_array_equal(documents.vectors, encode(tower_of_folder(teacher), TEXTS[:2]).vectors)


def tower_of_folder(folder: Path) -> Tower:
    return load(folder, "document")


# ---- elsewhere -------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("pooling", [None, "none", "mean"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_cards_code_for_transformers_gives_the_same_vectors(tmp_path, family, pooling):
    pytest.importorskip("torch")
    tower = tower_of(family, pooling)
    save_tower(tower.params, tower.cfg, tower.tokenizer, tmp_path / "out")
    (code,) = recipes(tower.cfg, str(tmp_path / "out")).values()
    space: dict = {}
    exec(code, space)
    found, ours = space["encode"](TEXTS[:4]), encode(tower, TEXTS[:4])
    for row in range(4):
        theirs = np.asarray(found[row].detach()).reshape(-1, 16)
        np.testing.assert_allclose(theirs, ours.vectors[row][ours.mask[row]], atol=1e-5)
