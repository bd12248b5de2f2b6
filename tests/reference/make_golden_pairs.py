"""Golden numbers for test_paired_towers.py: tiny random CLIP and SigLIP, and what PyTorch makes of them.

python tests/reference/make_golden_pairs.py

Needs the `parity` extra. Writes pairs/<name>/: config.json, model.safetensors and golden.npz with texts, pictures and
their unit vectors, by `transformers` in float32.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

HERE = Path(__file__).parent / "pairs"
LENGTH, END, PADDING = 9, 7, 1
SIZES = {"own": (14, 14), "larger": (18, 18), "wide": (8, 21), "odd": (13, 15)}
"""Pixels; the pictures of training leave two over at each edge, and the odd ones have as many patches as they."""


def shapes(**text):
    body = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = (
        body | {"vocab_size": 40, "max_position_embeddings": LENGTH, "pad_token_id": PADDING, "bos_token_id": 0} | text
    )
    return text, body | {"image_size": 14, "patch_size": 4}


def clip(activation: str, end: int, heads: int = 4) -> CLIPModel:
    text, vision = shapes(eos_token_id=end, hidden_act=activation, hidden_size=12, num_attention_heads=3)
    vision |= {"hidden_act": activation, "num_attention_heads": heads}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def siglip() -> SiglipModel:
    """Its towers differ in width, as those of the largest SigLIP 2."""
    text, vision = shapes(eos_token_id=END, hidden_size=12, num_attention_heads=3, projection_size=16)
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def randomised(model, seed: int):
    """Every parameter random, biases and norms too, and large enough that attention is far from even."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        norm = name.endswith("weight") and ("norm" in name or "layrnorm" in name)
        value.copy_(1 + 0.3 * noise if norm else 0.3 * noise)
    return model.eval()


def texts(rng: np.random.Generator) -> np.ndarray:
    """Ids with an end, padded; one is full, and one has no end of text. The ends are not the highest ids."""
    lengths = np.array([[LENGTH], [4], [6], [2]])
    ids = rng.integers(8, 40, (4, LENGTH))
    ids[np.arange(4), lengths[:, 0] - 1] = END
    ids[2, 5] = 33
    return np.where(np.arange(LENGTH) < lengths, ids, PADDING)


@torch.no_grad()
def golden(model, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = texts(rng)
    is_clip = isinstance(model, CLIPModel)
    project_text = model.text_projection if is_clip else model.text_model.head
    found = model.text_model(torch.tensor(ids))
    arrays = {
        "ids": ids.astype(np.int32),
        "attend": np.arange(LENGTH) < np.array([[LENGTH], [4], [6], [2]]),
        "text_pooled": normalize(model.get_text_features(torch.tensor(ids)).pooler_output, dim=-1),
        "text_tokens": normalize(project_text(found.last_hidden_state), dim=-1),
    }
    for name, (height, width) in SIZES.items():
        pixels = rng.standard_normal((2, height, width, 3)).astype(np.float32)
        channels_first = torch.tensor(pixels).permute(0, 3, 1, 2)
        resized = {"interpolate_pos_encoding": name != "own"}
        states = model.vision_model(channels_first, **resized).last_hidden_state
        if is_clip:  # the patches go the way of the class token
            states = model.visual_projection(model.vision_model.post_layernorm(states[:, 1:]))
        pooled = model.get_image_features(channels_first, **resized).pooler_output
        arrays |= {f"{name}_pixels": pixels, f"{name}_pooled": normalize(pooled, dim=-1)}
        arrays[f"{name}_patches"] = normalize(states, dim=-1)
    return {name: np.asarray(value) for name, value in arrays.items()}


def main() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    made = {
        "clip": (clip("quick_gelu", END), torch.float32, "1GB"),
        "clip-gelu-highest-id-f16": (clip("gelu", 2, heads=2), torch.float16, "1GB"),
        "siglip-sharded-bf16": (siglip(), torch.bfloat16, "12KB"),
    }
    for seed, (name, (model, dtype, shard)) in enumerate(made.items()):
        randomised(model, seed).to(dtype).save_pretrained(HERE / name, max_shard_size=shard)
        model = type(model).from_pretrained(HERE / name, dtype=torch.float32).eval()
        np.savez_compressed(HERE / name / "golden.npz", **golden(model, seed))  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
