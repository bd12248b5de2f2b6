"""Settings: what is impossible is refused by name; files and flags give a Config; none of it imports JAX."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from optical_jax.commands.settings import TrainCommand, parse_command
from optical_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    OtConfig,
    SizeConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    expand_path,
)
from optical_jax.config.files import load_config_file
from optical_jax.config.validation import parse_added_losses, parse_licences, validate
from optical_jax.errors import ConfigError

FINE = Config(run="runs/x", teacher=TeacherConfig(path="teacher"))


def with_loss(*values, **settings):
    return replace(FINE, loss=LossConfig(*values, **settings))


def with_ot(**settings):
    return with_loss("transport", ot=OtConfig(**settings))


def test_a_plain_config_is_fine():
    validate(FINE)
    validate(with_ot(plan="partial", partial_mass=0.5, epsilon_start=0.5, gradient="through"))
    validate(with_ot(masses="learned", relaxation=1.8))
    validate(replace(FINE, student=StudentConfig(max_length=128)))  # packed: buckets do not matter


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (replace(FINE, run=""), "run=''"),
        (replace(FINE, teacher=TeacherConfig()), "teacher.path=''"),
        (replace(FINE, training=TrainingConfig(steps=-5)), "training.steps=-5 is impossible; give 0 or more"),
        (replace(FINE, data=DataConfig(max_pairs=None)), "data.max_pairs=None is impossible; give a whole number"),
        (replace(FINE, data=DataConfig(max_pairs=True)), "data.max_pairs=True is impossible; give a whole number"),
        (replace(FINE, data=DataConfig(code_switch=None)), "data.code_switch=None is impossible; give a number"),
        (
            replace(FINE, data=DataConfig(bitext="sw.tsv")),
            "data.bitext='sw.tsv' is impossible; give a text each, in a t",
        ),
        (replace(FINE, data=DataConfig(bitext=(3,))), "data.bitext=(3,) is impossible; give a text each, in a tuple"),
        (replace(FINE, data=DataConfig(min_score="1")), "data.min_score='1' is impossible; give a number or None"),
        (
            replace(FINE, student=StudentConfig(vocab_size=1e4)),
            "student.vocab_size=10000.0 is impossible; give a whole",
        ),
        (replace(FINE, student=StudentConfig(lowercase="no")), "student.lowercase='no' is impossible; give True or F"),
        (replace(FINE, optimizer=OptimizerConfig(b1=None)), "optimizer.b1=None is impossible; give a number"),
        (
            replace(FINE, teacher=replace(FINE.teacher, max_length=None)),
            "teacher.max_length=None is impossible; give a",
        ),
        (replace(FINE, loss=None), "loss=None is impossible; give LossConfig(...)"),
        (replace(FINE, loss=LossConfig), "is impossible; give LossConfig(...)"),
        (replace(FINE, loss=OtConfig()), "is impossible; give LossConfig(...)"),
        (replace(FINE, seed=np.int64(3)), "seed=np.int64(3) is impossible; give a whole number"),
        (replace(FINE, optimizer=OptimizerConfig(peak_lr=0.0)), "optimizer.peak_lr=0.0"),
        (replace(FINE, optimizer=OptimizerConfig(b2=1.0)), "optimizer.b2=1.0"),
        (replace(FINE, data=DataConfig(batching="buckets", buckets=(32, 16))), "data.buckets=(32, 16)"),
        (replace(FINE, data=DataConfig(batching="buckets", buckets=(16,))), "must hold max_length=64"),
        (replace(FINE, data=DataConfig(global_batch=0)), "data.global_batch=0"),
        (replace(FINE, student=StudentConfig(size=SizeConfig(width=32))), "give all four above 0, or none"),
        (replace(FINE, student=StudentConfig(size=SizeConfig(32, 2, 5, 64))), "student.size.width=32 does not divide"),
        (with_ot(plan="exact", relaxation=1.5), "loss.ot.relaxation=1.5 is for plan=sinkhorn, unbalanced, not for"),
        (with_ot(plan="ipot", threshold=0.1), "loss.ot.threshold=0.1 is for plan=sinkhorn, not for"),
        (with_ot(partial_mass=0.5), "loss.ot.partial_mass=0.5 is for plan=partial, not for loss.ot.plan='sinkhorn'"),
        (with_ot(marginal_weight=2.0), "loss.ot.marginal_weight=2.0 is for plan=unbalanced"),
        (with_ot(plan="greedy", gradient="through"), "loss.ot.gradient='through' is for plan="),
        (with_ot(plan="argmax", epsilon=0.01), "loss.ot.epsilon=0.01 is for plan=sinkhorn, unbalanced, partial, ipot"),
        (with_ot(plan="greedy", iterations=9), "loss.ot.iterations=9 is for plan="),
        (with_ot(epsilon_until=0.9), "loss.ot.epsilon_until=0.9 ends a schedule"),
        (with_ot(plan="foo"), "loss.ot.plan='foo' is impossible; take one of sinkhorn, unbalanced,"),
        (with_loss("foo"), "loss.name='foo' is impossible; take one of transport,"),
        (with_loss("greedy", ot=OtConfig(masses="norm")), "loss.ot.masses='norm' is for loss transport, ot_contr"),
        (with_loss("gromov_wasserstein", ot=OtConfig(gradient="through")), "loss.ot.gradient='through' is for loss"),
        (with_loss("gromov_wasserstein", ot=OtConfig(plan="exact")), "loss.ot.plan='exact' is not what loss gromov"),
        (
            with_loss("transport", temperature=0.1),
            "loss.temperature=0.1 is for loss contrastive, pooled_contrastive, ot_con",
        ),
        (with_loss("pooled_mse", fusion=0.1), "loss.fusion=0.1 is for loss gromov_wasserstein, not for pooled_mse"),
        (with_ot(plan="uniform", epsilon_start=1.0), "loss.ot.epsilon_start=1.0 is for plan="),
        (with_ot(threshold=0.1, gradient="through"), "loss.ot.threshold=0.1 stops at another iteration"),
        (with_ot(epsilon_start=0.01), "loss.ot.epsilon_start=0.01 is below loss.ot.epsilon=0.05"),
        (with_ot(plan="exact", masses="idf"), "loss.ot.masses='idf' is not what an assignment moves"),
        (with_ot(plan="softmax", masses="learned"), "loss.ot.masses='learned' learns by the prices"),
        (with_loss("gromov_wasserstein", OtConfig(masses="learned")), "not by loss.name='gromov_wasserstein'"),
        (
            replace(with_ot(masses="idf"), teacher=TeacherConfig(path="teacher", pooling="mean")),
            "loss.ot.masses='idf' weighs tokens, and teacher.pooling='mean' leaves one vector",
        ),
        (
            replace(with_ot(masses="norm"), teacher=TeacherConfig(path="teacher", cache="kept")),
            "teacher.cache keeps none; leave the cache out",
        ),
        (replace(FINE, licences=("tico19",)), "licences='tico19' names no part or no licence; write NAME=LICENCE"),
        (replace(FINE, licences=("=MIT",)), "licences='=MIT'"),
        (replace(FINE, licences=("tico19= ",)), "licences='tico19= '"),
        (replace(FINE, licences=("a=MIT", "a=CC0 1.0")), "licences: a is 'MIT' and 'CC0 1.0'; give one licence a part"),
        (
            replace(FINE, loss=LossConfig("transport", add=("contrastiv=1",))),
            "'contrastiv=1' names no loss; did you mean contrastive?",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("x=1",))),
            "loss.add='x=1' names no loss; take one of transport, gromov_w",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("greedy",))),
            "loss.add='greedy' has no weight; write NAME=WEIGHT",
        ),
        (replace(FINE, loss=LossConfig("transport", add=("greedy=much",))), "loss.add='greedy=much' has no weight"),
        (
            replace(FINE, loss=LossConfig("transport", add=("greedy=0",))),
            "loss.add='greedy=0' has an impossible weight",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("greedy=nan",))),
            "loss.add='greedy=nan' has an impossible weight",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("greedy=1", "greedy=2"))),
            "'greedy=2' adds greedy a second time",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("transport=1",))),
            "adds the loss that loss.name=transport is already",
        ),
        (
            replace(FINE, loss=LossConfig(name="contrastive"), data=DataConfig(global_batch=1)),
            "data.global_batch=1 in training.accumulate=1 parts is one pair at a time, and loss contrastive",
        ),
        (
            replace(FINE, loss=LossConfig("transport", add=("relational=1",)), training=TrainingConfig(accumulate=64)),
            "in training.accumulate=64 parts is one pair at a time, and loss relational",
        ),
    ],
)
def test_impossible_values_are_refused_by_name(cfg, said):
    with pytest.raises(ConfigError) as error:
        validate(cfg)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_licence_may_hold_any_words():
    assert parse_licences(("tico19=CC0 1.0", "x=free if a=b")) == {"tico19": "CC0 1.0", "x": "free if a=b"}


def test_added_losses_are_read_with_their_weights():
    assert parse_added_losses(LossConfig("transport", add=("contrastive = 0.1", "pooled_mse=2"))) == {
        "contrastive": 0.1,
        "pooled_mse": 2.0,
    }


def test_flags_override_the_config_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from optical_jax.config import Config, TrainingConfig\n"
        "def get_config():\n"
        "    return Config(seed=3, training=TrainingConfig(steps=7, log_every=9))\n"
    )
    command = parse_command(
        TrainCommand,
        [
            "--config",
            str(file),
            "--training.steps",
            "500",
            "--data.bitext",
            "sw=A.tsv.gz",
            "B/sw.train.tsv.gz",
            "--dry-run",
        ],
    )
    assert command.dry_run
    assert command.settings.training == TrainingConfig(steps=500, log_every=9)
    assert command.settings.seed == 3
    assert command.settings.data.bitext == ("sw=A.tsv.gz", "B/sw.train.tsv.gz")


def test_a_missing_config_file_names_those_that_exist(tmp_path, monkeypatch):
    """Those below the folder too; what other files give is nothing to be started with."""
    (tmp_path / "configs" / "images").mkdir(parents=True)
    for name, function in (("somali.py", "get_config"), ("images/teacher.py", "get_config"), ("study.py", "get_study")):
        (tmp_path / "configs" / name).write_text(f"def {function}():\n    pass\n")
    monkeypatch.chdir(tmp_path)
    known = r"there are: configs/images/teacher.py, configs/somali.py$"
    with pytest.raises(ConfigError, match=rf"config=configs/other.py does not exist; {known}"):
        load_config_file("configs/other.py", Config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "AttributeError"),
        ("def get_config(): return 5", "returned int"),
        ("import nothing_of_that_name", r"broken\.py:1 cannot be read: ModuleNotFoundError"),
        ("from optical_jax.config import Config\ndef get_config(): return Config(stepz=5)", r"broken\.py:2 .*stepz"),
        ("from optical_jax.config import Config\ndef get_config(): return Config(seed='1')", "^seed='1' is impossible"),
    ],
)
def test_a_broken_config_file_is_a_config_error(tmp_path, text, said):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config_file(str(file), Config)


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.setenv("OPTICAL_SET", "/somewhere")
    monkeypatch.delenv("OPTICAL_UNSET", raising=False)
    assert expand_path("$OPTICAL_SET/a", "data.bitext") == "/somewhere/a"
    with pytest.raises(ConfigError, match=r"teacher.path=\$OPTICAL_UNSET/a: \$OPTICAL_UNSET is not set"):
        expand_path("$OPTICAL_UNSET/a", "teacher.path")


def test_the_package_itself_imports_no_jax():
    code = "import optical_jax, optical_jax.config, sys; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
