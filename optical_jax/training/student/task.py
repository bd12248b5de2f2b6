"""The training of a student on bitext: data, models, step and dev retrieval."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from optical_jax.alignment.lexicon import lexicons_of_run
from optical_jax.config import Config, TowerConfig, expand_path
from optical_jax.data.batches.bitext import ImageCaptions, Loader, make_loader
from optical_jax.data.batches.captioned_images import read_captioned_images
from optical_jax.data.batches.tokens import TokenSide, tokenize_pairs, tokenize_texts
from optical_jax.data.coverage import TokenCounts, check_coverage
from optical_jax.data.text.bitext import load_bitext
from optical_jax.data.text.code_switch import SWITCHED_VERSIONS, switched
from optical_jax.data.text.report import report_lines
from optical_jax.errors import ConfigError
from optical_jax.files import SEEN_IMAGES
from optical_jax.invocation import program
from optical_jax.models.late_interaction import tower_specs
from optical_jax.partitioning import batch_shards, params_shardings
from optical_jax.runs.load import IMAGE_TEACHER, load
from optical_jax.towers.images import recipe_of
from optical_jax.towers.tower import encode, sides_alike
from optical_jax.training.estimate import CacheFill, RunCost, step_cost
from optical_jax.training.optimizer import Frozen, make_optimizer
from optical_jax.training.step import check_attention, make_train_step, student_and_teacher
from optical_jax.training.student.dev import make_dev_evaluation
from optical_jax.training.student.image_cache import PlaceholderImages, cached_images
from optical_jax.training.student.start import TeacherPair, load_teacher_pair, make_student
from optical_jax.training.student.teacher_cache import as_if_cached, texts_to_fill, use_teacher_cache
from optical_jax.training.task import Prepared, checked_mesh, model_inputs, say, train
from optical_jax.types import Batch, Params, TokenVectors

if TYPE_CHECKING:
    from optical_jax.data.batches.captioned_images import CaptionedImages
    from optical_jax.data.batches.tokens import TokenizedPairs
    from optical_jax.data.text.bitext import Bitext, BitextSplits
    from optical_jax.data.text.code_switch import Lexicon
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.tower import Side, Tower

SAMPLED_BATCHES = 200
"""Batches a dry run looks at to learn how often each shape occurs."""
SIDES: Mapping[str, tuple[Side, ...]] = {
    "queries": ("query",), "documents": ("document",), "both": ("query", "document"),
}  # fmt: skip
"""`student.sides` -> the sides that texts are encoded as."""


def train_run(cfg: Config) -> None:
    """Train, resume, or report a finished run, as its folder requires."""
    train(cfg, prepare)


def prepare(cfg: Config, folder: RunFolder | None) -> Prepared:
    """Read data and models; those of a resumed run come from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what is wrong, by name.
    """
    mesh, cache_dir = checked_mesh(cfg, "student", "teacher"), cfg.cache_dir or None
    splits = load_bitext(cfg.data)
    inputs = {"bitext": bitext_files(splits)} | model_inputs(cfg, folder, "teacher", "student")
    if folder is not None:
        teacher = load(folder.path, side="document", part="teacher", cache_dir=cache_dir)
        image = load(folder.path, part="image", cache_dir=cache_dir) if cfg.data.pictures else None
        pair = TeacherPair(teacher, image, {})
        side = "document" if cfg.student.sides == "documents" else "query"
        student = load(folder.path, side=side, part="student", checkpoint="untrained")
    else:
        pair = load_teacher_pair(cfg)
        teacher = pair.text
        student = make_student(cfg, teacher, splits.train, say)
    pictures = read_images(cfg, pair, splits) if cfg.data.pictures else None

    lexicons = {}
    if cfg.data.code_switch:
        lexicons = lexicons_of_run(cfg, folder.path if folder else None, student, teacher, splits.train, say)
    (pairs, *versions), dev = tokenize_versions(cfg, student, teacher, splits, lexicons)
    captions = tokenize_captions(cfg, student, pictures[1]) if pictures else None
    if cfg.student.sides != "queries" and sides_alike(teacher.cfg.head):
        say(
            f"student.sides={cfg.student.sides}: this teacher has no marker tokens and masks nothing, so queries and "
            "documents differ only in their maximum length"
        )
    reports = {"train": [b.report for b in splits.train.values()], "dev": [b.report for b in splits.dev.values()]}
    for line in (*report_lines(reports), *(pictures[1].lines() if pictures else [])):
        say(line)
    # What a resumed run has begun, it ends; dev pairs are not learned from.
    at_most = cfg.data.max_unknown if folder is None else None
    for split, bitexts, tokens, most in (("train", splits.train, pairs, at_most), ("dev", splits.dev, dev, None)):
        for language, one in bitexts.items():
            ours, theirs = tokens[language].student.counts, tokens[language].teacher.counts
            check_vocabulary(cfg, f"{language} {split}, student", student, one.foreign, ours, at_most=most)
            check_vocabulary(cfg, f"{language} {split}, teacher", teacher, one.english, theirs, at_most=most)
    if pictures and captions:
        for language, texts in pictures[1].captions.items():
            counts = captions.captions[0][language].counts
            check_vocabulary(cfg, f"{language} captions of images", student, texts, counts, at_most=at_most)
    loader = make_loader(
        pairs,
        cfg.data,
        cfg.seed,
        versions=versions,
        idf=cfg.loss.ot.masses == "idf",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        shards=batch_shards(mesh),
        parts=cfg.training.accumulate,
        pictures=captions,
    )
    for name, tower in zip(("student", "teacher"), student_and_teacher(cfg, student.cfg, teacher.cfg), strict=True):
        check_attention(name, tower, loader.layout.row_lengths)
    report = {split: [one.as_json() for one in each] for split, each in reports.items()}
    if pictures:
        report["pictures"] = pictures[1].reports()
        inputs["pictures"] = pictures[1].inputs()

    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    teacher_params = jax.device_put(teacher.params, params_shardings(tower_specs(teacher.cfg), mesh))

    teacher_cfg = teacher.cfg

    def fill_caches(start: int) -> None:
        nonlocal pictures
        if pictures:
            root = Path(expand_path(cfg.teacher.cache, "teacher.cache") or Path(cfg.run) / "picture_vectors")
            loader.read_images_from(cached_images(*pictures, root, cfg.teacher.cache_gib, mesh, say))
            pictures = None  # the weights of the image tower
        use_teacher_cache(
            cfg.teacher,
            teacher_params,
            teacher_cfg,
            loader,
            (start, cfg.training.steps),
            cfg.data.global_batch,
            mesh,
            say,
        )

    return Prepared(
        mesh=mesh,
        loader=loader,
        epoch_size=loader.epoch_size,
        params=student.params,
        specs=tower_specs(student.cfg),
        tx=tx,
        frozen=Frozen.of(cfg.student, student.cfg.encoder),
        step=make_train_step(cfg, student.cfg, teacher.cfg, mesh, tx),
        constants=(teacher_params,),
        evaluate=dev_evaluation(splits.dev, replace(student, params={}), replace(teacher, params=teacher_params)),
        inputs=inputs,
        cost=partial(cost_of, cfg, student.cfg, replace(teacher, params=teacher_params), loader, pictures),
        next_commands=[
            f"{program('eval')} --run {shlex.quote(cfg.run)} --collection DIR --lang {' '.join(splits.train)}"
        ],
        lexicons=lexicons,
        fill_caches=fill_caches,
        **kept_in_run(cfg, pair, student, report, pictures),
    )


def kept_in_run(
    cfg: Config,
    teacher: TeacherPair,
    student: Tower,
    report: Mapping[str, Any],
    pictures: tuple[Tower, CaptionedImages] | None,
) -> dict[str, Any]:
    """Of `Prepared` the models, references and records, which make the folder of a new run."""
    models = {"teacher": teacher.text} | ({IMAGE_TEACHER: teacher.image} if teacher.image is not None else {})
    references = (
        {} if cfg.checkpoint.copy_teacher else dict.fromkeys(models, expand_path(cfg.teacher.path, "teacher.path"))
    )
    records = {"bitext.json": report} | {f"teacher/{name}": content for name, content in teacher.records.items()}
    if pictures is not None:
        records[SEEN_IMAGES] = [digest.hex() for digest in pictures[1].digests]
    return {"models": models | {"student": student}, "references": references, "records": records}


def read_images(cfg: Config, teacher: TeacherPair, splits: BitextSplits) -> tuple[Tower, CaptionedImages]:
    """The image tower for data.pictures, and the captions of its images in the bitext's languages.

    Raises:
      ConfigError: the teacher is not a dual encoder, or its text and image vectors differ in width.
    """
    found, width = teacher.image, teacher.text.cfg.vector_width
    if found is None:
        raise ConfigError(
            f"data.pictures={cfg.data.pictures} needs a tower of pictures, and teacher.path={cfg.teacher.path} has "
            "none; take a pair of towers"
        )
    recipe_of(found)
    if found.cfg.vector_width != width:
        raise ConfigError(
            f"teacher.path={cfg.teacher.path}: its vectors of texts are of width {width}, those of "
            f"pictures of {found.cfg.vector_width}; take a pair that was trained to agree"
        )
    tower = replace(found.cfg, encoder=replace(found.cfg.encoder, dtype=cfg.teacher.dtype))
    return replace(found, cfg=tower), read_captioned_images(cfg.data, list(splits.train), splits.dev)


def tokenize_captions(cfg: Config, student: Tower, pairs: CaptionedImages) -> ImageCaptions:
    """Tokenise captions, once for each side that the student encodes."""
    sides = [
        TokenSide(student.tokenizer, student.cfg.head, cfg.student.max_length, side)
        for side in SIDES[cfg.student.sides]
    ]
    captions = [{lang: tokenize_texts(texts, side) for lang, texts in pairs.captions.items()} for side in sides]
    return ImageCaptions(captions, pairs.picture)


def tokenize_versions(
    cfg: Config, student: Tower, teacher: Tower, splits: BitextSplits, lexicons: Mapping[str, Lexicon]
) -> tuple[list[dict[str, TokenizedPairs]], dict[str, TokenizedPairs]]:
    """Tokenise the training pairs, once for each side and for each draw of code switching; and the dev pairs.

    Lengths of the first version, and of the dev pairs, go into the bitext's report.
    """

    def tokenized(one: Bitext, side: Side) -> TokenizedPairs:
        return tokenize_pairs(
            one,
            TokenSide(student.tokenizer, student.cfg.head, cfg.student.max_length, side),
            TokenSide(teacher.tokenizer, teacher.cfg.head, cfg.teacher.max_length, side),
        )

    sides = SIDES[cfg.student.sides]
    found = []
    for version in range(SWITCHED_VERSIONS if lexicons else len(sides)):
        train = splits.train
        if lexicons:
            share = cfg.data.code_switch
            train = {lang: switched(one, lexicons[lang], share, cfg.seed, version) for lang, one in train.items()}
        if version:
            train = {lang: replace(one, report=replace(one.report, lengths={})) for lang, one in train.items()}
        found.append({lang: tokenized(one, sides[version % len(sides)]) for lang, one in train.items()})
    return found, {lang: tokenized(one, sides[0]) for lang, one in splits.dev.items()}


def check_vocabulary(
    cfg: Config, what: str, tower: Tower, texts: Sequence[str], counts: TokenCounts, *, at_most: float | None
) -> None:
    """Warn of texts that the student's or the teacher's tokenizer does not know; refuse them above `at_most`.

    Raises:
      DataError: share, examples and remedy.
    """
    if what.endswith("teacher"):
        remedy = "name a teacher that reads these texts: --teacher.path"
    elif cfg.student.vocabulary == "keep":
        remedy = "learn a vocabulary from the pairs: --student.vocabulary train"
    else:
        remedy = f"increase student.vocab_size={cfg.student.vocab_size}"
        if not what.endswith("train, student"):
            # The vocabulary has what the training pairs have, however large it may be.
            remedy = f"add pairs with such words to data.bitext, or {remedy}"
    check_coverage(
        counts, what, texts, tower.tokenizer, at_most=at_most, flag="--data.max-unknown", remedy=remedy, say=say
    )


def bitext_files(splits: BitextSplits) -> dict[str, str]:
    """Path -> sha256 of every file of the bitext."""
    return {file.path: file.sha256 for one in (*splits.train.values(), *splits.dev.values()) for file in one.files}


def cost_of(
    cfg: Config, student: TowerConfig, teacher: Tower, loader: Loader, pictures: tuple[Tower, CaptionedImages] | None
) -> RunCost:
    """What a dry run reports of a student's training."""
    longest = int(loader.teacher_texts.lengths.max())

    def flops(batch: Batch) -> dict[str, float]:
        cost = step_cost(cfg, student, teacher.cfg, batch)
        return {"student": cost.student_flops, "teacher": cost.teacher_flops, "loss": cost.transport_flops}

    fill, notes = None, []
    if texts := texts_to_fill(cfg.teacher, teacher.cfg, loader, cfg.training.steps):
        fill = CacheFill(
            "teacher.cache",
            texts,
            teacher.cfg,
            teacher.params,
            side=lambda batch: batch.teacher,
            filled=lambda batch: as_if_cached(batch, teacher.cfg, longest),
        )
    elif cfg.teacher.cache:
        notes = [
            f"teacher.cache: more than teacher.cache_gib={cfg.teacher.cache_gib:g}; the teacher runs in every step"
        ]
    return RunCost(
        {"student": student, "teacher": teacher.cfg},
        trained={"student": lambda params: params},
        unit="pair",
        columns="rows x tokens (student, teacher)",
        shape=lambda batch: f"{shape_of(batch.student)}, {shape_of(batch.teacher)}",
        flops=flops,
        sampled=SAMPLED_BATCHES,
        fill=fill,
        stand_in=lambda: loader.read_images_from(PlaceholderImages(pictures[0])) if pictures else None,
        notes=notes,
    )


def shape_of(side: Any) -> str:
    """Rows and tokens; of images, encoded before, their vectors."""
    held = side.mask if isinstance(side, TokenVectors) else side.ids
    return " x ".join(map(str, held.shape)) + (" patches" if isinstance(side, TokenVectors) else "")


def dev_evaluation(dev: Mapping[str, Bitext], student: Tower, teacher: Tower) -> Callable[[Params], Any]:
    """Dev retrieval as a function of the student's parameters.

    Foreign sentences are the queries; of a student that encodes documents only, English ones are.
    """
    theirs = "document" if student.side == "query" else "query"
    return make_dev_evaluation(
        {language: (one.english, one.foreign) for language, one in dev.items()},
        lambda params, texts: encode(replace(student, params=params), texts),
        lambda texts: encode(replace(teacher, side=theirs), texts),
        student_asks=student.side == "query",
    )
