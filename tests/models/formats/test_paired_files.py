"""CLIP and SigLIP from files and back: names and layouts, what is refused, big_vision's .npz against an own mapping."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from optical_jax.errors import ConfigError
from optical_jax.models.formats.export import export_pair, save_tower
from optical_jax.models.formats.pair_configs import paired_configs
from optical_jax.models.formats.pretrained import Pretrained, open_model
from tests.models.formats.test_paired_towers import NAMES, PAIRS, load

SIGLIP = "siglip-sharded-bf16"


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All of a folder's files, in float32."""
    return {k: v.astype(np.float32) for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def assert_same(a: Pretrained, b: Pretrained) -> None:
    assert a.cfg == b.cfg
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def rewritten(name: str, folder: Path, change) -> Path:
    """A copy of a pair in one file, with its tensors changed."""
    folder.mkdir(parents=True)
    shutil.copy(PAIRS / name / "config.json", folder)
    found = tensors(PAIRS / name)
    changed = change(found)
    save_file(found if changed is None else changed, folder / "model.safetensors")
    return folder


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ---- export ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["auto", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_written_as_it_came(tmp_path, name, pooling):
    """Every tensor by name and value, and the towers with their settings."""
    pair = open_model(PAIRS / name).pair(pooling)
    export_pair(pair, None, tmp_path / "out", "# A pair")
    before, after = tensors(PAIRS / name), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value.shape == after[key].shape, key
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    again = open_model(tmp_path / "out").pair()
    assert_same(again.text, pair.text)
    assert_same(again.image, pair.image)
    assert {k: v.item() for k, v in again.logits.items()} == {k: v.item() for k, v in pair.logits.items()}
    for part in ("text", "image"):
        assert_same(open_model(tmp_path / "out").tower(part), getattr(pair, part))
    assert (tmp_path / "out" / "README.md").read_text() == "# A pair"


@pytest.mark.parametrize("name", NAMES)
def test_without_optical_json_the_pair_is_the_same(tmp_path, name):
    export_pair(open_model(PAIRS / name).pair(), None, tmp_path / "out")
    (tmp_path / "out" / "optical_jax.json").unlink()
    for part in ("text", "image"):
        assert_same(open_model(tmp_path / "out").tower(part, pooling="auto"), load(name, part))


@pytest.mark.parametrize("pooling", ["auto", "none"])
@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_one_tower_is_read_back_exactly(tmp_path, name, part, pooling):
    tower = load(name, part, pooling)
    save_tower(tower.params, tower.cfg, None, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(part), tower)
    assert open_model(tmp_path / "out").parts == (part,)
    before = tensors(PAIRS / name)
    for key, value in tensors(tmp_path / "out").items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize(("name", "part"), [("clip", "image"), (SIGLIP, "image"), (SIGLIP, "text")])
def test_a_head_of_ones_own_is_read_back(tmp_path, name, part):
    """A projection without bias, which SigLIP's own files have no name for, and learned masses."""
    tower = load(name, part, "none")
    head = dataclasses.replace(tower.cfg.head, projection=5, projection_bias=False, masses="learned")
    rng, width = np.random.default_rng(0), tower.cfg.encoder.width
    drawn = {
        "projection": {"kernel": rng.random((width, 5), np.float32)},
        "mass": {"kernel": rng.random(5, np.float32)},
    }
    tower = tower._replace(params=tower.params | {"head": drawn}, cfg=dataclasses.replace(tower.cfg, head=head))
    save_tower(tower.params, tower.cfg, None, tmp_path / "out")
    assert_same(open_model(tmp_path / "out").tower(part), tower)


def test_what_is_no_pair_is_not_written_as_one(tmp_path):
    clip, siglip = open_model(PAIRS / "clip").pair(), open_model(PAIRS / SIGLIP).pair()
    with pytest.raises(ConfigError, match="clip for text and siglip for image do not form a CLIPModel"):
        export_pair(clip._replace(image=siglip.image), None, tmp_path / "out")
    head = dataclasses.replace(clip.image.cfg.head, projection=0)
    bare = clip.image._replace(cfg=dataclasses.replace(clip.image.cfg, head=head))
    with pytest.raises(ConfigError, match=r"projection=8.*the format of clip lacks|projection=0"):
        export_pair(clip._replace(image=bare), None, tmp_path / "out")
    with pytest.raises(ConfigError, match="a siglip pair has logit_bias, logit_scale, not logit_scale"):
        export_pair(siglip._replace(logits=clip.logits), None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- what comes in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", ["clip", SIGLIP])
def test_a_tower_alone_with_and_without_its_prefix(tmp_path, name, part, prefix):
    """As transformers 4 and 5 write CLIPTextModelWithProjection, SiglipVisionModel and so on."""
    stem = {"text": "text_model.", "image": "vision_model."}[part]
    other = {"text": ("vision_model.", "visual_", "logit_"), "image": ("text_model.", "text_", "logit_")}[part]

    def alone(found):
        kept = {k: v for k, v in found.items() if not k.startswith(other)}
        return kept if prefix else {k.removeprefix(stem): v for k, v in kept.items()}

    folder = rewritten(name, tmp_path / "one", alone)
    config = json.loads((folder / "config.json").read_text())
    section = config["text_config" if part == "text" else "vision_config"]
    (folder / "config.json").write_text(json.dumps(section | {"projection_dim": config.get("projection_dim")}))
    assert_same(open_model(folder).tower(part, pooling="auto"), load(name, part))
    with pytest.raises(ConfigError, match=f"has only the {part} tower"):
        open_model(folder).tower("image" if part == "text" else "text")
    with pytest.raises(ConfigError, match="is not a dual encoder"):
        open_model(folder).pair()


def test_clips_bare_towers_have_no_projection(tmp_path):
    folder = rewritten(
        "clip", tmp_path / "one", lambda t: {k: v for k, v in t.items() if k.startswith("vision_model.")}
    )
    config = json.loads((folder / "config.json").read_text())["vision_config"]
    (folder / "config.json").write_text(json.dumps(config))
    tower = open_model(folder).tower("image")
    assert (tower.cfg.head.projection, tower.cfg.vector_width, tower.params["head"]) == (0, 16, {})


def test_buffers_of_positions_are_dropped_and_named(tmp_path, caplog):
    name = "text_model.embeddings.position_ids"
    folder = rewritten("clip", tmp_path / "old", lambda t: t.update({name: np.arange(9)[None]}))
    with caplog.at_level(logging.INFO):
        assert_same(open_model(folder).tower(pooling="auto"), load("clip", "text"))
    assert f"dropped {name}" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("vision_model.post_layernorm.bias"), r"vision_model\.post_layernorm\.bias missing"),
        (lambda t: t.pop("logit_scale"), "logit_scale missing"),
        (lambda t: t.pop("text_projection.weight"), r"text_projection\.weight missing"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), "unexpected tensors extra; with them it is not the clip"),
    ],
)
@pytest.mark.parametrize("part", ["text", "image"])
def test_missing_and_unexpected_tensors_are_refused_by_name(tmp_path, change, message, part):
    def changed(found):
        change(found)

    folder = rewritten("clip", tmp_path / "out", changed)
    with pytest.raises(ConfigError, match=message):
        open_model(folder).tower(part)


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    folder = rewritten(
        "clip", tmp_path / "out", lambda t: t.update({"visual_projection.weight": np.zeros((9, 16), "f")})
    )
    with pytest.raises(
        ConfigError, match=r"visual_projection\.weight has shape \[9, 16\], config\.json says \[8, 16\]"
    ):
        open_model(folder).tower("image")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("vision_config", {"num_channels": 1}, r"vision_config.*num_channels=1 is not supported; only 3 is"),
        ("vision_config", {"image_size": [14, 16]}, r"image_size=\[14, 16\] is not a positive integer"),
        ("vision_config", {"hidden_act": "silu"}, "hidden_act='silu' is not supported"),
        ("text_config", {"eos_token_id": [1, 2]}, r"eos_token_id=\[1, 2\] is not supported"),
    ],
)
def test_what_a_tower_cannot_express_is_refused_by_name(tmp_path, section, values, message):
    folder = rewritten("clip", tmp_path / "out", lambda t: None)
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", **{section: config[section] | values})
    with pytest.raises(ConfigError, match=message):
        open_model(folder).tower()


def test_other_resolutions_of_siglip_2_are_refused(tmp_path):
    folder = rewritten(SIGLIP, tmp_path / "out", lambda t: None)
    edit_json(folder / "config.json", model_type="siglip2")
    with pytest.raises(ConfigError, match=r"model_type='siglip2' is not supported; supported are .*clip and siglip"):
        open_model(folder).tower()


def test_a_pooling_it_was_not_trained_with_is_refused():
    with pytest.raises(ConfigError, match=r"pooling=cls: .* was not trained with it; use auto"):
        load(SIGLIP, "image", "cls")


# ---- config.json -----------------------------------------------------------------------------------------------


def test_what_the_hubs_configs_leave_out():
    """SigLIP's name what differs from base/16-224; sizes by hand from the model cards."""
    base = paired_configs({"model_type": "siglip", "text_config": {}, "vision_config": {}}, "x")
    text, image = base["text"], base["image"]
    assert (text.encoder.vocab_size, text.encoder.max_length, text.vector_width) == (32000, 64, 768)
    assert (image.encoder.grid, image.encoder.patch_size, image.vector_width) == (14, 16, 768)
    large = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}
    stated = {"vision_config": large | {"image_size": 384, "patch_size": 14}, "text_config": large}
    so400m = paired_configs({"model_type": "siglip"} | stated, "x")
    assert (so400m["image"].encoder.grid, so400m["text"].vector_width) == (27, 1152)


def test_clips_first_configs():
    """Both sections twice: that with _dict counts. The projection is the pair's."""
    config = {"model_type": "clip", "projection_dim": 640, "text_config": {"hidden_size": 4}, "vision_config": {}}
    config |= {"text_config_dict": {"hidden_size": 640, "num_attention_heads": 10, "projection_dim": 512}}
    found = paired_configs(config | {"vision_config_dict": None}, "x")
    assert (found["text"].encoder.width, found["text"].encoder.heads, found["text"].vector_width) == (640, 10, 640)
    assert (found["image"].encoder.width, found["image"].vector_width) == (768, 640)


@pytest.mark.parametrize("token", ["<pad>", {"content": "<pad>"}])
def test_siglips_padding_is_its_tokenizers(tmp_path, token):
    """Config.json says 1, which for SigLIP 2 is the end of text."""
    from tokenizers import Tokenizer, models

    folder = rewritten(SIGLIP, tmp_path / "out", lambda t: None)
    Tokenizer(models.WordLevel({"a": 0, "<pad>": 5}, unk_token="a")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": token}))
    assert open_model(folder).tower().cfg.encoder.pad_id == 5
    assert load(SIGLIP, "text").cfg.encoder.pad_id == 1


# ---- big_vision ------------------------------------------------------------------------------------------------


def as_big_vision(found: dict[str, np.ndarray], *, stacked: bool) -> dict[str, np.ndarray]:
    """The arrays that big_vision would hold, written down from its modules: no code of ours is used."""

    def heads(weight, heads):  # torch [out, in] -> flax [in, heads, width of a head]
        return weight.T.reshape(weight.shape[1], heads, -1)

    def layer(at, count):
        out = {}
        for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value")):
            attention = f"MultiHeadDotProductAttention_0/{ours}"
            out[f"{attention}/kernel"] = heads(found[f"{at}.self_attn.{theirs}_proj.weight"], count)
            out[f"{attention}/bias"] = found[f"{at}.self_attn.{theirs}_proj.bias"].reshape(count, -1)
        leaving = found[f"{at}.self_attn.out_proj.weight"]
        out["MultiHeadDotProductAttention_0/out/kernel"] = leaving.T.reshape(count, -1, leaving.shape[0])
        out["MultiHeadDotProductAttention_0/out/bias"] = found[f"{at}.self_attn.out_proj.bias"]
        for i in (0, 1):
            out[f"LayerNorm_{i}/scale"] = found[f"{at}.layer_norm{i + 1}.weight"]
            out[f"LayerNorm_{i}/bias"] = found[f"{at}.layer_norm{i + 1}.bias"]
            out[f"MlpBlock_0/Dense_{i}/kernel"] = found[f"{at}.mlp.fc{i + 1}.weight"].T
            out[f"MlpBlock_0/Dense_{i}/bias"] = found[f"{at}.mlp.fc{i + 1}.bias"]
        return out

    def layers(at, name, count):
        each = [layer(f"{at}.{i}", count) for i in range(2)]
        if stacked:
            return {f"{name}/{k}": np.stack([one[k] for one in each]) for k in each[0]}
        return {f"{name}_{i}/{k}": v for i, one in enumerate(each) for k, v in one.items()}

    img, txt, head = "params/img", "params/txt", "vision_model.head"
    out = {
        **layers("vision_model.encoder.layers", f"{img}/Transformer/encoderblock", 4),
        **layers("text_model.encoder.layers", f"{txt}/Encoder_0/encoderblock", 3),
        f"{img}/embedding/kernel": found["vision_model.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        f"{img}/embedding/bias": found["vision_model.embeddings.patch_embedding.bias"],
        f"{img}/pos_embedding": found["vision_model.embeddings.position_embedding.weight"][None],
        f"{img}/Transformer/encoder_norm/scale": found["vision_model.post_layernorm.weight"],
        f"{img}/Transformer/encoder_norm/bias": found["vision_model.post_layernorm.bias"],
        f"{img}/MAPHead_0/probe": found[f"{head}.probe"],
        f"{img}/MAPHead_0/LayerNorm_0/scale": found[f"{head}.layernorm.weight"],
        f"{img}/MAPHead_0/LayerNorm_0/bias": found[f"{head}.layernorm.bias"],
        f"{txt}/Embed_0/embedding": found["text_model.embeddings.token_embedding.weight"],
        f"{txt}/pos_embedding": found["text_model.embeddings.position_embedding.weight"][None],
        f"{txt}/Encoder_0/encoder_norm/scale": found["text_model.final_layer_norm.weight"],
        f"{txt}/Encoder_0/encoder_norm/bias": found["text_model.final_layer_norm.bias"],
        f"{txt}/head/kernel": found["text_model.head.weight"].T,
        f"{txt}/head/bias": found["text_model.head.bias"],
        "params/t": found["logit_scale"],
        "params/b": found["logit_bias"],
    }
    pooling = f"{img}/MAPHead_0/MultiHeadDotProductAttention_0"
    for i, name in enumerate(("query", "key", "value")):
        rows = slice(16 * i, 16 * i + 16)
        out[f"{pooling}/{name}/kernel"] = heads(found[f"{head}.attention.in_proj_weight"][rows], 4)
        out[f"{pooling}/{name}/bias"] = found[f"{head}.attention.in_proj_bias"][rows].reshape(4, -1)
    out[f"{pooling}/out/kernel"] = found[f"{head}.attention.out_proj.weight"].T.reshape(4, 4, 16)
    out[f"{pooling}/out/bias"] = found[f"{head}.attention.out_proj.bias"]
    for i in (0, 1):
        out[f"{img}/MAPHead_0/MlpBlock_0/Dense_{i}/kernel"] = found[f"{head}.mlp.fc{i + 1}.weight"].T
        out[f"{img}/MAPHead_0/MlpBlock_0/Dense_{i}/bias"] = found[f"{head}.mlp.fc{i + 1}.bias"]
    return out


@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize("stacked", [True, False])
def test_big_visions_archives_hold_the_same_towers(tmp_path, stacked, part):
    path = tmp_path / "siglip2_tiny4_14.npz"
    np.savez(path, **as_big_vision(tensors(PAIRS / SIGLIP), stacked=stacked))
    assert_same(open_model(path).tower(part, pooling="auto"), load(SIGLIP, part))
    pair, expected = open_model(path).pair(), open_model(PAIRS / SIGLIP).pair()
    assert {k: v.item() for k, v in pair.logits.items()} == {k: v.item() for k, v in expected.logits.items()}


def test_big_visions_checkpoints_in_training_hold_more_than_parameters(tmp_path):
    arrays = as_big_vision(tensors(PAIRS / SIGLIP), stacked=True)
    state = {f"opt/0/mu/{name.removeprefix('params/')}": np.zeros_like(x) for name, x in arrays.items()}
    path = tmp_path / "siglip2_tiny4_14.npz"
    np.savez(path, **arrays, **state, **{"opt/0/count": np.zeros((), np.int32), "extra": np.ones(3)})
    for part in ("text", "image"):
        assert_same(open_model(path).tower(part, pooling="auto"), load(SIGLIP, part))


def test_big_visions_towers_are_written_as_hugging_faces(tmp_path):
    """Every tensor by its name and value there: the archive is made from these."""
    path = tmp_path / "siglip2_tiny4_14.npz"
    np.savez(path, **as_big_vision(tensors(PAIRS / SIGLIP), stacked=True))
    pair = open_model(path).pair()
    export_pair(pair, None, tmp_path / "out")
    save_tower(pair.text.params, pair.text.cfg, None, tmp_path / "text")
    before, after = tensors(PAIRS / SIGLIP), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    for folder, model in (("out", "SiglipModel"), ("text", "SiglipTextModel")):
        assert json.loads((tmp_path / folder / "config.json").read_text())["architectures"] == [model]
    assert not list(tmp_path.glob("*/*.npz"))


def test_big_visions_bfloat16_and_a_size_that_no_name_tells(tmp_path):
    arrays = as_big_vision(tensors(PAIRS / SIGLIP), stacked=True)
    arrays = {k.removeprefix("params/"): v.astype(ml_dtypes.bfloat16) for k, v in arrays.items()}
    np.savez(tmp_path / "tiny.npz", **arrays)
    assert np.load(tmp_path / "tiny.npz")["t"].dtype == np.dtype("V2")
    found, expected = open_model(tmp_path / "tiny.npz").tower("image", pooling="auto"), load(SIGLIP, "image")
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert (found.cfg.encoder.image_size, expected.cfg.encoder.image_size) == (12, 14)  # three patches of four


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("params/txt/head/bias"), "txt/head/bias missing"),
        (lambda a: a.pop("params/img/Transformer/encoderblock/LayerNorm_1/bias"), "LayerNorm_1/bias missing"),
        (lambda a: a.update({"params/img/head/kernel": np.zeros((16, 8))}), "unexpected tensors img/head/kernel"),
        (lambda a: a.update({"params/img/MAPHead_0/probe": np.zeros((1, 2, 16))}), r"probe has shape \[1, 2, 16\]"),
    ],
)
def test_big_visions_archives_that_are_something_else(tmp_path, change, message):
    arrays = as_big_vision(tensors(PAIRS / SIGLIP), stacked=True)
    change(arrays)
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ConfigError, match=message):
        open_model(tmp_path / "x.npz").tower("image")


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no more", b"text", b""])
def test_a_broken_archive_is_one_line(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.npz is not a complete \.npz archive"):
        open_model(tmp_path / "x.npz").tower()
