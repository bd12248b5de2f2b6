import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from optical_jax.config import HeadConfig
from optical_jax.data.characters import is_blank
from optical_jax.data.tokenization import (
    BERT_SPECIALS,
    load_tokenizer,
    pad_tokens,
    tokenize,
    train_vocabulary,
    with_pieces,
)
from optical_jax.errors import ConfigError, DataError
from tests import ROOT

PAD, UNK, CLS, SEP, MASK, MARKER, RED, FOX, RUNS, STOP, COMMA = range(11)
WORDS = [*BERT_SPECIALS, "[Q]", "red", "fox", "runs", ".", ","]

LINES = {
    "sw": ["Mtoto anasoma kitabu shuleni.", "Watoto wanasoma vitabu nyumbani.", "Mwalimu anaandika barua."],
    "am": ["ልጁ መጽሐፍ ያነባል።", "መምህሩ ደብዳቤ ይጽፋል።", "ልጆች ትምህርት ቤት ናቸው።"],
    "km": ["ក្មេងអានសៀវភៅនៅសាលារៀន។", "គ្រូសរសេរសំបុត្រ។", "ក្មេងៗនៅផ្ទះ។"],
    "mr": ["मुलगा पुस्तक वाचतो.", "शिक्षक पत्र लिहितो.", "मुले शाळेत आहेत."],
    "yo": ["Ọmọ náà ń ka ìwé.", "Olùkọ́ náà ń kọ lẹ́tà.", "Àwọn ọmọ wà ní ilé."],
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words and punctuation, ids as named above."""
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_SPECIALS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def one(tokenizer, text, head, side="query", max_length=None):
    (tokens,) = tokenize(tokenizer, [text], head, side, max_length)
    assert len(tokens.ids) == len(tokens.attend) == len(tokens.keep)
    assert (tokens.ids.dtype, tokens.attend.dtype, tokens.keep.dtype) == (np.int32, bool, bool)
    return tokens


def test_plain(tokenizer):
    tokens = one(tokenizer, "red fox.", HeadConfig())
    assert tokens.ids.tolist() == [CLS, RED, FOX, STOP, SEP]
    assert tokens.attend.all()
    assert tokens.keep.all()
    assert not tokens.truncated


def test_marker_stands_behind_the_first_token_and_room_is_made_for_it(tokenizer):
    head = HeadConfig(query_marker_id=MARKER)
    assert one(tokenizer, "red fox", head).ids.tolist() == [CLS, MARKER, RED, FOX, SEP]
    assert one(tokenizer, "red fox", head, "document").ids.tolist() == [CLS, RED, FOX, SEP]
    cut = one(tokenizer, "red fox runs", head, max_length=5)
    assert cut.ids.tolist() == [CLS, MARKER, RED, FOX, SEP]
    assert cut.truncated


def test_limits_come_from_the_head_by_side(tokenizer):
    head = HeadConfig(query_length=4, document_length=5)
    assert one(tokenizer, "red fox runs red", head).ids.tolist() == [CLS, RED, FOX, SEP]
    assert one(tokenizer, "red fox runs red", head, "document").ids.tolist() == [CLS, RED, FOX, RUNS, SEP]
    exact = one(tokenizer, "red fox", head)
    assert len(exact.ids) == 4
    assert not exact.truncated


@pytest.mark.parametrize("attended", [False, True])
def test_augmentation_fills_queries_with_mask_tokens(tokenizer, attended):
    head = HeadConfig(query_length=6, augment_queries=True, attend_to_augmentation=attended)
    tokens = one(tokenizer, "red fox", head)
    assert tokens.ids.tolist() == [CLS, RED, FOX, SEP, MASK, MASK]
    assert tokens.attend.tolist() == [True] * 4 + [attended] * 2
    assert tokens.keep.all()
    assert len(one(tokenizer, "red fox", head, "document").ids) == 4
    assert len(one(tokenizer, "red fox", head, max_length=64).ids) == 6
    assert len(one(tokenizer, "red fox", head, max_length=5).ids) == 5


def test_punctuation_of_documents_is_read_but_not_kept(tokenizer):
    head = HeadConfig(skip_punctuation=True)
    tokens = one(tokenizer, "red, fox.", head, "document")
    assert tokens.ids.tolist() == [CLS, RED, COMMA, FOX, STOP, SEP]
    assert tokens.keep.tolist() == [True, True, False, True, False, True]
    assert tokens.attend.all()
    assert one(tokenizer, "red, fox.", head, "query").keep.all()
    # A symbol the vocabulary lacks is [UNK]; so may a word be, and words stay.
    assert one(tokenizer, "zebra", head, "document").keep.all()


def test_special_tokens_are_left_out_unless_nothing_else_remains(tokenizer):
    head = HeadConfig(special_tokens=False, skip_punctuation=True, document_marker_id=MARKER)
    tokens = one(tokenizer, "red.", head, "document")
    assert tokens.ids.tolist() == [CLS, MARKER, RED, STOP, SEP]
    assert tokens.keep.tolist() == [False, False, True, False, False]
    assert one(tokenizer, "...", head, "document").keep.all()


@given(st.lists(st.text(min_size=1).filter(lambda t: not is_blank(t)), min_size=1, max_size=5), st.booleans())
def test_every_text_keeps_a_vector_and_its_length_limit(tokenizer, texts, flag):
    head = HeadConfig(special_tokens=flag, skip_punctuation=True, query_marker_id=MARKER, augment_queries=not flag)
    for side in ("query", "document"):
        for tokens in tokenize(tokenizer, texts, head, side, 7):
            assert len(tokens.ids) <= 7
            assert (tokens.attend & tokens.keep).any()


def test_batch_is_its_texts_one_by_one(tokenizer):
    texts = ["red", "fox runs.", "red fox runs, runs", "zebra"]
    head = HeadConfig(query_marker_id=MARKER, query_length=5, special_tokens=False)
    for text, tokens in zip(texts, tokenize(tokenizer, texts, head, "query"), strict=True):
        for got, want in zip(tokens, one(tokenizer, text, head), strict=True):
            np.testing.assert_array_equal(got, want)
    assert tokenize(tokenizer, [], head, "query") == []


@pytest.mark.parametrize("empty", ["", " ", "\t\u3000\n"])
def test_empty_text_is_named_by_its_index(tokenizer, empty):
    with pytest.raises(DataError, match="text 1 is empty"):
        tokenize(tokenizer, ["red", empty], HeadConfig(), "query")


def test_limit_without_room_for_text(tokenizer):
    with pytest.raises(ConfigError, match="max_length=3 leaves no room"):
        tokenize(tokenizer, ["red"], HeadConfig(query_marker_id=MARKER), "query", 3)


def test_tokenizing_leaves_no_limit_behind(tokenizer):
    tokenize(tokenizer, ["red fox runs"], HeadConfig(), "query", 4)
    assert tokenizer.backend_tokenizer.truncation is None


def test_pad_tokens(tokenizer):
    tokens = tokenize(tokenizer, ["red", "red fox"], HeadConfig(special_tokens=False), "query")
    padded = pad_tokens(tokens, 5, pad_id=9)
    assert padded.ids.tolist() == [[CLS, RED, SEP, 9, 9], [CLS, RED, FOX, SEP, 9]]
    assert padded.attend.tolist() == [[True] * 3 + [False] * 2, [True] * 4 + [False]]
    assert padded.keep.tolist() == [[False, True, False, False, False], [False, True, True, False, False]]
    assert padded.weight is None
    with pytest.raises(ValueError, match="text 1 has 4 tokens"):
        pad_tokens(tokens, 3, pad_id=0)


# ---- trained vocabularies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LINES)
def test_trained_vocabulary_covers_its_script(lang):
    trained = train_vocabulary(LINES[lang], 200)
    assert trained.convert_ids_to_tokens([0, 1, 2, 3, 4]) == list(BERT_SPECIALS)
    assert len(trained) <= 200
    for tokens in tokenize(trained, LINES[lang], HeadConfig(), "query"):
        assert tokens.ids[0] == trained.cls_token_id
        assert tokens.ids[-1] == trained.sep_token_id
        assert trained.unk_token_id not in tokens.ids


def test_frequent_words_become_pieces_and_case_folds_on_request():
    texts = ["Kitabu kizuri", "kitabu kipya", "Kitabu"] * 5
    assert train_vocabulary(texts, 100, lowercase=True).tokenize("KITABU") == ["kitabu"]
    cased = train_vocabulary(texts, 100, lowercase=False)
    assert cased.tokenize("Kitabu") == ["Kitabu"]
    assert cased.tokenize("kitabu") == ["kitabu"]


def test_pieces_of_another_vocabulary_beside_its_own():
    own = train_vocabulary(["mji wa washindi", "mji mkubwa"], vocab_size=100)
    both = with_pieces(own, ["washington", "mji", "##ton", "New"])
    assert both.tokenize("Washington mji") == ["washington", "mji"]
    assert both.get_vocab().items() >= own.get_vocab().items()
    assert both.get_vocab().keys() - own.get_vocab().keys() == {"washington", "##ton"}  # capitals are folded


def test_accents_and_vowel_signs_stay():
    yoruba = train_vocabulary(["ọkọ́ ọkọ̀ òkò"] * 5, 100)
    assert len({tuple(yoruba.tokenize(word)) for word in ("ọkọ́", "ọkọ̀", "òkò")}) == 3
    marathi = train_vocabulary(["की का के"] * 5, 100)
    assert len({tuple(marathi.tokenize(word)) for word in ("की", "का", "के")}) == 3
    # Composed and decomposed spellings are one.
    assert yoruba.tokenize("ọkọ́") == yoruba.tokenize("o\u0323ko\u0323\u0301")


def test_khmer_zero_width_space_parts_words_and_long_clauses_are_cut():
    trained = train_vocabulary(["ក្មេង\u200bអាន", "ក្មេង អាន"] * 5, 100)
    assert trained.tokenize("ក្មេង\u200bអាន") == ["ក្មេង", "អាន"]
    clause = "ក្មេងអាន" * 30
    assert len(clause) > 100
    assert "[UNK]" not in trained.tokenize(clause)


def test_rare_characters_give_way_to_pieces():
    rare = [chr(c) for c in range(0x4E00, 0x4E00 + 300)]
    trained = train_vocabulary(["mtoto anasoma"] * 50 + rare, 120)
    assert trained.tokenize("mtoto") == ["mtoto"]
    assert len(trained) <= 120


def test_saved_vocabulary_reloads_the_same(tmp_path):
    texts = [line for lines in LINES.values() for line in lines]
    trained = train_vocabulary(texts, 400)
    trained.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    loaded = load_tokenizer(tmp_path)
    assert loaded.get_vocab() == trained.get_vocab()
    for text in [*texts, "Mwanafunzi MPYA 2024! ọkọ̀", "ក្មេង\u200bអាន"]:
        assert loaded(text)["input_ids"] == trained(text)["input_ids"]
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(loaded, f"{name}_token_id") == getattr(trained, f"{name}_token_id")
    loaded.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    assert again == json.loads((tmp_path / "tokenizer.json").read_text())
    assert "local_files_only" not in (tmp_path / "again" / "tokenizer_config.json").read_text()


SCRIPT = """
import hashlib, json, sys
from optical_jax.data.tokenization import train_vocabulary
texts = json.load(sys.stdin)
print(hashlib.sha256(train_vocabulary(texts, 300).backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_training_is_deterministic_over_processes_and_order():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefghijklmnop "), 30)) for _ in range(50)]
    here = hashlib.sha256(train_vocabulary(texts, 300).backend_tokenizer.to_str().encode()).hexdigest()
    shuffled = hashlib.sha256(train_vocabulary(texts[::-1], 300).backend_tokenizer.to_str().encode()).hexdigest()
    assert shuffled == here
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == here


def test_vocabulary_needs_text_and_room():
    with pytest.raises(DataError, match="no text to train"):
        train_vocabulary([" "], 100)
    with pytest.raises(ConfigError, match=r"student\.vocab_size=10 is too small"):
        train_vocabulary(["mtoto"], 10)


# ---- loading ---------------------------------------------------------------------------------------------------


def test_folders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        load_tokenizer(tmp_path / "absent")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="no tokenizer in this folder"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(ConfigError, match="the tokenizer cannot be loaded") as e:
        load_tokenizer(tmp_path)
    assert "\n" not in str(e.value)


FOLDERS = [
    ROOT / "configs/tiny/teacher",
    ROOT / "optical_jax/english_teacher",
    *(ROOT / "tests/reference/checkpoints" / name for name in ("stanford", "pylate", "multi-vector")),
]
TEXTS = ["Café? A zebra, 2024!", "ክፍል ៣ [MASK] ọkọ́", "x" * 300]


def same_as_auto(folder, tmp_path):
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert [ours(text)["input_ids"] for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]
    assert ours.model_max_length == theirs.model_max_length
    for tokenizer, name in ((ours, "ours"), (theirs, "theirs")):
        tokenizer.save_pretrained(tmp_path / name)
    a, b = ((tmp_path / name / "tokenizer.json").read_text() for name in ("ours", "theirs"))
    assert a == b
    a, b = (json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("ours", "theirs"))
    assert a == {key: value for key, value in b.items() if key not in ("is_local", "local_files_only")}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folders_load_as_auto_tokenizer_loads_them(folder, tmp_path):
    same_as_auto(folder, tmp_path)


@pytest.mark.parametrize(
    "named",
    [{"tokenizer_class": "BertTokenizerFast"}, {"tokenizer_class": "MPNetTokenizer"}, {"tokenizer_class": None}],
    ids=str,
)
def test_the_real_tokenizer_under_other_names(minilm_dir, named, tmp_path):
    """Also one that is not taken at its word: AutoTokenizer decides."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(minilm_dir / name, folder / name)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | named
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    same_as_auto(folder, tmp_path)


def test_the_real_tokenizer_is_auto_tokenizers(minilm_dir, tmp_path):
    same_as_auto(minilm_dir, tmp_path)


def test_a_plain_folder_is_loaded_without_pytorch():
    """Which AutoTokenizer imports where it is installed: two seconds of every start."""
    code = (
        "import sys; from optical_jax.data.tokenization import load_tokenizer\n"
        f"load_tokenizer({str(FOLDERS[1])!r})\n"
        "print(sorted({'torch', 'transformers.models.auto.tokenization_auto'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_tokenizer(minilm_dir):
    """BERT's uncased vocabulary: 101 [CLS], 102 [SEP], 1012 full stop, 7592 hello, 2088 world."""
    real = load_tokenizer(minilm_dir)
    tokens = one(real, "Hello world.", HeadConfig(skip_punctuation=True), "document")
    assert tokens.ids.tolist() == [101, 7592, 2088, 1012, 102]
    assert tokens.keep.tolist() == [True, True, True, False, True]
