"""Attention kernels against plain products (checked in test_bert.py); on CPU, interpreted or only lowered."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.config import EncoderConfig, HeadConfig, MeshConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models import attention
from optical_jax.models.attention import LONG_ROW, choose_attention, make_mix
from optical_jax.models.attention_kernels import cudnn_mix, splash_mix
from optical_jax.models.bert import Packed, encode_hidden, encoder_specs
from optical_jax.params import init_params
from optical_jax.partitioning import make_mesh, platform
from optical_jax.training.step import check_attention, with_kernels

BASE = EncoderConfig(dtype="bfloat16")
TINY = EncoderConfig(vocab_size=64, width=32, layers=2, heads=4, mlp_width=48, max_positions=128, dtype="bfloat16")


def heads(rows: int, length: int, count: int = 2, width: int = 16, dtype="float32"):
    """Query, key and value, and a direction to differentiate along."""
    keys = jax.random.split(jax.random.key(0), 4)
    return tuple(jax.random.normal(key, (rows, length, count, width), dtype) for key in keys)


def prefixes(lengths, length: int):
    """One text a row."""
    return jnp.arange(length)[None, :] < jnp.asarray(lengths)[:, None], None


def holes(rows: int, length: int):
    """One text a row, of which any token may not be read."""
    attend = np.random.default_rng(0).random((rows, length)) < 0.6
    attend[:, 5] = True
    return jnp.asarray(attend), None


def packed(rows: int, length: int):
    """Texts of 1 to 40 tokens end to end, padding behind them; some last tokens are not read."""
    rng = np.random.default_rng(1)
    text, attend = np.full((rows, length), -1), np.zeros((rows, length), bool)
    for row in range(rows):
        start, number = 0, 7 * row
        while start + 40 < length:
            size = int(rng.integers(1, 41))
            text[row, start : start + size], attend[row, start : start + size] = number, True
            attend[row, start + size - 1] = size < 3 or rng.random() < 0.5
            start, number = start + size, number + 1
    return jnp.asarray(attend), jnp.asarray(text)


def read(mix, rows, *, real=None):
    """What every query reads, and the gradient of all of it along a direction; padding counts for nothing."""
    query, key, value, direction = rows
    counts = 1.0 if real is None else real[:, :, None, None]

    def total(query, key, value):
        mixed = mix(query, key, value)
        return (mixed * direction * counts).sum(), mixed

    grads, mixed = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(query, key, value)
    return mixed, grads


def assert_reads_as_plain(mix, attend, text, rows, atol=2e-5):
    """Wherever a token has something to read; the others have only to be finite."""
    plain = make_mix(dataclasses.replace(BASE, attention="xla"), attend, text)
    own = attend[:, None, :] if text is None else attend[:, None, :] & (text[:, :, None] == text[:, None, :])
    real = jnp.broadcast_to(own.any(axis=-1), attend.shape)
    (want, want_grads), (got, got_grads) = read(plain, rows, real=real), read(mix, rows, real=real)
    np.testing.assert_allclose(got[real], want[real], atol=atol)
    for one, other in zip(got_grads, want_grads, strict=True):
        np.testing.assert_allclose(one, other, atol=atol)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(read(mix, rows)))


# ---- splash ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attend", "text"),
    [prefixes([128, 1, 77], 128), prefixes([128, 0, 3], 128), holes(3, 128), packed(3, 128)],
    ids=["prefixes", "an empty row", "holes", "packed"],
)
def test_splash_reads_what_plain_products_read(attend, text):
    assert_reads_as_plain(splash_mix(attend, text, interpret=True), attend, text, heads(3, 128))


def test_splash_over_several_blocks():
    """384 tokens are three blocks of 128, 512 one; texts lie across the borders."""
    for length in (384, 512):
        attend, text = packed(1, length)
        assert_reads_as_plain(splash_mix(attend, text, interpret=True), attend, text, heads(1, length, 1))


def test_splash_in_bfloat16_is_close():
    """bfloat16 keeps 8 bits, so means of unit normals agree to some 2^-8 of the largest, 4."""
    attend, text = packed(2, 128)
    rows = heads(2, 128, dtype="bfloat16")
    mixed = splash_mix(attend, text, interpret=True)(*rows[:3])
    plain = make_mix(dataclasses.replace(BASE, attention="xla"), attend, text)(*rows[:3])
    assert mixed.dtype == jnp.bfloat16
    real = np.asarray(text >= 0)
    np.testing.assert_allclose(mixed.astype(jnp.float32)[real], plain.astype(jnp.float32)[real], atol=4 * 2**-7)


@pytest.mark.parametrize(
    ("mesh", "count"), [(MeshConfig(fsdp=2, tensor=2), 2), (MeshConfig(fsdp=2, tensor=2), 3), (MeshConfig(fsdp=8), 2)]
)
def test_splash_over_a_mesh(mesh, count):
    """Rows and heads in their own shards; 3 heads do not divide over 2 devices, nor 4 rows over 8: they stay whole."""
    attend, text = packed(4, 128)
    rows = heads(4, 128, count)
    want = read(splash_mix(attend, text, interpret=True), rows)
    with jax.set_mesh(make_mesh(mesh)):
        got = read(splash_mix(attend, text, interpret=True), rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize(("width", "length"), [(32, 128), (64, 512), (80, 384)])
def test_splash_is_lowered_for_tpu(width, length):
    """Three kernels of Mosaic, forward and backward, with heads of any width."""
    attend, text = packed(2, length)
    rows = heads(2, length, 2, width, "bfloat16")

    def grads(query, key, value):
        return jax.grad(lambda *x: splash_mix(attend, text)(*x).astype(jnp.float32).sum(), (0, 1, 2))(query, key, value)

    lowered = jax.jit(grads).trace(*rows[:3]).lower(lowering_platforms=("tpu",)).as_text()
    assert lowered.count("tpu_custom_call") >= 3


# ---- cuDNN -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attend", "text", "aligned"),
    [
        (*prefixes([24, 1, 7], 24), True),
        (*prefixes([24, 0, 3], 24), True),
        (*prefixes([24, 0, 3], 24), False),
        (*holes(3, 24), False),
        (*packed(3, 64), False),
    ],
    ids=["lengths", "lengths, an empty row", "a mask, an empty row", "holes", "packed"],
)
def test_the_call_of_cudnn_reads_what_plain_products_read(attend, text, aligned):
    """The same arguments, but of JAX's own implementation: cuDNN needs a GPU."""
    mix = cudnn_mix(attend, text, aligned=aligned, implementation="xla")
    assert_reads_as_plain(mix, attend, text, heads(*attend.shape))


def test_a_row_of_no_length_reads_its_first_token():
    """cuDNN's softmax over nothing would be 0 / 0."""
    query, key, value, _ = heads(2, 24)
    attend, _ = prefixes([24, 0], 24)
    mixed = cudnn_mix(attend, None, aligned=True, implementation="xla")(query, key, value)
    np.testing.assert_allclose(mixed[1], jnp.broadcast_to(value[1, :1], value[1].shape), atol=1e-6)


def test_the_call_of_cudnn_over_a_mesh():
    for (attend, text), aligned in ((prefixes([24, 1, 7, 9], 24), True), (packed(4, 48), False)):
        rows = heads(*attend.shape)
        mix = {"aligned": aligned, "implementation": "xla"}
        want = read(cudnn_mix(attend, text, **mix), rows)
        with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, tensor=2))):
            got = read(cudnn_mix(attend, text, **mix), rows)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize("aligned", [True, False])
def test_cudnn_is_called_forward_and_backward(aligned, monkeypatch):
    """In what is lowered for CUDA; the version of cuDNN is asked of a library that is not here."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    attend, text = prefixes([64, 20], 64)
    rows = heads(2, 64, dtype="bfloat16")

    def grads(query, key, value):
        mix = cudnn_mix(attend, text, aligned=aligned)
        return jax.grad(lambda *x: mix(*x).astype(jnp.float32).sum(), (0, 1, 2))(query, key, value)

    lowered = jax.jit(grads).trace(*rows[:3]).lower(lowering_platforms=("cuda",)).as_text()
    calls = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
    if not aligned:
        calls = "__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"
    for call in calls:
        assert f"@{call}(" in lowered
    assert ("PADDING" in lowered) == aligned


# ---- which -----------------------------------------------------------------------------------------------------


def test_auto_takes_a_kernel_for_long_rows_where_it_runs():
    for on, kernel in (("cuda", "cudnn"), ("tpu", "splash"), ("cpu", "xla"), ("gpu", "xla")):
        assert choose_attention(BASE, LONG_ROW, on) == kernel
        assert choose_attention(BASE, LONG_ROW - 128, on) == "xla"
        assert choose_attention(dataclasses.replace(BASE, dtype="float32"), LONG_ROW, on) == "xla"
        assert choose_attention(dataclasses.replace(BASE, attention="xla"), LONG_ROW, on) == "xla"
    assert choose_attention(BASE, LONG_ROW + 64, "tpu") == "xla"
    assert choose_attention(BASE, LONG_ROW + 1, "cuda") == "xla"
    assert choose_attention(dataclasses.replace(BASE, heads=4), LONG_ROW, "cuda") == "xla"


@pytest.mark.parametrize(
    ("changed", "length", "on", "said"),
    [
        ({"attention": "cudnn"}, 64, "cpu", r"x\.attention=cudnn runs on NVIDIA GPUs .* \(platform cpu\); use auto"),
        ({"attention": "splash"}, 128, "cuda", r"x\.attention=splash runs on TPUs, .* \(platform cuda\); use auto"),
        ({"attention": "cudnn", "dtype": "float32"}, 64, "cuda", "needs bfloat16, not dtype=float32; set dtype"),
        ({"attention": "splash", "dtype": "float32"}, 128, "tpu", "needs bfloat16, not dtype=float32"),
        (
            {"attention": "cudnn", "heads": 4},
            64,
            "cuda",
            "not width / heads = 192; change the number of heads, or use xla",
        ),
        ({"attention": "cudnn", "heads": 64}, 64, "cuda", "not width / heads = 12;"),
        ({"attention": "cudnn"}, 65, "cuda", "an even number of tokens, not 65; pad them to 66"),
        ({"attention": "splash"}, 64, "tpu", "a multiple of 128 tokens, not 64; pad them to 128, or use xla"),
        ({"attention": "splash"}, 129, "tpu", "pad them to 256"),
    ],
)
def test_a_kernel_that_cannot_be_is_refused_by_name(changed, length, on, said):
    with pytest.raises(ConfigError, match=said) as error:
        choose_attention(dataclasses.replace(BASE, **changed), length, on, "x.attention")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "capability", "called"),
    [("cpu", "", "cpu"), ("tpu", "", "tpu"), ("gpu", "9.0", "cuda"), ("gpu", "7.5", "gpu"), ("gpu", "gfx90a", "gpu")],
)
def test_platforms_by_name(name, capability, called, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert platform() == called


def test_a_run_is_refused_before_it_compiles():
    tower = TowerConfig(BASE, HeadConfig())
    check_attention("student", with_kernels(tower, "auto"), (64,))
    for kernel, name in (("cudnn", "student"), ("splash", "teacher")):
        with pytest.raises(ConfigError, match=rf"{name}\.attention="):
            check_attention(name, with_kernels(tower, kernel), (64,))


@pytest.mark.parametrize("rows", ["single", "packed"])
def test_an_encoder_takes_splash(rows, monkeypatch):
    """As on a TPU, but interpreted: the encoder's states are those of plain products, to bfloat16."""
    attend, text = packed(2, 128) if rows == "packed" else prefixes([128, 60], 128)
    ids = jnp.asarray(np.random.default_rng(0).integers(5, 64, (2, 128)))
    where = None if text is None else Packed(text, jnp.arange(128)[None] % jnp.full((2, 1), 40), longest=40)
    params = init_params(encoder_specs(TINY), jax.random.key(0))
    states = {}
    for way in ("xla", "splash"):
        monkeypatch.setattr(attention, "platform", lambda way=way: attention.PLATFORMS.get(way, "cpu"))
        cfg = dataclasses.replace(TINY, attention=way)
        jaxpr = jax.make_jaxpr(lambda p, cfg=cfg: encode_hidden(p, ids, attend, cfg, where))(params)
        assert ("pallas_call" in str(jaxpr)) == (way == "splash")
        states[way] = encode_hidden(params, ids, attend, cfg, where).astype(jnp.float32)
    np.testing.assert_allclose(states["splash"][attend], states["xla"][attend], atol=0.1)
