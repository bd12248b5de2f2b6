"""`optical_jax COMMAND` and `python -m optical_jax COMMAND`: entry point of all commands."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from optical_jax.invocation import program
from optical_jax.printing import printable

COMMANDS = {
    "demo": ("optical_jax.commands.demo", "train, evaluate and search in a minute or two, without a network"),
    "check": ("optical_jax.commands.check", "look at files of sentence pairs before training on them"),
    "train": ("optical_jax.commands.train", "train a student for a language from bitext"),
    "eval": ("optical_jax.commands.evaluate", "evaluate a run or a model on a collection, or compare two runs"),
    "names": ("optical_jax.commands.names", "write bitext and a test collection of names in any language of CLDR"),
    "collect": ("optical_jax.commands.collect", "convert a public collection to a folder for eval and training"),
    "align": (
        "optical_jax.commands.align",
        "plot word alignments by transport plans, or evaluate them against gold links",
    ),
    "lexicon": ("optical_jax.commands.lexicon", "induce a bilingual lexicon from a run's bitext"),
    "export": ("optical_jax.commands.export", "export a run's student as a Hugging Face folder"),
    "teacher": ("optical_jax.commands.teacher", "train an English late-interaction teacher on relevance judgements"),
    "image_teacher": ("optical_jax.commands.image_teacher", "train an image and an English text tower contrastively"),
    "mine": ("optical_jax.commands.mine", "mine hard negatives for a teacher's training"),
    "study": ("optical_jax.commands.study", "run a grid of trainings, with significance tests and a report page"),
    "bench": ("optical_jax.commands.bench", "benchmark training, encoding and search on this machine"),
    "search": (
        "optical_jax.commands.search",
        "search the lines of a text file, or images, with your own queries",
    ),
    "phrases": (
        "optical_jax.commands.phrases",
        "evaluate phrase localisation in images (Flickr30k Entities)",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"error: no command {printable(words[0])}; {meant}available: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


def usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([f"usage: {program('COMMAND')} [flags]", "", *lines, "", "COMMAND --help lists its flags."])


if __name__ == "__main__":
    sys.exit(main())
