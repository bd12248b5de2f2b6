"""Study design: a grid of arms (methods), languages and seeds with equal data, budget and tuning effort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from optical_jax.config import Config, DataConfig
from optical_jax.config.validation import validate
from optical_jax.errors import ConfigError

Stage = Literal["tuning", "final"]


@dataclass(frozen=True)
class Arm:
    """One of the compared methods, with its hyperparameter trials."""

    name: str
    about: str
    """A sentence for readers of the report."""
    trials: Mapping[str, Config]
    """Trial name -> config, without what the study fills in: run, seed, and the language's files."""
    baseline: bool = False
    """A cheap baseline: one trial, not tuned, whose number of training pairs may differ."""


@dataclass(frozen=True)
class Study:
    """A grid of arms x languages x seeds, each cell an ordinary run, and the research question."""

    folder: str
    title: str
    question: str
    """Research question, a paragraph for readers of the report."""
    arms: tuple[Arm, ...]
    in_language: Callable[[Config, str], Config]
    """The config with a language's files."""
    languages: tuple[str, ...]
    collections: tuple[str, ...] = ()
    """Folders in BEIR format, or sets of images with captions (retrieval in both directions), evaluated in those of the
    study's languages that they have. `SET by PAIR` encodes the images with the image tower of a dual encoder (a run,
    folder or hub name) whose text tower is the runs' teacher; `captions:SET` ranks English captions for the captions,
    as texts. Environment variables are expanded. Without collections, dev metrics are reported, without tests."""
    metrics: tuple[str, ...] = ()
    """Metrics tested and shown on every collection; default: AP, R@1, R@10 of texts, R@1, R@5, R@10 of images."""
    scoring: Literal["maxsim", "pooled"] = "maxsim"
    """Scoring that is tested on the collections; the other is reported without tests. Use pooled if texts and images
    are compared by mean vectors. Trials are always compared on dev pairs by MaxSim."""
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str = ""
    """Arm that the others are tested against, in addition to the best arm in tuning; default: the first arm."""
    tuning_languages: tuple[str, ...] = ()
    """Languages of the tuning runs. Each arm uses the trial with the best mean dev metric over them."""
    tuning_seed: int = 100
    """Seed of the tuning runs; must not be in `seeds`, so that no final run is selected by its own metrics."""
    budget: Literal["pairs", "seconds"] = "pairs"
    """Budget that is equal between arms: pairs seen, or seconds of steps (arms with slower steps in tuning get fewer
    steps and a shorter warm-up; tuning runs have equal pairs)."""
    data: str = ""
    """Sources and preprocessing of the data, for readers of the report."""

    file: str = ""
    """Path of the Python file with get_study(); filled in by the command."""

    @property
    def tuned_arms(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if not arm.baseline)

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class Task:
    """One run of the grid."""

    stage: Stage
    arm: str
    trial: str
    language: str
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        return Path(self.config.run)


def reference_of(study: Study) -> str:
    return study.reference or study.arms[0].name


def arms_with_references(study: Study) -> list[str]:
    """Arms whose runs also evaluate the untrained references: the first arm of each distinct student and data.

    The untrained student and the dictionary differ only between arms with different student or data settings.
    """
    found: dict[Any, str] = {}
    for arm in study.tuned_arms:
        config = next(iter(arm.trials.values()))
        # Training images do not change the untrained student or the dictionary.
        without = DataConfig()
        data = replace(config.data, pictures=without.pictures, pictures_share=without.pictures_share)
        found.setdefault((config.student, data), arm.name)
    return list(found.values())


def group_of(task: Task) -> Literal["low", "high"]:
    return "low" if task.language in task.config.low_resource else "high"


def check_study(study: Study) -> None:
    """Validate a study before anything runs: valid configs, equal budgets and tuning effort.

    Raises:
      ConfigError: names what is wrong, and the remedy.
    """

    def require(fine: bool, what: str) -> None:
        if not fine:
            raise ConfigError(f"study {study.folder or '?'}: {what}")

    require(bool(study.folder), "no folder; give one, such as folder='runs/studies/x'")
    require(
        len(study.tuned_arms) > 0 and len(study.languages) > 0 and len(study.seeds) > 0, "give arms, languages, seeds"
    )
    for arm in study.arms:
        require(
            not arm.baseline or len(arm.trials) == 1,
            f"baseline {arm.name} has {len(arm.trials)} trials; it is not tuned, so give one",
        )
    names = [arm.name for arm in study.arms]
    require(len(set(names)) == len(names), f"arms {names} share a name; give each its own")
    for name in (*names, *(trial for arm in study.arms for trial in arm.trials)):
        require(name.replace("_", "").replace("-", "").replace(".", "").isalnum(), f"{name!r} cannot name a folder")
    require(not study.reference or study.reference in names, f"reference={study.reference!r} is none of {names}")
    counts = {arm.name: len(arm.trials) for arm in study.tuned_arms}
    require(
        len(set(counts.values())) == 1 and min(counts.values()) > 0,
        f"arms have {counts} trials; give every arm the same number, at least one",
    )
    tuned = next(iter(counts.values())) > 1 or study.budget == "seconds"
    require(bool(study.tuning_languages) or not tuned, "trials must be tuned; name tuning_languages")
    unknown = sorted(set(study.tuning_languages) - set(study.languages))
    require(not unknown, f"tuning_languages {unknown} are not in languages; use some of {list(study.languages)}")
    require(study.budget in ("pairs", "seconds"), f"budget={study.budget!r} is not valid; use 'pairs' or 'seconds'")
    require(study.scoring in ("maxsim", "pooled"), f"scoring={study.scoring!r} is not valid; use 'maxsim' or 'pooled'")
    tuned_trials = [config for arm in study.tuned_arms for config in arm.trials.values()]
    chosen_by = {config.checkpoint.best_metric for config in tuned_trials}
    require(
        len(chosen_by) == 1, f"trials differ in checkpoint.best_metric ({sorted(chosen_by)}), which selects; use one"
    )
    require(study.tuning_seed not in study.seeds, f"tuning_seed={study.tuning_seed} is one of seeds; use another")
    seen = {pairs_seen(config) for config in tuned_trials}
    require(len(seen) == 1, f"trials see {sorted(seen)} pairs; a fair comparison has one budget (steps x global_batch)")
    require(
        all(config.data.dev_pairs > 0 for arm in study.arms for config in arm.trials.values()),
        "data.dev_pairs=0; trials are compared on dev pairs, so use at least 1",
    )
    # A student of documents only needs foreign documents, which these collections do not have.
    sides = {config.student.sides for arm in study.arms for config in arm.trials.values()}
    require(
        "documents" not in sides or not study.collections,
        "student.sides=documents cannot be evaluated on collections; use queries or both, or give no collections",
    )
    for task in tuning_tasks(study):
        validate(task.config)
    for arm in study.arms:
        for language in study.languages:
            for config in arm.trials.values():
                validate(study.in_language(replace(config, run="x"), language))


def pairs_seen(cfg: Config) -> int:
    return cfg.training.steps * cfg.data.global_batch


def tuning_tasks(study: Study) -> list[Task]:
    """Tuning runs: every trial in every tuning language; none if arms have one trial each and the budget is pairs."""
    if len(study.tuned_arms[0].trials) == 1 and study.budget == "pairs":
        return []
    return [
        _task(study, "tuning", arm, trial, language, study.tuning_seed)
        for language in study.tuning_languages
        for arm in study.tuned_arms
        for trial in arm.trials
    ]


def final_tasks(study: Study, choices: Mapping[str, str], steps: Mapping[str, int]) -> list[Task]:
    """Final runs: every arm's chosen trial in every language with every seed.

    Seeds are the outermost loop, so that an interrupted study has complete seeds.

    Args:
      choices: arm -> trial; an arm without one is left out.
      steps: arm -> training steps, where they differ from the config's.
    """
    tasks = []
    for seed in study.seeds:
        for language in study.languages:
            for arm in (arm for arm in study.arms if choices.get(arm.name) in arm.trials):
                task = _task(study, "final", arm, choices[arm.name], language, seed)
                if arm.name in steps:
                    task = replace(task, config=of_length(task.config, steps[arm.name]))
                tasks.append(task)
    return tasks


def of_length(config: Config, steps: int) -> Config:
    """The config with `steps` training steps and the same share of warm-up steps."""
    warmup = round(config.optimizer.warmup_steps * steps / config.training.steps)
    return replace(
        config,
        training=replace(config.training, steps=steps),
        optimizer=replace(config.optimizer, warmup_steps=warmup),
    )


def _task(study: Study, stage: Stage, arm: Arm, trial: str, language: str, seed: int) -> Task:
    folder = Path(study.folder) / stage / arm.name
    folder = folder / trial / language if stage == "tuning" else folder / f"{language}-{seed}"
    config = study.in_language(replace(arm.trials[trial], run=str(folder), seed=seed), language)
    return Task(stage, arm.name, trial, language, seed, config)


def best_trials(study: Study, figures: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, str]:
    """Arm -> the trial with the highest mean dev metric; the first of equal ones.

    A failed run has no metric, and a trial with fewer metrics ranks below every trial with more.
    """

    def standing(arm: str, trial: str) -> tuple[int, float]:
        found = figures.get((arm, trial), ())
        return len(found), sum(found) / max(len(found), 1)

    return {arm.name: max(arm.trials, key=lambda trial, arm=arm: standing(arm.name, trial)) for arm in study.arms}
