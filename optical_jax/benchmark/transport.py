"""Benchmark of Sinkhorn solvers: ours and ott-jax's, interleaved on the same pairs, with their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optical_jax.benchmark.presets import MAX_LENGTH, VECTOR_WIDTH, Work, read_language
from optical_jax.benchmark.timing import in_turns
from optical_jax.config import OtConfig
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.ot.costs import cosine_cost
from optical_jax.ot.masses import uniform_mass
from optical_jax.ot.ott_solvers import OttChoices, solve_by_ott
from optical_jax.ot.plans import plan_error
from optical_jax.ot.sinkhorn import Solution, solve_sinkhorn
from optical_jax.types import TokenVectors

REPEATS = 7
CONVERGED = OtConfig(iterations=1500, relaxation=1.8)

Solver = Callable[[jax.Array, jax.Array, jax.Array], Solution]


def solvers() -> dict[str, tuple[Solver, float]]:
    """Solvers to compare, by name, each with its epsilon."""
    plain = OtConfig(epsilon=0.05, iterations=50)
    stops = replace(plain, iterations=1000, threshold=1e-3)
    small = replace(plain, epsilon=0.02)
    annealed = OttChoices(in_log_space=True, start_epsilon=10.0, decay=0.9)
    in_logs = OttChoices(in_log_space=True)

    def ours(cfg: OtConfig, *, in_log_space: bool = False) -> tuple[Solver, float]:
        return partial(solve_sinkhorn, cfg=cfg, in_log_space=in_log_space), cfg.epsilon

    def by_ott(cfg: OtConfig, choices: OttChoices) -> tuple[Solver, float]:
        return partial(solve_by_ott, cfg=cfg, choices=choices), cfg.epsilon

    return {
        "50": ours(plain),
        "200": ours(replace(plain, iterations=200)),
        "50, relaxed 1.5": ours(replace(plain, relaxation=1.5)),
        "50, relaxed 1.8": ours(replace(plain, relaxation=1.8)),
        "30, relaxed 1.8": ours(replace(plain, iterations=30, relaxation=1.8)),
        "stops": ours(stops),
        "stops, relaxed 1.8": ours(replace(stops, relaxation=1.8)),
        "logs, 50": ours(plain, in_log_space=True),
        "logs, 50, relaxed 1.8": ours(replace(plain, relaxation=1.8), in_log_space=True),
        "ott 50": by_ott(plain, OttChoices()),
        "ott 50, momentum 1.5": by_ott(replace(plain, relaxation=1.5), OttChoices()),
        "ott stops": by_ott(stops, OttChoices()),
        "ott stops, sorted start": by_ott(stops, OttChoices(start="sorting")),
        "ott stops, warm start": by_ott(stops, OttChoices(start="larger epsilon")),
        "ott logs, 50": by_ott(plain, in_logs),
        "ott logs, 50, annealed": by_ott(plain, annealed),
        "ott logs, stops": by_ott(stops, in_logs),
        "ott logs, stops, annealed": by_ott(stops, annealed),
        "0.02: logs, 50": ours(small, in_log_space=True),
        "0.02: logs, 50, relaxed 1.8": ours(replace(small, relaxation=1.8), in_log_space=True),
        "0.02: logs, 100, relaxed 1.8": ours(replace(small, iterations=100, relaxation=1.8), in_log_space=True),
        "0.02: ott logs, 50": by_ott(small, in_logs),
    }


def measure_transport(
    student: TokenVectors, teacher: TokenVectors, source: str, step_seconds: float | None
) -> dict[str, Any]:
    """Benchmark every solver on one batch of pairs with uniform masses.

    Args:
      student, teacher: token vectors; both sides padded to one length, as ott's sorted start needs.
      source: of the vectors.
      step_seconds: of a complete step on as many pairs; None if unknown.

    Returns:
      "pairs" describes the batch; every other entry is a solver's: seconds (median, fastest, slowest) and their share
      of a step, iterations per pair (mean, maximum), marginal_error (L1 of both sides, 0 to 4: mean, maximum), and off,
      the L1 distance (0 to 2) of its plans from converged ones at its epsilon (mean, maximum).
    """
    rows, cols = uniform_mass(student), uniform_mass(teacher)
    both = student.mask[:, :, None] & teacher.mask[:, None, :]
    cost = jnp.where(both, cosine_cost(student.vectors, teacher.vectors), 0.0)  # [B, S, T]
    found = solvers()
    solve = {name: jax.jit(each) for name, (each, _) in found.items()}
    converged = {
        epsilon: solve_sinkhorn(cost, rows, cols, replace(CONVERGED, epsilon=epsilon), in_log_space=True).plan
        for epsilon in {epsilon for _, epsilon in found.values()}
    }
    times = in_turns({name: partial(f, cost, rows, cols) for name, f in solve.items()}, REPEATS)
    result: dict[str, Any] = {
        "pairs": {
            "source": source,
            "batch": len(cost),
            "student_tokens": float(student.mask.sum(axis=1).mean()),
            "teacher_tokens": float(teacher.mask.sum(axis=1).mean()),
        }
    }
    for name, f in solve.items():
        plan, iterations, _ = f(cost, rows, cols)
        plan = jnp.where(both, plan, 0.0)
        error = plan_error(plan, rows, cols)
        off = jnp.abs(plan - converged[found[name][1]]).sum(axis=(1, 2))
        result[name] = times[name].as_json() | {
            "share_of_step": None if step_seconds is None else times[name].median / step_seconds,
            "iterations": float(iterations.mean()),
            "iterations_most": float(iterations.max()),
            "marginal_error_mean": float(error.mean()),
            "marginal_error": float(error.max()),
            "off_mean": float(off.mean()),
            "off": float(off.max()),
        }
    return result


# ---- token vectors ---------------------------------------------------------------------------------------------------


def vectors_of(work: Work, batch: int) -> tuple[TokenVectors, TokenVectors]:
    """Vectors of both sides by the teacher, as of a student that starts from its weights (the benchmark's own student
    has a random head, unrelated to the teacher's)."""
    which = np.arange(batch) * len(work.pairs) // batch
    encode = jax.jit(partial(encode_tokens, cfg=work.tower))
    sides = (work.pairs.student, work.pairs.teacher)
    student, teacher = (encode(work.teacher, side.rows(which, MAX_LENGTH)) for side in sides)
    return student, teacher


def vectors_of_run(run: str, bitext: str, batch: int) -> tuple[TokenVectors, TokenVectors]:
    """Vectors by a trained run's student and teacher, of evenly spaced pairs of a file of one language.

    Raises:
      ConfigError, DataError: no such run or file.
    """
    from optical_jax.runs.load import load
    from optical_jax.towers.tower import encode

    pairs = read_language(bitext)
    which = np.arange(batch) * len(pairs) // batch

    def side(tower: Any, texts: Any) -> TokenVectors:
        vectors = encode(tower, [texts[i] for i in which])
        room = max(MAX_LENGTH - vectors.mask.shape[1], 0)
        return TokenVectors(
            jnp.pad(vectors.vectors[:, :MAX_LENGTH], ((0, 0), (0, room), (0, 0))),
            jnp.pad(vectors.mask[:, :MAX_LENGTH], ((0, 0), (0, room))),
        )

    return side(load(run, "query"), pairs.foreign), side(load(run, "document"), pairs.english)


def drawn_vectors(batch: int) -> tuple[TokenVectors, TokenVectors]:
    """Random unit vectors similar to those of paraphrases: most tokens have a near one on the other side."""
    keys = jax.random.split(jax.random.key(0), 4)
    vectors, noise = (jax.random.normal(key, (batch, MAX_LENGTH, VECTOR_WIDTH)) for key in keys[:2])

    def side(vectors: jax.Array, key: jax.Array) -> TokenVectors:
        lengths = jax.random.randint(key, (batch, 1), MAX_LENGTH // 2, MAX_LENGTH + 1)
        unit = vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
        return TokenVectors(unit, jnp.arange(MAX_LENGTH) < lengths)

    return side(vectors, keys[2]), side(vectors + 0.6 * noise, keys[3])
