"""A run folder: locked, claimed by one config, and honest about how far it came."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from optical_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    OtConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    to_json,
)
from optical_jax.errors import ConfigError, MachineError
from optical_jax.files import sha256_file, write_json
from optical_jax.runs.folder import RunFolder, environment
from optical_jax.runs.metrics import MetricsWriter, cut_after, read_metrics, scalars

CFG = Config(run="x", loss=LossConfig("transport"), training=TrainingConfig(steps=10))


def test_another_value_is_refused_with_a_diff_and_free_settings_are_not(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.holds_run_of(CFG)
    folder.save_config(CFG)
    assert folder.holds_run_of(replace(CFG, training=TrainingConfig(steps=99, log_every=3), mesh=MeshConfig(fsdp=2)))
    assert folder.holds_run_of(replace(CFG, student=StudentConfig(remat="full", attention="xla")))
    other = replace(CFG, seed=4, loss=LossConfig("transport", ot=OtConfig(epsilon=0.2)))
    with pytest.raises(ConfigError, match=r"\n  loss.ot.epsilon: 0.05 -> 0.2\n  seed: 0 -> 4\n"):
        folder.holds_run_of(other)


def test_a_setting_younger_than_the_run_counts_as_its_default(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_config(CFG)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["licences"], saved["student"]["size"], saved["data"]["keep_equal"], saved["seed"]
    write_json(tmp_path / "config.json", saved)
    assert folder.holds_run_of(CFG)
    assert folder.holds_run_of(replace(CFG, licences=("tico19=CC0 1.0",)))
    with pytest.raises(ConfigError, match=r"config: data.keep_equal: False -> True; give the same values"):
        folder.holds_run_of(replace(CFG, data=DataConfig(keep_equal=True)))
    # A setting that is no more is still told.
    write_json(tmp_path / "config.json", saved | {"warmth": 3})
    with pytest.raises(ConfigError, match=r"warmth: 3 -> None"):
        folder.holds_run_of(CFG)


def test_a_run_older_than_packed_batches_went_by_buckets(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_config(CFG)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["data"]["batching"], saved["data"]["row_length"]
    write_json(tmp_path / "config.json", saved)
    assert folder.holds_run_of(replace(CFG, data=DataConfig(batching="buckets")))
    with pytest.raises(ConfigError, match=r"data.batching: 'buckets' -> 'packed'; give the same values"):
        folder.holds_run_of(CFG)


def test_what_is_compiled_is_kept_in_the_folder_and_where_the_user_says(tmp_path):
    code = (
        "import sys, jax; from pathlib import Path; from optical_jax.runs.folder import RunFolder;"
        "RunFolder(Path(sys.argv[1])).keep_compiled(); jax.jit(lambda x: x * 2 + 1)(3.0).block_until_ready()"
    )

    def programs(**environ: str) -> tuple[int, int]:
        """Kept in the run's folder, and in the one that the environment names."""
        given = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | environ
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=given, check=True)
        return tuple(len(list((tmp_path / name).glob("*-cache"))) for name in ("compiled", "mine"))

    assert programs(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))[0] == 0
    first = programs()
    assert first[0] > 0
    assert programs() == first


def test_licences_are_free_and_may_be_stated_once_a_run_is_finished(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_config(CFG)
    folder.save_licences(replace(CFG, licences=("a=CC0 1.0", "b=MIT")))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved == to_json(CFG) | {"licences": ["a=CC0 1.0", "b=MIT"]}
    folder.save_licences(CFG)
    assert folder.saved_config() == saved


def test_resume_never_and_must(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="resume=must"):
        folder.holds_run_of(replace(CFG, resume="must"))
    assert not folder.holds_run_of(replace(CFG, resume="never"))
    folder.save_config(CFG)
    with pytest.raises(ConfigError, match="resume=never"):
        folder.holds_run_of(replace(CFG, resume="never"))


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib\nfrom optical_jax.runs.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).lock():\n    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(MachineError, match="another process"), RunFolder(tmp_path).lock():
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with RunFolder(tmp_path).lock():
        pass


def test_changed_inputs_are_refused(tmp_path):
    folder, file = RunFolder(tmp_path), tmp_path / "sw.train.tsv"
    file.write_text("a\tb\n")
    began = environment() | {"inputs": {"bitext": {"/elsewhere/sw.train.tsv": sha256_file(file)}}, "resumed": []}
    write_json(tmp_path / "env.json", began)
    # Another place is fine: what counts is what is in the files.
    folder.resume(CFG, {"bitext": {str(file): sha256_file(file)}})
    assert json.loads((tmp_path / "env.json").read_text())["resumed"][0]["packages"]["jax"]
    file.write_text("a\tc\n")
    with pytest.raises(ConfigError, match=r"bitext of run .* is not what it began with \(.*sw\.train\.tsv\)"):
        folder.resume(CFG, {"bitext": {str(file): sha256_file(file)}})


@pytest.mark.parametrize("name", ["checkpoints", "teacher"])
def test_what_is_not_of_a_run_is_not_written_over(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    with pytest.raises(ConfigError, match="name another --run"):
        RunFolder(tmp_path).holds_run_of(CFG)


def test_a_run_is_not_put_over_its_own_teacher(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "optical_jax.json").touch()
    RunFolder(tmp_path).holds_run_of(CFG)
    with pytest.raises(ConfigError, match="would be overwritten"):
        RunFolder(tmp_path).holds_run_of(replace(CFG, teacher=TeacherConfig(path=str(tmp_path / "teacher"))))


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="name a folder"), RunFolder(path).lock():
            pass


def test_metrics_after_the_checkpoint_are_cut_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in (1, 2, 3):
        writer.write({"step": step, "loss": 1 / step})
    writer.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]
    cut_after(path, 2)
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'


def test_a_run_is_finished_when_its_last_line_says_so(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.finished() is None
    folder.metrics.write_text('{"step": 9, "loss": 1.0}\n')
    assert folder.finished() is None
    folder.metrics.write_text('{"step": 9, "loss": 1.0}\n{"step": 10, "params_sha256": "ab"}\n')
    assert folder.finished() == {"step": 10, "params_sha256": "ab"}


def test_scalars_are_named_by_their_path():
    record = {"step": 3, "loss": 0.5, "dev": {"sw": {"R@1": 0.25}}, "params_sha256": "text"}
    assert scalars(record) == {"loss": 0.5, "dev/sw/R@1": 0.25}


def test_tensorboard_mirrors_what_metrics_jsonl_says(tmp_path):
    pytest.importorskip("tensorboardX")
    from optical_jax.runs.metrics import open_mirror

    writer = MetricsWriter(tmp_path / "metrics.jsonl", open_mirror("tensorboard", tmp_path, {}))
    writer.write({"step": 1, "loss": 0.5})
    writer.close()
    time.sleep(0)
    assert list((tmp_path / "tensorboard").glob("events.*"))
