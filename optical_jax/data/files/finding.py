"""Find the files of a public data set by name, at any depth below its folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from optical_jax.errors import ConfigError, DataError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
DEEPEST = 3
"""Folders between a root and what `near` looks for."""


def not_a_file(path: Path) -> str:
    """Why a path is not a file that can be read several times, for an error message."""
    if path.is_dir():
        return "is a folder, not a file"
    return "is a pipe or a device, not a file; save it as one first" if path.exists() else "no such file"


class FileFinder:
    """Find files by name pattern in local folders and in data sets of the Hugging Face Hub (``org/name``).

    From the Hub only the requested files are downloaded, into `cache_dir`.
    """

    def __init__(self, spec: str, roots: Sequence[str], cache_dir: str | None = None) -> None:
        """
        Raises:
          DataError: a root is neither a folder nor the name of a data set of the Hub.
        """
        self.spec, self._roots, self._cache_dir = spec, tuple(roots), cache_dir
        self.folders = [Path(root) for root in roots if Path(root).is_dir()]
        for root in roots:
            if not Path(root).is_dir() and (Path(root).exists() or not HUB_NAME.fullmatch(root)):
                raise DataError(f"{spec}: {root} is not a folder; name the folder that holds the collection's files")

    def one(self, what: str, *patterns: str) -> Path:
        """The only file that matches the first pattern with any match, in the first root with one; plain before .gz.

        Raises:
          DataError: no such file.
          ConfigError: more than one.
        """
        found = self.some(what, *patterns)
        if len(found) > 1:
            names = ", ".join(str(path) for path in found[:3])
            raise ConfigError(f"{self.spec}: {what}: found {len(found)} times ({names}); name the folder of one")
        return found[0]

    def maybe(self, *patterns: str) -> Path | None:
        """As `one`, or None where there is no such file.

        Raises:
          ConfigError: several.
        """
        return self.one(" or ".join(patterns), *patterns) if self._search(patterns) else None

    def some(self, what: str, *patterns: str) -> list[Path]:
        """All files that match the first pattern with any match, in the first root with one: docs-2 before docs-10.

        Raises:
          DataError: no such file.
        """
        found = self._search(patterns)
        if not found:
            either = " or ".join(patterns)
            raise DataError(f"{self.spec} lacks {what}: no file {either} (or .gz) below {', '.join(self._roots)}")
        return found

    def near(self, *names: str) -> list[Path]:
        """Files and folders of these names up to `DEEPEST` folders below the roots, in the order of names and roots."""
        depths = ["/".join(["*"] * depth + [""]) for depth in range(DEEPEST + 1)]
        found = (
            path
            for name in names
            for root in self.folders
            for depth in depths
            for path in sorted(root.glob(f"{depth}{name}"))
        )
        return list(dict.fromkeys(found))

    def subfolders(self, what: str, *names: str) -> list[Path]:
        """All folders of these names, as `near` finds them.

        Raises:
          DataError: there are none.
        """
        found = [path for path in self.near(*names) if path.is_dir()]
        if not found:
            either = " or ".join(f"{name}/" for name in names)
            raise DataError(f"{self.spec} lacks {what}: no folder {either} in it")
        return found

    def _search(self, patterns: Sequence[str]) -> list[Path]:
        for pattern in patterns:
            wanted = [name for name in (pattern, f"{pattern}.gz") for name in (name, f"*/{name}")]
            for root in self._roots:
                folder = Path(root) if Path(root).is_dir() else self._fetch(root, wanted)
                names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
                found = {name for name in names if any(fnmatchcase(name, one) for one in wanted)}
                # Unpacked beside its archive a file is still one.
                found -= {f"{name}.gz" for name in found}
                if found:
                    return [folder / name for name in sorted(found, key=lambda name: (len(name), name))]
        return []

    def _fetch(self, name: str, patterns: Sequence[str]) -> Path:
        from huggingface_hub import snapshot_download

        try:
            folder = snapshot_download(
                name, repo_type="dataset", allow_patterns=list(patterns), cache_dir=self._cache_dir
            )
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"{name}: no such folder, and it cannot be downloaded from the Hub: {reason}") from error
        if Path(folder) not in self.folders:
            self.folders.append(Path(folder))
        return Path(folder)


def existing(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if p.is_file()), None)
