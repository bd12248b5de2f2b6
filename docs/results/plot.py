"""Draw curves.png from the metrics.jsonl of runs: dev RR@10 over the pairs seen, a panel a group of runs.

python docs/results/plot.py

Reads docs/results/<group>.<loss>.jsonl, copies of the metrics.jsonl of the runs that docs/results.md reports.
"""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from optical_jax.runs.metrics import read_metrics

HERE = Path(__file__).parent
GROUPS = {
    "lexicon-all": "lexicon start, 40.7k pairs",
    "lexicon-ship": "lexicon start, 4.3k pairs",
    "random-all": "random start, 40.7k pairs",
    "random-ship": "random start, 4.3k pairs",
}
COLOURS = {"transport": "tab:blue", "pooled_cosine": "tab:orange", "greedy": "tab:green"}
PAIRS_A_STEP = 64


def main() -> None:
    found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(dict)
    for file in sorted(HERE.glob("*.jsonl")):
        group, loss, _ = file.name.split(".")
        lines = [record for record in read_metrics(file) if "dev" in record]
        found[group][loss] = [(PAIRS_A_STEP * line["step"], line["dev"]["sw"]["RR@10"]) for line in lines]
    groups = [name for name in GROUPS if name in found]
    figure, panels = plt.subplots(1, len(groups), figsize=(3.6 * len(groups), 3.2), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], groups, strict=True):
        for loss, points in found[name].items():
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=loss, color=COLOURS[loss])
        panel.set(title=GROUPS[name], xlabel="pairs seen", ylabel="dev RR@10, Swahili to English")
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(HERE / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
