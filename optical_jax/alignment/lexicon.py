"""Bilingual lexicon induction from transport plans over a bitext."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from optical_jax.config import Config, OtConfig, TowerConfig
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.code_switch import (
    Entry,
    bare_words,
    lexicon_file,
    read_lexicon,
    read_lexicons,
    share_of_words,
)
from optical_jax.data.text.folding import word_key
from optical_jax.data.tokenization import Tokens, pad_tokens, tokenize
from optical_jax.errors import ConfigError
from optical_jax.losses.ot_distillation import transport
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.towers.tower import Tower
from optical_jax.types import Params, TextInputs

MIN_COUNT, MIN_SHARE = 3, 0.3
"""Smallest number of occurrences of a word, and smallest share of its mass on its translation."""
MOST_PAIRS = 20_000
"""Largest number of pairs; a larger bitext is subsampled evenly."""
PAIRS_AT_ONCE = 64
LENGTH_STEP = 16
"""Texts are padded to multiples of this many tokens, to limit compilations."""


class ReadText(NamedTuple):
    tokens: Tokens
    words: list[str]
    """Word keys, in order."""
    word_of: Int[np.ndarray, "L"]
    """Index of the word that a token belongs to; -1 for none."""


def lexicons_of_run(
    cfg: Config,
    run: Path | None,
    student: Tower,
    teacher: Tower,
    bitexts: Mapping[str, Bitext],
    say: Callable[[str], None],
) -> dict[str, dict[str, Entry]]:
    """Lexicons for code switching, by language: of a resumed run's folder, of `data.lexicon`, or induced from plans.

    Args:
      run: folder of a resumed run, whose lexicons are kept; None for a new one.
      student: untrained.

    Raises:
      ConfigError, DataError: lexicons are missing in the run, or not valid.
    """
    if run is not None:
        files = {language: lexicon_file(run, language) for language in bitexts}
        if missing := [path for path in files.values() if not path.is_file()]:
            raise ConfigError(f"{missing[0]}, a lexicon of this run's code switching, is missing; copy the whole run")
        return {language: read_lexicon(path) for language, path in files.items()}
    if cfg.data.lexicon:
        found = read_lexicons(cfg.data.lexicon, list(bitexts))
    else:
        lengths = cfg.student.max_length, cfg.teacher.max_length
        found = {
            language: lexicon_of_plans(student, teacher, one.foreign, one.english, cfg.loss.ot, lengths)
            for language, one in bitexts.items()
        }
    for language, lexicon in found.items():
        covered = share_of_words(bitexts[language].foreign, lexicon)
        say(
            f"code switching: {language} has {len(lexicon):,} words with a translation, {covered:.0%} of its text; "
            f"{covered * cfg.data.code_switch:.0%} of it is switched"
        )
        if not lexicon:
            raise ConfigError(
                f"data.code_switch={cfg.data.code_switch}: the plans of the untrained student give no {language} "
                "translations; set data.lexicon, or start from new_embeddings=lexicon"
            )
    return found


def lexicon_of_plans(
    student: Tower,
    teacher: Tower,
    foreign: Sequence[str],
    english: Sequence[str],
    cfg: OtConfig,
    lengths: tuple[int, int],
    *,
    min_count: int = MIN_COUNT,
    min_share: float = MIN_SHARE,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Entry]:
    """Induce a lexicon: for each foreign word the English word that gets most of its mass over all occurrences.

    Words are separated by spaces, so languages written without spaces give few.

    Args:
      student: of either side; both texts are encoded as texts of that side.
      teacher: its teacher.
      foreign, english: the two sides of a bitext.
      cfg: settings of the plans; masses are always uniform.
      lengths: tokens to which the student's and the teacher's texts are truncated.
      min_count: smallest number of occurrences of a word.
      min_share: smallest share of a word's mass (on English words) that its translation gets.

    Returns:
      Word -> its translation.

    Raises:
      ConfigError: pooled towers.
    """
    if any(tower.cfg.head.pooling != "none" for tower in (student, teacher)):
        raise ConfigError("pooled towers give one vector per text, without a plan; use late-interaction towers")
    kept = min(len(foreign), MOST_PAIRS)
    chosen = [n * len(foreign) // kept for n in range(kept)]
    teacher = replace(teacher, side=student.side)
    ours = read_words(student, [foreign[n] for n in chosen], lengths[0])
    theirs = read_words(teacher, [english[n] for n in chosen], lengths[1])
    find_plans = partial(_plans, jax.device_put(student.params), jax.device_put(teacher.params))
    shapes = student.cfg, teacher.cfg, replace(cfg, masses="uniform")

    numbers: tuple[dict[str, int], dict[str, int]] = {}, {}
    rows, columns, masses = [], [], []
    longest = np.array([max(len(a.tokens.ids), len(b.tokens.ids)) for a, b in zip(ours, theirs, strict=True)])
    order = np.argsort(-longest, kind="stable")
    for first in range(0, len(order), PAIRS_AT_ONCE):
        pairs = order[first : first + PAIRS_AT_ONCE]
        most = min(tower.cfg.encoder.max_length for tower in (student, teacher))
        L = min(-(-int(longest[pairs].max()) // LENGTH_STEP) * LENGTH_STEP, most)
        # An incomplete last batch is filled with its first pairs, to keep one shape.
        inputs = (
            pad_tokens([texts[n].tokens for n in np.resize(pairs, PAIRS_AT_ONCE)], L, tower.cfg.encoder.pad_id)
            for texts, tower in ((ours, student), (theirs, teacher))
        )
        plans = np.asarray(find_plans(*inputs, *shapes))
        for plan, n in zip(plans, pairs.tolist(), strict=False):
            moved = between_words(plan, ours[n], theirs[n])
            for ids, texts in zip(numbers, (ours, theirs), strict=True):
                for word in texts[n].words:
                    ids.setdefault(word, len(ids))
            total = moved.sum(axis=1)
            there = np.flatnonzero(total > 0)
            rows.append(np.repeat([numbers[0][ours[n].words[w]] for w in there], moved.shape[1]).astype(np.int64))
            columns.append(np.tile([numbers[1][word] for word in theirs[n].words], len(there)).astype(np.int64))
            masses.append((moved[there] / total[there, None]).ravel())
        advance(len(pairs))
    return best_translations(
        numbers, np.concatenate(rows), np.concatenate(columns), np.concatenate(masses), min_count, min_share
    )


@partial(jax.jit, static_argnums=(4, 5, 6))
def _plans(
    student: Params,
    teacher: Params,
    foreign: TextInputs,
    english: TextInputs,
    student_cfg: TowerConfig,
    teacher_cfg: TowerConfig,
    ot: OtConfig,
) -> Float[Array, "B S T"]:
    ours, target = encode_tokens(student, foreign, student_cfg), encode_tokens(teacher, english, teacher_cfg)
    return transport(ours, target, ot).plan


def read_words(tower: Tower, texts: Sequence[str], max_length: int) -> list[ReadText]:
    """Tokens and words of texts; a token belongs to the word of its last character."""
    head, tokenizer = tower.cfg.head, tower.tokenizer
    marked = (head.query_marker_id if tower.side == "query" else head.document_marker_id) is not None
    tokens = tokenize(tokenizer, texts, head, tower.side, max_length)
    encodings = tokenizer(list(texts), truncation=True, max_length=max_length - marked).encodings
    # Otherwise the truncation would be saved with every copy of the tokenizer.
    tokenizer.backend_tokenizer.no_truncation()
    found = []
    for text, own, encoding in zip(texts, tokens, encodings, strict=True):
        spans = list(bare_words(text))
        word_at = np.full(len(text) + 1, -1)
        for n, (start, end) in enumerate(spans):
            word_at[start:end] = n
        of = [int(word_at[end - 1]) if start < end else -1 for start, end in encoding.offsets]
        of = of[:1] + [-1] * marked + of[1:]
        word_of = np.array(of + [-1] * (len(own.ids) - len(of)))
        found.append(ReadText(own, [word_key(text[start:end]) for start, end in spans], word_of))
    return found


def between_words(plan: Float[np.ndarray, "S T"], ours: ReadText, theirs: ReadText) -> Float[np.ndarray, "W V"]:
    """Sum a token plan over words; tokens without a word are left out."""
    rows, columns = (
        (np.arange(len(text.words))[:, None] == text.word_of).astype(np.float64) for text in (ours, theirs)
    )
    return rows @ plan[: rows.shape[1], : columns.shape[1]] @ columns.T


def best_translations(
    numbers: tuple[Mapping[str, int], Mapping[str, int]],
    rows: Int[np.ndarray, "n"],
    columns: Int[np.ndarray, "n"],
    masses: Float[np.ndarray, "n"],
    min_count: int,
    min_share: float,
) -> dict[str, Entry]:
    """Best translation of each foreign word by total mass; every occurrence of a foreign word has mass one."""
    words, english = (list(ids) for ids in numbers)
    total = scipy.sparse.coo_array((masses, (rows, columns)), shape=(len(words), len(english))).tocsr()
    counts = total.sum(axis=1)
    found = {}
    for n, word in enumerate(words):
        start, end = total.indptr[n], total.indptr[n + 1]
        if start == end:
            continue
        best = start + int(np.argmax(total.data[start:end]))
        count, share = round(float(counts[n])), float(total.data[best] / counts[n])
        if count >= min_count and share >= min_share:
            found[word] = Entry(english[total.indices[best]], share, count)
    return found
