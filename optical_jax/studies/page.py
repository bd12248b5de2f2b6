"""HTML report of a study: main plot, summary, result tables, tests and conditions, in one self-contained file."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

from optical_jax.config import Config, to_json
from optical_jax.files import read_json
from optical_jax.retrieval.significance import ROUNDS
from optical_jax.studies.comparison import GROUPS, ArmTest
from optical_jax.studies.design import Study, arms_with_references, pairs_seen, reference_of, tuning_tasks
from optical_jax.studies.folders import failure_of, read_choices
from optical_jax.studies.markup import details, figure, key, mark, p_text, paragraph, table
from optical_jax.studies.plots import (
    draw_budget,
    draw_languages,
    draw_low_high,
    draw_sharpness,
    values_by_language,
)
from optical_jax.studies.results import TIMING, Results, Summary, all_references, reference_names
from optical_jax.studies.tables import SCORINGS, scoring_of, shown_of
from optical_jax.studies.verdict import (
    GROUP_WORDS,
    LEVEL,
    best_arms,
    collections_of,
    groups_of,
    headline,
    progress_line,
    summaries_by_key,
    tests_by_key,
    verdict,
)

REFERENCE_WORDS = {
    "untrained": "the student before its first step",
    "bm25": "BM25 with the foreign query over the English documents: exact word matches, no model",
    "dictionary": "BM25 with the query translated by a dictionary counted in the arm's sentence pairs; no model",
    "teacher": "upper bound: the teacher with English queries; absent where query and document are one sentence",
}
LONGEST_LIST = 12
"""Maximum number of sentences under "In short"; beyond it those on single groups are folded."""
SCORED = {"maxsim": "token by token (maxsim)", "pooled": "by mean vectors (pooled)"}
GLOSSARY = {
    "R@1, R@10": "Recall: the share of a query's relevant documents at rank 1, or among the first ten. 1 is perfect.",
    "AP": "Average precision: precision at the rank of every relevant document, averaged. With one relevant document "
    "it is the reciprocal of its rank.",
    "RR@10": "Reciprocal rank of the first relevant document, 0 beyond the tenth.",
    "t2i, i2t": "Text-to-image retrieval (captions are the queries) and image-to-text retrieval. In i2t R@k is the "
    "share of images with a right caption among the first k.",
    "maxsim": "Late-interaction score of a document: for each query token the highest cosine with any document token, "
    "summed.",
    "pooled": "The same models, ranked by the cosine of one mean vector a text.",
    "teacher, student": "The teacher is an English retriever, frozen. The student is trained to give a foreign "
    "sentence the token vectors that the teacher gives to its translation, from sentence pairs alone.",
    "arm, trial": "An arm is one of the methods compared; a trial is an arm with one choice of its settings.",
    "dev pairs": "Sentence pairs held out of training: each foreign side is the query, its English side the relevant "
    "document. Trials are selected by them, never by a collection.",
    "low, high resource": "Whether much text in the language exists for training models. Each language counts once in "
    "a group's mean.",
    "± (spread)": "The standard deviation over seeds.",
    "p, Holm": "p: probability of a difference at least this large if it did not matter which arm a query's "
    "metric came from (random sign test). Holm: p corrected for the number of tests, over all tests of groups on one "
    "collection, and again over all tests of single languages.",
    "entropy of the plan": "Entropy of the transport plan over pairs of a student's and a teacher's token, divided by "
    "its highest value: 1 for equal mass everywhere, about 0.5 where each token has one partner.",
}  # fmt: skip


def write_page(study: Study, results: Results) -> Path:
    """Write FOLDER/report.html, self-contained: no script, no other file, no network access. Returns its path.

    It opens with the plot by language of the first collection; with one language, with the curve over pairs seen.
    """
    collections = collections_of(study, results)
    plots = {name: languages_plot(study, results, name) for name in collections}
    by_pairs = budget_plot(study, results, seconds=False)
    # The opening plot is not shown a second time in its own section.
    opening = next(iter(plots.values()), "")
    if opening:
        plots[collections[0]] = ""
    else:
        opening, by_pairs = by_pairs, ""
    glossary = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in GLOSSARY.items())
    sections = [
        ("In short", opening + in_short(study, results)),
        ("What was compared", compared(study, results)),
        ("Conditions", conditions(study, results)),
        *((f"Results on {name}", result_section(study, results, name, plot)) for name, plot in plots.items()),
        ("Training curves and step times", by_pairs + training_section(study, results)),
        ("Tuning", tuning(study)),
        ("Failed and missing runs", absent(results)),
        ("Reproducing the study", repeating(study, results)),
        ("Glossary", f"<dl>{glossary}</dl>"),
    ]
    style = resources.files("optical_jax.studies").joinpath("style.css").read_text(encoding="utf-8")
    body = "".join(f"<section><h2>{escape(title)}</h2>{text}</section>\n" for title, text in sections if text)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(study.title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style></head>\n'
        f"<body>\n<h1>{escape(study.title)}</h1>\n{body}</body></html>\n"
    )
    path = Path(study.folder) / "report.html"
    new = path.with_suffix(".html.new")
    new.write_text(page, encoding="utf-8")
    new.replace(path)
    return path


# ---- words -------------------------------------------------------------------------------------------------------


def in_short(study: Study, results: Results) -> str:
    line = progress_line(results)
    status = f'<span class="status {line.split(":")[0]}">{escape(line)}</span>'
    text = f"<p>{escape(' '.join(headline(study, results)))} {status}</p>"
    if results.tests:
        said = verdict(study, results)
        # With many tables and groups the list is long: single groups are then folded below it.
        single = [line for line in said if any(f", {GROUP_WORDS[group]}: " in line for group in ("low", "high"))]
        folded = single if len(said) > LONGEST_LIST and len(single) < len(said) else []
        text += bullets([line for line in said if line not in folded])
        text += details("The same for low- and high-resource languages", bullets(folded)) if folded else ""
        text += paragraph(
            f"Only significant differences are listed (p < {LEVEL:g} after Holm's correction); where none is shown "
            "there may still be one, too small for this number of queries.",
            "note",
        )
    return text


def bullets(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def compared(study: Study, results: Results) -> str:
    role = dict.fromkeys(results.references, " It was best in tuning, so the others are tested against it too.")
    role[reference_of(study)] = " All others are tested against it."
    untuned = " A baseline: it is not tuned."
    about = {arm.name: arm.about + untuned * arm.baseline + role.get(arm.name, "") for arm in study.arms}
    rows = "".join(f"<dt>{key(study, name)}{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about.items())
    there = {row.arm for row in results.rows}
    several = len(arms_with_references(study)) > 1
    others = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(REFERENCE_WORDS[name.partition(' ')[0]] + of_arm)}</dd>"
        for arm in arms_with_references(study)
        for of_arm in [f", for arms with the student and data of {arm}" * several]
        for name in reference_names(study, arm).values()
        if name in there
    )
    return (
        paragraph(study.question)
        + f"<dl>{rows}</dl>"
        + (f"<h3>References, in grey</h3><dl>{others}</dl>" if others else "")
    )


def conditions(study: Study, results: Results) -> str:
    config = next(iter(study.tuned_arms[0].trials.values()))
    low = [x for x in study.languages if x in config.low_resource]
    high = [x for x in study.languages if x not in low]
    student = Path(config.student.path or config.teacher.path).name
    budget = f"{pairs_seen(config):,} pairs seen ({config.training.steps} steps of {config.data.global_batch})"
    if study.budget == "seconds":
        budget = (
            f"as many seconds of steps as the fastest arm needs for {budget}: arms with slower steps make fewer, "
            "and warm up for fewer; trials were chosen at equal pairs"
        )
    queries: dict[str, int] = {}
    for row in results.rows:
        queries[row.collection] = max(queries.get(row.collection, 0), row.queries)
    asked = ", ".join(f"{name} (up to {queries[name]} queries a language)" for name in collections_of(study, results))
    said = {
        "Data": study.data,
        "Languages": f"low-resource: {' '.join(low) or 'none'}; high-resource: {' '.join(high) or 'none'}",
        "Teacher": Path(config.teacher.path).name,
        "Student": f"from {student}, "
        + ("with a new vocabulary" if config.student.vocabulary == "train" else "with its own vocabulary"),
        "Differences between arms": differences(study),
        "Budget of a run": budget,
        "Seeds": f"{len(study.seeds)} ({' '.join(map(str, study.seeds))})"
        + (f"; tuning had another, {study.tuning_seed}" if tuning_tasks(study) else ""),
        "Collections": asked,
    }
    return "<dl>" + "".join(f"<dt>{a}</dt><dd>{escape(b)}</dd>" for a, b in said.items() if b) + "</dl>"


def differences(study: Study) -> str:
    """Settings of teacher, student and data that differ between tuned arms, with each arm's value."""
    flat = {arm.name: flattened(next(iter(arm.trials.values()))) for arm in study.tuned_arms}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    values = {name: {arm: settings[name] for arm, settings in flat.items()} for name in names}
    return "; ".join(
        f"{name} " + ", ".join(f"{value!r} ({' '.join(a for a in of if of[a] == value)})" for value in unique(of))
        for name, of in values.items()
        if len(unique(of)) > 1
    )


def unique(of: Mapping[str, Any]) -> list[Any]:
    return [value for n, value in enumerate(of.values()) if value not in list(of.values())[:n]]


def flattened(config: Config) -> dict[str, Any]:
    parts = {name: to_json(getattr(config, name)) for name in ("teacher", "student", "data")}
    return {f"{part}.{name}": value for part, settings in parts.items() for name, value in settings.items()}


def absent(results: Results) -> str:
    lines = [f"{task.folder}: failed: {failure_of(task)}" for task in results.failed]
    lines += [f"{task.folder}: run or evaluation missing" for task in results.missing]
    if not lines:
        return paragraph("None.") if results.tasks else ""
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return f"<details open><summary>{len(lines)} runs</summary><ul>{items}</ul></details>"


def repeating(study: Study, results: Results) -> str:
    envs = [read_json(path) for task in results.done if (path := task.folder / "env.json").is_file()]
    text = "<p>This command repeats the study; with the same folder it resumes an unfinished one.</p>"
    words = ("python", "-m", "optical_jax", "study", study.file or "STUDY.py", "--folder", study.folder)
    text += f"<pre>{escape(shlex.join(words))}</pre>"
    # Runs of one study may have been made on several machines.
    machines = {json.dumps({k: v for k, v in env.items() if k not in ("inputs", "resumed")}): env for env in envs}
    for env in machines.values():
        packages = ", ".join(f"{name} {number}" for name, number in env["packages"].items())
        text += paragraph(
            f"optical_jax {env['optical_jax']}, Python {env['python']}, {env['device_count']} x {env['device']}, "
            f"{env['cpu_count']} cores, {env['platform']}; {packages}.",
            "note",
        )
    hashes = {(Path(name).name, sha) for env in envs for files in env["inputs"].values() for name, sha in files.items()}
    if hashes:
        rows = [[name, f"<code>{sha}</code>"] for name, sha in sorted(hashes)]
        text += details("SHA-256 of every input file", table(["file", "SHA-256"], rows, words=2))
    return text


# ---- tables ------------------------------------------------------------------------------------------------------


def result_section(study: Study, results: Results, name: str, plot: str) -> str:
    """HTML of one collection: result tables, plots (`plot` is the one by language, or empty) and all tests."""
    units = {test.scope: test.units for test in results.tests if test.collection == name}
    groups, metrics = groups_of(results, name), shown_of(study, name)
    tested = scoring_of(study, name)
    (other,) = {*SCORINGS} - {tested}
    main, beside = (
        "".join(main_table(study, results, name, metric, scoring, groups) for metric in metrics)
        for scoring in (tested, other)
    )
    text = f'<div class="tables">{main}</div>'
    if units:
        counts = ", ".join(f"{units[group]} in {GROUP_WORDS[group]}" for group in groups if group in units)
        family = sum(test.collection == name and test.scope in GROUPS for test in results.tests)
        text += paragraph(
            f"Ranked {SCORED[tested]}. Means over languages and seeds; below them the spread over seeds, and p of the "
            f"difference from {reference_of(study)}. Bold: the highest of the arms. ▲ above, ▼ below the reference "
            f"with p < {LEVEL:g} after Holm's correction over the {family} tests of groups on this collection. The "
            "unit of a test is a query (in i2t an image), its metric averaged over the seeds and over the "
            f"languages that have it ({counts}); {ROUNDS:,} random signs, so that none of these p can be below "
            f"{family / (ROUNDS + 1):.3f}. A test generalises to other queries, not to other seeds: for those see "
            "the spread. In orange: means over fewer languages or seeds than others.",
            "note",
        )
    if beside:
        text += details(f"The same models {SCORED[other]}; not tested", f'<div class="tables">{beside}</div>')
    text += plot + "".join(
        details(f"{metric} of every language", language_table(study, results, name, metric)) for metric in metrics
    )
    text += figure(
        draw_low_high(study, results, name),
        "Up: better for low-resource languages; right: for the others. Bars: ± one spread.",
    )
    text += figure(
        draw_sharpness(study, results, name),
        "A faint point per arm and language, a solid one for the arm's mean. Languages differ in difficulty: compare "
        "points of one language.",
    )
    rows = [
        [escape(t.arm), escape(t.reference), t.scope, t.metric, str(t.units), f"{t.languages} x {t.seeds}",
         f"{t.difference:+.4f}", p_text(t.p), p_text(t.p_holm), p_text(t.p_ttest_holm)]
        for t in results.tests if t.collection == name
    ]  # fmt: skip
    head = ["arm", "against", "scope", "metric", "units", "languages x seeds", "difference", "p", "p, Holm",
            "t-test, Holm"]  # fmt: skip
    return text + (details(f"All {len(rows)} tests", table(head, rows, words=4)) if rows else "")


def main_table(study: Study, results: Results, name: str, metric: str, scoring: str, groups: Sequence[str]) -> str:
    """Result table of one metric: a row per arm and reference, a column per group."""
    summaries = summaries_by_key(results)
    tests = tests_by_key(results, reference_of(study)) if scoring == scoring_of(study, name) else {}
    rows, marks = [], []
    best = {group: best_arms(study, results, group, name, metric, scoring) for group in groups}
    most = {g: max((s.languages for s in results.summaries if (s.collection, s.group) == (name, g)), default=0)
            for g in groups}  # fmt: skip
    references = all_references(study)
    for arm in (*(arm.name for arm in study.arms), *references):
        found = {group: summaries.get((arm, group, name, scoring, metric)) for group in groups}
        if any(found.values()):
            cells = [
                summary_cell(study, found[g], tests.get((arm, g, name, metric)), arm in best[g], most[g])
                for g in groups
            ]
            rows.append([key(study, arm) + escape(arm), *cells])
            marks.append("reference" + (" rule" * (marks.count("reference rule") == 0)) if arm in references else "")
    return table([metric, *groups], rows, marks=marks) if rows else ""


def summary_cell(study: Study, summary: Summary | None, test: ArmTest | None, best: bool, languages: int) -> str:
    if summary is None:
        return ""
    figure = f"<b>{summary.mean:.3f}</b>" if best else f"{summary.mean:.3f}"
    small = [f"±{summary.sd:.3f}"] if not math.isnan(summary.sd) else []
    small += [f"p {p_text(test.p_holm)}"] if test else []
    # A mean over fewer languages or seeds than the others' cannot be compared with theirs.
    small += [f'<span class="warn">{summary.languages} of {languages}</span>'] if summary.languages < languages else []
    small += [f'<span class="warn">{summary.seeds} seeds</span>'] if summary.seeds < len(study.seeds) else []
    return figure + mark(test) + f"<small>{'<br>'.join(small)}</small>"


def language_table(study: Study, results: Results, name: str, metric: str) -> str:
    scores = values_by_language(
        results.rows, lambda row: (row.collection, row.scoring, row.metric) == (name, scoring_of(study, name), metric)
    )
    tests, groups = tests_by_key(results, reference_of(study)), {row.language: row.group for row in results.rows}
    every = (*(arm.name for arm in study.arms), *all_references(study))
    systems = [x for x in every if any(x == system for system, _ in scores)]
    rows, marks = [], []
    for group in ("low", "high"):
        for n, language in enumerate(x for x in study.languages if groups.get(x) == group):
            seeds = {system: scores.get((system, language), []) for system in systems}
            most = max(len(seeds.get(arm.name, [])) for arm in study.arms)
            if not most:
                continue
            # A mean over fewer seeds than another's cannot be compared with it.
            own = {arm.name: fmean(found) for arm in study.arms if len(found := seeds.get(arm.name, [])) == most}
            cells = []
            for system, found in seeds.items():
                figure = f"{fmean(found):.3f}" if found else "-"
                figure = f"<b>{figure}</b>" if own.get(system) == max(own.values()) else figure
                few = f'<small class="warn">{len(found)} seeds</small>' if 0 < len(found) < len(study.seeds) else ""
                cells.append(figure + mark(tests.get((system, language, name, metric))) + few)
            rows.append([language, group, *cells])
            marks.append("rule" if n == 0 and rows[1:] else "")
    return table(["language", "resource", *map(escape, systems)], rows, words=2, marks=marks)


def tuning(study: Study) -> str:
    """Tuning table: all trials of all arms with their dev metrics, chosen ones marked."""
    choices = read_choices(study)
    if choices is None or not tuning_tasks(study):
        return paragraph("No arm was tuned.") if choices else ""
    rows, marks = [], []
    for arm in study.tuned_arms:
        found = choices["arms"].get(arm.name)
        for n, trial in enumerate(arm.trials if found else ()):
            figures, chosen = found["trials"].get(trial, {}), trial == found["trial"]
            cells = [f"{figures[x]:.3f}" if x in figures else "failed" for x in study.tuning_languages]
            mean = f"{sum(figures.values()) / len(figures):.3f}" if figures else "-"
            rows.append([key(study, arm.name) + escape(arm.name), escape(trial), "✓" if chosen else "", mean, *cells])
            marks.append(("chosen" if chosen else "") + (" rule" if n == 0 and rows[1:] else ""))
    steps = {name: found["steps"] for name, found in choices["arms"].items() if "steps" in found}
    told = f" Steps for equal seconds: {', '.join(f'{name} {n}' for name, n in steps.items())}." if steps else ""
    trials = len(study.tuned_arms[0].trials)
    text = paragraph(
        f"Every arm had {trials} trial{'s' * (trials > 1)}, each run in {' '.join(study.tuning_languages)} with seed "
        f"{study.tuning_seed}; the one with the highest mean {choices['metric']} on dev pairs, ranked "
        f"token by token, after the last step, was chosen.{told}"
    )
    return text + table(["arm", "trial", "chosen", "mean", *study.tuning_languages], rows, words=2, marks=marks)


def languages_plot(study: Study, results: Results, name: str) -> str:
    return figure(draw_languages(study, results, name), "Means over seeds; references in grey.")


def budget_plot(study: Study, results: Results, *, seconds: bool) -> str:
    over_pairs = "Means over the group's languages; the band is ± one spread over seeds."
    over_time = "The same over the time of steps alone (each run's median step; compilation and dev metrics left out)."
    return figure(draw_budget(study, results, seconds=seconds), over_time if seconds else over_pairs)


def training_section(study: Study, results: Results) -> str:
    """Dev metrics over training time, and a table of step times and last training metrics."""
    text = budget_plot(study, results, seconds=True)
    names = {
        "step_seconds": "ms a step",
        "loss": "last loss",
        "plan_entropy": "plan entropy",
        "greedy_cosine": "nearest cosine",
    }
    of_runs = [s for s in results.summaries if s.group == "all" and s.collection in (TIMING, "training")]
    found = {(s.arm, s.metric): s.mean for s in of_runs}
    rows = []
    for arm in study.arms:
        if (arm.name, "step_seconds") in found:
            values = {metric: found.get((arm.name, metric)) for metric in names}
            values["step_seconds"] = 1e3 * found[arm.name, "step_seconds"]
            cells = ["-" if value is None else f"{value:.4g}" for value in values.values()]
            rows.append([key(study, arm.name) + escape(arm.name), *cells])
    return text + (table(["arm", *names.values()], rows) if rows else "")
