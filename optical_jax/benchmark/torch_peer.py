"""The distillation step in plain PyTorch: dynamic padding in file order, SDPA, log-domain Sinkhorn, AdamW.

Run as a separate process. It reads a JSON line with the task, then lines with the number of the step to run, and
answers each with a JSON line of its seconds and loss.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from optical_jax.benchmark.peer import PeerProcess
from optical_jax.benchmark.presets import Work
from optical_jax.config import EncoderConfig, OtConfig
from optical_jax.data.batches.tokens import FlatTokens


class TorchPeer(PeerProcess):
    """The PyTorch process, as a function from the number of a step to its seconds and loss.

    `weights` is a folder for both encoders, or empty for random ones. The projections are always ours.
    """

    def __init__(self, work: Work, weights: str, batch: int, ot: OtConfig, device: str, compiled: bool):
        super().__init__("optical_jax.benchmark.torch_peer")
        task = {
            "encoder": asdict(work.tower.encoder),
            "weights": weights,
            "projections": [
                np.asarray(params["head"]["projection"]["kernel"]).T.tolist() for params in (work.teacher, work.student)
            ],
            "batch": batch,
            "iterations": ot.iterations,
            "epsilon": ot.epsilon,
            "device": device,
            "compile": compiled,
            "student": _texts(work.pairs.student),
            "teacher": _texts(work.pairs.teacher),
        }
        self.about = self.ask(task)

    def __call__(self, step: int) -> dict[str, float]:
        return self.ask(step)


def _texts(tokens: FlatTokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]


# ---- the other process -----------------------------------------------------------------------------------------


def serve() -> None:
    import torch  # pyright: ignore[reportMissingImports]  # the parity extra
    from transformers import AutoModel, BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    task = json.loads(sys.stdin.readline())
    torch.manual_seed(0)
    shape, device = EncoderConfig(**task["encoder"]), torch.device(task["device"])
    bf16 = shape.dtype == "bfloat16"

    def encoder() -> Any:
        if task["weights"]:
            return AutoModel.from_pretrained(task["weights"])
        kind, config = {"bert": (BertModel, BertConfig), "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig)}[
            shape.family
        ]
        return kind(
            config(
                vocab_size=shape.vocab_size,
                hidden_size=shape.width,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                intermediate_size=shape.mlp_width,
                max_position_embeddings=shape.max_positions,
                type_vocab_size=shape.type_vocab_size,
                layer_norm_eps=shape.norm_eps,
            )
        )

    teacher, student = encoder().eval().to(device), encoder().train().to(device)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    heads = []
    for kernel in task["projections"]:
        heads.append(torch.nn.Linear(shape.width, len(kernel), bias=False).to(device))
        heads[-1].weight.data.copy_(torch.tensor(kernel))
    parameters = [*student.parameters(), *heads[1].parameters()]
    if task["compile"]:
        teacher, student = torch.compile(teacher), torch.compile(student)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def padded(texts: list[list[int]]) -> tuple[Any, Any]:
        longest = max(map(len, texts))
        ids = np.full((len(texts), longest), shape.pad_id)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
        mask = np.arange(longest) < np.array([[len(text)] for text in texts])
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))

    n = task["batch"]
    batches = [
        (padded(task["teacher"][i : i + n]), padded(task["student"][i : i + n]))
        for i in range(0, len(task["student"]), n)
    ]

    def vectors(model: Any, head: Any, ids: Any, mask: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = head(model(input_ids=ids, attention_mask=mask).last_hidden_state)
        return torch.nn.functional.normalize(out.float(), dim=-1)

    def log_mass(mask: Any) -> Any:
        return torch.where(mask.bool(), -mask.sum(1, keepdim=True).float().log(), -torch.inf)

    @torch.no_grad()
    def plan_of(cost: Any, rows: Any, cols: Any) -> Any:
        kernel, a, b = -cost / task["epsilon"], log_mass(rows), log_mass(cols)
        f, g = torch.zeros_like(a), torch.zeros_like(b)
        for _ in range(task["iterations"]):
            f = -torch.logsumexp(kernel + (g + b)[:, None, :], 2)
            g = -torch.logsumexp(kernel + (f + a)[:, :, None], 1)
        return torch.exp(kernel + (f + a)[:, :, None] + (g + b)[:, None, :])

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(number: int) -> dict[str, float]:
        began = now()
        (t_ids, t_mask), (s_ids, s_mask) = (tuple(x.to(device) for x in side) for side in batches[number])
        with torch.no_grad():
            target = vectors(teacher, heads[0], t_ids, t_mask)
        found = vectors(student, heads[1], s_ids, s_mask)
        cost = 1 - found @ target.transpose(1, 2)
        loss = (plan_of(cost.detach(), s_mask, t_mask) * cost).sum((1, 2)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return {"seconds": now() - began, "loss": loss.item()}

    def answer(**found: Any) -> None:
        print(json.dumps(found), flush=True)

    answer(framework=f"torch {torch.__version__}", threads=torch.get_num_threads(), device=str(device))
    for line in sys.stdin:
        answer(**step(int(line)))


if __name__ == "__main__":
    serve()
