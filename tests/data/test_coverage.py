"""Unknown tokens and truncated texts: counts by hand over several kinds of tokenizers, warnings and refusals."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from optical_jax.config import HeadConfig
from optical_jax.data.batches.tokens import TokenSide, join_pairs, tokenize_pairs
from optical_jax.data.coverage import TokenCounts, check_coverage, unknown_words
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.report import BitextReport, report_lines
from optical_jax.data.tokenization import tokenize, train_vocabulary
from optical_jax.errors import DataError

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[Q]", "moto", "maji", "na", ".")


def word_tokenizer(unknown: str = "[UNK]") -> PreTrainedTokenizerFast:
    """Whole words; with unknown="[SEP]" as CLIP's, whose unknown token is its end of text."""
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token=unknown, cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(["<pad>", "<unk>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


def counts(tokenizer, texts, head=None, side="query", max_length=None) -> TokenCounts:
    return TokenCounts.of(tokenize(tokenizer, texts, head or HeadConfig(), side, max_length))


# ---- counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [HeadConfig(), HeadConfig(query_marker_id=5, augment_queries=True, query_length=9)])
def test_own_and_unknown_tokens_by_hand(head):
    """Seven tokens, of which ngombe, mbuzi and paka are unknown; markers, [CLS], [SEP] and [MASK] do not count."""
    found = counts(word_tokenizer(), ["moto na ngombe.", "mbuzi maji", "paka"], head)
    assert found == TokenCounts(texts=3, tokens=7, unknown=3, unread=1, truncated=0)
    assert found.unknown_share == pytest.approx(3 / 7)


def test_the_end_of_text_that_is_also_the_unknown_token_is_not_unknown():
    assert counts(word_tokenizer("[SEP]"), ["moto na maji"]).unknown == 0
    assert counts(word_tokenizer("[SEP]"), ["moto na mbuzi"]).unknown == 1


def test_bytes_know_every_text():
    found = counts(byte_tokenizer(), ["ሰላም", "moto"])
    assert found == TokenCounts(texts=2, tokens=3 * 3 + 4, unknown=0, unread=0, truncated=0)
    assert unknown_words(byte_tokenizer(), ["ሰላም"]) == []


def test_digits_and_punctuation_are_no_unknown_words_but_are_not_known_either():
    """Of six tokens the dash, 12 and the emoji are [UNK]; only the emoji counts. A text of digits is still unread."""
    found = counts(word_tokenizer(), ["moto na maji - 12 \U0001f525", "12", "\U0001f525"])
    assert found == TokenCounts(texts=3, tokens=8, unknown=2, unread=2, truncated=0)
    assert unknown_words(word_tokenizer(), ["maji - 12 \U0001f525"]) == ["\U0001f525"]


def test_a_text_that_the_tokenizer_drops_counts_as_unknown():
    """Private use characters are removed by BERT's normaliser: no token of its own is left."""
    found = counts(word_tokenizer(), ["\ue000\ue001", "moto"])
    assert found == TokenCounts(texts=2, tokens=2, unknown=1, unread=1, truncated=0)
    assert unknown_words(word_tokenizer(), ["moto", "\ue000\ue001"]) == ["\ue000\ue001"]


@pytest.mark.parametrize("text", ["\u200b", "\u200d\ufeff", "\x01\x02", "\u2060 \u00ad", "\ufe0f", "\u3164"])
def test_a_text_that_shows_nothing_is_refused(text):
    with pytest.raises(DataError, match="text 1 is empty, or shows nothing"):
        tokenize(word_tokenizer(), ["moto", text], HeadConfig(), "document")


def test_truncated_texts_are_counted_by_side():
    """Five own tokens and two special ones; the fifth is unknown, and cut off as a query of 6 tokens."""
    head = HeadConfig(query_length=6, document_length=7)
    as_query = counts(word_tokenizer(), ["moto na maji na mbuzi", "moto"], head)
    assert as_query == TokenCounts(texts=2, tokens=5, unknown=0, unread=0, truncated=1)
    as_document = counts(word_tokenizer(), ["moto na maji na mbuzi", "moto"], head, "document")
    assert as_document == TokenCounts(texts=2, tokens=6, unknown=1, unread=0, truncated=0)
    assert as_query.truncation("queries", 6) == [
        "1 of 2 queries is longer than 6 tokens; only the beginning is encoded"
    ]
    assert (as_query + as_query).truncation("lines", 6) == [
        "2 of 4 lines are longer than 6 tokens; only the beginning is encoded"
    ]
    assert as_document.truncation("queries", 7) == []


def test_a_bitexts_report_has_the_share_of_both_sides():
    bitext = Bitext("sw", ["moto na mbuzi", "maji"], ["moto paka", "kuku"], BitextReport("sw"), (), ["", ""])
    side = TokenSide(word_tokenizer(), HeadConfig(), 8)
    pairs = tokenize_pairs(bitext, side, side)
    # English: mbuzi of four tokens; foreign: paka and kuku of three.
    assert bitext.report.lengths["teacher"].unknown == pytest.approx(1 / 4)
    assert bitext.report.lengths["student"].unknown == pytest.approx(2 / 3)
    assert bitext.report.as_json()["lengths"]["student"]["unknown"] == pytest.approx(2 / 3)
    lines = report_lines({"train": [bitext.report]})
    assert [line.rpartition(", ")[2] for line in lines[1:]] == ["66.7 % unknown", "25.0 % unknown"]
    assert join_pairs([pairs, pairs]).student.counts == TokenCounts(texts=4, tokens=6, unknown=4, unread=2)


# ---- warnings and refusals ---------------------------------------------------------------------------------------


def check(found: TokenCounts, texts=("moto paka", "kuku paka"), **more) -> list[str]:
    said: list[str] = []
    options = {"at_most": 0.2, "flag": "--max-unknown", "remedy": "use another model"} | more
    check_coverage(found, "sw queries", texts, word_tokenizer(), say=said.append, **options)
    return said


def test_a_share_at_a_limit_is_below_it():
    assert check(TokenCounts(texts=9, tokens=100, unknown=2)) == []
    (warning,) = check(TokenCounts(texts=9, tokens=100, unknown=20))
    assert warning == (
        "warning: sw queries: 20.0% of the tokens are unknown to the tokenizer ([UNK]), such as 'paka', 'kuku'; use "
        "another model"
    )


def test_above_the_limit_texts_are_refused_with_examples_and_remedy():
    with pytest.raises(DataError, match=r"sw queries: 21.0% .* 'paka', 'kuku'; use another model.* --max-unknown 0.22"):
        check(TokenCounts(texts=900, tokens=10_000, unknown=2_100))
    assert len(check(TokenCounts(texts=900, tokens=10_000, unknown=2_100), at_most=0.22)) == 1
    assert len(check(TokenCounts(texts=9, tokens=100, unknown=100), at_most=1.0)) == 1
    assert len(check(TokenCounts(texts=9, tokens=100, unknown=100), at_most=None)) == 1


@pytest.mark.parametrize(
    ("unknown", "tokens", "refused"),
    # Lower bounds 0.270, 0.221, 0.230, 0.203; 0.182, 0.111, 0.186.
    [
        (1, 1, True),
        (3, 6, True),
        (30, 100, True),
        (2100, 10_000, True),
        (2, 4, False),
        (6, 29, False),
        (25, 100, False),
    ],
)
def test_a_few_signs_in_a_few_texts_are_not_refused(unknown, tokens, refused):
    """Above the limit beyond chance: Wilson's interval, z = 1.645, computed by hand."""
    found = TokenCounts(texts=1000, tokens=tokens, unknown=unknown)
    if refused:
        with pytest.raises(DataError):
            check(found)
    else:
        assert len(check(found)) == 1


def test_texts_without_a_known_token_are_counted_even_if_they_are_few():
    assert not check(TokenCounts(texts=2000, tokens=9000, unknown=3, unread=1))  # alike to no other
    (warning,) = check(TokenCounts(texts=2000, tokens=9000, unknown=3, unread=2))
    assert warning.startswith("warning: sw queries: 2 of 2,000 have no token that the tokenizer knows")


def test_three_examples_of_unknown_words_and_not_too_long():
    words = unknown_words(word_tokenizer(), ["moto kuku", f"{'a' * 90} kuku maji", "b c d"])
    assert words == ["kuku", "a" * 24, "b"]


def test_a_trained_vocabulary_knows_its_texts():
    texts = ["ሰላም ለዓለም", "ውሃ እና እሳት"]
    assert counts(train_vocabulary(texts, 100), texts).unknown == 0
