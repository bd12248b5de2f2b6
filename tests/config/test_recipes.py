"""Recipes are found by name from any folder, and are what `train` takes without a config."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from optical_jax.commands.settings import ImageTeacherCommand, TeacherCommand, TrainCommand, parse_command, read_command
from optical_jax.commands.study import StudyCommand, load_study
from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config import files as config_files
from optical_jax.config.files import RECIPES, call_in_file, configs_folder, find_config, load_config_file, recipes_of
from optical_jax.config.validation import validate, validate_image_teacher, validate_teacher
from optical_jax.errors import ConfigError
from optical_jax.invocation import program
from optical_jax.studies.design import check_study
from tests import ROOT

KINDS = {"train": Config, "teacher": TeacherStageConfig, "image_teacher": ImageStageConfig}
SOURCES = {
    "train": ["--data.bitext", "sw=pairs.tsv", "--run", "r", "--student.path", "encoder", "--teacher.path", "teacher"],
    "teacher": ["--data.train", "triples.tsv", "--encoder.path", "encoder"],
    "image_teacher": ["--data.images", "flowers"],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, without the data of the project's own runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTICAL_DATA", raising=False)
    monkeypatch.delenv("OPTICAL_MODELS", raising=False)


@pytest.mark.parametrize(("command", "name"), [(c, name) for c in KINDS for name in recipes_of(c)])
def test_every_recipe_works_from_any_folder(command, name):
    kinds = {"train": TrainCommand, "teacher": TeacherCommand, "image_teacher": ImageTeacherCommand}
    checks = {"train": validate, "teacher": validate_teacher, "image_teacher": validate_image_teacher}
    settings = parse_command(kinds[command], ["--config", name, *SOURCES[command]]).settings
    checks[command](settings)
    assert "$OPTICAL" not in repr(settings)
    assert load_config_file(name, KINDS[command]) == load_config_file(
        str(next((ROOT / "configs").rglob(f"{name}.py"))), KINDS[command]
    )


@pytest.mark.parametrize("name", recipes_of("study"))
def test_every_study_recipe_works_from_any_folder(name):
    study = load_study(name)
    check_study(study)
    assert Path(study.file).is_file()


def test_help_names_every_recipe(capsys):
    for kind, command in ((TrainCommand, "train"), (TeacherCommand, "teacher"), (ImageTeacherCommand, "image_teacher")):
        with pytest.raises(SystemExit):
            parse_command(kind, ["--help"])
        shown = capsys.readouterr().out
        assert [name for name in recipes_of(command) if name not in shown] == []
    assert all(name in (StudyCommand.__doc__ or "") + (ROOT / "optical_jax/commands/study.py").read_text("utf-8")
               for name in recipes_of("study"))  # fmt: skip


def test_an_unknown_name_lists_the_recipes():
    with pytest.raises(ConfigError) as error:
        find_config("own_langage", "train")
    first, *lines = str(error.value).splitlines()
    assert first == "config=own_langage is not a recipe of train; did you mean own_language? Recipes:"
    assert [line.split()[0] for line in lines] == list(recipes_of("train"))
    assert "Your own language" in lines[0]
    with pytest.raises(ConfigError, match=r"not a recipe of train; start it with .* image_teacher\."):
        find_config("own_images", "train")
    with pytest.raises(ConfigError, match=r"configs/own_language\.py does not exist; did you mean own_language\?"):
        load_config_file("configs/own_language.py", Config)


def test_a_path_is_a_file_and_a_name_a_recipe(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert find_config("tiny", "train") == str(ROOT / "configs" / "tiny.py")
    assert find_config("./tiny.py", "train") == "./tiny.py"
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nimport own_language\n"
        "def get_config():\n    return replace(own_language.get_config(), seed=3)\n"
    )
    assert load_config_file("mine.py", Config) == replace(load_config_file("own_language", Config), seed=3)


def test_the_wheel_has_the_recipes_where_they_are_looked_for(tmp_path, monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"configs": "optical_jax/configs"}
    assert configs_folder() == ROOT / "configs"
    installed = tmp_path / "optical_jax"
    (installed / "configs").mkdir(parents=True)
    monkeypatch.setattr(config_files, "files", lambda name: installed)
    assert configs_folder() == installed / "configs"
    assert recipes_of("train")["tiny"] == installed / "configs" / "tiny.py"


def test_recipes_are_config_files():
    for command in RECIPES:
        for file in recipes_of(command).values():
            function = "get_study" if command == "study" else "get_config"
            assert call_in_file(str(file), function, "configs", imports=("..", ".")) is not None


def test_train_without_config_takes_own_language_and_says_so(capsys):
    flags = ["--data.bitext", "sw=pairs.tsv", "--run", "r"]
    command = read_command(flags, TrainCommand, validate, "train")
    assert capsys.readouterr().out == "settings: the recipe own_language; --config takes another\n"
    own = load_config_file("own_language", Config)
    assert command.settings == replace(own, run="r", data=replace(own.data, bitext=("sw=pairs.tsv",)))
    assert command.settings.student.vocabulary == "train"
    read_command([*flags, "--config", "tiny"], TrainCommand, validate, "train")
    assert capsys.readouterr().out == ""


def test_the_dataclass_defaults_stay():
    """Studies and config files build on them."""
    assert Config().student.vocabulary == "keep"
    assert Config().loss == type(Config().loss)()


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("optical_jax", "optical_jax eval"),
        ("ENV/bin/optical_jax", "optical_jax eval"),
        ("/other/bin/optical_jax", "/other/bin/optical_jax eval"),
        ("train.py", "python eval.py"),
        ("../train.py", "python ../eval.py"),
        ("ENV/lib/optical_jax/__main__.py", "python -m optical_jax eval"),
        ("my_script.py", "python -m optical_jax eval"),
    ],
)
def test_commands_are_shown_as_the_user_starts_the_program(started, shown, tmp_path, monkeypatch):
    """`python` where PATH leads to the running one."""
    bin_folder = tmp_path / "ENV" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("python", "optical_jax"):
        (bin_folder / name).write_text("#!/bin/sh\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setattr("sys.executable", str(bin_folder / "python"))
    command = (
        str(bin_folder / "optical_jax") if started == "optical_jax" else started.replace("ENV", str(bin_folder.parent))
    )
    monkeypatch.setattr("sys.argv", [command])
    assert program("eval") == shown


def test_a_python_that_is_not_on_the_path_is_shown_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", ["x.py"])
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert program("search") == ".venv/bin/python -m optical_jax search"
    monkeypatch.setattr("sys.executable", "/opt/env/bin/python3")
    assert program("search") == "/opt/env/bin/python3 -m optical_jax search"
