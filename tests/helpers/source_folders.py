"""Tiny folders laid out as the makers of public collections lay theirs out, and what must be read from each."""

import gzip
import json
from pathlib import Path


def put(folder: Path, files: dict[str, str]) -> Path:
    """Write texts under their names, those that end in .gz packed."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def topic(identity: str, english: str, chinese: str) -> dict:
    """As TREC NeuCLIR's: the original, a human translation and a machine's."""
    titles = (("eng", "original", english), ("zho", "human translation", chinese), ("zho", "google translation", "x"))
    topics = [{"lang": lang, "source": by, "topic_title": t, "topic_description": "d"} for lang, by, t in titles]
    return {"topic_id": identity, "languages_with_qrels": ["zho"], "topics": topics}


MARCO = {"collection.tsv": "0\tThe cat sleeps.\n1\tRain falls.\n", "qrels.dev.small.tsv": "7\t0\t0\t1\n"}
MARCO_READ = (
    "msmarco",
    "en",
    {"0": "The cat sleeps.", "1": "Rain falls."},
    {"en": {"7": "who sleeps"}},
    {"7": {"0": 1}},
    set(),
)
GOOGLE = "data/google/"
MMARCO = {
    f"{GOOGLE}collections/english_collection.tsv": MARCO["collection.tsv"],
    f"{GOOGLE}collections/portuguese_collection.tsv": "0\tO gato dorme.\n1\tChove.\n",
    f"{GOOGLE}queries/dev/portuguese_queries.dev.small.tsv": "7\tquem dorme\n",
    f"{GOOGLE}queries/dev/english_queries.dev.small.tsv": "7\twho sleeps\n",
    "data/helsinki/collections/portuguese_collection.tsv": "0\tx\n",
    f"{GOOGLE}queries/train/portuguese_queries.train.tsv": "3\to que cai\n4\to que come\n",
    "data/qrels.train.tsv": "3 0 1 1\n",
    "data/triples.train.ids.small.tsv": "3\t1\t0\n",
    "data/qrels.dev.small.tsv": MARCO["qrels.dev.small.tsv"],
}
MIRACL = {
    "miracl-corpus-v1.0-sw/docs-0.jsonl.gz": jsonl({"docid": "1#0", "title": "Paka", "text": "Paka analala."}),
    "miracl-corpus-v1.0-sw/docs-1.jsonl.gz": jsonl({"docid": "2#0", "title": "Mvua", "text": "Inanyesha."}),
    "miracl-corpus-v1.0-te/docs-0.jsonl.gz": jsonl({"docid": "1#0", "title": "x", "text": "x"}),
    "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv": "5#0\tNani analala?\n",
    "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv": "5#0\tQ0\t1#0\t1\n5#0\tQ0\t2#0\t0\n",
}
MIRACL_CORPUS, MIRACL_QRELS = (
    "miracl-corpus-v1.0-sw/docs-1.jsonl.gz",
    "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv",
)
CIRAL = {
    "passages-v1.0/swahili_passages.jsonl": jsonl(
        {"docid": "VOA#1#0", "title": "Paka", "text": "Analala.", "url": "u"}
    ),
    "translated-passages-v1.0/swahili_passages.jsonl": jsonl({"docid": "VOA#1#0", "title": "Cat", "text": "Sleeps."}),
    "ciral-swahili/topics/topics.ciral-v1.0-sw-test-a.tsv": "5\tWho sleeps?\n",
    "ciral-swahili/qrels/qrels.ciral-v1.0-sw-test-a.tsv": "5 Q0 VOA#1#0 1\n",
    "ciral-swahili/qrels/qrels.ciral-v1.0-sw-test-a-pools.tsv": "5 Q0 VOA#9#0 1\n",
}
AFRICLIRMATRIX = {
    "africlirmatrix-v1.0-swahili/corpus.jsonl": jsonl({"id": "75", "contents": "Paka analala."}),
    "africlirmatrix-v1.0-somali/corpus.jsonl": jsonl({"id": "75", "contents": "x"}),
    "test/queries/topics.africlirmatrix-v1.0.en.swa.tsv": "2728394\tSleeping cats\n",
    "test/qrels/qrels.africlirmatrix-v1.0.en.swa.txt": "2728394 Q0 75 5\n",
}
CLIRMATRIX = {
    "DOCS/en.tsv.gz": "11\tThe cat sleeps.\n12\tRain falls.\n",
    "BI-139/base/sw/sw.en.test1.base.jl.gz": jsonl(
        {"src_id": "3", "src_query": "paka", "tgt_results": [["11", 6], ["12", 0]]}
    ),
    "BI-139/full/sw/sw.en.test1.jl.gz": jsonl({"src_id": "3", "src_query": "paka", "tgt_results": [["11", 1]]}),
}
NEUCLIR = {
    "data/zho-00000-of-00001.jsonl.gz": jsonl(
        {"id": "a-1", "title": "猫", "text": "猫在睡觉", "url": "u", "time": "t"}
    ),
    "topics.0720.utf8.jsonl": jsonl(topic("1", "sleeping cats", "睡觉的猫"), topic("2", "rain", "雨")),
    "2022-qrels.all": "1 fas b-9 3\n1 zho a-1 3\n",
    "neuclir-2023-topics.0605.jsonl": jsonl(topic("200", "cats", "猫")),
    "neuclir-2023-qrels.final/qrels.final.gains.zho": "200 0 a-1 1\n",
    "bench/news.eng.tsv": "7\tcats\n",
    "bench/news.zho.tsv": "7\t猫\n",
    "bench/qrels.zho.gains.txt": "7 0 a-1 3\n",
}
WIKICLIR_2018 = {
    "wiki-clir/english/wiki_en.queries": "39\tAlbedo\tmeasures how light is reflected\n40\tUnseen\tis not judged\n",
    "wiki-clir/swahili/wiki_sw.documents": "75\tPaka\tPaka analala.\n",
    "wiki-clir/swahili/en2sw.rel": "39\t75\t2\n",
}
WIKICLIR_2014 = {
    "wikiclir.dev.queries": "8\tist ein Tier\n",
    "wikiclir.dev.docs": "75\tThe cat sleeps.\n",
    "wikiclir.dev.qrels": "8\t75\t3\n",
    "wikiclir.train.qrels": "8\t99\t3\n",
}
XOR = {
    "xor_dev_retrieve_eng_span_v1_1.jsonl": jsonl(
        {"id": "q1", "question": "誰か", "lang": "ja", "answers": ["Jane Doe"], "split": "dev"},
        {"id": "q2", "question": "kuka?", "lang": "fi", "answers": ["no", "1903"], "split": "dev"},
        {"id": "q3", "question": "onko?", "lang": "fi", "answers": ["yes"], "split": "dev"},
    ),
    "psgs_w100.tsv": 'id\ttext\ttitle\n1\t"He said ""no"", and Jane Doe left."\tX\n'
    "2\tJane met a Doe in 1903.\t1904\n3\tYes and no.\tJane Doe\n",
}
CASES = [
    (
        "msmarco:{}",
        "dev.small",
        [],
        MARCO | {"queries.dev.small.tsv": "7\twho sleeps\n8\twho\n"},
        MARCO_READ,
    ),
    (
        "msmarco:{}",
        "dev.small",
        [],
        {**{f"{k}.gz": v for k, v in MARCO.items()}, "queries.dev.tsv": "7\twho sleeps\n"},
        MARCO_READ,
    ),
    (
        "mmarco:{}",
        "dev.small",
        ["pt"],
        MMARCO,
        (
            "mmarco",
            "en",
            {"0": "The cat sleeps.", "1": "Rain falls."},
            {"pt": {"7": "quem dorme"}},
            {"7": {"0": 1}},
            {"en"},
        ),
    ),
    (
        "mmarco/pt:{}",
        "dev.small",
        ["pt"],
        MMARCO,
        (
            "mmarco-pt",
            "pt",
            {"0": "O gato dorme.", "1": "Chove."},
            {"pt": {"7": "quem dorme"}},
            {"7": {"0": 1}},
            {"en"},
        ),
    ),
    (
        "miracl:{}",
        "dev",
        ["sw"],
        MIRACL,
        (
            "miracl",
            "sw",
            {"1#0": "Paka Paka analala.", "2#0": "Mvua Inanyesha."},
            {"sw": {"5#0": "Nani analala?"}},
            {"5#0": {"1#0": 1, "2#0": 0}},
            set(),
        ),
    ),
    (
        "ciral/sw:{}",
        "test-a",
        [],
        CIRAL,
        ("ciral-sw", "sw", {"VOA#1#0": "Paka Analala."}, {"en": {"5": "Who sleeps?"}}, {"5": {"VOA#1#0": 1}}, set()),
    ),
    (
        "africlirmatrix/sw:{}",
        "test",
        [],
        AFRICLIRMATRIX,
        (
            "africlirmatrix-sw",
            "sw",
            {"75": "Paka analala."},
            {"en": {"2728394": "Sleeping cats"}},
            {"2728394": {"75": 5}},
            set(),
        ),
    ),
    (
        "clirmatrix:{}",
        "test1",
        ["sw"],
        CLIRMATRIX,
        (
            "clirmatrix",
            "en",
            {"11": "The cat sleeps.", "12": "Rain falls."},
            {"sw": {"3": "paka"}},
            {"3": {"11": 6, "12": 0}},
            set(),
        ),
    ),
    (
        "neuclir/zh:{}",
        "2022",
        ["en", "zh"],
        NEUCLIR,
        (
            "neuclir-zh",
            "zh",
            {"a-1": "猫 猫在睡觉"},
            {"en": {"1": "sleeping cats"}, "zh": {"1": "睡觉的猫"}},
            {"1": {"a-1": 3}},
            {"en"},
        ),
    ),
    (
        "neuclir/zh:{}",
        "2023",
        [],
        NEUCLIR,
        ("neuclir-zh", "zh", {"a-1": "猫 猫在睡觉"}, {"en": {"200": "cats"}}, {"200": {"a-1": 1}}, {"en"}),
    ),
    (
        "neuclir/zh:{}",
        "bench",
        ["zh"],
        NEUCLIR,
        ("neuclir-zh", "zh", {"a-1": "猫 猫在睡觉"}, {"zh": {"7": "猫"}}, {"7": {"a-1": 3}}, {"en"}),
    ),
    (
        "wikiclir/sw:{}",
        "all",
        [],
        WIKICLIR_2018,
        (
            "wikiclir-sw",
            "sw",
            {"75": "Paka Paka analala."},
            {"en": {"39": "measures how light is reflected"}},
            {"39": {"75": 2}},
            set(),
        ),
    ),
    (
        "wikiclir/en:{}",
        "dev",
        [],
        WIKICLIR_2014,
        ("wikiclir-en", "en", {"75": "The cat sleeps."}, {"de": {"8": "ist ein Tier"}}, {"8": {"75": 3}}, set()),
    ),
    # q1's answer stands whole in passage 1 alone (a title does not count), q2's in 2; yes and no answer nothing.
    (
        "xor-tydi:{}",
        "dev",
        [],
        XOR,
        (
            "xor-tydi",
            "en",
            {
                "1": 'X He said "no", and Jane Doe left.',
                "2": "1904 Jane met a Doe in 1903.",
                "3": "Jane Doe Yes and no.",
            },
            {"fi": {"q2": "kuka?"}, "ja": {"q1": "誰か"}},
            {"q1": {"1": 1}, "q2": {"2": 1}},
            set(),
        ),
    ),
]
