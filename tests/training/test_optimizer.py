"""The schedule by hand, and who is decayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import OptimizerConfig
from optical_jax.training.optimizer import decay_mask, learning_rate, make_optimizer


def test_linear_schedule_by_hand():
    """Four steps up to 1 (1/4, 2/4, 3/4, 1), then six down by 1/6 each."""
    rate = learning_rate(OptimizerConfig(peak_lr=1.0, warmup_steps=4), steps=10)
    got = [float(rate(count)) for count in range(10)]
    np.testing.assert_allclose(got, [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], rtol=1e-6)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 2.0), ("linear", 0.2), ("cosine", 0.2)])
def test_every_schedule_ends_at_its_share(schedule, last):
    cfg = OptimizerConfig(peak_lr=2.0, warmup_steps=2, schedule=schedule, final_lr_fraction=0.1)
    assert float(learning_rate(cfg, 50)(50)) == pytest.approx(last)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warmup_the_first_step_is_at_the_peak(warmup):
    rate = learning_rate(OptimizerConfig(peak_lr=3.0, warmup_steps=warmup), steps=5)
    assert float(rate(0)) == pytest.approx(3.0)


def test_only_kernels_and_embeddings_are_decayed():
    params = {"a": {"kernel": 1, "bias": 2}, "norm": {"scale": 3, "bias": 4}, "word": {"embedding": 5}}
    expected = {
        "a": {"kernel": True, "bias": False},
        "norm": {"scale": False, "bias": False},
        "word": {"embedding": True},
    }
    assert decay_mask(params) == expected


def test_first_update_by_hand():
    """Adam's first update is the sign of the gradient; decay adds lr * wd * w, on the kernel alone."""
    params = {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}
    tx = make_optimizer(
        OptimizerConfig(peak_lr=0.1, warmup_steps=0, weight_decay=0.5, clip_norm=0.0, eps=0.0), steps=10
    )
    grads = jax.tree.map(lambda x: jnp.array([-3.0]), params)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["bias"], [0.1], rtol=1e-5)
    np.testing.assert_allclose(updates["kernel"], [0.1 - 0.1 * 0.5 * 2.0], atol=2e-6)
