"""Config files: Python files with get_config(), and the recipes among them that come with the package."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config.validation import check_types
from optical_jax.errors import ConfigError
from optical_jax.invocation import program

Settings = TypeVar("Settings", Config, TeacherStageConfig, ImageStageConfig)
STARTED_BY = {"Config": "train", "TeacherStageConfig": "teacher", "ImageStageConfig": "image_teacher", "Study": "study"}
"""Settings -> the command that takes them."""
RECIPES = {
    "train": ("own_language", "linear_map", "demo", "tiny"),
    "teacher": ("own_teacher",),
    "image_teacher": ("own_images",),
    "study": ("studies/tiny_losses",),
}
"""Command -> the config files that need no other data than the user's, and are found by name from any folder."""
MOVED = ("image_config", "image_stage_config", "image_text_config", "loss_config", "teacher_config")
"""Modules of optical_jax that config files imported from before optical_jax.config had everything."""


def load_config_file(path: str, kind: type[Settings]) -> Settings:
    """Load a Python config file: the `kind` that its get_config() returns.

    Raises:
      ConfigError: no such file, no get_config in it, or it fails or returns another type.
    """
    config = call_in_file(find_config(path, STARTED_BY[kind.__name__]), "get_config", "configs")
    if not isinstance(config, kind):
        other = STARTED_BY.get(type(config).__name__)
        remedy = f"start it with {program(other)}" if other else f"return an optical_jax {kind.__name__}"
        raise ConfigError(f"config={path}: get_config() returned {type(config).__name__}; {remedy}")
    # Before tyro, which only warns of a default of another type.
    check_types(config)
    return config


def configs_folder() -> Path:
    """Folder of the config files: in the installed package, or in the checkout beside the package."""
    package = Path(str(files("optical_jax")))
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def find_config(name: str, command: str) -> str:
    """Path of a config file: `name` itself, or that of the recipe of this name.

    Raises:
      ConfigError: a name without folder and ending that no recipe of the command has; the message lists them.
    """
    recipes = recipes_of(command)
    if name in recipes:
        return str(recipes[name])
    if Path(name).name != name or name.endswith(".py") or Path(name).exists():
        return name
    other = next((one for one in RECIPES if name in recipes_of(one)), "")
    near = difflib.get_close_matches(name, recipes, n=1)
    remedy = f"start it with {program(other)}." if other else f"did you mean {near[0]}?" if near else "name a file.py."
    width = max(map(len, recipes))
    lines = [f"\n  {recipe:<{width}}  {summary(file)}" for recipe, file in recipes.items()]
    raise ConfigError(f"config={name} is not a recipe of {command}; {remedy} Recipes:{''.join(lines)}")


def recipes_of(command: str) -> dict[str, Path]:
    """Name -> file of the recipes of a command."""
    return {recipe.rpartition("/")[2]: configs_folder() / f"{recipe}.py" for recipe in RECIPES[command]}


def summary(file: Path) -> str:
    """First line of the docstring of a Python file, which is not imported."""
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]


def call_in_file(path: str, function: str, examples: str, imports: Sequence[str] = (".",)) -> object:
    """Import a Python file and call one of its functions, without arguments.

    Args:
      path: of the file.
      function: its name.
      examples: folder; if the file does not exist, the error lists the config files below it.
      imports: folders, relative to the file's, added to `sys.path` while it runs: `import swahili` in configs/. The
        folder of the recipes comes last.

    Raises:
      ConfigError: no such file, no such function in it, or it fails.
    """
    file = Path(path)
    if not file.is_file():
        # Files with the same function in the examples and its subfolders.
        others = sorted(
            str(p) for p in Path(examples).rglob("*.py") if f"def {function}(" in p.read_text("utf-8", "replace")
        )
        by_name = {Path(other).stem: other for other in others}
        near = difflib.get_close_matches(file.stem, by_name, n=1, cutoff=0.7)
        recipes = [name for command in RECIPES for name in recipes_of(command)]
        if near or file.stem in recipes:
            known = f"did you mean {by_name[near[0]] if near else file.stem}?"
        else:
            known = f"available: {', '.join(others)}" if others else f"recipes: {', '.join(recipes)}"
        raise ConfigError(f"config={path} {'is a folder' if file.is_dir() else 'does not exist'}; {known}")
    spec = importlib.util.spec_from_file_location(f"optical_jax_{function}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config={path} is not a Python file; use one that defines {function}()")
    module, before = importlib.util.module_from_spec(spec), list(sys.path)
    sys.path[:0] = [str((file.parent / folder).absolute()) for folder in imports]
    # A config anywhere may build on a recipe: `import own_language`.
    sys.path.append(str(configs_folder()))
    try:
        spec.loader.exec_module(module)
        return getattr(module, function)()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        here = [frame.lineno for frame in frames if Path(frame.filename) == file.absolute()]
        where = f"{path}:{here[-1]}" if here else path
        if isinstance(error, ModuleNotFoundError) and error.name in {f"optical_jax.{name}" for name in MOVED}:
            raise ConfigError(
                f"config={where}: {error.name} is part of optical_jax.config now; import from there"
            ) from error
        raise ConfigError(f"config={where} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
