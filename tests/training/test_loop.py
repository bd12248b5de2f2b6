"""The loop alone, around a step that only counts: what a signal between two steps saves and says."""

import dataclasses
import os
import signal
from contextlib import closing

import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import Config, MeshConfig
from optical_jax.data.batches.iterator import Batches
from optical_jax.errors import Interrupted
from optical_jax.partitioning import make_mesh
from optical_jax.progress import ProgressReport
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.metrics import MetricsWriter
from optical_jax.training.loop import train
from optical_jax.training.state import TrainState


class Rows:
    """Eight numbers a batch, one a device."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((8,), index, np.float32)


def count(state, batch):
    metrics = dict.fromkeys(["loss", "grad_norm", "param_norm", "real_tokens"], batch.mean())
    return TrainState({"steps": state.params["steps"] + 1}, state.opt_state), metrics


@pytest.mark.parametrize("every", [1, 100])
def test_a_signal_after_a_step_has_saved_waits_for_the_next(every, monkeypatch, tmp_path):
    advance = ProgressReport.advance

    def advance_and_be_stopped(self: ProgressReport, count: int = 1) -> None:
        advance(self, count)
        monkeypatch.setattr(ProgressReport, "advance", advance)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ProgressReport, "advance", advance_and_be_stopped)
    cfg = Config()
    cfg = dataclasses.replace(
        cfg,
        training=dataclasses.replace(cfg.training, steps=4, dev_every=0),
        checkpoint=dataclasses.replace(cfg.checkpoint, every=every),
    )
    state = TrainState({"steps": jnp.zeros(())}, {"count": jnp.zeros(())})
    with (
        Checkpoints(tmp_path / "checkpoints", cfg.checkpoint) as checkpoints,
        closing(MetricsWriter(tmp_path / "metrics.jsonl")) as writer,
    ):
        with pytest.raises(Interrupted, match="stopped by SIGTERM after saving step 2 of 4"):
            train(
                cfg,
                state,
                count,
                Batches(Rows(), "rows"),
                0,
                mesh=make_mesh(MeshConfig()),
                learning_rate=lambda _: 0.0,
                evaluate=lambda _: {},
                checkpoints=checkpoints,
                writer=writer,
            )
        checkpoints.wait()
        assert checkpoints.latest_step == 2
    assert (tmp_path / "checkpoints" / "2").is_dir()
