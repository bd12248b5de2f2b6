"""Validation of settings before any data is read or anything compiled."""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from optical_jax.config import DEV_METRICS, DRAWN_SIZE, IMAGE_DEV_METRICS, ImageSideConfig
from optical_jax.config.image_teacher import ImageStageConfig
from optical_jax.config.losses import ImageTextLossConfig, LossConfig, LossName, OtConfig
from optical_jax.config.student import Config, DataConfig, SizeConfig, StudentConfig
from optical_jax.config.teacher import TeacherStageConfig
from optical_jax.errors import ConfigError

COMPARES_TEXTS = ("contrastive", "pooled_contrastive", "ot_contrastive", "relational", "score_kl")
"""Losses between the texts of a batch, which need at least two."""
EVERY_AT_LEAST_1 = (
    "data.global_batch", "training.accumulate", "training.log_every", "checkpoint.every", "checkpoint.keep",
)  # fmt: skip
"""EVERY_*: lower bounds of settings that every training has; the others are a student's."""
EVERY_AT_LEAST_0 = (
    "seed", "training.dev_every", "optimizer.warmup_steps", "optimizer.weight_decay", "optimizer.clip_norm",
    "optimizer.final_lr_fraction",
)  # fmt: skip
MOST_DIGITS = 9
"""Of a column's number."""
DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", r"\t": "\t"}
"""Words for data.delimiter that are easier to type than the character."""
NO_FILE_ENCODINGS = ("unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined")
EVERY_ABOVE_0 = ("optimizer.peak_lr", "optimizer.eps")
AT_LEAST_1 = ("data.min_chars", "data.row_length", "loss.ot.iterations")
AT_LEAST_0 = (
    "data.max_pairs", "data.dev_pairs", "data.max_bad_lines", "loss.ot.threshold", "loss.ot.epsilon_start",
    "student.freeze_layers", "student.ridge", "training.steps",
)  # fmt: skip
ABOVE_0 = (
    "teacher.cache_gib", "loss.ot.epsilon", "loss.ot.marginal_weight", "loss.temperature", "data.temperature",
)  # fmt: skip


def validate(cfg: Config, *, needs_run: bool = True) -> None:
    """Validate the settings of a student's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    require = partial(check_that, cfg)
    check_every_training(cfg, ("R@1", "R@10", "RR@10"), needs_run=needs_run)
    require(bool(cfg.teacher.path), "teacher.path", "name a teacher: --teacher.path FOLDER_OR_HUB_NAME")
    check_ranges(cfg, AT_LEAST_1, AT_LEAST_0, ABOVE_0)
    # Above 1.9 the updates of some pairs oscillate, even with their limit.
    require(1 <= cfg.loss.ot.relaxation <= 1.9, "loss.ot.relaxation", "use a number from 1 to 1.9")
    require(0 < cfg.loss.ot.partial_mass <= 1, "loss.ot.partial_mass", "use a share above 0 and at most 1")
    require(0 <= cfg.loss.fusion <= 1, "loss.fusion", "use a share from 0 to 1")
    require(0 < cfg.loss.ot.epsilon_until <= 1, "loss.ot.epsilon_until", "use a share above 0 and at most 1")
    check_transport(cfg)
    for name in ("teacher.max_length", "student.max_length"):
        require(_get(cfg, name) >= 4, name, "use at least 4 tokens")
    for name, tower in (("teacher", cfg.teacher), ("student", cfg.student)):
        check_kernel_dtype(name, tower)
    check_reading(cfg.data)
    require(cfg.data.max_chars >= cfg.data.min_chars, "data.max_chars", f"use at least min_chars={cfg.data.min_chars}")
    require(cfg.data.max_length_ratio >= 1, "data.max_length_ratio", "use 1 or more")
    require(cfg.student.vocab_size >= 100, "student.vocab_size", "use at least 100 pieces")
    if cfg.student.new_embeddings == "lexicon" and cfg.student.vocabulary == "keep":
        raise ConfigError(
            "student.new_embeddings='lexicon' needs a new vocabulary, but student.vocabulary='keep' makes none; "
            "use --student.new-embeddings random, or add --student.vocabulary train"
        )
    if cfg.student.keep_pieces and cfg.student.vocabulary == "keep":
        raise ConfigError(
            "student.keep_pieces=True is for a trained vocabulary, but student.vocabulary='keep' keeps the initial "
            "one; add --student.no-keep-pieces, or --student.vocabulary train"
        )
    size = dataclasses.astuple(cfg.student.size)
    require(min(size) > 0 or max(size) == min(size) == 0, "student.size", "use all four above 0, or none")
    if size[0] and size[0] % size[2]:
        raise ConfigError(f"student.size.width={size[0]} does not divide into heads={size[2]}; use a multiple")
    if cfg.student.freeze_layers and size[0]:
        raise ConfigError(
            f"student.freeze_layers={cfg.student.freeze_layers} would freeze layers that student.size initialises at "
            "random; leave one of the two out"
        )
    _validate_code_switch(cfg)
    _validate_images(cfg)
    _validate_fitted(cfg)
    part = cfg.data.global_batch // cfg.training.accumulate
    for name in (cfg.loss.name, *parse_added_losses(cfg.loss)):
        if name in COMPARES_TEXTS and part < 2:
            raise ConfigError(
                f"data.global_batch={cfg.data.global_batch} in training.accumulate={cfg.training.accumulate} parts is "
                f"one pair at a time, but loss {name} compares the texts of a part; use more pairs per part"
            )
    buckets = cfg.data.buckets
    rising = bool(buckets) and min(buckets) > 0 and list(buckets) == sorted(set(buckets))
    if cfg.data.batching == "buckets":
        require(rising, "data.buckets", "use rising lengths, such as 16 32 64")
        longest = max(cfg.teacher.max_length, cfg.student.max_length)
        require(buckets[-1] >= longest, "data.buckets", f"the last must hold max_length={longest} tokens")


def check_reading(data: DataConfig) -> None:
    """Check the settings by which text files are decoded and divided.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    if data.encoding:
        try:
            # Codecs of bytes, such as base64, refuse text; the others named here are not encodings of files.
            "a".encode(data.encoding)
            fine = codecs.lookup(data.encoding).name.replace("_", "-") not in NO_FILE_ENCODINGS
        except (LookupError, UnicodeError, ValueError):
            fine = False
        if not fine:
            raise ConfigError(
                f"data.encoding={data.encoding!r} is not a text encoding; use one such as utf-8, windows-1252, "
                "cp1251, utf-16 or gb18030"
            )
    delimiter = DELIMITERS.get(data.delimiter, data.delimiter)
    if delimiter and (len(delimiter) != 1 or delimiter in '"\r\n\0' or "\ud800" <= delimiter <= "\udfff"):
        raise ConfigError(
            f"data.delimiter={data.delimiter!r} is not valid; use {', '.join(list(DELIMITERS)[:4])} or one character"
        )
    for field in ("english_column", "foreign_column"):
        if not getattr(data, field):
            raise ConfigError(f"data.{field} is empty; give a column's name, or its number, counted from 0")
    for field in ("english_column", "foreign_column", "score_column", "document_column"):
        value = getattr(data, field)
        if value.isdecimal() and len(value) > MOST_DIGITS:
            raise ConfigError(f"data.{field}={value:.20}... is not valid; count columns from 0")


def check_every_training(
    cfg: Config | TeacherStageConfig | ImageStageConfig, metrics: Sequence[str], *, needs_run: bool
) -> None:
    """Validate the settings that every training has.

    Args:
      cfg: the settings.
      metrics: its dev metrics.
      needs_run: whether it writes into a run folder.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    check_types(cfg)
    check_that(cfg, bool(cfg.run) or not needs_run, "run", "name a run folder: --run runs/x")
    check_ranges(cfg, EVERY_AT_LEAST_1, EVERY_AT_LEAST_0, EVERY_ABOVE_0)
    known = cfg.checkpoint.best_metric in metrics
    check_that(cfg, known, "checkpoint.best_metric", f"use one of {', '.join(metrics)}")
    for name in ("optimizer.b1", "optimizer.b2"):
        check_that(cfg, 0 <= _get(cfg, name) < 1, name, "use a number from 0 to below 1")
    check_that(cfg, 0 <= cfg.data.max_unknown <= 1, "data.max_unknown", "use a share from 0 to 1")
    parse_licences(cfg.licences)


def check_image_text_loss(cfg: ImageTextLossConfig, prefix: str = "loss.") -> None:
    """Validate the settings of an image-text loss.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    check_types(cfg, prefix)
    # The scale is bounded, so a lower temperature would be silently raised.
    if cfg.temperature != 0 and not 0.01 <= cfg.temperature < math.inf:
        raise ConfigError(f"{prefix}temperature={cfg.temperature} is not valid; use at least 0.01, or 0 for a default")
    if not math.isfinite(cfg.bias):
        raise ConfigError(f"{prefix}bias={cfg.bias} is not valid; use a number, such as -10")


def check_types(cfg: Any, prefix: str = "") -> None:
    """Check the types of all fields; tyro checks those of flags, but not those set in a Python config file.

    Raises:
      ConfigError: names the field, its value and what it may be.
    """
    types = get_type_hints(type(cfg))
    for each in dataclasses.fields(cfg):
        value, name, kind = getattr(cfg, each.name), prefix + each.name, types[each.name]
        if not _is_a(value, kind):
            raise ConfigError(f"{name}={value!r} is not valid; {_remedy(kind)}")
        if dataclasses.is_dataclass(value):
            check_types(value, f"{name}.")


def _is_a(value: Any, kind: Any) -> bool:
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is UnionType:
        return any(_is_a(value, part) for part in parts)
    if get_origin(kind) is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple | list) and parts[-1] is Ellipsis else parts
        return isinstance(value, tuple | list) and len(value) == len(kinds) and all(map(_is_a, value, kinds))
    # NumPy scalars are refused: JSON cannot hold them.
    if kind in (int, float):
        return type(value) in (int, kind)
    return isinstance(value, kind)


def _remedy(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"use one of {', '.join(get_args(kind))}"
    if get_origin(kind) is UnionType:
        return " or ".join([_remedy(part) for part in get_args(kind) if part is not NoneType] + ["None"])
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        return f"{_remedy(first)} each, in a tuple{'' if others == [Ellipsis] else f' of {1 + len(others)}'}"
    words = {int: "an integer", float: "a number", str: "a string", bool: "True or False"}
    return f"use {words.get(kind, f'{kind.__name__}(...)')}"


def _validate_code_switch(cfg: Config) -> None:
    share, student = cfg.data.code_switch, cfg.student
    if not 0 <= share <= 1:
        raise ConfigError(f"data.code_switch={share!r} is not valid; use a share from 0 to 1")
    if cfg.data.lexicon and not share:
        raise ConfigError("data.lexicon is for data.code_switch, which is 0; set data.code_switch above 0")
    at_random = {
        "student.new_embeddings='random'": student.vocabulary == "train" and student.new_embeddings == "random",
        f"student.size.width={student.size.width}": student.size.width > 0,
        "student.head='drawn'": student.head == "drawn",
    }
    if share and not cfg.data.lexicon and any(at_random.values()):
        named = next(name for name, is_so in at_random.items() if is_so)
        raise ConfigError(
            f"data.code_switch={share} takes translations from the transport plans of the untrained student, which are "
            f"meaningless with {named}; set data.lexicon, or start from weights and student.new_embeddings=lexicon"
        )


def _validate_images(cfg: Config) -> None:
    share, masses = cfg.data.pictures_share, cfg.loss.ot.masses
    if not 0 < share <= 1:
        raise ConfigError(f"data.pictures_share={share!r} is not valid; use a share above 0 and at most 1")
    if not cfg.data.pictures:
        if share != DataConfig().pictures_share:
            raise ConfigError(f"data.pictures_share={share} needs data.pictures, which is empty; set data.pictures")
        return
    if masses in ("idf", "norm"):
        raise ConfigError(
            f"loss.ot.masses={masses!r} weighs the teacher's tokens, but the patches of data.pictures have no such "
            "weight; use uniform or learned"
        )


def _validate_fitted(cfg: Config) -> None:
    """student.head='fitted' needs a pretrained encoder whose vocabulary and size are unchanged."""
    student, steps = cfg.student, cfg.training.steps
    if student.head != "fitted":
        if not steps:
            raise ConfigError(
                "training.steps=0 trains nothing, which is for student.head='fitted'; use at least 1, or that head"
            )
        if student.ridge != StudentConfig().ridge:
            raise ConfigError(f"student.ridge={student.ridge} is for student.head='fitted'; leave it out")
        return
    if not student.path:
        raise ConfigError("student.head='fitted' needs an encoder to map to the teacher's; add --student.path PATH")
    for name, plain in (("vocabulary", "keep"), ("size", SizeConfig())):
        if getattr(student, name) != plain:
            raise ConfigError(
                f"student.head='fitted' needs an unchanged encoder, but student.{name}={getattr(student, name)!r} "
                "changes it; begin with --config linear_map, which leaves it as it is"
            )


def parse_added_losses(cfg: LossConfig) -> dict[str, float]:
    """Parse `cfg.add` into loss name -> weight.

    Raises:
      ConfigError: an entry is not NAME=WEIGHT, its name is not a loss or is repeated, or its weight is not a number
        above 0.
    """
    known, found = get_args(LossName), {}
    for entry in cfg.add:
        name, _, text = (part.strip() for part in entry.partition("="))
        said = f"loss.add={entry!r}"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
            raise ConfigError(f"{said} is not a loss; {remedy}")
        if name == cfg.name:
            raise ConfigError(f"{said} repeats loss.name={cfg.name}; leave it out")
        if name in found:
            raise ConfigError(f"{said} adds {name} a second time; use one weight")
        try:
            found[name] = float(text)
        except ValueError:
            raise ConfigError(f"{said} has no weight; write NAME=WEIGHT, such as {name}=0.1") from None
        if not 0.0 < found[name] < math.inf:
            raise ConfigError(f"{said} does not have a valid weight; use a number above 0")
    return found


PLANS_OF = {
    "epsilon": ("sinkhorn", "unbalanced", "partial", "ipot", "softmax"),
    "iterations": ("sinkhorn", "unbalanced", "partial", "ipot"),
    "epsilon_start": ("sinkhorn", "unbalanced", "partial", "ipot", "softmax"),
    "relaxation": ("sinkhorn", "unbalanced"),
    "threshold": ("sinkhorn",),
    "marginal_weight": ("unbalanced",),
    "partial_mass": ("partial",),
    "gradient": ("sinkhorn", "unbalanced", "partial", "ipot", "softmax"),
}
"""Settings of `OtConfig` -> the plans that use them (`gradient`: that can be differentiated through)."""
LOSSES_OF = {
    "temperature": ("contrastive", "pooled_contrastive", "ot_contrastive", "score_kl"),
    "fusion": ("gromov_wasserstein",),
    "ot.masses": ("transport", "ot_contrastive", "gromov_wasserstein"),
    "ot.gradient": ("transport", "ot_contrastive"),
}
"""Settings of `LossConfig` -> the losses that use them. Other settings of transport are used beyond the loss, by
`align` and lexicons."""


def check_transport(cfg: Config) -> None:
    """Refuse transport settings that the plan ignores, or that contradict each other.

    Raises:
      ConfigError: names both settings and the remedy.
    """
    ot, defaults = cfg.loss.ot, {each.name: each.default for each in dataclasses.fields(OtConfig)}

    def refuse(name: str, reason: str) -> None:
        raise ConfigError(f"loss.ot.{name}={getattr(ot, name)!r} {reason}")

    for name, plans in PLANS_OF.items():
        if getattr(ot, name) != defaults[name] and ot.plan not in plans:
            refuse(name, f"is for plan={', '.join(plans)}, not for loss.ot.plan={ot.plan!r}; leave it out")
    losses = cfg.loss.name, *parse_added_losses(cfg.loss)
    for name, heeding in LOSSES_OF.items():
        if _get(cfg.loss, name) != _get(LossConfig(), name) and not set(losses) & set(heeding):
            raise ConfigError(
                f"loss.{name}={_get(cfg.loss, name)!r} is for loss {', '.join(heeding)}, not for {', '.join(losses)}; "
                f"leave it out, or add --loss.name {heeding[0]}"
            )
    by_plan = {"transport", "ot_contrastive"} & set(losses)
    if not by_plan and "gromov_wasserstein" in losses and ot.plan != "sinkhorn":
        refuse("plan", "is not supported by loss gromov_wasserstein, which has its own; leave it out")
    if ot.epsilon_until != defaults["epsilon_until"] and not ot.epsilon_start:
        refuse("epsilon_until", "ends a schedule, but loss.ot.epsilon_start=0 starts none; leave it out")
    if 0 < ot.epsilon_start < ot.epsilon:
        refuse("epsilon_start", f"is below loss.ot.epsilon={ot.epsilon}, to which it decays; use more, or 0")
    if ot.gradient == "through" and ot.threshold > 0:
        refuse("threshold", "stops each pair at another iteration, without a gradient; leave one of the two out")
    if ot.plan == "exact" and ot.masses != "uniform":
        refuse("masses", "is ignored by an assignment; leave it out, or use --loss.ot.plan ipot")
    if ot.masses == "learned":
        if ot.plan != "sinkhorn":
            refuse("masses", "needs the dual potentials of loss.ot.plan='sinkhorn'; use that plan")
        if "transport" not in losses:
            refuse("masses", f"is trained by the transport loss, not by loss.name={cfg.loss.name!r}; use that loss")
    if ot.masses != "uniform" and cfg.teacher.pooling in ("mean", "cls"):
        refuse("masses", f"weighs tokens, but teacher.pooling={cfg.teacher.pooling!r} gives one vector; leave it out")
    if ot.masses == "norm" and cfg.teacher.cache:
        refuse("masses", "needs the norms of the teacher's vectors, which teacher.cache lacks; leave the cache out")


def parse_licences(entries: Iterable[str]) -> dict[str, str]:
    """Parse NAME=LICENCE entries into source -> licence.

    Raises:
      ConfigError: an entry is not of that form, or a source has two licences.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, _, licence = (text.strip() for text in entry.partition("="))
        if not name or not licence:
            raise ConfigError(
                f"licences={entry!r} lacks a name or a licence; write NAME=LICENCE, such as tico19='CC0 1.0'"
            )
        if found.setdefault(name, licence) != licence:
            raise ConfigError(f"licences: {name} is {found[name]!r} and {licence!r}; use one licence per source")
    return found


def check_that(cfg: Any, fine: bool, name: str, remedy: str) -> None:
    """Raise ConfigError for the setting `name` (dotted) of `cfg` unless `fine`."""
    if not fine:
        raise ConfigError(f"{name}={_get(cfg, name)!r} is not valid; {remedy}")


def check_ranges(cfg: Any, at_least_1: Iterable[str], at_least_0: Iterable[str], above_0: Iterable[str]) -> None:
    for name in at_least_1:
        check_that(cfg, _get(cfg, name) >= 1, name, "use at least 1")
    for name in at_least_0:
        check_that(cfg, _get(cfg, name) >= 0, name, "use 0 or more")
    for name in above_0:
        check_that(cfg, 0 < _get(cfg, name) < math.inf, name, "use a number above 0")


def check_kernel_dtype(name: str, tower: Any) -> None:
    if tower.attention in ("cudnn", "splash") and tower.dtype != "bfloat16":
        raise ConfigError(
            f"{name}.attention={tower.attention} needs bfloat16, not {name}.dtype={tower.dtype}; "
            f"add --{name}.dtype bfloat16"
        )


def _get(cfg: Any, name: str) -> Any:
    for part in name.split("."):
        cfg = getattr(cfg, part)
    return cfg


TEACHER_AT_LEAST_1 = ("data.passages", "data.row_length", "data.dev_queries", "data.dev_documents", "training.steps")
TEACHER_AT_LEAST_0 = ("encoder.projection", "data.max_bad_lines", "loss.contrastive", "loss.kl", "loss.margin_mse")
TEACHER_ABOVE_0 = ("loss.temperature", "loss.score_scale")
IMAGE_AT_LEAST_1 = (
    "data.dev_pictures", "data.threads", "image.image_size", "image.patch_size", "image.width", "image.layers",
    "image.heads", "image.mlp_width", "training.steps",
)  # fmt: skip
IMAGE_AT_LEAST_0 = ("text.projection", "text.hold_gib")


def validate_teacher(cfg: TeacherStageConfig, *, needs_run: bool = True) -> None:
    """Validate the settings of a teacher's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    require = partial(check_that, cfg)
    check_every_training(cfg, DEV_METRICS, needs_run=needs_run)
    require(bool(cfg.encoder.path), "encoder.path", "name an encoder: --encoder.path FOLDER_OR_HUB_NAME")
    require(bool(cfg.data.train), "data.train", "name judgements, triples or lists: --data.train FILE")
    check_ranges(cfg, TEACHER_AT_LEAST_1, TEACHER_AT_LEAST_0, TEACHER_ABOVE_0)
    for name in ("query_length", "document_length"):
        length = getattr(cfg.encoder, name)
        require(length is None or length >= 4, f"encoder.{name}", "use at least 4 tokens, or none")
    length = cfg.data.passage_length
    require(length == 0 or length >= 4, "data.passage_length", "use at least 4 tokens, or 0")
    frozen = cfg.encoder.frozen_layers
    require(frozen is None or frozen >= 0, "encoder.frozen_layers", "use 0 or more, or none")
    check_kernel_dtype("encoder", cfg.encoder)
    require(0 <= cfg.data.hold_out < 1, "data.hold_out", "use a share from 0 to below 1")
    loss = cfg.loss
    if not (loss.contrastive or loss.kl or loss.margin_mse):
        raise ConfigError("loss.contrastive, loss.kl and loss.margin_mse are all 0; set one of them above 0")
    if cfg.data.passages == 1:
        require(not loss.kl and not loss.margin_mse, "data.passages", "kl and margin_mse compare 2 or more")
        require(loss.in_batch, "data.passages", "without loss.in_batch there are no negatives; use 2 or more")
    if loss.contrastive and cfg.data.global_batch == 1 and cfg.data.passages == 1:
        raise ConfigError("data.global_batch=1 and data.passages=1 leave no negatives; increase one of them")


def validate_image_teacher(cfg: ImageStageConfig, *, needs_run: bool = True) -> None:
    """Validate the settings of an image-text teacher's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    require = partial(check_that, cfg)
    check_every_training(cfg, IMAGE_DEV_METRICS, needs_run=needs_run)
    require(bool(cfg.text.path), "text.path", "name a text tower: --text.path FOLDER_OR_HUB_NAME")
    require(bool(cfg.data.images), "data.images", "name sets of captioned images: --data.images FOLDER")
    require(bool(cfg.data.splits), "data.splits", "name a split, such as train")
    for name in ("images", "splits"):
        named = getattr(cfg.data, name)
        require(len(set(named)) == len(named) and all(named), f"data.{name}", "name each once")
    check_ranges(cfg, IMAGE_AT_LEAST_1, IMAGE_AT_LEAST_0, ())
    length = cfg.text.max_length
    require(length == 0 or length >= 4, "text.max_length", "use at least 4 tokens, or 0")
    require(cfg.data.global_batch >= 2, "data.global_batch", "the loss compares the pairs of a batch; use 2 or more")
    for name, side in (("text", cfg.text), ("image", cfg.image)):
        check_kernel_dtype(name, side)
    check_size(cfg.image)
    check_image_text_loss(cfg.loss)


def check_size(image: ImageSideConfig) -> None:
    """Check the size of a randomly initialised image tower; with `path` the checkpoint defines it."""
    if image.path:
        changed = [name for name in DRAWN_SIZE if getattr(image, name) != getattr(ImageSideConfig(), name)]
        if changed:
            raise ConfigError(
                f"image.{changed[0]}={getattr(image, changed[0])} is for random initialisation, but image.path="
                f"{image.path} has its own; leave one of the two out"
            )
        return
    if image.locked:
        raise ConfigError("image.locked=True would freeze random weights; set image.path, or leave it out")
    if image.pooling == "auto":
        raise ConfigError("image.pooling='auto' needs a checkpoint at image.path; use none, mean or cls")
    if image.width % image.heads:
        raise ConfigError(f"image.width={image.width} does not divide into image.heads={image.heads}; use a multiple")
    if image.image_size % image.patch_size:
        raise ConfigError(
            f"image.image_size={image.image_size} does not divide into patches of image.patch_size="
            f"{image.patch_size}; use a multiple"
        )
