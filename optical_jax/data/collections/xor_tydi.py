"""XOR-TyDi QA's retrieval task (XOR-Retrieve); relevance is found from the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from optical_jax.data.collections.collection import CollectionFiles, collection_of
from optical_jax.data.files.lines import read_json_lines
from optical_jax.data.files.records import Entry, Judgement, Stream, tsv_texts
from optical_jax.data.files.requests import SourceRequest
from optical_jax.data.text.folding import words
from optical_jax.errors import DataError

XOR_TYDI = ("ar", "bn", "fi", "ja", "ko", "ru", "te")


def xor_tydi(ask: SourceRequest) -> CollectionFiles:
    """XOR-Retrieve: questions with short English answers, and English Wikipedia in passages of 100 words.

    It has no judged passages: a passage is relevant if its text contains an answer, word for word; yes-no questions
    have none. Its own metrics (R@2kt, R@5kt) use the same rule.
    """
    stem = f"xor_{ask.split}_retrieve_eng_span"
    questions = ask.files.one("questions", f"{stem}_v1_1.jsonl", f"{stem}.jsonl")
    there = {lang for _, _, lang, _, _ in _xor_lines(questions)}
    asked = [lang for lang in ask.languages_of(XOR_TYDI) if ask.languages or lang in there]
    file = ask.files.one("passages", "enwiki_20190201_w100.tsv", "psgs_w100.tsv")
    passages = tsv_texts(file, "document", ("id", "text", "title"), ("title", "text"), quoted=True)
    bodies = tsv_texts(file, "document", ("id", "text", "title"), quoted=True)
    return collection_of(
        ask,
        passages,
        {one: Stream((questions,), lambda one=one: _xor_questions(questions, one)) for one in asked},
        Stream((questions, file), lambda: _by_answer(_xor_answers(questions, asked), bodies)),
        "en",
    )


def _xor_lines(path: Path) -> Iterator[tuple[int, str, str, str, list[str]]]:
    """Line, id, language, question, answers."""
    for number, record in read_json_lines(path):
        try:
            answers = [str(answer) for answer in record.get("answers", ())]
            # strip() refuses what is not text.
            yield number, str(record["id"]), record["lang"].strip(), record["question"].strip(), answers
        except (AttributeError, KeyError, TypeError):
            raise DataError(f"{path}:{number}: not a question; a line has id, question, lang and answers") from None


def _xor_questions(path: Path, language: str) -> Iterator[Entry]:
    for number, identity, lang, question, _ in _xor_lines(path):
        if lang == language:
            yield Entry(str(path), number, identity, question)


def _xor_answers(path: Path, languages: Sequence[str]) -> dict[str, list[list[str]]]:
    """Question id -> the words of each answer that a passage can hold."""
    return {
        identity: [found for answer in answers if answer not in ("yes", "no") and (found := words(answer))]
        for _, identity, lang, _, answers in _xor_lines(path)
        if lang in languages
    }


def _by_answer(answers: Mapping[str, list[list[str]]], passages: Stream[Entry]) -> Iterator[Judgement]:
    """Every passage that holds all words of an answer, one after the other."""
    beginning: defaultdict[str, list[tuple[list[str], str]]] = defaultdict(list)
    for query, each in answers.items():
        for answer in each:
            beginning[answer[0]].append((answer, query))
    for passage in passages:
        text = words(passage.text)
        found = {
            query: None
            for n, word in enumerate(text)
            for answer, query in beginning.get(word, ())
            if text[n : n + len(answer)] == answer
        }
        for query in found:
            yield Judgement(passage.where, query, passage.identity, 1)
