"""Golden numbers for tests/models/formats/test_pretrained.py: tiny random checkpoints and what PyTorch makes of them.

python tests/reference/make_golden.py [FOLDER_OF_all-MiniLM-L6-v2]

Needs the `parity` extra. Writes checkpoints/<name>/ (one of every form in which checkpoints come; each with golden.npz)
and, given the real encoder, all-MiniLM-L6-v2.npz. Hidden states are those of `transformers` in float32, token vectors
those of Sentence Transformers 6, which reads all the multi-vector forms.
"""

import json
import shutil
import string
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaModel,
)

HERE = Path(__file__).parent
WORDS = ["the", "cat", "dog", "river", "mountain", "bread", "water", "runs", "sleeps", "over", "under", "red", "old"]
WORDS += ["market", "road", "school", "rain"]
SPECIALS = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIALS, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *string.punctuation, *WORDS]
QUERIES = ["the old cat", "water under the red road, a market?", "rain"]
DOCUMENTS = ["The cat sleeps.", "a dog runs over the old road; bread, water!", "Mountain (rain) school"]
SENTENCES = ["A small boat crosses the lake.", "Tea", "Where can I buy bread, and is the market open on Sunday?"]


def main() -> None:
    folder = HERE / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    encoders(folder)
    late_interaction(folder)
    if len(sys.argv) > 1:
        minilm(sys.argv[1])


# ---- encoders ----------------------------------------------------------------------------------------------------


def shape(**overrides):
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    return sizes | {"intermediate_size": 24, "max_position_embeddings": 20} | overrides


def randomised(model, seed):
    """Every parameter random, biases and norms too, and large enough that attention is far from even."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        value.copy_(1 + 0.3 * noise if name.endswith("LayerNorm.weight") else 0.3 * noise)
    return model.eval()


def encoders(folder: Path) -> None:
    """One of every family; among them single and sharded files, three float types, prefixes, heads, old names."""
    roberta = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 22}
    made = {
        "bert": (BertModel(BertConfig(**shape())), torch.float32, "1GB"),
        "bert-tanh-f16": (BertModel(BertConfig(**shape(hidden_act="gelu_new"))), torch.float16, "1GB"),
        "bert-relu-bf16": (BertModel(BertConfig(**shape(hidden_act="relu"))), torch.bfloat16, "1GB"),
        "mbert-sharded": (BertForMaskedLM(BertConfig(**shape(vocab_size=120))), torch.float32, "12KB"),
        "minilm": (BertModel(BertConfig(**shape(hidden_size=24, num_attention_heads=12))), torch.float32, "1GB"),
        "roberta": (RobertaForMaskedLM(RobertaConfig(**shape(type_vocab_size=1, **roberta))), torch.float32, "1GB"),
        "xlm-roberta-sharded-bf16": (
            XLMRobertaModel(XLMRobertaConfig(**shape(type_vocab_size=1, **roberta))), torch.bfloat16, "6KB"
        ),
    }  # fmt: skip
    for seed, (name, (model, dtype, shard)) in enumerate(made.items()):
        randomised(model, seed).to(dtype).save_pretrained(folder / name, max_shard_size=shard)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
    # As bert-base-uncased and all-MiniLM-L6-v2 are stored: norms in TensorFlow's names, the buffer of positions.
    path = folder / "minilm" / "model.safetensors"
    tensors = {rename(k): v for k, v in load_file(path).items()}
    tensors["embeddings.position_ids"] = torch.arange(20)[None]
    save_file(tensors, path, {"format": "pt"})
    for name in made:
        write_hidden(folder / name)


def rename(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def write_hidden(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    pad = model.config.pad_token_id
    ids = np.random.default_rng(0).integers(5, 60, (3, 12))
    attend = np.arange(12) < np.array([[12], [7], [1]])
    ids = np.where(attend, ids, pad)
    with torch.no_grad():
        hidden = model(torch.tensor(ids), attention_mask=torch.tensor(attend)).last_hidden_state.numpy()
    np.savez_compressed(folder / "golden.npz", ids=ids.astype(np.int32), attend=attend, hidden=hidden)


def minilm(path: str) -> None:
    model, tokenizer = AutoModel.from_pretrained(path).eval(), PreTrainedTokenizerFast.from_pretrained(path)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state.numpy()
    ids, attend = batch["input_ids"].numpy().astype(np.int32), batch["attention_mask"].numpy().astype(bool)
    np.savez_compressed(HERE / "all-MiniLM-L6-v2.npz", ids=ids, attend=attend, hidden=hidden)


# ---- late interaction --------------------------------------------------------------------------------------------


def tokenizer(*added: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(VOCAB)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = [(token, VOCAB.index(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    made.add_tokens(list(added))
    return made


def save_body(folder: Path, seed: int, *added: str) -> dict[str, torch.Tensor]:
    """A tiny BERT with its tokenizer; returns its tensors."""
    made = tokenizer(*added)
    model = randomised(BertModel(BertConfig(**shape(vocab_size=len(made), max_position_embeddings=40))), seed)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return model.state_dict()


def dense(seed: int) -> torch.Tensor:
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(100 + seed))


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def save_dense(folder: Path, seed: int) -> None:
    identity = "torch.nn.modules.linear.Identity"
    config = {"in_features": 16, "out_features": 8, "bias": False, "activation_function": identity}
    write_json(folder / "config.json", config)
    save_file({"linear.weight": dense(seed)}, folder / "model.safetensors", {"format": "pt"})


def late_interaction(folder: Path) -> None:
    stanford(folder / "stanford")
    pylate(folder / "pylate")
    multi_vector(folder / "multi-vector")
    sentence_transformer(folder / "sentence-transformer")
    for path in folder.glob("*/README.md"):
        path.unlink()


def stanford(folder: Path) -> None:
    """As ColBERT's HF_ColBERT saves itself: `bert.*` and `linear.weight` in one file, artifact.metadata beside it."""
    tensors = {f"bert.{name}": value for name, value in save_body(folder, 20).items()}
    save_file(tensors | {"linear.weight": dense(0)}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"architectures": ["HF_ColBERT"]})
    metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]", "doc_token": "[D]"}
    metadata |= {"dim": 8, "similarity": "cosine", "mask_punctuation": True, "attend_to_mask_tokens": False}
    write_json(folder / "artifact.metadata", metadata | {"query_maxlen": 12, "doc_maxlen": 16, "checkpoint": "x"})
    write_vectors(folder)


def pylate(folder: Path) -> None:
    """PyLate: only Transformer and Dense in modules.json, the rest at the top level; markers are added tokens."""
    save_body(folder, 21, "[Q] ", "[D] ")
    save_dense(folder / "1_Dense", 1)
    kinds = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
    modules = [{"idx": i, "name": str(i), "path": p, "type": kind} for i, (p, kind) in enumerate(kinds.items())]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": False})
    config = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim", "model_type": "ColBERT"}
    config |= {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 10, "document_length": 14}
    config |= {"attend_to_expansion_tokens": True, "do_query_expansion": True, "skiplist_words": [*string.punctuation]}
    write_json(folder / "config_sentence_transformers.json", config)
    write_vectors(folder)


def multi_vector(folder: Path) -> None:
    """Sentence Transformers 6's own form: a chain of modules, each with its config; no query expansion."""
    body = folder.with_name("body")
    save_body(body, 22)
    model = MultiVectorEncoder(str(body), prompts={"query": "[unused0] ", "document": "[unused1] "})
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["[unused0]", "[unused1]"]})
    model[1].linear.weight.data = torch.randn(128, 16, generator=torch.Generator().manual_seed(3))
    model[0].query_length, model[0].document_length = 9, 13
    model.save_pretrained(str(folder))
    shutil.rmtree(body)
    write_vectors(folder)


def write_vectors(folder: Path) -> None:
    """Token vectors of the texts, by Sentence Transformers; the vectors of all texts of a side in one array."""
    model = MultiVectorEncoder(str(folder), device="cpu")
    arrays = {}
    for side, texts in (("query", QUERIES), ("document", DOCUMENTS)):
        encode = model.encode_query if side == "query" else model.encode_document
        vectors = encode(texts, convert_to_numpy=True)
        arrays |= {f"{side}_texts": np.array(texts), f"{side}_counts": np.array([len(v) for v in vectors])}
        arrays[f"{side}_vectors"] = np.concatenate(vectors)
    np.savez_compressed(folder / "golden.npz", **arrays)


def sentence_transformer(folder: Path) -> None:
    """A dense model: mean pooling, a projection, unit length."""
    save_body(folder, 23)
    save_dense(folder / "2_Dense", 4)
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ])  # fmt: skip
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    vectors = SentenceTransformer(str(folder), device="cpu").encode(DOCUMENTS, convert_to_numpy=True)
    np.savez_compressed(folder / "golden.npz", texts=np.array(DOCUMENTS), vectors=vectors)


if __name__ == "__main__":
    main()
