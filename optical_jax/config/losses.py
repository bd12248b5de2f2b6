"""Settings of the distillation losses, as frozen dataclasses. Imports the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class OtConfig:
    cost: Literal["cosine"] = "cosine"
    plan: Literal["sinkhorn", "unbalanced", "partial", "ipot", "exact", "greedy", "argmax", "softmax", "uniform"] = (
        "sinkhorn"
    )
    """Who learns from whom. sinkhorn: all mass of both sides is moved; unbalanced: mass may stay where moving it costs
    more than marginal_weight; partial: only partial_mass of it is moved; ipot: nearly unregularised; exact: the best
    one-to-one assignment; greedy: DR.DECR's; argmax: each student token's best teacher token; softmax: the same,
    softened by epsilon; uniform: every student token over all teacher tokens, to see what a plan buys."""
    epsilon: float = 0.05
    """Entropic regularisation, in units of the cost (0 to 2)."""
    epsilon_start: float = 0.0
    """Begin the run with this epsilon and fall to `epsilon`, by the same factor every step; 0 for no schedule."""
    epsilon_until: float = 0.5
    """Share of the run after which that schedule has reached `epsilon`."""
    iterations: int = 50
    """Sinkhorn iterations; of ipot the proximal steps."""
    relaxation: float = 1.0
    """1 is plain Sinkhorn; above, up to 1.9, updates go further: pairs that are slow to settle settle sooner, and those
    that settle at once do so less exactly."""
    threshold: float = 0.0
    """Stop a plan early once the L1 error of its teacher-side masses is at most that, looked at every 10 iterations; 0
    always runs all iterations (fastest on accelerators)."""
    masses: Literal["uniform", "idf", "norm", "learned"] = "uniform"
    """Mass of a token: equal; by its inverse document frequency in the bitext; by the length of its vector before it is
    made one; or, on the student's side, by a linear map of its vector that is learned with the rest."""
    marginal_weight: float = 0.5
    """plan=unbalanced: price of a unit of mass that is created or left behind (KL), in units of the cost."""
    partial_mass: float = 0.8
    """plan=partial: share of the mass that is moved, above 0 and at most 1."""
    gradient: Literal["stopped", "through"] = "stopped"
    """Whether the plan is a constant to differentiation, or the gradient goes back through its iterations too."""

    @property
    def smallest_epsilon(self) -> float:
        """Of all steps, where `epsilon` is one step's."""
        return self.epsilon


LossName = Literal[
    "transport",
    "gromov_wasserstein",
    "greedy",
    "pooled_cosine",
    "pooled_mse",
    "contrastive",
    "pooled_contrastive",
    "ot_contrastive",
    "relational",
    "score_kl",
]


@dataclass(frozen=True)
class LossConfig:
    name: LossName = "pooled_contrastive"
    """transport: OPTICAL's OT cost; gromov_wasserstein: of both sides' inner distances, fused with the cosine; greedy:
    DR.DECR's matching, where the closest pair of tokens is taken again and again, one to one (student tokens left over
    take their best match); pooled_cosine, pooled_mse: mean vectors; contrastive: each text's own translation among the
    batch's, by MaxSim, mean vectors (pooled_contrastive) or the cost of transport (ot_contrastive); relational: the
    distances between the texts of a batch; score_kl: the teacher's scores among the batch's texts."""
    ot: OtConfig = field(default_factory=OtConfig)
    add: tuple[str, ...] = ()
    """Further losses that are added, each with its weight: contrastive=0.1 pooled_mse=1."""
    temperature: float = 0.05
    """Of the contrastive losses and score_kl: mean cosines are divided by it before the softmax."""
    fusion: float = 0.5
    """gromov_wasserstein: share of the cosine cost, 0 (inner distances alone) to 1 (cosines alone)."""


@dataclass(frozen=True)
class RankingLossConfig:
    """A weighted sum of three losses over MaxSim scores; at weight 0 one is left out."""

    contrastive: float = 1.0
    """Softmax cross entropy of the relevant passage among its negatives."""
    in_batch: bool = True
    """Passages of the other queries are negatives too, unless judged relevant."""
    temperature: float = 1.0
    """Scores are divided by it before the softmax of `contrastive`."""
    kl: float = 0.0
    """KL divergence of the scores' softmax, over a query's own passages, from that of the scores in the data."""
    margin_mse: float = 0.0
    """Mean squared error of the margins between the relevant and the other passages."""
    score_scale: float = 1.0
    """The data's scores are multiplied by it, for `kl` and `margin_mse`."""


@dataclass(frozen=True)
class ImageTextLossConfig:
    name: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: a caption's own picture among the batch's and a picture's own caption, as CLIP; sigmoid: every pair by
    itself, as SigLIP."""
    interaction: Literal["pooled", "tokens"] = "pooled"
    """What is compared: one mean vector a side (pooled), or each token with its best patch and each patch with its best
    token, as FILIP (tokens)."""
    temperature: float = 0.0
    """Cosines are divided by it at the start; 0 starts where the paper of `name` does (softmax 0.07, sigmoid 0.1)."""
    bias: float = -10.0
    """sigmoid: what is added to every divided cosine at the start; most pairs are no pairs, so below zero."""
    learn_scale: bool = True
    """Temperature and bias are learned with the rest; the temperature never falls below 0.01."""

    @property
    def start_temperature(self) -> float:
        return self.temperature or {"softmax": 0.07, "sigmoid": 0.1}[self.name]
