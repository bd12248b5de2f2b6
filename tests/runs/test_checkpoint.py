"""Checkpoints: what is saved comes back, on any mesh; the newest and the best stay; evaluation reads params alone."""

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
from optical_jax.runs.checkpoint import Checkpoints, as_machine_errors, load_params


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
