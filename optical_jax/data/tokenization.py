"""Tokenisation to ids and masks with any fast tokenizer, and training of WordPiece vocabularies."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from optical_jax.config import HeadConfig
from optical_jax.data.characters import is_blank
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import TOKENIZER_FILES, parse_json
from optical_jax.types import TextInputs

Side = Literal["query", "document"]

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens of a trained vocabulary, at ids 0 to 4."""

MIN_VOCAB_SIZE = 64
MAX_WORD_CHARS = 1000
"""Longest word that is split into pieces; longer ones are [UNK]. BERT's 100 loses Khmer clauses."""
KNOWN_CLASSES = (
    "BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "CLIPTokenizer", "TokenizersBackend",
    "PreTrainedTokenizerFast",
)  # fmt: skip
"""Tokenizer classes in tokenizer_config.json that are loaded directly, for models of KNOWN_MODEL_TYPES."""
KNOWN_MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "clip", "clip_text_model", "siglip", "siglip_text_model")
SIGLIP_CLASSES = ("SiglipTokenizer", "GemmaTokenizer", "Siglip2Tokenizer")
"""Tokenizer classes of SigLIP folders. tokenizer.json has the complete tokenizer; the first class itself is slow and
needs SentencePiece."""
LOWER_CASE_CLASSES = SIGLIP_CLASSES[1:]
"""Classes of SigLIP 2, which was trained on lower-cased text (arXiv 2502.14786, section 2). Its folders name Gemma's,
which keeps case; the last one, of later transformers, does not."""
SIGLIP_MODEL_TYPES = ("siglip", "siglip_text_model", None)
"""None: checkpoints of big_vision have no config.json."""


class Tokens(NamedTuple):
    """One text's tokens, special tokens and marker included; masks as in `TextInputs`."""

    ids: Int[np.ndarray, "L"]
    attend: Bool[np.ndarray, "L"]
    keep: Bool[np.ndarray, "L"]
    truncated: bool = False
    """True if the text was truncated."""
    own: int = 0
    """Number of the text's own tokens, without special tokens and marker."""
    known: int = 0
    """Number of its own tokens that are not [UNK]."""
    unknown: int = 0
    """Number of its own tokens that are [UNK], digits and punctuation aside; a text without tokens counts as one."""


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer of a folder or hub name.

    Raises:
      ConfigError: no such folder, no tokenizer files in it, or no fast version of the tokenizer.
    """
    folder = Path(path)
    local = folder.is_dir()
    if local and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(f"{path}: no tokenizer in this folder (none of {', '.join(TOKENIZER_FILES)})")
    if not local and (folder.is_absolute() or str(path).startswith((".", "~")) or str(path).count("/") > 1):
        raise ConfigError(f"{path}: no such folder; name a folder with a tokenizer, or a hub name")
    try:
        tokenizer = _from_pretrained(path, local)
    except Exception as e:  # tokenizers raises bare Exceptions, the hub and JSON many kinds
        what = "the tokenizer cannot be loaded" if local else "no such folder, and no tokenizer of this hub name"
        raise ConfigError(f"{path}: {what}: {_first_line(e)}") from e
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        name = _json_of(folder / "tokenizer_config.json").get("tokenizer_class") or "the folder's tokenizer"
        raise ConfigError(
            f"{path}: {name} is not a fast tokenizer; add the tokenizer.json of the same model to its files"
        )
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"{path}: the tokenizer has no padding token; add one in tokenizer_config.json")
    for option in ("local_files_only", "is_local"):  # otherwise saved with every copy
        tokenizer.init_kwargs.pop(option, None)
    return tokenizer


def _from_pretrained(path: str | Path, local: bool) -> Any:
    """Load as `AutoTokenizer`, which is avoided for known classes because it imports PyTorch if installed.

    If that is not a fast tokenizer, tokenizer.json is used, whatever its class; None without one.
    """
    import transformers

    name = _known_class(Path(path)) if local else ""
    if name in SIGLIP_CLASSES:
        found = PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True)
        return _lower_cased(found) if name in LOWER_CASE_CLASSES else found
    if name:
        return getattr(transformers, name).from_pretrained(str(path), local_files_only=True)
    try:
        found = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=local, trust_remote_code=False)
    except ImportError:  # the class needs a library that is not installed
        found = None
    if isinstance(found, PreTrainedTokenizerFast) or (local and not (Path(path) / "tokenizer.json").is_file()):
        return found
    return PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=local)


def _known_class(folder: Path) -> str:
    """Known tokenizer class of a folder; empty if files are missing or name another class."""
    named, model_type = _json_of(folder / "tokenizer_config.json"), _json_of(folder / "config.json").get("model_type")
    name = named.get("tokenizer_class")
    if not (folder / "tokenizer.json").is_file() or not isinstance(name, str) or "auto_map" in named:
        return ""
    for one in (name, name.removesuffix("Fast")):
        if (one in KNOWN_CLASSES and model_type in KNOWN_MODEL_TYPES) or (
            one in SIGLIP_CLASSES and model_type in SIGLIP_MODEL_TYPES
        ):
            return one
    return ""


def _lower_cased(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Add lower-casing to a tokenizer, saved copies included."""
    backend = tokenizer.backend_tokenizer
    then = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *then])
    return tokenizer


def _json_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing or not a JSON object."""
    try:
        found = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tokenize(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    head: HeadConfig,
    side: Side,
    max_length: int | None = None,
) -> list[Tokens]:
    """Tokenise texts to ids and masks, without padding.

    The side's marker is inserted after the first token; texts are truncated so that marker and special tokens fit.
    A text of which `head` would drop every vector (punctuation alone) keeps all of them.

    Args:
      max_length: in tokens; None takes the head's query_length or document_length.

    Raises:
      DataError: a text is empty, or white space, control characters and joiners alone.
      ConfigError: max_length leaves no room for text, or the tokenizer lacks the [MASK] for query augmentation.
    """
    limit = max_length or (head.query_length if side == "query" else head.document_length)
    marker = head.query_marker_id if side == "query" else head.document_marker_id
    room = limit - (marker is not None)
    if room <= tokenizer.num_special_tokens_to_add():
        raise ConfigError(f"max_length={limit} leaves no room for text beside special tokens; increase it")
    for i, text in enumerate(texts):
        if is_blank(text):
            raise DataError(f"text {i} is empty, or shows nothing; every text needs at least one character")
    augment_to = min(limit, head.query_length) if side == "query" and head.augment_queries else 0
    if augment_to and tokenizer.mask_token_id is None:
        raise ConfigError("head.augment_queries needs a [MASK] token, but the tokenizer has none; turn it off")
    if not texts:
        return []
    skipped, specials = skipped_ids(tokenizer, head, side, marker), tokenizer.num_special_tokens_to_add()
    encoded = tokenizer(
        list(texts), truncation=True, max_length=room, return_attention_mask=False, return_token_type_ids=False
    )
    # Otherwise the truncation would be saved with every copy of the tokenizer.
    tokenizer.backend_tokenizer.no_truncation()
    assert encoded.encodings is not None, "a fast tokenizer gives encodings"
    result = []
    for text, encoding in zip(texts, encoded.encodings, strict=True):
        ids = encoding.ids
        spans = unknown_spans(encoding, tokenizer.unk_token_id)
        own, unknown = len(ids) - specials, sum(is_word(text[start:end]) for start, end in spans)
        known = own - len(spans)
        if not own:  # the tokenizer has dropped every character
            own, unknown = 1, 1
        if marker is not None:
            ids = [*ids[:1], marker, *ids[1:]]
        real = len(ids)
        ids = [*ids, *[tokenizer.mask_token_id] * (augment_to - real)]
        attend = np.ones(len(ids), bool)
        attend[real:] = head.attend_to_augmentation
        keep = np.array([i not in skipped for i in ids]) if skipped else np.ones(len(ids), bool)
        if not keep.any():
            keep[:] = True
        result.append(Tokens(np.array(ids, np.int32), attend, keep, bool(encoding.overflowing), own, known, unknown))
    return result


def unknown_spans(encoding: Any, unknown_id: Any) -> list[tuple[int, int]]:
    """Character spans of an encoding's unknown tokens; CLIP's end of text, which has the same id, is not one."""
    if unknown_id not in encoding.ids:
        return []
    tokens = zip(encoding.ids, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [span for i, special, span in tokens if i == unknown_id and not special]


def is_word(text: str) -> bool:
    """False for digits and punctuation alone."""
    return any(unicodedata.category(character)[0] not in "NP" for character in text)


def skipped_ids(tokenizer: PreTrainedTokenizerFast, head: HeadConfig, side: Side, marker: int | None) -> set[int]:
    """Ids of tokens that give no vector on this side."""
    skipped: set[int] = set()
    if head.skip_punctuation and side == "document":
        # ColBERT's rule: the ids of the single punctuation symbols, as words and (SentencePiece) within words.
        vocab = tokenizer.backend_tokenizer
        for symbol in string.punctuation:
            word = tokenizer.encode(symbol, add_special_tokens=False)
            skipped.update(i for i in (*word[-1:], vocab.token_to_id(symbol)) if i is not None)
        skipped.discard(cast(int, tokenizer.unk_token_id))
    if not head.special_tokens:
        specials = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        skipped.update(i for i in (*specials, marker) if isinstance(i, int))
    return skipped


def pad_tokens(tokens: Sequence[Tokens], length: int, pad_id: int) -> TextInputs:
    """Pad tokens on the right to NumPy arrays [B, length]; padding is False in both masks."""
    shape = (len(tokens), length)
    ids, attend, keep = np.full(shape, pad_id, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    for row, text in enumerate(tokens):
        n = len(text.ids)
        if n > length:
            raise ValueError(f"text {row} has {n} tokens, more than length={length}")
        ids[row, :n], attend[row, :n], keep[row, :n] = text.ids, text.attend, text.keep
    return TextInputs(ids=ids, attend=attend, keep=keep)  # pyright: ignore[reportArgumentType]


def train_vocabulary(texts: Iterable[str], vocab_size: int, lowercase: bool = True) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer of at most `vocab_size` pieces; deterministic in the texts.

    BERT's rules with two exceptions: accents and vowel signs are kept, and zero-width spaces separate words (as in
    Khmer).
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ConfigError(
            f"student.vocab_size={vocab_size} is too small for a vocabulary; use {MIN_VOCAB_SIZE} or more"
        )
    backend = _word_piece({token: i for i, token in enumerate(BERT_SPECIALS)}, lowercase)

    def split(text: str) -> list[str]:
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]

    words: Counter[str] = Counter()
    for text in texts:
        words.update(split(text))
    if not words:
        raise DataError("no text to train a vocabulary on; use a bitext with a foreign side")
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    # Rare characters are dropped in favour of pieces; a word that has one is [UNK].
    alphabet = set(sorted(counts, key=lambda c: (-counts[c], c))[: vocab_size // 3])
    unknown = {ord(c): " " for c in counts.keys() - alphabet}
    # Word-internal forms of all characters, seen or not; punctuation and Chinese characters are always separate words.
    inner = {c for c in alphabet if len(split(f"a{c}a")) == 1}
    # The trainer numbers characters in the order of a hash table, which differs between processes, and breaks ties by
    # number. As special tokens they get fixed numbers.
    pieces = [*BERT_SPECIALS, *sorted(alphabet), *(f"##{c}" for c in sorted(inner))]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=pieces, show_progress=False)
    # Each distinct word repeated by its count, sorted: the trainer does not depend on text boundaries.
    lines = (" ".join([word.translate(unknown)] * count) for word, count in sorted(words.items()))
    backend.train_from_iterator(lines, trainer)
    return _wrap(_word_piece(backend.get_vocab(), lowercase))


def with_pieces(
    tokenizer: PreTrainedTokenizerFast, pieces: Iterable[str], lowercase: bool = True
) -> PreTrainedTokenizerFast:
    """Add pieces (in WordPiece spelling) to a tokenizer of `train_vocabulary`, whose own keep their ids.

    Pieces that its normalisation cannot produce, such as capitals under lower-casing, are left out.
    """
    vocab = dict(tokenizer.get_vocab())
    normalise = tokenizer.backend_tokenizer.normalizer.normalize_str
    for piece in pieces:
        if normalise(piece) == piece:
            vocab.setdefault(piece, len(vocab))
    return _wrap(_word_piece(vocab, lowercase))


def _word_piece(vocab: dict[str, int], lowercase: bool) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARS))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace("\u200b", " "),
            normalizers.BertNormalizer(
                clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
            ),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap for transformers, with BERT's template and special tokens."""
    cls, sep = "[CLS]", "[SEP]"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token=cls,
        sep_token=sep,
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
