"""The training of an English teacher: what it reads, builds and evaluates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optical_jax.config import DEV_METRICS, TeacherStageConfig, expand_path
from optical_jax.errors import ConfigError
from optical_jax.training.task import first_state, loop, say

if TYPE_CHECKING:
    from optical_jax.config import HeadConfig
    from optical_jax.data.batches.iterator import Batches
    from optical_jax.data.collections.rankings import DevSet
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.tower import Tower


@dataclass
class Parts:
    """What a teacher's training is made of, read and checked, before anything compiles."""

    mesh: Any
    start: Tower
    batches: Batches
    epoch_size: int
    dev: DevSet | None
    inputs: dict[str, dict[str, str]]
    """By kind, path -> sha256 of every input file."""
    report: dict[str, Any]
    """Counts of what the files hold."""


def prepare(cfg: TeacherStageConfig, folder: RunFolder | None) -> Parts:
    """Read data and encoder; that of a run that is resumed comes from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what cannot be, by name.
    """
    import jax

    from optical_jax.data.batches.rankings import make_ranking_batches
    from optical_jax.data.collections.rankings import hold_out, load_dev, load_rankings
    from optical_jax.models.attention import check_platform, choose_attention
    from optical_jax.models.formats.pretrained import find_folder
    from optical_jax.partitioning import batch_shards, check_divisible, make_mesh, platform
    from optical_jax.runs.load import load, model_files
    from optical_jax.training.teacher.start import make_start
    from optical_jax.training.teacher.step import as_trained

    mesh = make_mesh(cfg.mesh)
    check_divisible(cfg, mesh)
    check_platform(cfg.encoder.attention, platform(), "encoder.attention")
    every = load_rankings(cfg.data)
    inputs = {"rankings": every.files}
    check_scores(cfg, has_scores=every.has_scores())
    if cfg.data.dev:
        rankings, (dev, files) = every, load_dev(cfg.data)
        inputs["dev"] = files
    else:
        rankings, dev = hold_out(every, cfg.data)
    before = folder.saved_config() if folder else None
    if before is None or before["encoder"]["path"] != cfg.encoder.path:
        path = expand_path(cfg.encoder.path, "encoder.path")
        inputs["encoder.path"] = model_files(find_folder(path, cfg.cache_dir or None))
    if folder is not None:
        start = load(folder.path, checkpoint="untrained")
    else:
        start = make_start(cfg, rankings.queries, rankings.passages)
    batches, source = make_ranking_batches(
        rankings,
        start.tokenizer,
        start.cfg.head,
        cfg.data,
        cfg.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        shards=batch_shards(mesh),
        parts=cfg.training.accumulate,
    )
    tower = as_trained(cfg, start.cfg)
    for length in {*source.queries.row_lengths, *source.passages.row_lengths}:
        choose_attention(tower.encoder, length, platform(), "encoder.attention")
    few = sum(
        len(c) - int(r) < cfg.data.passages - 1 for c, r in zip(rankings.candidates, rankings.relevant, strict=True)
    )
    report = rankings.report() | {"held_out": len(every.queries) - len(rankings.queries), "with_few_negatives": few}
    report |= {"cut_queries": source.queries.pairs.student.truncated}
    report |= {"cut_passages": source.passages.pairs.student.truncated}
    for line in report_lines(cfg, start.cfg.head, report, dev):
        say(line)
    return Parts(mesh, start, batches, source.batches, dev, inputs, report)


def check_scores(cfg: TeacherStageConfig, *, has_scores: bool) -> None:
    for name in ("kl", "margin_mse"):
        if getattr(cfg.loss, name) and not has_scores:
            raise ConfigError(
                f"loss.{name}={getattr(cfg.loss, name)} learns from scores, and no file of data.train has any; "
                f"give 0, or a file with scores (docs/teacher.md)"
            )


def report_lines(cfg: TeacherStageConfig, head: HeadConfig, report: dict[str, Any], dev: DevSet | None) -> list[str]:
    lines = [
        f"train: {report['queries']:,} queries, {report['relevant_pairs']:,} relevant and {report['other_pairs']:,} "
        f"other passages, {report['passages']:,} of them distinct"
    ]
    if report["queries_without_relevant"]:
        lines.append(f"       {report['queries_without_relevant']:,} queries left out: nothing is relevant to them")
    if report["with_few_negatives"]:
        lines.append(
            f"       {report['with_few_negatives']:,} queries have fewer than data.passages - 1 = "
            f"{cfg.data.passages - 1} other passages; `python -m optical_jax mine` finds more"
        )
    if report["cut_queries"] or report["cut_passages"]:
        lines.append(
            f"       cut: {report['cut_queries']:,} queries at {head.query_length} tokens, "
            f"{report['cut_passages']:,} passages at {cfg.data.passage_length or head.document_length}"
        )
    if dev is not None:
        lines.append(f"dev:   {len(dev.queries):,} queries, {len(dev.documents):,} documents")
    return lines


def begin(cfg: TeacherStageConfig, folder: RunFolder, parts: Parts) -> None:
    folder.begin(cfg, {"model": parts.start}, parts.inputs, {"rankings.json": parts.report})


def train_prepared(cfg: TeacherStageConfig, folder: RunFolder, parts: Parts) -> None:
    """Compile, restore, loop."""
    import jax

    from optical_jax.models.late_interaction import tower_specs
    from optical_jax.runs.checkpoint import Checkpoints
    from optical_jax.training.optimizer import make_optimizer
    from optical_jax.training.teacher.step import frozen_part, make_ranking_step

    mesh, tower = parts.mesh, parts.start.cfg
    tx, frozen = make_optimizer(cfg.optimizer, cfg.training.steps), frozen_part(cfg, tower)
    with jax.set_mesh(mesh), Checkpoints(folder.checkpoints, cfg.checkpoint) as checkpoints:
        step = make_ranking_step(cfg, tower, mesh, tx)
        specs = tower_specs(tower)
        state, start = first_state(cfg, checkpoints, parts.start.params, specs, mesh, tx, frozen, parts.batches)
        evaluate = dev_evaluation(cfg.data.language, parts.start, parts.dev)
        loop(cfg, folder, state, step, parts.batches, start, mesh=mesh, evaluate=evaluate, checkpoints=checkpoints)


def dev_evaluation(language: str, start: Tower, dev: DevSet | None) -> Any:
    """Retrieval over the dev set as a function of parameters: both sides are encoded anew."""
    from optical_jax.retrieval.metrics import evaluate_run, mean_metrics
    from optical_jax.retrieval.search import encode_blocks, search
    from optical_jax.towers.tower import encode

    def evaluate(params: Any) -> dict[str, dict[str, float]]:
        if dev is None:
            return {}
        asks, answers = (replace(start, params=params, side=side) for side in ("query", "document"))
        blocks = list(encode_blocks(list(dev.queries.values()), lambda texts: encode(asks, texts)))
        ranking = search({"dev": blocks}, dev.documents, lambda texts: encode(answers, texts))["dev"]
        found = evaluate_run(ranking.as_run(list(dev.queries), list(dev.documents)), dev.qrels)
        means = mean_metrics(found)
        return {language: {name: means[name] for name in DEV_METRICS}}

    return evaluate


def dry_run(cfg: TeacherStageConfig, parts: Parts) -> None:
    """Print parameters, FLOPs, memory and time. Compiles and times a step, writes nothing."""
    import jax

    from optical_jax.models.late_interaction import tower_specs
    from optical_jax.partitioning import named_sharding
    from optical_jax.progress import clock
    from optical_jax.training.dry_run import print_memory, print_mesh, time_step
    from optical_jax.training.estimate import parameter_counts, side_forward_flops
    from optical_jax.training.loop import put
    from optical_jax.training.optimizer import make_optimizer
    from optical_jax.training.state import init_train_state
    from optical_jax.training.teacher.step import frozen_part, make_ranking_step

    mesh, tower = parts.mesh, parts.start.cfg
    count = parameter_counts(tower)
    print(f"model: {count['all']:,} parameters, {count['body']:,} of them outside the embeddings")
    print_mesh(mesh)
    tx, frozen = make_optimizer(cfg.optimizer, cfg.training.steps), frozen_part(cfg, tower)
    with jax.set_mesh(mesh):
        step: Any = make_ranking_step(cfg, tower, mesh, tx)
        state = init_train_state(parts.start.params, tower_specs(tower), mesh, tx, frozen)
        rows = next(parts.batches)
        batch = put(rows, named_sharding(mesh, ("batch",)))
        timed = time_step(step, state, batch)
    sides = ((name, getattr(rows, name)) for name in ("queries", "passages"))
    shapes = ", ".join(
        f"{len(side.keep)} {name} in {' x '.join(map(str, side.ids.shape))} tokens" for name, side in sides
    )
    print(f"step: {shapes}; {timed.seconds:.3f} s after {timed.compile_seconds:.1f} s of compiling")
    # There and back; what frozen layers save is not taken off.
    flops = 3 * sum(side_forward_flops(side, tower) for side in (rows.queries, rows.passages))
    steps, batch_size = cfg.training.steps, cfg.data.global_batch
    print(f"flops: at most {flops / batch_size / 1e9:.3f} GFLOP a query, {flops * steps / 1e12:.2f} TFLOP in all")
    print_memory(timed.peak_bytes)
    told = clock(steps * timed.seconds)
    print(f"time: {steps} steps of {batch_size} queries, {steps / parts.epoch_size:.1f} epochs: about {told}")
    print(f"      at {batch_size / timed.seconds:.1f} queries/s, without dev retrievals and saves")
