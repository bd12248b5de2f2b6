"""Checkpoints: what is saved comes back, on any mesh; the newest and the best stay; evaluation reads params alone."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from optical_jax.config import CheckpointConfig, MeshConfig
from optical_jax.errors import ConfigError, MachineError
from optical_jax.params import fingerprint
from optical_jax.partitioning import make_mesh
from optical_jax.runs import checkpoint
from optical_jax.runs.checkpoint import PLAIN_PATH, Checkpoints, as_machine_errors, find_step, load_params


def make_state(value: float):
    params = {"a": {"kernel": jnp.full((8, 4), value), "bias": jnp.arange(4.0)}}
    return params, optax.adamw(1e-3).init(params)


def save_steps(folder, cfg, figures):
    with Checkpoints(folder / "checkpoints", cfg) as checkpoints:
        for step, figure in figures.items():
            params, opt_state = make_state(step)
            position = {"next_batch": step, "fingerprint": "ab"}
            checkpoints.save(step, params, opt_state, data=position, config={"seed": 1}, best_metric=figure)


def test_newest_and_best_stay(tmp_path):
    save_steps(tmp_path, CheckpointConfig(keep=2), {10: 0.1, 20: 0.9, 30: None, 40: 0.4, 50: None})
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [20, 40, 50]
    for which, step in (("last", 50), ("best", 20), (40, 40)):
        params, found = load_params(tmp_path, which)
        assert found == step
        np.testing.assert_array_equal(params["a"]["kernel"], np.full((8, 4), step, np.float32))
    with pytest.raises(ConfigError, match="no checkpoint 30; it has 20, 40, 50"):
        load_params(tmp_path, 30)


@pytest.mark.parametrize(
    "name",
    [
        "a [1]", "x[ab]y/run", "back\\slash", "st*r", "q?", "**", "[a", "50% #1 $HOME", "quo'te\"", "new\nline", "~",
        "e\u0301 日本語", "\u200b", "s3:/x", "{x}",
    ],
)  # fmt: skip
def test_what_is_saved_below_any_path_comes_back(tmp_path, name):
    """Beside a folder that the name would match as a pattern, with other checkpoints."""
    for n, run in enumerate((tmp_path / name, tmp_path / "star"), 1):
        run.mkdir(parents=True)
        save_steps(run, CheckpointConfig(keep=2), {n: 0.5, n + 10: 0.25})
    for which, step in (("last", 11), ("best", 1)):
        params, found = load_params(tmp_path / name, which)
        assert found == step
        np.testing.assert_array_equal(params["a"]["kernel"], np.full((8, 4), step, np.float32))
    params, opt_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), make_state(0)
    )
    with Checkpoints(tmp_path / name / "checkpoints", CheckpointConfig()) as checkpoints:
        found, moments, position, step = checkpoints.restore(params, opt_state)
    assert (step, position["next_batch"]) == (11, 11)
    np.testing.assert_array_equal(found["a"]["kernel"], np.full((8, 4), 11, np.float32))
    assert jax.tree.structure(moments) == jax.tree.structure(opt_state)


def test_links_to_odd_folders_are_removed(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "[x]").mkdir()
    save_steps(tmp_path / "[x]", CheckpointConfig(), {1: None})
    assert find_step(tmp_path / "[x]") == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_for_links_that_is_odd_itself_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "tmp [x]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp [x]"))
    save_steps(tmp_path / "tmp [x]", CheckpointConfig(), {1: None})
    assert find_step(tmp_path / "tmp [x]") == 1


@pytest.mark.parametrize("path", ["/s3/runs/a", "/gs", "C:/a/b[1]", "/a\\b", "/a:b", "/\udcff"])
def test_paths_that_orbax_would_misread(path):
    assert not PLAIN_PATH.fullmatch(path)


@pytest.mark.parametrize(
    "path", ["/home/joe/runs/sw-1_0.5", "/a b/c=1,d@e+f%~", "C:/Users/joe", "/données/日本", "/s3x/a"]
)
def test_paths_that_need_no_link(path):
    assert PLAIN_PATH.fullmatch(path)


def test_without_a_link_an_odd_folder_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(ConfigError, match=r"a \[1\]/checkpoints: .* a path with '\[' '\]', and no temporary link"):
        save_steps(tmp_path / "a [1]", CheckpointConfig(), {1: None})
    save_steps(tmp_path / "plain", CheckpointConfig(), {1: None})


def test_a_save_that_orbax_did_not_merge_is_an_error(tmp_path, monkeypatch):
    """As below a path that it takes for a pattern; it logs a warning alone."""
    monkeypatch.setattr(checkpoint, "PLAIN_PATH", checkpoint.re.compile(r"(?s).*"))
    with pytest.raises(MachineError, match=r"\[x\]/checkpoints/1/params was saved without manifest.ocdbt"):
        save_steps(tmp_path / "[x]", CheckpointConfig(), {1: None})


def test_missing_checkpoints_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoints/ folder"):
        load_params(tmp_path)
    save_steps(tmp_path, CheckpointConfig(), {5: None})
    with pytest.raises(ConfigError, match="no checkpoint with a dev metric"):
        load_params(tmp_path, "best")


def test_restore_onto_another_mesh(tmp_path):
    save_steps(tmp_path, CheckpointConfig(), {7: 0.5})
    mesh = make_mesh(MeshConfig(fsdp=4))
    params, opt_state = make_state(0.0)

    def abstract(x):
        sharding = NamedSharding(mesh, PartitionSpec("fsdp") if x.ndim == 2 else PartitionSpec())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    with Checkpoints(tmp_path / "checkpoints", CheckpointConfig()) as checkpoints:
        assert checkpoints.best_metric() == 0.5
        found, moments, position, step = checkpoints.restore(*jax.tree.map(abstract, (params, opt_state)))
    assert (step, position) == (7, {"next_batch": 7, "fingerprint": "ab"})
    assert jax.tree.structure(moments) == jax.tree.structure(opt_state)
    assert found["a"]["kernel"].sharding.spec == PartitionSpec("fsdp")
    np.testing.assert_array_equal(found["a"]["kernel"], np.full((8, 4), 7.0, np.float32))


@pytest.mark.parametrize("words", ["No space left on device", "RESOURCE_EXHAUSTED: Error writing [os_error_code='28']"])
def test_a_full_disk_is_the_machines_fault(words):
    """The words are those that a 1 MiB file system drew from Orbax and tensorstore."""
    with pytest.raises(MachineError, match="the last complete one is kept"), as_machine_errors():
        raise ValueError(words)
    with pytest.raises(ValueError, match="a bug"), as_machine_errors():
        raise ValueError("a bug")


def test_fingerprint_sees_names_values_and_nothing_else():
    one = {"b": np.ones(3, np.float32), "a": np.zeros(2, np.float32)}
    same = {"a": jnp.zeros(2), "b": jnp.ones(3)}
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint({"a": one["b"], "b": one["a"]})
    assert fingerprint(one) != fingerprint({**one, "a": np.array([0, 1e-45], np.float32)})
