"""Requests for public data sets: the parts of NAME:FOLDER, and what is refused."""

import pytest

from optical_jax.data.files.finding import FileFinder
from optical_jax.data.files.requests import SourceRequest, UnknownPartError, parse_spec
from optical_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("spec", "name", "folders"),
    [
        ("xm3600:a", "xm3600", ["a"]),
        ("ciral/sw:a,org/b", "ciral/sw", ["a", "org/b"]),
        ("mmarco:a:b", "mmarco", ["a:b"]),
        ("a/folder", "", ["a/folder"]),
        ("c:\\images", "", ["c:\\images"]),
    ],
)
def test_the_parts_of_a_spec(spec, name, folders):
    assert parse_spec(spec) == (name, folders)


def test_a_folder_of_that_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco:a").mkdir()
    assert parse_spec("coco:a") == ("", ["coco:a"])


def test_split_and_languages_are_checked_against_what_the_set_has(tmp_path):
    def ask(split: str = "dev", *languages: str) -> SourceRequest:
        return SourceRequest("x:a", "x", FileFinder("x:a", [str(tmp_path)]), split, languages)

    assert ask().split_of(["train", "val"]) == "val"
    assert ask().split_of(["dev", "val"]) == "dev"
    with pytest.raises(UnknownPartError, match="split=dev: x:a has train, test"):
        ask().split_of(["train", "test"])
    assert ask().languages_of(["sw", "so"]) == ["sw", "so"]
    assert ask("dev", "so").languages_of(["sw", "so"]) == ["so"]
    with pytest.raises(UnknownPartError, match="lang=te: x:a has queries in sw, so"):
        ask("dev", "so", "te").languages_of(["sw", "so"])
    with pytest.raises(ConfigError, match=r"collection=x:a: name one; x has documents in en, sw: write x/sw:FOLDER"):
        ask().documents_in(["en", "sw"])
