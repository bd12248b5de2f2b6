"""Masses by length and learned ones, from the tower to the gradient, and epsilon over a run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest

from optical_jax.config import LossConfig, OtConfig, TowerConfig, identity
from optical_jax.losses.ot_distillation import transport, transport_loss
from optical_jax.models.formats.export import save_tower
from optical_jax.models.formats.pretrained import open_model
from optical_jax.models.late_interaction import tower_specs
from optical_jax.ot.masses import learned_mass, norm_mass
from optical_jax.ot.schedule import at_step
from optical_jax.ot.sinkhorn import needs_log_space
from optical_jax.params import init_params
from optical_jax.types import TokenVectors
from tests.models.test_late_interaction import encode, hidden_states, random_params, text_inputs, tower
from tests.ot.test_plans import in_float64, sides, slopes
from tests.training.test_step import BATCHES, CFG, TOWER, run_steps


def weighted(weight, mask):
    return TokenVectors(jnp.zeros((*np.shape(mask), 2)), jnp.asarray(mask, bool), jnp.asarray(weight))


# ---- by length ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", [0, 5])
def test_weights_are_the_lengths_of_the_vectors_before_they_are_made_one(projection):
    cfg, inputs = tower(projection=projection, masses="norm"), text_inputs()
    params = random_params(cfg)
    hidden = hidden_states(params, inputs, cfg)
    if projection:
        hidden = hidden @ np.asarray(params["head"]["projection"]["kernel"])
    found, plain = (encode(params, inputs, each) for each in (cfg, tower(projection=projection)))
    expected = np.linalg.norm(hidden, axis=-1) * np.asarray(inputs.keep)
    np.testing.assert_allclose(found.weight, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.vectors, plain.vectors)
    np.testing.assert_array_equal(plain.weight, inputs.weight)
    np.testing.assert_allclose(norm_mass(found), expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


def test_masses_by_length_without_lengths_are_an_error():
    with pytest.raises(ValueError, match=r"loss\.ot\.masses=norm"):
        norm_mass(TokenVectors(jnp.zeros((1, 2, 3)), jnp.ones((1, 2), bool)))


def test_a_run_by_length_asks_both_towers_for_it():
    """The losses of towers whose heads say so already."""
    cfg = replace(CFG, loss=LossConfig("transport", ot=OtConfig(masses="norm")))
    asked, _, _ = run_steps(cfg, TOWER, 1, BATCHES[:2])
    told, _, _ = run_steps(cfg, replace(TOWER, head=replace(TOWER.head, masses="norm")), 1, BATCHES[:2])
    assert asked == told
    assert asked != run_steps(CFG, TOWER, 1, BATCHES[:2])[0]


# ---- learned -----------------------------------------------------------------------------------------------------


def test_learned_masses_by_hand():
    """Softmax over real tokens: logits log 3 and 0 give 3/4 and 1/4; a side without logits is equal."""
    mass = learned_mass(weighted([[np.log(3.0), 0.0, 9.0], [5.0, 5.0, 5.0]], [[1, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(mass, [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0]], rtol=1e-6)
    bare = TokenVectors(jnp.zeros((1, 2, 3)), jnp.ones((1, 2), bool))
    np.testing.assert_array_equal(learned_mass(bare), [[0.5, 0.5]])


@pytest.mark.parametrize("epsilon", [0.1, 0.04], ids=["kernel", "log"])
def test_learned_masses_have_the_gradient_of_the_regularised_cost(epsilon):
    """Finite differences of min <P, C> - epsilon H(P), solved anew by POT for masses softmax(logits)."""
    cfg = LossConfig("transport", ot=OtConfig("cosine", epsilon=epsilon, masses="learned", iterations=2000))
    with in_float64():
        student, teacher = sides(3)
        teacher = teacher.replace(weight=None)

        def loss(logits):
            ours, theirs = jax.tree.map(jnp.asarray, (student, teacher))
            return transport_loss(ours.replace(weight=logits), theirs, cfg).loss

        value, grad = jax.jit(jax.value_and_grad(loss))(jnp.asarray(student.weight))
        moved = transport(*jax.tree.map(jnp.asarray, (student, teacher)), cfg.ot)
        assert float(value) == pytest.approx(float((moved.plan * moved.cost).sum()) / 2, abs=1e-12)

        def optimum(logits):
            total = 0.0
            for n in (0, 1):
                s, t = student.vectors[n][student.mask[n]], teacher.vectors[n][teacher.mask[n]]
                a, cost = np.exp(logits[n][student.mask[n]]), 1 - s @ t.T
                plan = ot.sinkhorn(
                    a / a.sum(), np.full(len(t), 1 / len(t)), cost, epsilon, "sinkhorn_log", 5000, 1e-13, warn=False
                )
                total += (plan * cost).sum() + epsilon * (plan * np.log(plan)).sum()
            return total / 2

        for direction, slope in slopes(optimum, student.weight):
            assert (np.asarray(grad) * direction).sum() == pytest.approx(slope, abs=1e-7)


LEARNED = replace(TOWER, head=replace(TOWER.head, masses="learned"))


def test_learned_masses_start_equal_and_are_learned():
    cfg = replace(CFG, loss=LossConfig("transport", ot=OtConfig(masses="learned")))
    losses, state, _ = run_steps(cfg, LEARNED, 1, BATCHES[:3])
    assert losses[0] == pytest.approx(run_steps(CFG, TOWER, 1, BATCHES[:1])[0][0], rel=1e-6)
    assert np.abs(np.asarray(state.params["head"]["mass"]["kernel"])).max() > 1e-4


def test_the_map_of_learned_masses_is_written_and_read_back(tmp_path):
    params = init_params(tower_specs(LEARNED), jax.random.key(0))
    params["head"]["mass"]["kernel"] = np.arange(8, dtype=np.float32)
    save_tower(params, LEARNED, None, tmp_path / "out")
    found = open_model(tmp_path / "out").tower()
    assert found.cfg.head.masses == "learned"
    np.testing.assert_array_equal(found.params["head"]["mass"]["kernel"], np.arange(8))


def test_towers_without_masses_are_who_they_were():
    assert "masses" not in identity(TowerConfig())["head"]
    assert identity(LEARNED)["head"]["masses"] == "learned"


# ---- epsilon over a run ------------------------------------------------------------------------------------------


def test_epsilon_falls_by_one_factor_and_stays():
    """From 0.8 to 0.05 in half of 100 steps: half way the geometric mean, 0.2."""
    cfg = LossConfig("transport", ot=OtConfig(epsilon=0.05, epsilon_start=0.8, epsilon_until=0.5))
    found = [float(at_step(cfg, jnp.int32(step), 100).ot.epsilon) for step in (0, 25, 50, 99)]
    np.testing.assert_allclose(found, [0.8, 0.2, 0.05, 0.05], rtol=1e-5)
    assert at_step(LossConfig("transport"), jnp.int32(0), 100) == LossConfig("transport")


@pytest.mark.parametrize(("last", "logs"), [(0.05, False), (0.02, True)])
def test_the_space_is_that_of_the_last_epsilon(last, logs):
    cfg = LossConfig("transport", ot=OtConfig(epsilon=last, epsilon_start=0.8))
    assert needs_log_space(at_step(cfg, jnp.int32(0), 100).ot) is logs


def test_a_run_begins_with_the_first_epsilon_and_compiles_once():
    first, last = (replace(CFG, loss=LossConfig("transport", ot=OtConfig(epsilon=epsilon))) for epsilon in (0.5, 0.05))
    # Of 20 steps the first alone comes before a twentieth of them is over.
    falling = replace(CFG, loss=LossConfig("transport", ot=OtConfig(epsilon_start=0.5, epsilon_until=0.05)))
    losses, _, compiled = run_steps(falling, TOWER, 1, BATCHES[:2])
    assert losses[0] == pytest.approx(run_steps(first, TOWER, 1, BATCHES[:1])[0][0], rel=1e-6)
    assert losses[0] != pytest.approx(run_steps(last, TOWER, 1, BATCHES[:1])[0][0], rel=1e-3)
    assert compiled == 1
