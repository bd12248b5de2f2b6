"""CLIP and SigLIP against transformers, live: made there and read here, written here and read there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optical_jax.models.formats.export import export_pair, save_tower
from optical_jax.models.formats.pretrained import open_model
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.types import ImageInputs, TextInputs

pytestmark = pytest.mark.parity

LENGTH, END, PADDING = 9, 7, 1
encode = jax.jit(encode_tokens, static_argnames="cfg")


def made(name: str, seed: int = 10):
    """A random pair of transformers'."""
    pytest.importorskip("torch")
    from tests.reference import make_golden_pairs as golden

    models = {
        "clip-quick": lambda: golden.clip("quick_gelu", END),
        "clip-gelu": lambda: golden.clip("gelu", END, heads=2),
        "clip-highest-id": lambda: golden.clip("quick_gelu", 2),
        "siglip": golden.siglip,
    }
    return golden.randomised(models[name](), seed)


def texts(lengths=(9, 5, 2, 7), seed: int = 5):
    rng, lengths = np.random.default_rng(seed), np.array(lengths)[:, None]
    ids = rng.integers(8, 40, (len(lengths), LENGTH))
    np.put_along_axis(ids, lengths - 1, END, axis=1)
    attend = np.arange(LENGTH) < lengths
    return np.where(attend, ids, PADDING), attend


def unit(x) -> np.ndarray:
    x = x.detach().numpy()
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def inputs_of(ids, attend) -> TextInputs:
    return TextInputs(*map(jnp.asarray, (ids.astype(np.int32), attend, attend)))


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-highest-id", "siglip"])
def test_texts(tmp_path, name):
    import torch

    model = made(name)
    model.save_pretrained(tmp_path)
    ids, attend = texts()
    # SigLIP is given no mask, as its processor gives none; CLIP is.
    mask = {} if name == "siglip" else {"attention_mask": torch.tensor(attend.astype(int))}
    found = model.text_model(torch.tensor(ids), **mask)
    project = model.text_model.head if name == "siglip" else model.text_projection
    pooled, tokens = (open_model(tmp_path).tower(pooling=pooling) for pooling in ("auto", "none"))
    out = encode(pooled.params, inputs_of(ids, attend), pooled.cfg)
    expected = model.get_text_features(torch.tensor(ids), **mask).pooler_output
    np.testing.assert_allclose(out.vectors[:, 0], unit(expected), atol=1e-5)
    out = encode(tokens.params, inputs_of(ids, attend), tokens.cfg)
    np.testing.assert_allclose(out.vectors[attend], unit(project(found.last_hidden_state))[attend], atol=1e-5)
    short = encode(pooled.params, inputs_of(ids[1:3, :5], attend[1:3, :5]), pooled.cfg)
    np.testing.assert_allclose(short.vectors[:, 0], unit(expected)[1:3], atol=1e-5)


@pytest.mark.parametrize("size", [(14, 14), (28, 28), (9, 31), (37, 22), (4, 4), (15, 15)])
@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "siglip"])
def test_pictures(tmp_path, name, size):
    import torch

    model = made(name, seed=11)
    model.save_pretrained(tmp_path)
    pixels = np.random.default_rng(sum(size)).standard_normal((3, *size, 3)).astype(np.float32)
    resized = {"interpolate_pos_encoding": size != (14, 14)}
    channels_first = torch.tensor(pixels).permute(0, 3, 1, 2)
    for pooling in ("auto", "none"):
        tower = open_model(tmp_path).tower("image", pooling=pooling)
        encoder = dataclasses.replace(tower.cfg.encoder, interpolate=size != (14, 14))
        out = encode(tower.params, ImageInputs(jnp.asarray(pixels)), dataclasses.replace(tower.cfg, encoder=encoder))
        if pooling == "auto":
            expected = model.get_image_features(channels_first, **resized).pooler_output[:, None]
        else:
            expected = model.vision_model(channels_first, **resized).last_hidden_state
            if name != "siglip":
                expected = model.visual_projection(model.vision_model.post_layernorm(expected[:, 1:]))
        np.testing.assert_allclose(out.vectors, unit(expected), atol=1e-5)


@pytest.mark.parametrize("name", ["clip-quick", "clip-highest-id", "siglip"])
def test_an_exported_pair_is_theirs_again(tmp_path, name):
    """Tensor for tensor, and the logits that the two towers and the scale make."""
    import torch
    from transformers import AutoModel

    model = made(name)
    model.save_pretrained(tmp_path / "theirs")
    pair = open_model(tmp_path / "theirs").pair()
    export_pair(pair, None, tmp_path / "ours")
    again, told = AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(model)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    ids, attend = texts()
    pixels = np.random.default_rng(0).standard_normal((2, 14, 14, 3)).astype(np.float32)
    expected = again.eval()(torch.tensor(ids), torch.tensor(pixels).permute(0, 3, 1, 2)).logits_per_text
    from_text = encode(pair.text.params, inputs_of(ids, attend), pair.text.cfg).vectors[:, 0]
    from_image = encode(pair.image.params, ImageInputs(jnp.asarray(pixels)), pair.image.cfg).vectors[:, 0]
    logits = np.exp(pair.logits["logit_scale"]) * (from_text @ from_image.T) + pair.logits.get("logit_bias", 0.0)
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-4)


ALONE = {
    "CLIPTextModelWithProjection": ("clip-quick", "text", "text_embeds"),
    "CLIPTextModel": ("clip-quick", "text", "pooler_output"),
    "CLIPVisionModelWithProjection": ("clip-quick", "image", "image_embeds"),
    "CLIPVisionModel": ("clip-quick", "image", "pooler_output"),
    "SiglipTextModel": ("siglip", "text", "pooler_output"),
    "SiglipVisionModel": ("siglip", "image", "pooler_output"),
}


@pytest.mark.parametrize("kind", ALONE)
def test_towers_alone_both_ways(tmp_path, kind):
    import torch
    import transformers

    name, part, output = ALONE[kind]
    made(name).save_pretrained(tmp_path / "theirs")
    # Out of our pair: theirs does not tell each tower how wide its projection is.
    export_pair(open_model(tmp_path / "theirs").pair(), None, tmp_path / "pair")
    alone = getattr(transformers, kind).from_pretrained(tmp_path / "pair").eval()
    alone.save_pretrained(tmp_path / "alone")
    tower = open_model(tmp_path / "alone").tower(part, pooling="auto")
    save_tower(tower.params, tower.cfg, None, tmp_path / "ours")
    again, told = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    for key, value in alone.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    if part == "text":
        ids, attend = texts()
        inputs, expected = inputs_of(ids, attend), again.eval()(torch.tensor(ids))
    else:
        pixels = np.random.default_rng(0).standard_normal((2, 14, 14, 3)).astype(np.float32)
        inputs, expected = ImageInputs(jnp.asarray(pixels)), again.eval()(torch.tensor(pixels).permute(0, 3, 1, 2))
    out = encode(tower.params, inputs, tower.cfg)
    np.testing.assert_allclose(out.vectors[:, 0], unit(getattr(expected, output)), atol=1e-5)
