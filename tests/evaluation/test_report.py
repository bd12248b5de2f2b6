"""Tables print names as they are: rich would take `[x]` for markup, and stop at `[/x]`."""

import pytest
from rich.console import Console

from optical_jax.alignment.images import ImagePlan
from optical_jax.evaluation.report import print_comparison
from optical_jax.retrieval.significance import PairedTest


@pytest.mark.parametrize("language", ["[red]", "[/x]", "sw[1]", ":smile:"])
def test_names_of_languages_are_no_markup(capsys, language):
    print_comparison([PairedTest(language, "R@1", 9, 0.25, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5)])
    assert language in capsys.readouterr().out


@pytest.mark.parametrize("word", ["[SEP]", "[/b]", "[red]mto[/red]"])
def test_words_of_captions_are_no_markup(monkeypatch, capsys, word):
    import numpy as np

    from optical_jax.commands import align

    plan = ImagePlan((word,), np.ones((1, 1, 1)), np.zeros((8, 8, 3), np.uint8), 0.0, 1.0, cut=False)
    align.print_words(plan, Console(markup=False, emoji=False))
    assert word in capsys.readouterr().out
