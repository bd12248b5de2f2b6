"""Which files are images: endings, contents, links, names; and images that are broken, found before a training."""

import io
import logging
import os
import tarfile
import time
import unicodedata
import zipfile

import numpy as np
import pytest

from optical_jax.data import rgb
from optical_jax.data.images import files, finding
from optical_jax.data.images.files import refuse_broken
from optical_jax.data.images.finding import ImageFolders, index_images
from optical_jax.data.images.sources import read_images
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


# ---- endings and contents ----------------------------------------------------------------------------------------

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x20meta"
"""The start of a HEIC file, which is enough to know it."""


@pytest.fixture
def without_heic(monkeypatch):
    monkeypatch.setattr(rgb, "read_formats", lambda: ("JPEG", "PNG"))


def test_every_ending_of_a_format_that_is_read(tmp_path):
    names = ["a.jpg", "b.JPG", "c.jpe", "d.jfif", "e.pjpeg", "f.apng", "g.Webp", "h.tiff", "i.pnm", "j.mpo", "k.dib"]
    for name in names:
        (tmp_path / name).write_bytes(encoded((9, 9, 9)))  # PNG, whatever the ending says
    for name in ("notes.txt", ".hidden.png", "data.bin"):
        (tmp_path / name).write_bytes(b"hello")
    index = index_images(tmp_path)
    assert list(index.sources) == names
    assert all((source.rgb() == 9).all() for source in index.sources.values())
    assert not index.left_out


def test_avif_and_heic_are_read_where_they_can_be(tmp_path):
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(HEIC)
    (tmp_path / "b.HEIF").write_bytes(encoded((9, 9, 9), form="JPEG"))
    assert list(index_images(tmp_path).sources) == ["a.heic", "b.HEIF"]


def left_out_of(path, caplog):
    finding._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        index = index_images(path)
    assert len(caplog.records) == 1
    return list(index.sources), caplog.records[0].getMessage().removeprefix(f"{path}: ")


ODD = {
    "goat.heic": HEIC,
    "disguised.heic": encoded((9, 9, 9)),
    "drawing.svg": b"<svg/>",
    "no-ending": encoded((9, 9, 9), form="GIF"),
    "twitter.jpg_large": encoded((9, 9, 9), form="JPEG"),
    "tree.png": encoded((9, 9, 9)),
    "words.txt": b"hello",
}
SAID = (
    "4 image files left out: drawing.svg (SVG; save it as PNG or JPEG), "
    "goat.heic (HEIC, which needs pip install 'optical_jax[heic]'; or save it as JPEG), "
    "no-ending (GIF by another ending; end its name in .gif), and 1 more"
)


@pytest.mark.usefixtures("without_heic")
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_image_files_that_are_not_read_are_counted_and_named(tmp_path, caplog, form):
    path = tmp_path / "images"
    path.mkdir()
    for name, data in ODD.items():
        (path / name).write_bytes(data)
    if form == "tar":
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for name in ODD:
                archive.add(path / name, name)
        path = tmp_path / "a.tar"
    found, said = left_out_of(path, caplog)
    assert sorted(found) == ["disguised.heic", "tree.png"]
    assert said == SAID


@pytest.mark.usefixtures("without_heic")
def test_a_folder_of_nothing_that_is_read_says_what_there_is(tmp_path):
    (tmp_path / "goat.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"no image in it \(.*\); 1 image file left out: goat\.heic \(HEIC, which"):
        index_images(tmp_path)


def test_a_file_that_is_only_a_signature_is_left_out(tmp_path, caplog):
    """A placeholder, as programs that keep files elsewhere leave them."""
    pytest.importorskip("pillow_heif")
    (tmp_path / "tree.png").write_bytes(encoded((9, 9, 9)))
    (tmp_path / "goat.heic").write_bytes(HEIC[:24] + b"\0" * 64)
    found, said = left_out_of(tmp_path, caplog)
    assert found == ["tree.png"]
    assert said == "1 image file left out: goat.heic (HEIC, cut off behind its signature)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            encoded((9, 9, 9)),
            "PNG, not a folder, a tar archive or an npz file of images; name the folder that it lies in",
        ),
        (b"PK\3\4", "zip, not a folder, .*; unpack it and name the folder"),
        (b"\x1f\x8b\x08", "pack it again without gzip"),
    ],
)
def test_one_file_that_is_not_a_tar_archive(tmp_path, data, message):
    (tmp_path / "photos.tar").write_bytes(data)
    with pytest.raises(DataError, match=message):
        index_images(tmp_path / "photos.tar")


# ---- links -------------------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed_and_do_not_lead_in_circles(tmp_path, caplog):
    inside, outside = tmp_path / "photos", tmp_path / "elsewhere"
    for folder in (inside / "own", outside / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded((9, 9, 9)))
    (outside / "b.png").write_bytes(encoded((9, 9, 9)))
    (inside / "linked").symlink_to(outside)
    (inside / "one.png").symlink_to(outside / "b.png")
    (inside / "own" / "up").symlink_to(inside)
    (outside / "back").symlink_to(inside)
    (inside / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (inside / "2019").symlink_to(tmp_path / "unmounted")
    found, said = left_out_of(inside, caplog)
    expected = ["linked/b.png", "linked/deep/a.png", "one.png", "own/a.png"]
    assert [name for name in found if "back" not in name and "up" not in name] == expected
    # Neither link is followed into a folder that it lies in.
    assert not any("up" in name or "back" in name for name in found)
    assert said == (
        f"2 image files left out: 2019 (broken link to {tmp_path}/unmounted), "
        f"lost.png (broken link to {tmp_path}/nowhere.png)"
    )


def test_folders_that_link_to_each_other_end(tmp_path):
    """Of n such folders there are n! ways through them."""
    names = [f"f{n}" for n in range(9)]
    for name in names:
        (tmp_path / name).mkdir()
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"more than 1,000 links to folders in it; remove some"):
        index_images(tmp_path)
    assert time.perf_counter() - start < 5


# ---- names -------------------------------------------------------------------------------------------------------

ODD_NAMES = [b"two words.png", b"caf\xe9.png", b"line\nfeed.png", b"tab\t.png", b"$price$.png", b"[x]*?.png",
             "nyumbani-日本.png".encode(), b"50%.png", b"a%20b.png", b"-dash.png"]  # fmt: skip


def test_names_of_any_bytes_are_read_and_printed_as_one_line(tmp_path):
    for name in ODD_NAMES:
        (tmp_path / os.fsdecode(name)).write_bytes(encoded((9, 9, 9)))
    pictures = read_images(str(tmp_path))
    assert set(pictures) == {
        "two%20words.png", "caf%E9.png", "line%0Afeed.png", "tab%09.png", "$price$.png", "[x]*?.png",
        "nyumbani-日本.png", "50%.png", "a%2520b.png", "-dash.png",
    }  # fmt: skip
    for identity, picture in pictures.items():
        assert (picture == 9).all()
        where = pictures.where(identity)
        assert "\n" not in where
        where.encode()
    assert len(pictures.sha256) == 64


def test_a_broken_image_of_any_name_is_named_in_one_line(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9\n1.png")).write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        refuse_broken(sources_of(tmp_path))
    assert f"{tmp_path}/caf%E9%0A1.png: not an image" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_either_way_in_folders_that_are_not_listed(tmp_path, form):
    (tmp_path / unicodedata.normalize("NFD" if form == "NFC" else "NFC", "café.jpg")).write_bytes(encoded((9, 9, 9)))
    folders = ImageFolders([tmp_path])
    found = folders.find(unicodedata.normalize(form, "café.jpg"))
    assert found
    assert (folders.source(found).rgb() == 9).all()


def test_names_that_no_file_can_have_are_not_found(tmp_path):
    folders = ImageFolders([tmp_path])
    for name in ("x" * 5000, "a\0b", "\ud83d"):
        assert folders.find(name) is None
        assert folders.near(name) == ""


def test_a_file_of_a_similar_name_is_suggested(tmp_path):
    for name in ("rose.JPG", "goat.heic", "cat.txt", "leaf.svg"):
        (tmp_path / name).write_bytes(HEIC)
    folders = ImageFolders([tmp_path])
    assert folders.near("Rose.jpg") == "did you mean 'rose.JPG'?"
    assert folders.near("cat.jpg") == ""
    assert folders.near("leaf.jpg") == "leaf.svg is there, and is not read (SVG; save it as PNG or JPEG)"


# ---- npz ---------------------------------------------------------------------------------------------------------


def test_ids_of_an_array_may_be_bytes(tmp_path):
    images = np.full((2, 2, 2, 3), 9, np.uint8)
    np.savez(tmp_path / "a.npz", ids=np.array(["rose", "chaï".encode()], object).astype("S"), images=images)
    assert list(index_images(tmp_path / "a.npz").sources) == ["rose", "chaï"]
    np.savez(tmp_path / "b.npz", ids=np.array([b"caf\xe9", b"b"]), images=images)
    with pytest.raises(DataError, match=r"b\.npz: id b'caf\\xe9' is not UTF-8"):
        index_images(tmp_path / "b.npz")


@pytest.mark.parametrize("shape", [(1, 0, 4, 3), (1, 4, 0, 3)])
def test_arrays_without_pixels(tmp_path, shape):
    np.savez(tmp_path / "a.npz", ids=["a"], images=np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"images is uint8 of shape .* it must be uint8 \[ids, H, W, 3\]"):
        index_images(tmp_path / "a.npz")


def test_an_array_whose_header_asks_for_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1, 10**8, 10**8, 3)}
    )
    np.savez(tmp_path / "a.npz", ids=["a"])
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("images.npy", header.getvalue())
    (source,) = sources_of(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz: images cannot be read"):
        source.rgb()
