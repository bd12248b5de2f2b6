"""Settings of all losses (distillation, ranking, image-text) and of optimal transport; standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class OtConfig:
    cost: Literal["cosine"] = "cosine"
    plan: Literal["sinkhorn", "unbalanced", "partial", "ipot", "exact", "greedy", "argmax", "softmax", "uniform"] = (
        "sinkhorn"
    )
    """Transport plan between student and teacher tokens. sinkhorn: entropic, all mass of both sides is moved;
    unbalanced: mass may stay where moving it costs more than marginal_weight; partial: only partial_mass of it is
    moved; ipot: proximal point, nearly unregularised; exact: the optimal one-to-one assignment; greedy: DR.DECR's
    matching; argmax: each student token's nearest teacher token; softmax: the same, softened by epsilon; uniform: every
    student token spread over all teacher tokens, as an ablation."""
    epsilon: float = 0.05
    """Entropic regularisation, in units of the cost (0 to 2)."""
    epsilon_start: float = 0.0
    """Epsilon of the first step, decayed exponentially to `epsilon`; 0 for no schedule."""
    epsilon_until: float = 0.5
    """Share of the run after which that schedule has reached `epsilon`."""
    iterations: int = 50
    """Sinkhorn iterations; for ipot, proximal steps."""
    relaxation: float = 1.0
    """Over-relaxation of the Sinkhorn updates, 1 (plain) to 1.9: slow problems converge in fewer iterations, fast ones
    slightly less exactly."""
    threshold: float = 0.0
    """Stop a plan early once the L1 error of its teacher-side marginal is at most this, checked every 10 iterations; 0
    always runs all iterations (fastest on accelerators)."""
    masses: Literal["uniform", "idf", "norm", "learned"] = "uniform"
    """Mass of a token: uniform; by its inverse document frequency in the bitext (idf); by the norm of its vector before
    normalisation (norm); or, on the student's side, by a linear map of its vector that is trained too (learned)."""
    marginal_weight: float = 0.5
    """plan=unbalanced: penalty (KL) per unit of mass created or left behind, in units of the cost."""
    partial_mass: float = 0.8
    """plan=partial: share of the mass that is moved, above 0 and at most 1."""
    gradient: Literal["stopped", "through"] = "stopped"
    """Treat the plan as a constant (stop_gradient), or differentiate through its iterations too."""

    @property
    def smallest_epsilon(self) -> float:
        """Smallest epsilon of the run, where `epsilon` is that of one step."""
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
    """transport: OPTICAL's optimal transport cost; gromov_wasserstein: fused Gromov-Wasserstein, of the distances
    within each text and the cosines between them; greedy: DR.DECR's matching, which repeatedly takes the closest pair
    of tokens, one to one (remaining student tokens take their best match); pooled_cosine, pooled_mse: mean-pooled
    vectors; contrastive: in-batch InfoNCE by MaxSim, by mean-pooled vectors (pooled_contrastive) or by transport cost
    (ot_contrastive); relational: distances between the texts of a batch (RKD); score_kl: KL divergence from the
    teacher's scores of the batch's texts."""
    ot: OtConfig = field(default_factory=OtConfig)
    add: tuple[str, ...] = ()
    """Further losses to add, each with its weight: contrastive=0.1 pooled_mse=1."""
    temperature: float = 0.05
    """Softmax temperature of the contrastive losses and score_kl; mean cosines are divided by it."""
    fusion: float = 0.5
    """gromov_wasserstein: weight of the cosine cost, 0 (distances within texts alone) to 1 (cosines alone)."""


@dataclass(frozen=True)
class RankingLossConfig:
    """Ranking loss over MaxSim scores: a weighted sum of three; a weight of 0 leaves one out."""

    contrastive: float = 1.0
    """Softmax cross entropy of the relevant passage among its negatives."""
    in_batch: bool = True
    """In-batch negatives: passages of the other queries are negatives too, unless judged relevant."""
    temperature: float = 1.0
    """Softmax temperature of `contrastive`; scores are divided by it."""
    kl: float = 0.0
    """KL divergence from the teacher scores in the data, by softmax over a query's own passages."""
    margin_mse: float = 0.0
    """MarginMSE: mean squared error of the margins between the relevant and the other passages."""
    score_scale: float = 1.0
    """Factor on the scores in the data, for `kl` and `margin_mse`."""


@dataclass(frozen=True)
class ImageTextLossConfig:
    name: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: in-batch contrastive in both directions, as CLIP; sigmoid: each image-caption pair on its own, as
    SigLIP."""
    interaction: Literal["pooled", "tokens"] = "pooled"
    """What is compared: mean-pooled vectors (pooled), or each token with its best patch and each patch with its best
    token, as FILIP (tokens)."""
    temperature: float = 0.0
    """Initial temperature, which cosines are divided by; 0 takes the paper's (softmax 0.07, sigmoid 0.1)."""
    bias: float = -10.0
    """sigmoid: initial bias of the logits; below zero, as most pairs of a batch are negatives."""
    learn_scale: bool = True
    """Train temperature and bias too; the temperature never falls below 0.01."""

    @property
    def start_temperature(self) -> float:
        return self.temperature or {"softmax": 0.07, "sigmoid": 0.1}[self.name]
