"""The training of a student: what it reads, builds and evaluates."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from optical_jax.config import Config, expand_path
from optical_jax.errors import ConfigError
from optical_jax.files import SEEN_PICTURES
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.partitioning import named_sharding, params_shardings
from optical_jax.progress import clock
from optical_jax.training.dry_run import best_seconds, print_memory, print_mesh, time_step
from optical_jax.training.estimate import parameter_counts, side_forward_flops, step_cost
from optical_jax.training.loop import put
from optical_jax.training.optimizer import NOTHING_FROZEN, Frozen, make_optimizer, trained_part
from optical_jax.training.state import init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.training.student.image_cache import MadeUpPictures
from optical_jax.training.student.start import TeacherPair
from optical_jax.training.student.teacher_cache import as_if_cached, texts_to_fill
from optical_jax.training.task import first_state, loop, run_in_folder, say
from optical_jax.types import TokenVectors

if TYPE_CHECKING:
    from optical_jax.data.batches.bitext import Loader, PictureCaptions
    from optical_jax.data.batches.captioned_images import PicturePairs
    from optical_jax.data.batches.tokens import TokenizedPairs
    from optical_jax.data.text.bitext import Bitext, BitextSplits
    from optical_jax.data.text.code_switch import Lexicon
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.tower import Side, Tower
    from optical_jax.types import Params


SAMPLED_BATCHES = 200
"""Batches that are looked at to learn how often each shape occurs."""


def dry_run(cfg: Config, parts: Parts) -> None:
    """Print parameters, FLOPs a pair, memory and time."""
    mesh, student, teacher = parts.mesh, parts.student.cfg, parts.teacher.cfg
    for name, tower in (("student", student), ("teacher", teacher)):
        count = parameter_counts(tower)
        print(f"{name}: {count['all']:,} parameters, {count['body']:,} of them outside the embeddings")
    frozen = Frozen.of(cfg.student, student.encoder)
    if frozen != NOTHING_FROZEN:
        trained = jax.eval_shape(lambda params: trained_part(params, frozen), abstract_params(tower_specs(student)))
        print(f"student: {sum(leaf.size for leaf in jax.tree.leaves(trained)):,} of its parameters are trained")
    print_mesh(mesh)
    print("rows x tokens (student, teacher)  of steps  GFLOP/pair  student  teacher   loss  compile s  step s")

    if parts.pictures:
        parts.loader.read_pictures_from(MadeUpPictures(parts.pictures[0]))
    by_shape: dict[str, list[Any]] = {}
    sample = [next(parts.loader) for _ in range(min(parts.loader.epoch_size, SAMPLED_BATCHES))]
    batch: Any
    for batch in sample:
        shapes = (shape_of(side) for side in (batch.student, batch.teacher))
        by_shape.setdefault(", ".join(shapes), []).append(batch)

    batch_size, steps = cfg.data.global_batch, cfg.training.steps
    step_seconds, flops, peak = 0.0, 0.0, 0
    fill_seconds, fill_flops = 0.0, 0.0
    texts = texts_to_fill(cfg.teacher, teacher, parts.loader, steps)
    longest = int(parts.loader.teacher_texts.lengths.max())
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    with jax.set_mesh(mesh):
        train_step: Any = make_train_step(cfg, student, teacher, mesh, tx)
        taught = jax.device_put(parts.teacher.params, params_shardings(tower_specs(teacher), mesh))
        state = init_train_state(parts.student.params, tower_specs(student), mesh, tx, frozen)
        encode = jax.jit(lambda params, inputs: encode_tokens(params, inputs, teacher).vectors)
        for shape, batches in sorted(by_shape.items()):
            share = len(batches) / len(sample)
            side = batches[0].teacher
            if texts and not isinstance(side, TokenVectors):
                inputs = put(side, named_sharding(mesh, ("batch",)))
                fill_seconds += share * best_seconds(encode, taught, inputs)
                fill_flops += share * side_forward_flops(side, teacher)
                batches = [as_if_cached(batches[0], teacher, longest), *batches[1:]]
            batch = put(batches[0], named_sharding(mesh, ("batch",)))
            timed = time_step(train_step, state, taught, batch)
            state = timed.state
            cost = step_cost(cfg, student, teacher, batch)
            peak = max(peak, timed.peak_bytes)
            step_seconds, flops = step_seconds + share * timed.seconds, flops + share * cost.flops / batch_size
            print(
                f"{shape:>32}  {share:>8.1%}  {cost.flops / batch_size / 1e9:>10.3f}  "
                f"{cost.student_flops / cost.flops:>7.1%}  {cost.teacher_flops / cost.flops:>7.1%}  "
                f"{cost.transport_flops / cost.flops:>5.1%}  {timed.compile_seconds:>9.1f}  {timed.seconds:>6.3f}"
            )

    epochs, fills = steps / parts.loader.epoch_size, math.ceil(texts / batch_size)
    fill_seconds, fill_flops = fills * fill_seconds, fills * fill_flops
    in_all = flops * batch_size * steps + fill_flops
    print(f"flops: {flops / 1e9:.3f} GFLOP a pair on average, {in_all / 1e12:.2f} TFLOP in all")
    if texts:
        print(
            f"teacher.cache: {texts:,} texts encoded before the first step, if none is there yet: "
            f"{fill_flops / 1e12:.2f} TFLOP and about {clock(fill_seconds)}, counted in"
        )
    elif cfg.teacher.cache:
        print(f"teacher.cache: more than teacher.cache_gib={cfg.teacher.cache_gib:g}; the teacher runs in every step")
    told = fill_seconds + steps * step_seconds
    print_memory(peak)
    print(f"time: {steps} steps of {batch_size} pairs, {epochs:.1f} epochs: about {clock(told)}")
    print(f"      at {batch_size / step_seconds:.1f} pairs/s, without dev retrievals and saves")


def shape_of(side: Any) -> str:
    """Rows and tokens; of pictures, encoded before, their vectors."""
    held = side.mask if isinstance(side, TokenVectors) else side.ids
    return " x ".join(map(str, held.shape)) + (" patches" if isinstance(side, TokenVectors) else "")


SIDES: Mapping[str, tuple[Side, ...]] = {
    "queries": ("query",), "documents": ("document",), "both": ("query", "document"),
}  # fmt: skip
"""`student.sides` -> what texts are encoded as."""


def train_run(cfg: Config) -> None:
    """Train, resume, or report a finished run: whatever the run folder calls for."""

    parts = run_in_folder(cfg, prepare=prepare, begin=begin, train=train_prepared)
    if parts is not None:
        languages = " ".join(parts.languages)
        say(f"next: python eval.py --run {shlex.quote(cfg.run)} --collection DIR --lang {languages}")


@dataclass
class Parts:
    """What a run is made of, read and checked, before anything compiles."""

    mesh: Any
    languages: list[str]
    dev: Mapping[str, Bitext]
    teacher: Tower
    student: Tower
    loader: Loader
    inputs: dict[str, dict[str, str]]
    """By kind, path -> sha256 of every input file."""
    report: dict[str, Any]
    """What became of every line of the bitext, by split."""
    lexicons: Mapping[str, Lexicon]
    """By language, what data.code_switch replaces; empty without it."""
    teacher_pair: TeacherPair
    """The teacher and the image tower that came with it, as a new run keeps them."""
    pictures: tuple[Tower, PicturePairs] | None = None
    """Of data.pictures: who encodes them, and their captions."""

    def leave_weights(self) -> None:
        """Let the host forget the towers' weights, once the devices hold them and pictures are encoded."""
        self.teacher, self.student = replace(self.teacher, params={}), replace(self.student, params={})
        self.teacher_pair = TeacherPair(self.teacher, None, {})
        self.pictures = None


def prepare(cfg: Config, folder: RunFolder | None) -> Parts:
    """Read data and models; those of a run that is resumed come from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what cannot be, by name.
    """
    import jax

    from optical_jax.alignment.lexicon import lexicons_of_run
    from optical_jax.data.batches.bitext import make_loader
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.data.text.report import report_lines
    from optical_jax.models.attention import check_platform
    from optical_jax.partitioning import batch_shards, check_divisible, make_mesh, platform
    from optical_jax.runs.load import load
    from optical_jax.towers.tower import sides_alike
    from optical_jax.training.step import check_attention
    from optical_jax.training.student.start import load_teacher_pair, make_student

    mesh = make_mesh(cfg.mesh)
    check_divisible(cfg, mesh)
    for name in ("student", "teacher"):
        check_platform(getattr(cfg, name).attention, platform(), f"{name}.attention")
    splits = load_bitext(cfg.data)
    inputs = {"bitext": bitext_files(splits)} | model_inputs(cfg, folder.saved_config() if folder else None)
    if folder is not None:
        teacher = load(folder.path, side="document", part="teacher", cache_dir=cfg.cache_dir or None)
        image = load(folder.path, part="image", cache_dir=cfg.cache_dir or None) if cfg.data.pictures else None
        teacher_pair = TeacherPair(teacher, image, {})
        side = "document" if cfg.student.sides == "documents" else "query"
        student = load(folder.path, side=side, part="student", checkpoint="untrained")
    else:
        teacher_pair = load_teacher_pair(cfg)
        teacher = teacher_pair.text
        student = make_student(cfg, teacher, splits.train, say)
    pictures = read_pictures(cfg, teacher_pair.image, teacher, splits) if cfg.data.pictures else None

    lexicons = {}
    if cfg.data.code_switch:
        lexicons = lexicons_of_run(cfg, folder.path if folder else None, student, teacher, splits.train, say)
    pairs, *versions = tokenize_versions(cfg, student, teacher, splits, lexicons)
    if cfg.student.sides != "queries" and sides_alike(teacher.cfg.head):
        say(
            f"student.sides={cfg.student.sides}: this teacher marks no side and leaves nothing out, so queries and "
            "documents are one to it but for their length"
        )
    reports = {"train": [b.report for b in splits.train.values()], "dev": [b.report for b in splits.dev.values()]}
    for line in (*report_lines(reports), *(pictures[1].lines() if pictures else [])):
        say(line)
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
        pictures=tokenize_captions(cfg, student, pictures[1]) if pictures else None,
    )
    check_attention(cfg, student.cfg, teacher.cfg, loader.layout.row_lengths)
    report = {split: [one.as_json() for one in each] for split, each in reports.items()}
    if pictures:
        report["pictures"] = pictures[1].reports()
        inputs["pictures"] = pictures[1].inputs()
    return Parts(
        mesh, list(splits.train), splits.dev, teacher, student, loader, inputs, report, lexicons, teacher_pair, pictures
    )


def read_pictures(cfg: Config, found: Tower | None, teacher: Tower, splits: BitextSplits) -> tuple[Tower, PicturePairs]:
    """Who encodes the pictures of data.pictures (the tower `found` beside the teacher), and their captions in the
    bitext's languages.

    Raises:
      ConfigError: the teacher is no pair, or the pair's vectors are of different widths.
    """
    from optical_jax.data.batches.captioned_images import read_picture_pairs
    from optical_jax.towers.images import recipe_of

    if found is None:
        raise ConfigError(
            f"data.pictures={cfg.data.pictures} needs a tower of pictures, and teacher.path={cfg.teacher.path} has "
            "none; take a pair of towers"
        )
    recipe_of(found)
    if found.cfg.vector_width != teacher.cfg.vector_width:
        raise ConfigError(
            f"teacher.path={cfg.teacher.path}: its vectors of texts are of width {teacher.cfg.vector_width}, those of "
            f"pictures of {found.cfg.vector_width}; take a pair that was trained to agree"
        )
    tower = replace(found.cfg, encoder=replace(found.cfg.encoder, dtype=cfg.teacher.dtype))
    return replace(found, cfg=tower), read_picture_pairs(cfg.data, list(splits.train), splits.dev)


def tokenize_captions(cfg: Config, student: Tower, pairs: PicturePairs) -> PictureCaptions:
    """The captions as the student will see them in turn, on its sides."""
    from optical_jax.data.batches.bitext import PictureCaptions
    from optical_jax.data.batches.tokens import TokenSide, tokenize_texts

    sides = [
        TokenSide(student.tokenizer, student.cfg.head, cfg.student.max_length, side)
        for side in SIDES[cfg.student.sides]
    ]
    captions = [{lang: tokenize_texts(texts, side) for lang, texts in pairs.captions.items()} for side in sides]
    return PictureCaptions(captions, pairs.picture)


def tokenize_versions(
    cfg: Config, student: Tower, teacher: Tower, splits: BitextSplits, lexicons: Mapping[str, Lexicon]
) -> list[dict[str, TokenizedPairs]]:
    """The training pairs as the student will see them in turn: on its sides, with other words switched.

    Lengths of the first version, and of the dev pairs, go into the bitext's report.
    """
    from optical_jax.data.batches.tokens import TokenSide, tokenize_pairs
    from optical_jax.data.text.code_switch import SWITCHED_VERSIONS, switched

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
    for one in splits.dev.values():
        tokenized(one, sides[0])
    return found


def bitext_files(splits: BitextSplits) -> dict[str, str]:
    """Path -> sha256 of every file of the bitext."""
    return {file.path: file.sha256 for one in (*splits.train.values(), *splits.dev.values()) for file in one.files}


def model_inputs(cfg: Config, before: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """Files of teacher and student, by setting; on a resume only where the path is another one than `before`."""
    from optical_jax.models.formats.pretrained import find_folder
    from optical_jax.runs.load import model_files

    found = {}
    for name, path in (("teacher", cfg.teacher.path), ("student", cfg.student.path)):
        if path and (before is None or before[name]["path"] != path):
            folder = find_folder(expand_path(path, f"{name}.path"), cfg.cache_dir or None)
            found[f"{name}.path"] = model_files(folder)
    return found


def begin(cfg: Config, folder: RunFolder, parts: Parts) -> None:
    """Write what makes the folder a run: both towers, hashes of what was read, and what became of every line."""
    from optical_jax.runs.load import PICTURE_TEACHER

    towers, path = {"teacher": parts.teacher}, expand_path(cfg.teacher.path, "teacher.path")
    if parts.teacher_pair.image is not None:
        towers[PICTURE_TEACHER] = parts.teacher_pair.image
    references = {} if cfg.checkpoint.copy_teacher else dict.fromkeys(towers, path)
    towers["student"] = parts.student
    records: dict[str, Any] = {"bitext.json": parts.report}
    records |= {f"teacher/{name}": content for name, content in parts.teacher_pair.records.items()}
    if parts.pictures is not None:
        records[SEEN_PICTURES] = [digest.hex() for digest in parts.pictures[1].digests]
    folder.begin(cfg, towers, parts.inputs, records, references=references, lexicons=parts.lexicons)


def train_prepared(cfg: Config, folder: RunFolder, parts: Parts) -> None:
    """Compile, restore, loop."""
    import jax

    from optical_jax.models.late_interaction import tower_specs
    from optical_jax.partitioning import params_shardings
    from optical_jax.runs.checkpoint import Checkpoints
    from optical_jax.training.optimizer import Frozen, make_optimizer
    from optical_jax.training.step import make_train_step
    from optical_jax.training.student.image_cache import cached_pictures
    from optical_jax.training.student.teacher_cache import use_teacher_cache

    mesh, student, teacher, loader = parts.mesh, parts.student.cfg, parts.teacher.cfg, parts.loader
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    with jax.set_mesh(mesh), Checkpoints(folder.checkpoints, cfg.checkpoint) as checkpoints:
        train_step = make_train_step(cfg, student, teacher, mesh, tx)
        teacher_params = jax.device_put(parts.teacher.params, params_shardings(tower_specs(teacher), mesh))
        frozen = Frozen.of(cfg.student, student.encoder)
        specs = tower_specs(student)
        state, start = first_state(cfg, checkpoints, parts.student.params, specs, mesh, tx, frozen, loader)
        if parts.pictures:
            root = Path(expand_path(cfg.teacher.cache, "teacher.cache") or folder.path / "picture_vectors")
            loader.read_pictures_from(cached_pictures(*parts.pictures, root, cfg.teacher.cache_gib, mesh, say))
        parts.leave_weights()
        use_teacher_cache(
            cfg.teacher,
            teacher_params,
            teacher,
            loader,
            (start, cfg.training.steps),
            cfg.data.global_batch,
            mesh,
            say,
        )
        loop(
            cfg,
            folder,
            state,
            lambda state, batch: train_step(state, teacher_params, batch),
            loader,
            start,
            mesh=mesh,
            evaluate=dev_evaluation(parts, teacher_params),
            checkpoints=checkpoints,
        )


def dev_evaluation(parts: Parts, teacher_params: Params) -> Any:
    """Dev retrieval as a function of the student's parameters.

    Foreign sentences look for their English ones; of a student that learned documents alone, English for foreign ones.
    """
    from optical_jax.towers.tower import encode
    from optical_jax.training.student.dev import make_dev_evaluation

    theirs = "document" if parts.student.side == "query" else "query"
    return make_dev_evaluation(
        {language: (one.english, one.foreign) for language, one in parts.dev.items()},
        lambda params, texts: encode(replace(parts.student, params=params), texts),
        lambda texts: encode(replace(parts.teacher, params=teacher_params, side=theirs), texts),
        student_asks=parts.student.side == "query",
    )
