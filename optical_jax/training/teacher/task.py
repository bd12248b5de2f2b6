"""The training of an English teacher on judged passages: data, encoder, step and dev retrieval."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax

from optical_jax.config import DEV_METRICS, TeacherStageConfig
from optical_jax.data.batches.rankings import make_ranking_batches
from optical_jax.data.collections.collection import own_documents
from optical_jax.data.collections.rankings import hold_out, load_dev, load_rankings
from optical_jax.data.coverage import check_coverage
from optical_jax.data.files.records import in_words
from optical_jax.errors import ConfigError
from optical_jax.invocation import program
from optical_jax.models.late_interaction import tower_specs
from optical_jax.partitioning import batch_shards
from optical_jax.retrieval.metrics import evaluate_run, mean_metrics
from optical_jax.retrieval.search import encode_blocks, search
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode
from optical_jax.training.estimate import RunCost, side_forward_flops
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.step import check_attention, with_kernels
from optical_jax.training.task import Prepared, checked_mesh, model_inputs, say
from optical_jax.training.teacher.start import make_start
from optical_jax.training.teacher.step import frozen_part, make_ranking_step
from optical_jax.types import Params, RankingBatch

if TYPE_CHECKING:
    from optical_jax.config import HeadConfig
    from optical_jax.data.collections.rankings import DevSet
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.tower import Tower


def prepare(cfg: TeacherStageConfig, folder: RunFolder | None) -> Prepared:
    """Read data and encoder; that of a resumed run comes from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what is wrong, by name.
    """
    mesh = checked_mesh(cfg, "encoder")
    every = load_rankings(cfg.data)
    inputs = {"rankings": every.files}
    check_scores(cfg, has_scores=every.has_scores())
    if cfg.data.dev:
        rankings, (dev, files) = every, load_dev(cfg.data)
        inputs["dev"] = files
    else:
        rankings, dev = hold_out(every, cfg.data)
    inputs |= model_inputs(cfg, folder, "encoder")
    if folder is not None:
        start = load(folder.path, checkpoint="untrained")
    else:
        start = make_start(cfg, rankings.queries, rankings.passages)
    tower = start.cfg
    batches, source = make_ranking_batches(
        rankings,
        start.tokenizer,
        tower.head,
        cfg.data,
        cfg.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        shards=batch_shards(mesh),
        parts=cfg.training.accumulate,
    )
    lengths = {*source.queries.row_lengths, *source.passages.row_lengths}
    check_attention("encoder", with_kernels(tower, cfg.encoder.attention, cfg.encoder.remat), lengths)
    few = sum(
        len(c) - int(r) < cfg.data.passages - 1 for c, r in zip(rankings.candidates, rankings.relevant, strict=True)
    )
    report = rankings.report() | {"held_out": len(every.queries) - len(rankings.queries), "with_few_negatives": few}
    report |= {"cut_queries": source.queries.pairs.student.truncated}
    report |= {"cut_passages": source.passages.pairs.student.truncated}
    sides = {
        name: (texts, tokens.pairs.student.counts)
        for name, texts, tokens in (
            ("queries", rankings.queries, source.queries),
            ("passages", rankings.passages, source.passages),
        )
    }
    report |= {f"unknown_{name}": counts.unknown_share for name, (_, counts) in sides.items()}
    for line in report_lines(cfg, tower.head, report, rankings.left_out, dev):
        say(line)
    for name, (texts, counts) in sides.items():
        check_coverage(
            counts,
            f"{cfg.data.language} {name}",
            texts,
            start.tokenizer,
            # What a resumed run has begun, it ends.
            at_most=cfg.data.max_unknown if folder is None else None,
            flag="--data.max-unknown",
            remedy="name an encoder that reads these texts: --encoder.path",
            say=say,
        )

    tx, run = make_optimizer(cfg.optimizer, cfg.training.steps), shlex.quote(cfg.run)
    return Prepared(
        mesh=mesh,
        loader=batches,
        epoch_size=source.batches,
        params=start.params,
        specs=tower_specs(tower),
        tx=tx,
        frozen=frozen_part(cfg, tower),
        step=make_ranking_step(cfg, tower, mesh, tx),
        constants=(),
        evaluate=dev_evaluation(cfg.data.language, replace(start, params={}), dev),
        models={"model": start},
        inputs=inputs,
        records={"rankings.json": report},
        cost=lambda: RunCost(
            {"model": tower},
            trained={"model": lambda params: params},
            unit="query",
            columns="rows x tokens (queries, passages)",
            shape=shape_of,
            flops=lambda batch: {
                # Forward and backward (twice the forward); what frozen layers save is not subtracted.
                name: 3 * side_forward_flops(getattr(batch, name), tower)
                for name in ("queries", "passages")
            },
            upper_bound=cfg.encoder.frozen_layers is not None,
        ),
        next_commands=[
            f"{program('eval')} --run {run} --collection DIR --lang {cfg.data.language}",
            f"{program('export')} --run {run} --out FOLDER, for {program('train')} --teacher.path FOLDER",
        ],
    )


def shape_of(batch: RankingBatch) -> str:
    """Texts of both sides, and the rows and tokens they take."""
    sides = ((name, getattr(batch, name)) for name in ("queries", "passages"))
    return ", ".join(f"{len(side.keep)} {name} in {' x '.join(map(str, side.ids.shape))}" for name, side in sides)


def check_scores(cfg: TeacherStageConfig, *, has_scores: bool) -> None:
    for name in ("kl", "margin_mse"):
        if getattr(cfg.loss, name) and not has_scores:
            raise ConfigError(
                f"loss.{name}={getattr(cfg.loss, name)} learns from scores, and no file of data.train has any; "
                f"give 0, or a file with scores (docs/teacher.md)"
            )


def report_lines(
    cfg: TeacherStageConfig, head: HeadConfig, report: dict[str, Any], left_out: Mapping[str, int], dev: DevSet | None
) -> list[str]:
    lines = [
        f"train: {report['queries']:,} queries, {report['relevant_pairs']:,} relevant and {report['other_pairs']:,} "
        f"other passages, {report['passages']:,} of them distinct"
    ]
    if report["queries_without_relevant"]:
        lines.append(f"       {report['queries_without_relevant']:,} queries left out: nothing is relevant to them")
    if left_out:
        lines.append(f"       left out: {in_words(left_out)}")
    if report["with_few_negatives"]:
        lines.append(
            f"       {report['with_few_negatives']:,} queries have fewer than data.passages - 1 = "
            f"{cfg.data.passages - 1} other passages; `{program('mine')}` finds more"
        )
    if report["cut_queries"] or report["cut_passages"]:
        lines.append(
            f"       cut: {report['cut_queries']:,} queries at {head.query_length} tokens, "
            f"{report['cut_passages']:,} passages at {cfg.data.passage_length or head.document_length}"
        )
    lines.append(
        f"       unknown tokens: {report['unknown_queries']:.1%} in queries, "
        f"{report['unknown_passages']:.1%} in passages"
    )
    if dev is not None:
        lines.append(f"dev:   {len(dev.queries):,} queries, {len(dev.documents):,} documents")
        if dev.left_out:
            lines.append(f"       left out: {in_words(dev.left_out)}")
    return lines


def dev_evaluation(language: str, start: Tower, dev: DevSet | None) -> Callable[[Params], Any]:
    """Dev retrieval as a function of the parameters; both sides are encoded again each time."""

    def evaluate(params: Params) -> dict[str, dict[str, float]]:
        if dev is None:
            return {}
        asks, answers = (replace(start, params=params, side=side) for side in ("query", "document"))
        blocks = list(encode_blocks(list(dev.queries.values()), lambda texts: encode(asks, texts)))
        ranking = search({"dev": blocks}, dev.documents, lambda texts: encode(answers, texts))["dev"]
        asked, ids = list(dev.queries), list(dev.documents)
        own = own_documents(dev.queries, dev.qrels, dev.documents)
        found = evaluate_run(ranking.without_own(asked, ids, own).as_run(asked, ids), dev.qrels)
        means = mean_metrics(found)
        return {language: {name: means[name] for name in DEV_METRICS}}

    return evaluate
