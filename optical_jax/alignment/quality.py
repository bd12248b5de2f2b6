"""Word alignment quality of transport plans: AER and F1 against gold links, agreement with a statistical aligner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from optical_jax.alignment.gold_links import GoldLinks
from optical_jax.alignment.links import RULES, Links, best_per_row, count_links, diagonal_links, to_pharaoh, total
from optical_jax.alignment.plans import IdfTables, known_masses, plan_tokens, sum_tokens
from optical_jax.alignment.statistical_aligner import StatisticalAligner
from optical_jax.config import OtConfig
from optical_jax.data.text.words import Span, spaced_words, split_words
from optical_jax.errors import ConfigError
from optical_jax.towers.tower import Tower

DEFAULT_RULE = "forward"
"""The best of seven rules on the Swahili gold links, half a point ahead of intersection."""


@dataclass(frozen=True)
class AlignedPair:
    """A sentence pair with its words, the plan between them, and the links that are compared."""

    foreign: tuple[str, ...]
    english: tuple[str, ...]
    plan: Float[np.ndarray, "S T"]
    """Mass between words; zero for a truncated word, or one without a token of its own."""
    links: Links
    """Links of the plan, by the chosen rule."""
    aligner: Links | None
    gold: GoldLinks | None


@dataclass(frozen=True)
class AlignmentQuality:
    """Alignments of the pairs of one language, and their metrics."""

    pairs: tuple[AlignedPair, ...]
    rule: str
    ot: OtConfig

    def figures(self) -> dict[str, Any]:
        """AER, precision, recall and F1 where there is gold; agreement where there is an aligner. All 0 to 1.

        `plan`, `aligner`, `diagonal` and `rules` (of the plan, by every rule) are micro-averages over pairs with gold.
        `agreement` is over all pairs: `argmax`, the share of foreign words with an aligner link whose largest mass goes
        along one, and `F1` between both sets of links.
        """
        found: dict[str, Any] = {
            "pairs": len(self.pairs),
            "gold_pairs": sum(pair.gold is not None for pair in self.pairs),
        }
        has_aligner = any(pair.aligner is not None for pair in self.pairs)
        if found["gold_pairs"]:
            found["plan"] = self.judge(lambda pair: pair.links)
            if has_aligner:
                found["aligner"] = self.judge(lambda pair: pair.aligner)
            found["diagonal"] = self.judge(lambda pair: diagonal_links(*pair.plan.shape))
            found["rules"] = {name: self.judge(lambda pair, rule=rule: rule(pair.plan)) for name, rule in RULES.items()}
        if has_aligner:
            found["agreement"] = self.agreement()
        return found

    def judge(self, links: Callable[[AlignedPair], Links | None]) -> dict[str, float]:
        """Metrics of the given links, over the pairs that have both links and gold."""
        found = ((links(pair), pair.gold) for pair in self.pairs)
        return total(count_links(own, gold) for own, gold in found if own is not None and gold is not None).figures()

    def agreement(self) -> dict[str, float]:
        counts: defaultdict[str, int] = defaultdict(int)
        for pair in self.pairs:
            if (aligner := pair.aligner) is None:
                continue
            counts["words"] += int(aligner.any(axis=1).sum())
            counts["hits"] += int((best_per_row(pair.plan) & aligner).sum())
            counts["both"] += int((pair.links & aligner).sum())
            counts["either"] += int(pair.links.sum() + aligner.sum())
        return {
            "argmax": counts["hits"] / max(counts["words"], 1),
            "F1": 2 * counts["both"] / max(counts["either"], 1),
        }

    def as_json(self) -> dict[str, Any]:
        """Metrics, settings of the plan, and every pair with its links in Pharaoh format (English-foreign)."""
        return {
            "rule": self.rule,
            "ot": asdict(self.ot),
            **self.figures(),
            "sentences": [
                {
                    "english": " ".join(pair.english),
                    "foreign": " ".join(pair.foreign),
                    "plan": to_pharaoh(pair.links),
                    "aligner": None if pair.aligner is None else to_pharaoh(pair.aligner),
                    "gold": None if pair.gold is None else to_pharaoh(pair.gold.sure),
                    "possible": None if pair.gold is None else to_pharaoh(pair.gold.possible & ~pair.gold.sure),
                }
                for pair in self.pairs
            ],
        }


def alignment_quality(
    student: Tower,
    teacher: Tower,
    pairs: Sequence[tuple[str, str]],
    cfg: OtConfig,
    *,
    gold: Sequence[GoldLinks | None] | None = None,
    aligner: StatisticalAligner | None = None,
    rule: str = DEFAULT_RULE,
    idf: IdfTables | None = None,
) -> AlignmentQuality:
    """Extract word alignments from the plans of sentence pairs and score them.

    Args:
      student: a run's student, trained by any loss.
      teacher: its teacher, of either side.
      pairs: (foreign, English) texts. With gold, words are separated by spaces; else by `split_words`.
      cfg: cost, masses and plan, of the run or not.
      gold: links of each pair, from `read_gold`; None for a pair without.
      aligner: from `fit_aligner`, on bitext of the language that should include the pairs.
      rule: one of `RULES`, which extracts links from a plan.
      idf: weights for masses "idf", from `count_idf`; without them masses are uniform.

    Raises:
      ConfigError: no such rule, pooled towers, or towers of different widths.
      DataError: a text is empty.
    """
    if rule not in RULES:
        raise ConfigError(f"rule={rule!r} is not valid; use one of {', '.join(RULES)}")
    ot = known_masses(cfg, student, idf)
    if not pairs:
        return AlignmentQuality((), rule, ot)
    tokens = plan_tokens(student, teacher, pairs, cfg, idf=idf)
    asking = replace(teacher, side="query")
    found = []
    for n, (foreign, english) in enumerate(pairs):
        rows, cols = (words_of(text, tokenised=gold is not None) for text in (foreign, english))
        by_row = sum_tokens(student, foreign, rows, np.asarray(tokens.student.mask[n]))
        by_col = sum_tokens(asking, english, cols, np.asarray(tokens.teacher.mask[n]))
        plan = by_row @ tokens.plans[n] @ by_col.T  # [S, T]
        ours = tuple(foreign[a:b] for a, b in rows)
        theirs = tuple(english[a:b] for a, b in cols)
        found.append(
            AlignedPair(
                foreign=ours,
                english=theirs,
                plan=plan,
                links=RULES[rule](plan),
                aligner=None if aligner is None else aligner.links(ours, theirs),
                gold=None if gold is None else gold[n],
            )
        )
    return AlignmentQuality(tuple(found), rule, ot)


def words_of(text: str, *, tokenised: bool) -> list[Span]:
    return spaced_words(text) if tokenised else split_words(text)
