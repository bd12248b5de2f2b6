"""The training of an image-text teacher: what it reads, builds and evaluates."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from optical_jax.config import DataConfig, ImageStageConfig, expand_path
from optical_jax.training.task import first_state, loop, say

if TYPE_CHECKING:
    from optical_jax.config import ImageTowerConfig, TowerConfig
    from optical_jax.data.batches.images import ImageLoader
    from optical_jax.data.pixels import Augmentation
    from optical_jax.params import SpecTree
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.pair import TowerPair
    from optical_jax.training.image_teacher.data import StageData


GIB = 2**30


@dataclass
class Parts:
    """What the training is made of, read and checked, before anything compiles."""

    mesh: Any
    start: TowerPair
    data: StageData
    loader: ImageLoader
    inputs: dict[str, dict[str, str]]
    """By kind, path -> sha256 of every input file."""

    @property
    def towers(self) -> tuple[TowerConfig, ImageTowerConfig]:
        """The shapes of both."""
        return self.start.text.cfg, self.start.image_cfg


def prepare(cfg: ImageStageConfig, folder: RunFolder | None) -> Parts:
    """Read data and towers; those of a run that is resumed come from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what cannot be, by name.
    """
    import jax

    from optical_jax.data.batches.images import captions_in_order, make_image_loader
    from optical_jax.models.attention import check_platform
    from optical_jax.partitioning import check_divisible, make_mesh, platform
    from optical_jax.runs.pair import open_source
    from optical_jax.towers.images import recipe_of
    from optical_jax.towers.pair import load_pair
    from optical_jax.training.image_teacher.data import read_stage_data
    from optical_jax.training.image_teacher.start import make_pair

    mesh = make_mesh(cfg.mesh)
    check_divisible(cfg, mesh)
    for name, side in (("text", cfg.text), ("image", cfg.image)):
        check_platform(side.attention, platform(), f"{name}.attention")
    augmentation = augmentation_of(cfg)
    # A run that is resumed knows what was seen before it, wherever that tower is now.
    before = str(folder.path) if folder is not None else expand_path(cfg.image.path, "image.path")
    seen_before = open_source(before, cfg.cache_dir or None).seen_images if before else None
    data = read_stage_data(cfg.data, seen_before or ())
    inputs = data.inputs | model_inputs(cfg, folder)
    if folder is not None:
        start = load_pair(folder.model)
    else:
        start = make_pair(cfg, captions_in_order(data.train))
    start = replace(start, text=replace(start.text, side="query"), seen=data.seen)
    loader = make_image_loader(
        data.train,
        start.text.tokenizer,
        start.text.cfg.head,
        recipe_of(start.image),
        DataConfig(global_batch=cfg.data.global_batch),
        cfg.seed,
        max_length=cfg.text.max_length or None,
        augmentation=augmentation,
        threads=cfg.data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    check_attention(cfg, start, loader.text_length)
    for line in data.lines():
        say(line)
    if cut := loader.texts.truncated:
        say(f"cut: {cut:,} captions at {loader.text_length} tokens")
    return Parts(mesh, start, data, loader, inputs)


def augmentation_of(cfg: ImageStageConfig) -> Augmentation | None:
    """
    Raises:
      ConfigError: a range or a share that cannot be.
    """
    from optical_jax.data.pixels import Augmentation

    settings = {each.name: getattr(cfg.augmentation, each.name) for each in fields(Augmentation)}
    found = Augmentation(**settings)
    return found if cfg.augmentation.enabled else None


def model_inputs(cfg: ImageStageConfig, folder: RunFolder | None) -> dict[str, dict[str, str]]:
    """Files of the towers from outside, by setting; on a resume only where the path is another one than before."""
    from optical_jax.models.formats.pretrained import find_folder
    from optical_jax.runs.load import model_files

    before, found = folder.saved_config() if folder else None, {}
    for name, path in (("text", cfg.text.path), ("image", cfg.image.path)):
        if path and (before is None or before[name]["path"] != path):
            found[f"{name}.path"] = model_files(find_folder(expand_path(path, f"{name}.path"), cfg.cache_dir or None))
    return found


def check_attention(cfg: ImageStageConfig, start: TowerPair, text_length: int) -> None:
    """Refuse a kernel that these devices, towers or lengths forbid, before anything compiles."""
    from optical_jax.models.attention import choose_attention
    from optical_jax.partitioning import platform
    from optical_jax.training.image_teacher.step import as_trained

    text, image = as_trained(cfg, start.text.cfg, start.image_cfg)
    choose_attention(text.encoder, text_length, platform(), "text.attention")
    patches = image.encoder.grid**2 + (image.encoder.family == "clip")
    choose_attention(image.encoder, patches, platform(), "image.attention")


def begin(cfg: ImageStageConfig, folder: RunFolder, parts: Parts) -> None:
    folder.begin(cfg, {"model": parts.start}, parts.inputs, {"images.json": parts.data.report})


def train_prepared(cfg: ImageStageConfig, folder: RunFolder, parts: Parts) -> None:
    """Compile, restore, loop."""
    import jax

    from optical_jax.runs.checkpoint import Checkpoints
    from optical_jax.towers.pair import pair_params
    from optical_jax.training.image_teacher.data import make_dev_figures
    from optical_jax.training.image_teacher.step import frozen_parts, make_image_text_step
    from optical_jax.training.optimizer import make_optimizer

    mesh, (text, image) = parts.mesh, parts.towers
    tx, frozen = make_optimizer(cfg.optimizer, cfg.training.steps), frozen_parts(cfg)
    with jax.set_mesh(mesh), Checkpoints(folder.checkpoints, cfg.checkpoint) as checkpoints:
        step = make_image_text_step(cfg, text, image, mesh, tx)
        params = pair_params(parts.start, cfg.loss.bias)
        state, start = first_state(cfg, checkpoints, params, specs_of(cfg, parts), mesh, tx, frozen, parts.loader)
        hold_texts_of(cfg, parts)
        evaluate = make_dev_figures(parts.data.dev, parts.start, cfg.data.language)
        loop(cfg, folder, state, step, parts.loader, start, mesh=mesh, evaluate=evaluate, checkpoints=checkpoints)


def specs_of(cfg: ImageStageConfig, parts: Parts) -> SpecTree:
    from optical_jax.training.image_teacher.step import pair_specs

    return pair_specs(*parts.towers, cfg.loss)


def holds_texts(cfg: ImageStageConfig, parts: Parts) -> bool:
    """Whether captions are encoded once, before the first step."""
    from optical_jax.training.image_teacher.data import held_bytes

    if not cfg.text.locked or cfg.text.projection:
        return False
    needed = held_bytes(parts.start, parts.loader.texts)
    if needed > cfg.text.hold_gib * GIB:
        say(
            f"captions: their vectors would take {needed / GIB:.1f} GiB, and text.hold_gib={cfg.text.hold_gib:g}; "
            "the tower of texts runs in every step"
        )
        return False
    return True


def hold_texts_of(cfg: ImageStageConfig, parts: Parts) -> None:
    from optical_jax.data.batches.images import captions_in_order
    from optical_jax.training.image_teacher.data import hold_texts

    if holds_texts(cfg, parts):
        parts.loader.read_texts_from(
            hold_texts(
                parts.start.text,
                captions_in_order(parts.data.train),
                cfg.text.max_length,
                pooled=parts.start.interaction == "pooled",
            )
        )


def dry_run(cfg: ImageStageConfig, parts: Parts) -> None:
    """Print parameters, FLOPs, memory and time. Compiles and times a step, writes nothing."""
    import jax

    from optical_jax.params import abstract_params
    from optical_jax.partitioning import named_sharding
    from optical_jax.progress import clock
    from optical_jax.towers.pair import pair_params
    from optical_jax.training.dry_run import print_memory, print_mesh, time_step
    from optical_jax.training.estimate import image_text_flops, parameter_counts
    from optical_jax.training.image_teacher.data import as_if_held
    from optical_jax.training.image_teacher.step import frozen_parts, make_image_text_step
    from optical_jax.training.loop import put
    from optical_jax.training.optimizer import make_optimizer, trained_part
    from optical_jax.training.state import init_train_state

    mesh, (text, image), specs = parts.mesh, parts.towers, specs_of(cfg, parts)
    tx, frozen = make_optimizer(cfg.optimizer, cfg.training.steps), frozen_parts(cfg)
    trained = jax.eval_shape(lambda params: trained_part(params, frozen), abstract_params(specs))
    for name, tower in (("text", text), ("image", image)):
        count = parameter_counts(tower)["all"]
        learned = sum(leaf.size for leaf in jax.tree.leaves(trained.get(name, {})))
        print(f"{name}: {count:,} parameters, {learned:,} of them trained")
    print_mesh(mesh)
    with jax.set_mesh(mesh):
        step: Any = make_image_text_step(cfg, text, image, mesh, tx)
        state = init_train_state(pair_params(parts.start, cfg.loss.bias), specs, mesh, tx, frozen)
        rows = next(parts.loader)
        held = holds_texts(cfg, parts)
        if held:
            rows = as_if_held(rows, parts.start)
        timed = time_step(step, state, put(rows, named_sharding(mesh, ("batch",))))
    B, steps = cfg.data.global_batch, cfg.training.steps
    size = " x ".join(map(str, rows.images.pixels.shape[1:3]))
    print(
        f"step: {B} pictures of {size} pixels, captions of {parts.loader.text_length} tokens; "
        f"{timed.seconds:.3f} s after {timed.compile_seconds:.1f} s of compiling"
    )
    if held:
        print(f"captions: {len(parts.loader.texts):,} are encoded once, before the first step")
    flops = image_text_flops(cfg, text, image, rows)
    print(f"flops: at most {flops / B / 1e9:.3f} GFLOP a pair, {flops * steps / 1e12:.2f} TFLOP in all")
    print_memory(timed.peak_bytes)
    epochs = steps / parts.loader.epoch_size
    print(f"time: {steps} steps of {B} pairs, {epochs:.1f} epochs: about {clock(steps * timed.seconds)}")
    print(f"      at {B / timed.seconds:.1f} pairs/s, without dev retrievals and saves")
