"""`python -m optical_jax COMMAND`: every command behind one name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": ("optical_jax.commands.demo", "see the whole way in a minute or two, without a network"),
    "train": ("optical_jax.commands.train", "teach a student a language from bitext"),
    "eval": ("optical_jax.commands.evaluate", "evaluate a run or a model on a collection, or compare two runs"),
    "names": ("optical_jax.commands.names", "write bitext and a test of names in any language CLDR has"),
    "collect": ("optical_jax.commands.collect", "write a public collection as a folder that eval and training read"),
    "align": (
        "optical_jax.commands.align",
        "draw which English word each foreign word is matched to, or count how many rightly",
    ),
    "lexicon": ("optical_jax.commands.lexicon", "write the dictionary that a run's student has found in its bitext"),
    "export": ("optical_jax.commands.export", "write a run's student as a Hugging Face folder"),
    "teacher": ("optical_jax.commands.teacher", "train an English teacher from an encoder and judged passages"),
    "image_teacher": ("optical_jax.commands.image_teacher", "train towers of English texts and of pictures to agree"),
    "mine": ("optical_jax.commands.mine", "find hard negatives for a teacher's training"),
    "study": ("optical_jax.commands.study", "compare ways to teach: a grid of runs, its tests and its page"),
    "bench": ("optical_jax.commands.bench", "time training, encoding and search on this machine"),
    "search": (
        "optical_jax.commands.search",
        "rank the lines of a text file, or pictures, for queries of your own",
    ),
    "phrases": (
        "optical_jax.commands.phrases",
        "count how often the region that a phrase means is found in its picture",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the flags to a command. Returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"error: no command {words[0]!r}; {meant}there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


def usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m optical_jax COMMAND [flags]", "", *lines, "", "COMMAND --help tells its flags."]
    )


if __name__ == "__main__":
    sys.exit(main())
