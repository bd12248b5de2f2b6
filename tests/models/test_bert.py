"""The encoder against a NumPy loop over layers in float64, against PyTorch, and against itself under other layouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from optical_jax.config import EncoderConfig, MeshConfig
from optical_jax.errors import ConfigError
from optical_jax.models.bert import encode_hidden, encoder_specs, roberta_positions
from optical_jax.models.stack import UNROLLED_LAYERS
from optical_jax.params import init_params, map_specs, normal
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings

TINY = EncoderConfig(
    vocab_size=64, width=32, layers=3, heads=4, mlp_width=48, max_positions=24, type_vocab_size=2, norm_eps=1e-12
)
FAMILIES = {
    "bert": TINY,
    "roberta": dataclasses.replace(TINY, family="roberta", pad_id=1, type_vocab_size=1, norm_eps=1e-5),
    "xlm-roberta": dataclasses.replace(TINY, family="xlm-roberta", pad_id=1, type_vocab_size=1, norm_eps=1e-5),
}

encode = jax.jit(encode_hidden, static_argnames="cfg")


def random_params(cfg: EncoderConfig, seed: int = 0):
    """Every tensor random and large enough to matter: zero biases and unit scales would hide a lost one."""
    wide = map_specs(lambda spec: dataclasses.replace(spec, init=normal(0.3)), encoder_specs(cfg))
    return init_params(wide, jax.random.key(seed))


def padded_batch(cfg: EncoderConfig, lengths=(9, 5, 1), length: int = 9, seed: int = 0):
    """Random ids with right padding."""
    rng = np.random.default_rng(seed)
    attend = np.arange(length)[None, :] < np.asarray(lengths)[:, None]
    ids = np.where(attend, rng.integers(5, cfg.vocab_size, attend.shape), cfg.pad_id)
    return ids.astype(np.int32), attend


# ---- the reference ---------------------------------------------------------------------------------------------


def reference(params, ids, attend, cfg: EncoderConfig) -> np.ndarray:
    """BERT as its paper writes it: float64, text by text, layer by layer, head by head, real tokens only."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    activation = {
        "gelu": lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "relu": lambda x: np.maximum(x, 0),
    }[cfg.activation]

    def norm(p, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + cfg.norm_eps)
        return x * p["scale"] + p["bias"]

    out = np.full((*ids.shape, cfg.width), np.nan)
    table = params["embeddings"]
    for text in range(len(ids)):
        real = attend[text]
        first = 0 if cfg.family == "bert" else cfg.pad_id + 1
        places = np.flatnonzero(real) if cfg.family == "bert" else first + np.arange(real.sum())
        x = table["word"]["embedding"][ids[text, real]] + table["position"]["embedding"][places]
        x = norm(table["norm"], x + table["token_type"]["embedding"][0])
        for layer in range(cfg.layers):
            block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["layers"])
            attention, mlp = block["attention"], block["mlp"]
            summed = attention["out"]["bias"]
            for head in range(cfg.heads):
                q, k, v = (
                    x @ attention[name]["kernel"][:, head] + attention[name]["bias"][head]
                    for name in ("query", "key", "value")
                )
                scores = np.exp(q @ k.T / np.sqrt(cfg.width // cfg.heads))
                summed = summed + scores / scores.sum(-1, keepdims=True) @ v @ attention["out"]["kernel"][head]
            x = norm(attention["norm"], x + summed)
            up = activation(x @ mlp["up"]["kernel"] + mlp["up"]["bias"])
            x = norm(mlp["norm"], x + up @ mlp["down"]["kernel"] + mlp["down"]["bias"])
        out[text, real] = x
    return out


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_agrees_with_numpy(family, activation):
    cfg = dataclasses.replace(FAMILIES[family], activation=activation)
    params, (ids, attend) = random_params(cfg), padded_batch(cfg)
    hidden = encode(params, ids, attend, cfg)
    assert hidden.dtype == jnp.float32
    np.testing.assert_allclose(hidden[attend], reference(params, ids, attend, cfg)[attend], atol=1e-5)


@pytest.mark.parametrize("layers", [UNROLLED_LAYERS, UNROLLED_LAYERS + 1])
def test_unrolled_and_scanned_layers(layers):
    """On either side of the depth that is unrolled, and with kernels of BERT's own size."""
    cfg = dataclasses.replace(TINY, layers=layers)
    params, (ids, attend) = init_params(encoder_specs(cfg), jax.random.key(0)), padded_batch(cfg)
    compiled = encode.lower(params, ids, attend, cfg).compile().as_text()
    assert (" while(" in compiled) == (layers > UNROLLED_LAYERS)
    np.testing.assert_allclose(
        encode(params, ids, attend, cfg)[attend], reference(params, ids, attend, cfg)[attend], atol=1e-5
    )


def test_left_padding():
    """RoBERTa counts real tokens, so that left padding moves nothing; BERT counts places."""
    for family in ("roberta", "bert"):
        cfg = FAMILIES[family]
        params, (ids, attend) = random_params(cfg), padded_batch(cfg)
        ids, attend = ids[:, ::-1].copy(), attend[:, ::-1].copy()
        hidden = encode(params, ids, attend, cfg)
        np.testing.assert_allclose(hidden[attend], reference(params, ids, attend, cfg)[attend], atol=1e-5)


def test_positions_of_roberta():
    """By hand, from the rule of Hugging Face: cumulative count of real tokens, plus pad_id, pad_id on padding."""
    ids = jnp.array([[0, 7, 2, 1, 1], [1, 1, 0, 9, 2]])
    places = roberta_positions(ids, pad_id=1)
    np.testing.assert_array_equal(places, [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4]])


# ---- properties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_padding_changes_nothing(family):
    """Neither its length nor (for BERT, whose positions ignore the ids) its content."""
    cfg = FAMILIES[family]
    params, (ids, attend) = random_params(cfg), padded_batch(cfg)
    hidden = encode(params, ids, attend, cfg)
    longer_ids, longer_attend = padded_batch(cfg, length=20)
    longer_ids[:, :9] = ids
    if family == "bert":
        longer_ids[~longer_attend] = 33
    longer = encode(params, longer_ids, longer_attend, cfg)
    np.testing.assert_allclose(longer[longer_attend], hidden[attend], atol=2e-6)


def test_a_row_without_tokens_is_finite():
    params, (ids, attend) = random_params(TINY), padded_batch(TINY, lengths=(9, 0, 3))

    def energy(params):
        hidden = encode_hidden(params, jnp.asarray(ids), jnp.asarray(attend), TINY)
        return jnp.square(hidden).mean(), hidden

    grads, hidden = jax.grad(energy, has_aux=True)(params)
    assert np.isfinite(hidden).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_gradient_agrees_with_finite_differences():
    """Along one random direction through all parameters, of the float64 reference."""
    cfg = dataclasses.replace(TINY, layers=2)
    params, (ids, attend) = random_params(cfg), padded_batch(cfg)
    target = np.random.default_rng(1).normal(size=(*ids.shape, cfg.width))
    direction = random_params(cfg, seed=7)

    def loss(params):
        return jnp.sum(
            jnp.where(
                attend[:, :, None], encode_hidden(params, jnp.asarray(ids), jnp.asarray(attend), cfg) * target, 0.0
            )
        )

    def reference_loss(step):
        moved = jax.tree.map(
            lambda x, d: np.asarray(x, np.float64) + step * np.asarray(d, np.float64), params, direction
        )
        return np.sum(reference(moved, ids, attend, cfg)[attend] * target[attend])

    grads = jax.grad(loss)(params)
    slope = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True))
    assert slope == pytest.approx((reference_loss(1e-5) - reference_loss(-1e-5)) / 2e-5, rel=1e-4)


def test_bfloat16_is_close():
    """bfloat16 keeps 8 bits: a unit-variance state moves by some 2^-8 a layer, its direction hardly."""
    half = dataclasses.replace(TINY, dtype="bfloat16")
    params = init_params(encoder_specs(TINY), jax.random.key(0))
    ids, attend = padded_batch(TINY)
    exact, rough = encode(params, ids, attend, TINY), encode(params, ids, attend, half)
    assert rough.dtype == jnp.bfloat16
    rough = rough.astype(jnp.float32)
    cosine = jnp.sum(exact * rough, -1) / (jnp.linalg.norm(exact, axis=-1) * jnp.linalg.norm(rough, axis=-1))
    assert cosine.min() > 0.999
    assert jnp.abs(exact - rough).max() < 0.1


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_sharded_equals_one_device(family, capfd):
    """Parameters over fsdp and tensor, batch over data and fsdp: the same states and gradients, no array replicated."""
    cfg = dataclasses.replace(FAMILIES[family], layers=2)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    params = random_params(cfg)
    ids, attend = padded_batch(cfg, lengths=(9, 5, 1, 3, 9, 2, 7, 4))

    def loss(params, ids, attend):
        hidden = encode_hidden(params, jnp.asarray(ids), jnp.asarray(attend), cfg)
        return jnp.sum(jnp.sin(hidden) * attend[:, :, None]), hidden

    step = jax.value_and_grad(loss, has_aux=True)
    (_, alone), alone_grads = jax.jit(step)(params, ids, attend)
    shardings = params_shardings(encoder_specs(cfg), mesh)
    placed = jax.device_put(params, shardings)
    rows = named_sharding(mesh, ("batch", "length"))
    with jax.set_mesh(mesh):
        (_, hidden), grads = jax.jit(step)(placed, jax.device_put(ids, rows), jax.device_put(attend, rows))
    assert not placed["layers"]["mlp"]["up"]["kernel"].sharding.is_fully_replicated
    assert hidden.sharding.is_equivalent_to(named_sharding(mesh, ("batch", "length", None)), 3)
    np.testing.assert_allclose(hidden, alone, atol=1e-5)
    for one, many in zip(jax.tree.leaves(alone_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-4)
    assert "rematerialization" not in capfd.readouterr().err


def test_float32_asks_for_full_precision():
    """Accelerators round float32 operands otherwise; on CPU only the request can be seen."""

    def precisions(dtype):
        cfg = dataclasses.replace(TINY, dtype=dtype)
        params, (ids, attend) = random_params(cfg), padded_batch(cfg)
        text = str(jax.make_jaxpr(lambda p: encode_hidden(p, jnp.asarray(ids), jnp.asarray(attend), cfg))(params))
        return text.count("Precision.HIGHEST"), text.count("dot_general")

    highest, products = precisions("float32")
    assert products == 8
    assert highest >= products
    assert precisions("bfloat16") == (0, 8)


def test_texts_longer_than_the_position_table():
    ids, attend = padded_batch(TINY, length=25)
    with pytest.raises(ConfigError, match=r"texts of 25 tokens do not fit encoder\.max_positions=24"):
        encode(random_params(TINY), ids, attend, TINY)
    # RoBERTa counts from pad_id + 1: two rows of its table never hold a text.
    ids, attend = padded_batch(FAMILIES["roberta"], length=23)
    with pytest.raises(ConfigError, match="at most 22 tokens"):
        encode(random_params(FAMILIES["roberta"]), ids, attend, FAMILIES["roberta"])


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"encoder\.width=32 does not divide into encoder\.heads=5"):
        encoder_specs(dataclasses.replace(TINY, heads=5))


# ---- PyTorch ---------------------------------------------------------------------------------------------------


def torch_model(family: str, cfg: EncoderConfig):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    names = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}
    torch.manual_seed(0)
    config = getattr(transformers, names[family] + "Config")(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.width,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        intermediate_size=cfg.mlp_width,
        max_position_embeddings=cfg.max_positions,
        type_vocab_size=cfg.type_vocab_size,
        hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}[cfg.activation],
        layer_norm_eps=cfg.norm_eps,
        pad_token_id=cfg.pad_id,
    )
    model = getattr(transformers, names[family] + "Model")(config, add_pooling_layer=False).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return torch, model


def tree_from_torch(model, cfg: EncoderConfig):
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    D, H, K = cfg.width, cfg.heads, cfg.width // cfg.heads

    def norm(name):
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    def layer(i):
        at = f"encoder.layer.{i}"
        heads = {
            name: {
                "kernel": state[f"{at}.attention.self.{name}.weight"].T.reshape(D, H, K),
                "bias": state[f"{at}.attention.self.{name}.bias"].reshape(H, K),
            }
            for name in ("query", "key", "value")
        }
        out = f"{at}.attention.output"
        return {
            "attention": {
                **heads,
                "out": {"kernel": state[f"{out}.dense.weight"].T.reshape(H, K, D), "bias": state[f"{out}.dense.bias"]},
                "norm": norm(f"{out}.LayerNorm"),
            },
            "mlp": {
                "up": {
                    "kernel": state[f"{at}.intermediate.dense.weight"].T,
                    "bias": state[f"{at}.intermediate.dense.bias"],
                },
                "down": {"kernel": state[f"{at}.output.dense.weight"].T, "bias": state[f"{at}.output.dense.bias"]},
                "norm": norm(f"{at}.output.LayerNorm"),
            },
        }

    return {
        "embeddings": {
            "word": {"embedding": state["embeddings.word_embeddings.weight"]},
            "position": {"embedding": state["embeddings.position_embeddings.weight"]},
            "token_type": {"embedding": state["embeddings.token_type_embeddings.weight"]},
            "norm": norm("embeddings.LayerNorm"),
        },
        "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *[layer(i) for i in range(cfg.layers)]),
    }


@pytest.mark.parity
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_agrees_with_pytorch(family, activation, padding):
    cfg = dataclasses.replace(FAMILIES[family], activation=activation)
    torch, model = torch_model(family, cfg)
    ids, attend = padded_batch(cfg)
    if padding == "left":
        ids, attend = ids[:, ::-1].copy(), attend[:, ::-1].copy()
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(ids, dtype=torch.long), attention_mask=torch.tensor(attend, dtype=torch.long)
        ).last_hidden_state.numpy()
    hidden = encode(tree_from_torch(model, cfg), ids, attend, cfg)
    np.testing.assert_allclose(hidden[attend], expected[attend], atol=1e-5)
