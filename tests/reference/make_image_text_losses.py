"""Golden numbers for tests/losses/test_image_text.py: what CLIP and SigLIP of transformers make of random pairs.

python tests/reference/make_image_text_losses.py

Needs the `parity` extra. Writes image_text_losses.npz: of each model the unit vectors of its captions and pictures, its
scale and bias, the loss and its gradients by both.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

HERE = Path(__file__).parent
PAIRS = 6
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = LAYERS | {"vocab_size": 40, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
PICTURE = LAYERS | {"image_size": 16, "patch_size": 8}


def main() -> None:
    np.savez(HERE / "image_text_losses.npz", **of_models())


def of_models() -> dict[str, np.ndarray]:
    arrays = {}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=PICTURE, projection_dim=8))
    siglip = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=PICTURE))
    with torch.no_grad():
        clip.logit_scale.fill_(2.0)
        siglip.logit_scale.fill_(1.5)
        siglip.logit_bias.fill_(-3.0)
    for name, model in (("softmax", clip), ("sigmoid", siglip)):
        for seed, value in enumerate(model.parameters()):
            if value.ndim > 1:  # far from equal vectors
                value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)) * 0.3
        ids = torch.randint(3, 40, (PAIRS, 8), generator=torch.Generator().manual_seed(1))
        pixels = torch.randn(PAIRS, 3, 16, 16, generator=torch.Generator().manual_seed(2))
        out = model.eval()(input_ids=ids, pixel_values=pixels, return_loss=True)
        out.loss.backward()
        arrays |= {f"{name}_text": out.text_embeds, f"{name}_image": out.image_embeds, f"{name}_loss": out.loss}
        arrays |= {f"{name}_log_scale": model.logit_scale, f"{name}_log_scale_grad": model.logit_scale.grad}
        if name == "sigmoid":
            arrays |= {f"{name}_bias": model.logit_bias, f"{name}_bias_grad": model.logit_bias.grad}
    return {name: value.detach().numpy() for name, value in arrays.items()}


if __name__ == "__main__":
    main()
