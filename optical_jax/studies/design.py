"""What a study is: ways to teach that are compared on the same data, with the same budget, care and seeds."""

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
    """One of the ways that are compared, with the values it may be tuned over."""

    name: str
    about: str
    """A sentence for readers of the report."""
    trials: Mapping[str, Config]
    """Name of a trial -> its config, but for what the study fills in: run, seed, and the language's files."""
    baseline: bool = False
    """Something cheap to stand beside the others: one trial, which is not tuned and need not see as many pairs."""


@dataclass(frozen=True)
class Study:
    """A grid of arms x languages x seeds, each cell an ordinary run, and what it is to answer."""

    folder: str
    title: str
    question: str
    """What the study asks, in a paragraph for readers of the report."""
    arms: tuple[Arm, ...]
    in_language: Callable[[Config, str], Config]
    """The config with a language's files."""
    languages: tuple[str, ...]
    collections: tuple[str, ...] = ()
    """Folders in BEIR's form, or sets of pictures with captions, which look for each other; each is asked in those of
    the study's languages that it has. `SET by PAIR` has the pictures read by the tower of a pair (a run, folder or hub
    name) whose texts are read by the runs' teacher; `captions:SET` asks captions for the English ones, as texts.
    Variables are filled in. Without any, what is told is of the dev pairs, and not tested."""
    metrics: tuple[str, ...] = ()
    """Tested and shown of every collection; empty takes AP, R@1, R@10 of texts and R@1, R@5, R@10 of pictures."""
    scoring: Literal["maxsim", "pooled"] = "maxsim"
    """What is tested on the collections; the other is told of beside it. Take pooled where texts and pictures are
    compared by mean vectors. Trials are compared on dev pairs by MaxSim all the same."""
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str = ""
    """The arm that the others are tested against, beside the one that tuning finds best; empty takes the first."""
    tuning_languages: tuple[str, ...] = ()
    """Where trials are compared, by dev pairs alone. An arm takes the trial that is best in the mean over them."""
    tuning_seed: int = 100
    """Of the tuning runs: none of `seeds`, so that no final run was chosen by its own figures."""
    budget: Literal["pairs", "seconds"] = "pairs"
    """What is equal between arms: pairs seen, or seconds of steps (fewer steps, and less warm-up, for who takes longer
    for one, as its tuning runs tell; these have equal pairs)."""
    data: str = ""
    """Where the data come from and what was done to them, for readers of the report."""

    file: str = ""
    """That has get_study(), as it was named; the command fills it in."""

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
    """The first arm of each kind of student and data: beside its runs stand what needs no training.

    The student before its first step and a dictionary are other ones where arms differ in these.
    """
    found: dict[Any, str] = {}
    for arm in study.tuned_arms:
        config = next(iter(arm.trials.values()))
        # Pictures teach, and have no say in what there is before.
        without = DataConfig()
        data = replace(config.data, pictures=without.pictures, pictures_share=without.pictures_share)
        found.setdefault((config.student, data), arm.name)
    return list(found.values())


def group_of(task: Task) -> Literal["low", "high"]:
    return "low" if task.language in task.config.low_resource else "high"


def check_study(study: Study) -> None:
    """Refuse, before anything runs, a study that cannot be run or would not be fair.

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
        f"arms have {counts} trials; equal care means the same number, one at least",
    )
    tuned = next(iter(counts.values())) > 1 or study.budget == "seconds"
    require(bool(study.tuning_languages) or not tuned, "there is something to tune; name tuning_languages")
    unknown = sorted(set(study.tuning_languages) - set(study.languages))
    require(not unknown, f"tuning_languages {unknown} are none of {list(study.languages)}")
    require(study.budget in ("pairs", "seconds"), f"budget={study.budget!r}; give 'pairs' or 'seconds'")
    require(study.scoring in ("maxsim", "pooled"), f"scoring={study.scoring!r}; give 'maxsim' or 'pooled'")
    tuned_trials = [config for arm in study.tuned_arms for config in arm.trials.values()]
    chosen_by = {config.checkpoint.best_metric for config in tuned_trials}
    require(
        len(chosen_by) == 1, f"trials differ in checkpoint.best_metric ({sorted(chosen_by)}), which chooses; give one"
    )
    require(study.tuning_seed not in study.seeds, f"tuning_seed={study.tuning_seed} is one of seeds; take another")
    seen = {pairs_seen(config) for config in tuned_trials}
    require(len(seen) == 1, f"trials see {sorted(seen)} pairs; a fair comparison has one budget (steps x global_batch)")
    require(
        all(config.data.dev_pairs > 0 for arm in study.arms for config in arm.trials.values()),
        "data.dev_pairs=0; runs are told apart by dev pairs, so give some",
    )
    # Who learned documents alone is asked by the teacher, in English, of documents that these collections have not.
    sides = {config.student.sides for arm in study.arms for config in arm.trials.values()}
    require(
        "documents" not in sides or not study.collections,
        "student.sides=documents; give queries, both, or no collections",
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
    """Every trial in every tuning language; none where no arm has a choice and steps are what is equal."""
    if len(study.tuned_arms[0].trials) == 1 and study.budget == "pairs":
        return []
    return [
        _task(study, "tuning", arm, trial, language, study.tuning_seed)
        for language in study.tuning_languages
        for arm in study.tuned_arms
        for trial in arm.trials
    ]


def final_tasks(study: Study, choices: Mapping[str, str], steps: Mapping[str, int]) -> list[Task]:
    """Every arm's chosen trial in every language with every seed; seeds outermost, so that a study cut short is whole.

    Args:
      choices: arm -> trial; an arm without one is left out.
      steps: arm -> steps, where they differ from the config's.
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
    """The config with so many steps, of which the same share warms up."""
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
    """Arm -> the trial with the highest mean; of equal ones the first.

    A run that failed has no figure, and a trial with fewer figures stands behind every one with more.
    """

    def standing(arm: str, trial: str) -> tuple[int, float]:
        found = figures.get((arm, trial), ())
        return len(found), sum(found) / max(len(found), 1)

    return {arm.name: max(arm.trials, key=lambda trial, arm=arm: standing(arm.name, trial)) for arm in study.arms}
