"""Collections of ir_datasets: what it has fetched is read as the files themselves are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optical_jax.commands.collect import main
from optical_jax.data.collections.collection import read_collection
from optical_jax.data.collections.sources import read_source
from optical_jax.errors import ConfigError, DataError
from tests.commands.test_collect import same
from tests.helpers.source_folders import MIRACL, MIRACL_QRELS, put


@pytest.fixture(scope="module")
def ir_home(tmp_path_factory) -> Path:
    """MIRACL's Swahili where ir_datasets keeps what it has fetched, so that it fetches nothing."""
    home = tmp_path_factory.mktemp("ir_datasets")
    both = "".join(MIRACL[f"miracl-corpus-v1.0-sw/docs-{n}.jsonl.gz"] for n in (0, 1))
    names = {"qrels.tsv": MIRACL_QRELS, "topics.tsv": "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv"}
    there = {f"miracl/v1.0/sw/dev/{name}": MIRACL[original] for name, original in names.items()}
    put(home, there | {"miracl/v1.0/sw/docs/docs-0.jsonl.gz": both})
    assert "ir_datasets" not in sys.modules, "it asks for its home when it is imported"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IR_DATASETS_HOME", str(home))
        pytest.importorskip("ir_datasets", reason="ir_datasets absent: install the extra `collections`")
    return home


def test_an_id_of_ir_datasets_is_what_its_files_are(ir_home, tmp_path, capsys):
    out, raw = tmp_path / "out", put(tmp_path / "raw", MIRACL)
    assert main(["--collection", "ir_datasets:miracl/sw/dev", "--out", str(out)]) == 0, capsys.readouterr().err
    assert same(read_collection(out, "dev", ["sw"]), read_source(f"miracl:{raw}", "dev", ["sw"]))
    about = json.loads((out / "collection.json").read_text("utf-8"))
    assert set(about["inputs"]) == {f"ir_datasets:miracl/sw/dev {part}" for part in ("docs", "queries", "qrels")}
    found = read_source("ir_datasets:miracl/sw/dev")
    assert (found.name, found.split) == ("miracl-sw", "dev")


@pytest.mark.parametrize(
    ("spec", "languages", "message"),
    [
        ("ir_datasets:miracl/xx/dev", [], "ir_datasets has no miracl/xx/dev"),
        ("ir_datasets:miracl/sw", [], "has no queries and no qrels"),
        ("ir_datasets:miracl/sw/dev", ["so"], "its queries are in sw; write --lang sw"),
    ],
)
def test_ids_that_cannot_be(ir_home, spec, languages, message):
    with pytest.raises(ConfigError, match=message):
        read_source(spec, languages=languages)


def test_what_ir_datasets_finds_wrong_is_wrong_data(ir_home):
    path = ir_home / "miracl/v1.0/sw/dev/qrels.tsv"
    before = path.read_text("utf-8")
    path.write_text("5#0 Q0 1#0\n", "utf-8")
    with pytest.raises(DataError, match=r"ir_datasets:miracl/sw/dev: RuntimeError: expected 4 columns, got 3"):
        read_source("ir_datasets:miracl/sw/dev")
    path.write_text(before, "utf-8")


def test_without_the_package_one_line_says_so(tmp_path):
    """Blocked as an import, whether it is installed or not."""
    code = (
        "import sys; sys.modules['ir_datasets'] = None\n"
        "from optical_jax.commands.collect import main\n"
        "sys.exit(main(['--collection', 'ir_datasets:miracl/sw/dev', '--out', 'x']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'optical_jax[collections]'" in done.stderr
    assert done.stderr.count("\n") == 1
