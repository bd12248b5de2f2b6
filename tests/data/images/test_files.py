"""Pictures decoded before a training: which are broken, and that all of them are told."""

import numpy as np
import pytest

from optical_jax.data.images import files
from optical_jax.data.images.files import index_images, refuse_broken
from optical_jax.errors import DataError
from tests.helpers.image_folders import encoded


@pytest.fixture
def folder(tmp_path):
    for n in range(5):
        (tmp_path / f"p{n}.png").write_bytes(encoded((n, n, n)))
    return tmp_path


def sources_of(path):
    return list(index_images(path).sources.values())


def test_whole_pictures_pass(folder):
    refuse_broken(sources_of(folder), 2)


def test_one_broken_picture_is_told_as_when_it_is_met(folder):
    (folder / "p3.png").write_bytes(b"")
    with pytest.raises(DataError) as met:
        sources_of(folder)[3].rgb()
    with pytest.raises(DataError) as told:
        refuse_broken(sources_of(folder), 2)
    assert str(told.value) == str(met.value)


def test_all_broken_pictures_are_told_at_once(folder, monkeypatch):
    whole = (folder / "p0.png").read_bytes()
    (folder / "p1.png").write_bytes(whole[:-30])
    (folder / "p3.png").write_bytes(b"no picture")
    (folder / "p4.png").write_bytes(b"")
    # A picture that stands in two sets is one, and what is told has its order wherever threads are.
    monkeypatch.setattr(files, "AT_A_TIME", 2)
    with pytest.raises(DataError) as error:
        refuse_broken(sources_of(folder) * 2, 2)
    first, *others = str(error.value).splitlines()
    assert first == "3 of 5 images cannot be read:"
    assert [line.split(":")[0].rsplit("/", 1)[1] for line in others] == ["p1.png", "p3.png", "p4.png"]
    monkeypatch.setattr(files, "SHOWN", 2)
    with pytest.raises(DataError, match=r"p3\.png: [^\n]*\n  and 1 more$"):
        refuse_broken(sources_of(folder), 2)


def test_arrays_need_no_decoding(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, ids=["a"], images=np.zeros((1, 2, 2, 3), np.uint8))
    sources = sources_of(path)
    path.unlink()
    refuse_broken(sources, 2)
