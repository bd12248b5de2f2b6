"""`python -m optical_jax COMMAND`: every command behind one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": ("optical_jax.commands.train", "teach a student a language from bitext"),
    "eval": ("optical_jax.commands.evaluate", "evaluate a run or a model on a collection, or compare two runs"),
    "align": ("optical_jax.commands.align", "draw which English word each foreign word learns from"),
    "export": ("optical_jax.commands.export", "write a run's student as a Hugging Face folder"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the flags to a command. Returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        print(f"error: no command {words[0]!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


def usage() -> str:
    lines = [f"  {name:<8}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m optical_jax COMMAND [flags]", "", *lines, "", "COMMAND --help tells its flags."]
    )


if __name__ == "__main__":
    sys.exit(main())
