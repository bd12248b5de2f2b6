"""Pictures of every kind become RGB, and what is none is refused by name. Every file is made here."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from optical_jax.data.rgb import MAX_PIXELS, PILLOW_FORMATS, decode_rgb, read_rgb
from optical_jax.errors import DataError

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def drawn(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def decoded(data):
    rgb = decode_rgb(data, "some.png")
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    return rgb


def pixels(data):
    return [tuple(pixel) for row in decoded(data).tolist() for pixel in row]


def strip(mode, values):
    """A picture one pixel high."""
    picture = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        picture.putpixel((x, 0), value)
    return picture


# ---- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["BMP", "PNG", "PPM", "TIFF"])
def test_rgb_as_it_is(form):
    rgb = drawn()
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(rgb), form)), rgb)


def test_webp_without_loss():
    rgb = drawn()
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(rgb), "WEBP", lossless=True)), rgb)


def test_jpeg_of_one_colour(tmp_path):
    (tmp_path / "grey.jpg").write_bytes(encoded(Image.new("RGB", (16, 8), (100, 100, 100)), "JPEG"))
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.jpg"), np.full((8, 16, 3), 100))


def test_grey_and_black_and_white():
    assert pixels(encoded(strip("L", [0, 77, 255]))) == [BLACK, (77, 77, 77), WHITE]
    assert pixels(encoded(strip("1", [0, 255]))) == [BLACK, WHITE]


def test_grey_of_16_bits_keeps_its_scale():
    """White is 65535, 257 times that of 8 bits; rounded to the nearest."""
    grey = np.array([[0, 128, 129, 128 * 257, 65535 - 129, 65535]], np.uint16)
    expected = [BLACK, BLACK, (1, 1, 1), (128, 128, 128), (254, 254, 254), WHITE]
    assert pixels(encoded(Image.fromarray(grey))) == expected
    assert pixels(encoded(Image.fromarray(grey), "TIFF")) == expected


def test_cmyk():
    """All cyan ink is no red light."""
    picture = strip("CMYK", [(255, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255)])
    assert pixels(encoded(picture, "TIFF")) == [(0, 255, 255), WHITE, BLACK]
    np.testing.assert_allclose(decoded(encoded(picture.resize((24, 8), 0), "JPEG"))[4, 2], (0, 255, 255), atol=3)


def test_palette():
    picture = strip("P", [0, 1, 2])
    picture.putpalette([*RED, *GREEN, *BLUE])
    assert pixels(encoded(picture)) == [RED, GREEN, BLUE]


def test_palette_with_transparency_stands_on_white():
    picture = strip("P", [0, 1, 2])
    picture.putpalette([*RED, *GREEN, *BLUE])
    assert pixels(encoded(picture, transparency=1)) == [RED, WHITE, BLUE]
    assert pixels(encoded(picture, "GIF", transparency=1)) == [RED, WHITE, BLUE]


def test_alpha_stands_on_white():
    """Black at 128 of 255 lets (255 - 128) of white through."""
    picture = strip("RGBA", [(*RED, 255), (*RED, 0), (*BLACK, 128)])
    assert pixels(encoded(picture)) == [RED, WHITE, (127, 127, 127)]
    assert pixels(encoded(strip("LA", [(9, 255), (9, 0)]))) == [(9, 9, 9), WHITE]
    assert pixels(encoded(strip("RGB", [RED, BLUE]), transparency=BLUE)) == [RED, WHITE]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation(orientation, turned):
    """EXIF 2.3, tag 0x0112: 6 is to be turned a quarter clockwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = drawn()
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(rgb), exif=exif)), turned(rgb))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, who reads the picture all the same
def test_broken_exif_data_turn_nothing():
    whole = encoded(Image.new("RGB", (8, 8), (50, 50, 50)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decoded(whole), np.full((8, 8, 3), 50))


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (2, 1), colour) for colour in (RED, GREEN, BLUE)]
    for form in ("GIF", "PNG"):
        assert pixels(encoded(frames[0], form, save_all=True, append_images=frames[1:])) == [RED, RED]
    assert pixels(encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])) == [RED, RED]


# ---- what is refused ---------------------------------------------------------------------------------------------


def refused(data, message):
    with pytest.raises(DataError, match=message) as error:
        decode_rgb(data, "pictures.tar: some.png")
    assert str(error.value).startswith("pictures.tar: some.png: ")
    assert "\n" not in str(error.value)


def test_empty():
    refused(b"", "empty")


@pytest.mark.parametrize(
    "data", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", b"<svg/>", b"\x89PNG"]
)
def test_no_picture(data):
    refused(data, "not an image")


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_cut_off(form):
    data = encoded(Image.fromarray(drawn(64, 64)), form)
    refused(data[: len(data) // 2], "corrupt image|truncated")


def png_of(width, height):
    """Of a PNG file the header alone says how large it is."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8001, 10_000, 100_000])
def test_more_pixels_than_fit_are_refused_unread(side):
    """By our limit, where Pillow would warn, and where it would refuse."""
    assert side**2 > MAX_PIXELS
    refused(png_of(side, side), "64,000,000")


def test_as_many_pixels_as_fit_are_read():
    refused(png_of(8000, 8000), "corrupt image")  # nothing but the header is there


def test_pixels_of_unknown_scale():
    refused(encoded(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"), "floating-point")
    refused(encoded(Image.fromarray(np.array([[70_000]], np.int32)), "TIFF"), "32 bits")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: cannot be read: No such file"):
        read_rgb(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that it reads all the same
@settings(max_examples=200)
@given(
    form=st.sampled_from(["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_damage_makes_it_crash(form, places):
    data = bytearray(encoded(Image.fromarray(drawn(9, 8)), form))
    for place, value in places:
        data[int(place * len(data))] = value
    with contextlib.suppress(DataError):
        decoded(bytes(data))


def test_every_format_is_known_to_pillow():
    """A name it does not know would be a crash."""
    Image.init()
    assert set(PILLOW_FORMATS) <= Image.OPEN.keys()
