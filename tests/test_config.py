"""Settings: what is impossible is refused by name; files and flags give a Config; none of it imports JAX."""

import subprocess
import sys
from dataclasses import replace

import pytest

from optical_jax.commands.settings import load_config_file, parse_train_command
from optical_jax.config import (
    Config,
    DataConfig,
    OptimizerConfig,
    SizeConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    expand_path,
)
from optical_jax.errors import ConfigError
from optical_jax.validation import parse_licences, validate

FINE = Config(run="runs/x", teacher=TeacherConfig(path="teacher"))


def test_a_plain_config_is_fine():
    validate(FINE)
    validate(replace(FINE, student=StudentConfig(max_length=128)))  # packed: buckets do not matter


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (replace(FINE, run=""), "run=''"),
        (replace(FINE, teacher=TeacherConfig()), "teacher.path=''"),
        (replace(FINE, training=TrainingConfig(steps=-5)), "training.steps=-5 is impossible; give at least 1"),
        (replace(FINE, optimizer=OptimizerConfig(peak_lr=0.0)), "optimizer.peak_lr=0.0"),
        (replace(FINE, optimizer=OptimizerConfig(b2=1.0)), "optimizer.b2=1.0"),
        (replace(FINE, data=DataConfig(batching="buckets", buckets=(32, 16))), "data.buckets=(32, 16)"),
        (replace(FINE, data=DataConfig(batching="buckets", buckets=(16,))), "must hold max_length=64"),
        (replace(FINE, data=DataConfig(global_batch=0)), "data.global_batch=0"),
        (replace(FINE, student=StudentConfig(size=SizeConfig(width=32))), "give all four above 0, or none"),
        (replace(FINE, student=StudentConfig(size=SizeConfig(32, 2, 5, 64))), "student.size.width=32 does not divide"),
        (replace(FINE, licences=("tico19",)), "licences='tico19' names no part or no licence; write NAME=LICENCE"),
        (replace(FINE, licences=("=MIT",)), "licences='=MIT'"),
        (replace(FINE, licences=("tico19= ",)), "licences='tico19= '"),
        (replace(FINE, licences=("a=MIT", "a=CC0 1.0")), "licences: a is 'MIT' and 'CC0 1.0'; give one licence a part"),
    ],
)
def test_impossible_values_are_refused_by_name(cfg, said):
    with pytest.raises(ConfigError) as error:
        validate(cfg)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_licence_may_hold_any_words():
    assert parse_licences(("tico19=CC0 1.0", "x=free if a=b")) == {"tico19": "CC0 1.0", "x": "free if a=b"}


def test_flags_override_the_config_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from optical_jax.config import Config, TrainingConfig\n"
        "def get_config():\n"
        "    return Config(seed=3, training=TrainingConfig(steps=7, log_every=9))\n"
    )
    command = parse_train_command(
        [
            "--config",
            str(file),
            "--training.steps",
            "500",
            "--data.bitext",
            "sw=A.tsv.gz",
            "B/sw.train.tsv.gz",
            "--dry-run",
        ]
    )
    assert command.dry_run
    assert command.settings.training == TrainingConfig(steps=500, log_every=9)
    assert command.settings.seed == 3
    assert command.settings.data.bitext == ("sw=A.tsv.gz", "B/sw.train.tsv.gz")


def test_a_missing_config_file_names_those_that_exist(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "somali.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"config=configs/other.py does not exist; there are: configs/somali.py"):
        load_config_file("configs/other.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "AttributeError"),
        ("def get_config(): return 5", "returned int"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("from optical_jax.config import Config\ndef get_config(): return Config(stepz=5)", "stepz"),
    ],
)
def test_a_broken_config_file_is_a_config_error(tmp_path, text, said):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config_file(str(file))


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.setenv("OPTICAL_SET", "/somewhere")
    monkeypatch.delenv("OPTICAL_UNSET", raising=False)
    assert expand_path("$OPTICAL_SET/a", "data.bitext") == "/somewhere/a"
    with pytest.raises(ConfigError, match=r"teacher.path=\$OPTICAL_UNSET/a: \$OPTICAL_UNSET is not set"):
        expand_path("$OPTICAL_UNSET/a", "teacher.path")


@pytest.mark.parametrize("module", ["train", "evaluate", "export"])
def test_help_imports_neither_jax_nor_flax(module):
    code = (
        f"import sys\nfrom optical_jax.commands.{module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'jax', 'flax', 'numpy', 'transformers', 'orbax', 'grain'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_the_package_itself_imports_no_jax():
    code = "import optical_jax, optical_jax.config, sys; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
