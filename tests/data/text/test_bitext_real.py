"""The bitext reader on real files: what their README counts is what is read."""

from optical_jax.config import DataConfig
from optical_jax.data.text.bitext import load_bitext


def test_real_counts(data_dir):
    """The counts the data's README states."""
    names = {"tico19/sw": (2594, 165), "storybooks/sw": (1164, 65), "afriqa/sw": (408, 414), "wikiapp/sw": (133, 7)}
    for name, counts in names.items():
        path = data_dir / "bitext" / f"{name}.train.tsv.gz"
        splits = load_bitext(DataConfig(bitext=(str(path),)))
        train, dev = splits.train["sw"], splits.dev["sw"]
        assert (train.report.lines, dev.report.lines) == counts
        for one in (train, dev):
            report = one.report
            assert report.lines == report.kept + sum(report.dropped.values()) + len(report.bad_lines)
        assert sum(train.report.dropped.values()) <= 0.001 * counts[0]


def test_real_scripts_survive_the_limits(data_dir):
    for lang, count in {"am": 2587, "km": 2590, "mr": 2594, "zh": 2577}.items():
        path = data_dir / "bitext" / "tico19" / f"{lang}.train.tsv.gz"
        assert len(load_bitext(DataConfig(bitext=(str(path),), dev_pairs=0)).train[lang]) == count
