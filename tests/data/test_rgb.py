"""Pictures of every kind become RGB, and what is none is refused by name. Every file is made here."""

import contextlib
import io
import os
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from optical_jax.data import rgb
from optical_jax.data.rgb import MAX_PIXELS, PILLOW_FORMATS, decode_rgb, read_formats, read_rgb
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
    picture = drawn()
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(picture), form)), picture)


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
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(orientation, turned, form):
    """EXIF 2.3, tag 0x0112: 6 is to be turned a quarter clockwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb, options = drawn(), {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(rgb), form, exif=exif, **options)), turned(rgb))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, who reads the picture all the same
def test_broken_exif_data_turn_nothing():
    whole = encoded(Image.new("RGB", (8, 8), (50, 50, 50)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decoded(whole), np.full((8, 8, 3), 50))


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (2, 1), colour) for colour in (RED, GREEN, BLUE)]
    for form in ("GIF", "PNG"):
        assert pixels(encoded(frames[0], form, save_all=True, append_images=frames[1:])) == [RED, RED]
    assert pixels(encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])) == [RED, RED]


# ---- PNG by hand -------------------------------------------------------------------------------------------------

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
"""Colour types of the PNG specification."""


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, depth, colour, row, *more, height=1, interlaced=0):
    """A PNG of one row of packed pixels, over and over, with further chunks behind its header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = zlib.compress((b"\0" + row) * height)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def clear(*values):
    """The transparent grey or colour, 16 bits a channel whatever the depth."""
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def grey(value):
    return (value,) * 3


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        # Two pixels each, of which one is transparent; white of a depth is its largest value.
        (1, b"\x40", 0, [WHITE, WHITE]),
        (1, b"\x40", 1, [BLACK, WHITE]),
        (2, b"\x60", 1, [WHITE, grey(170)]),  # 1, 2 of 3
        (2, b"\x60", 2, [grey(85), WHITE]),
        (4, b"\x5a", 5, [WHITE, grey(170)]),  # 5, 10 of 15
        (4, b"\x5a", 10, [grey(85), WHITE]),
        (8, b"\x05\x55", 5, [WHITE, grey(85)]),
        (8, b"\x05\x55", 85, [grey(5), WHITE]),
        (16, b"\x12\x34\x12\x35", 0x1234, [WHITE, grey(18)]),  # 0x1235 / 257 = 18.1
        (16, b"\x00\x00\x80\x80", 0, [WHITE, grey(128)]),
        (16, b"\x00\x00\x80\x80", 0x8080, [BLACK, WHITE]),
        (16, b"\x00\x00\xff\xff", 0x80, [BLACK, WHITE]),
    ],
)
def test_grey_with_a_transparent_value_is_white_there(depth, row, transparent, expected):
    assert pixels(png(2, depth, GREY, row, clear(transparent))) == expected


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_without_transparency(depth):
    row = {1: b"\x40", 2: b"\x30", 4: b"\x0f", 8: b"\0\xff", 16: b"\0\0\xff\xff"}[depth]
    assert pixels(png(2, depth, GREY, row)) == [BLACK, WHITE]


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (8, bytes([1, 2, 3, 1, 2, 4]), (1, 2, 3), [WHITE, (1, 2, 4)]),
        # The two differ in the lower byte of one channel alone.
        (16, struct.pack(">6H", 0x1234, 0x4000, 0x80FF, 0x1235, 0x4000, 0x80FF), (0x1234, 0x4000, 0x80FF), 0),
        (16, struct.pack(">6H", 0x1235, 0x4000, 0x80FF, 0x1234, 0x4000, 0x80FF), (0x1234, 0x4000, 0x80FF), 1),
    ],
)
def test_colour_with_a_transparent_one_is_white_there(depth, row, transparent, expected, interlaced):
    if isinstance(expected, int):
        expected = [WHITE if n == expected else (0x12, 0x40, 0x80) for n in range(2)]
    if interlaced:  # of one row of two pixels the first pass has the first, the sixth the other
        half = len(row) // 2
        header = struct.pack(">IIBBBBB", 2, 1, depth, COLOUR, 0, 0, 1)
        body = zlib.compress(b"\0" + row[:half] + b"\0" + row[half:])
        parts = [chunk(b"IHDR", header), clear(*transparent), chunk(b"IDAT", body), chunk(b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    else:
        data = png(2, depth, COLOUR, row, clear(*transparent))
    assert pixels(data) == expected


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01"), (8, b"\0\1")])
@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (b"", [RED, BLACK]),
        (b"\0", [WHITE, BLACK]),
        (b"\xff\0", [RED, WHITE]),
        (b"\0\0", [WHITE, WHITE]),
        (b"\xff\x80", [RED, (127, 127, 127)]),  # 255 - 128 of white shows through
    ],
)
def test_palette_of_any_depth_with_the_alpha_of_some_entries(depth, row, alpha, expected):
    more = [chunk(b"PLTE", bytes([*RED, *BLACK]))] + ([chunk(b"tRNS", alpha)] if alpha else [])
    assert pixels(png(2, depth, PALETTE, row, *more)) == expected


@pytest.mark.parametrize("colour", [GREY_ALPHA, COLOUR_ALPHA])
@pytest.mark.parametrize("depth", [8, 16])
def test_an_alpha_channel_of_any_depth(colour, depth):
    """Black, clear and opaque."""
    channels, size = (1 if colour == GREY_ALPHA else 3), depth // 8
    row = b"\0" * (channels * size) + b"\0" * size + b"\0" * (channels * size) + b"\xff" * size
    assert pixels(png(2, depth, colour, row)) == [WHITE, BLACK]


def tiff(bits, photometric, samples):
    """A TIFF of one row of grey."""
    tags = [(256, len(samples) * 8 // bits), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1),
            (278, 1), (279, len(samples))]  # fmt: skip
    start = 8 + len(samples) + len(samples) % 2
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    padded = samples + b"\0" * (len(samples) % 2)
    return struct.pack("<2sHI", b"II", 42, start) + padded + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def test_grey_of_tiff_that_is_not_of_16_bits_with_black_as_zero():
    # 0 and 4095 in 12 bits each; 0, 1 and 65535 where white is zero.
    assert pixels(tiff(12, 1, b"\x00\x0f\xff")) == [BLACK, WHITE]
    assert pixels(tiff(16, 0, b"\0\0\1\0\xff\xff")) == [WHITE, WHITE, BLACK]
    refused(tiff(32, 1, struct.pack("<2I", 0, 200)), "grey of 32 bits, of unknown range")


# ---- metadata ----------------------------------------------------------------------------------------------------

PACKED = zlib.compress(b"a" * 2_000_000)
"""Longer than Pillow reads."""


def flipped(data):
    """A chunk with another checksum."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + PACKED),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + PACKED),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + PACKED),
        chunk(b"tEXt", b"Comment\0" + b"a" * 2_000_000),
        chunk(b"iCCP", b"profile\0\0" + PACKED),
        chunk(b"iCCP", b"profile\0\0" + b"not packed"),
        chunk(b"zTXt", b""),
        flipped(chunk(b"tEXt", b"Comment\0x")),
        flipped(chunk(b"eXIf", b"II*\0")),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b""),
        chunk(b"acTL", struct.pack(">2I", 4_000_000_000, 0)),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_of_a_png_whatever_is_not_pixels_may_be_long_or_broken(extra, behind):
    whole = png(2, 8, COLOUR, bytes([*RED, *BLUE]), *([] if behind else [extra]))
    if behind:
        end = whole.index(b"IEND") - 4
        whole = whole[:end] + extra + whole[end:]
    assert pixels(whole) == [RED, BLUE]


def test_no_text_of_a_png_is_unpacked_beyond_its_bound():
    """200 chunks of 50 MB: 10 GB would take a minute."""
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    texts = [chunk(b"iTXt", keyword + b"\0\1\0\0\0" + bomb) for keyword in (b"a", b"XML:com.adobe.xmp")] * 100
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pixels(png(2, 8, GREY, b"\0\xff", *texts)) == [BLACK, WHITE]
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'


@pytest.mark.parametrize("packed", [b"\0", b"\1"])
def test_orientation_in_the_text_of_a_png_still_counts(packed):
    text = zlib.compress(XMP) if packed == b"\1" else XMP
    extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + packed + b"\0\0\0" + text)
    assert pixels(png(2, 8, GREY, b"\0\xff", extra)) == [WHITE, BLACK]


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


@pytest.mark.filterwarnings("ignore")  # Pillow's
@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE2, b"ICC_PROFILE\0\xff\0broken"),
        segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
        segment(0xED, b"Photoshop 3.0\08BIM\x03\xed\0\0\0\0\0\xff"),
        segment(0xFE, b"\xff" * 60_000) * 50,
        segment(0xE1, b"Exif\0\0II*\0" + b"\xff" * 60_000) * 50,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff" * 100),
        b"\xff\xff\xff" + segment(0xE5, b""),
    ],
)
def test_of_a_jpeg_whatever_is_not_pixels_may_be_long_or_broken(extra):
    plain = encoded(Image.new("RGB", (16, 8), (100, 100, 100)), "JPEG")
    np.testing.assert_array_equal(decoded(plain[:2] + extra + plain[2:]), np.full((8, 16, 3), 100))


@pytest.mark.filterwarnings("ignore")  # Pillow's, which reads the rest
def test_a_broken_tag_beside_the_orientation_does_not_hide_it():
    """A count beyond all bytes: the orientation is read, and the rest cannot be."""
    tags = [struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHII", 0x010F, 2, 0xFFFFFF, 0xFFFF)]
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(reversed(tags)) + b"\0" * 4
    plain = encoded(Image.new("RGB", (16, 8), (100, 100, 100)), "JPEG")
    assert decoded(plain[:2] + segment(0xE1, exif) + plain[2:]).shape == (16, 8, 3)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"abCd"]), st.binary())))
def test_no_metadata_change_the_pixels_of_a_png(found):
    """Whatever its bytes are; those that turn it are too long to be drawn by chance."""
    extra = [chunk(kind, data) for kind, data in found]
    assert pixels(png(2, 8, COLOUR, bytes([*RED, *BLUE]), *extra)) == [RED, BLUE]


# ---- other formats -----------------------------------------------------------------------------------------------

QUARTER = Image.Exif()
QUARTER[0x0112] = 6
"""To be turned a quarter clockwise."""


# Right to skip: Pillow has AVIF only where it was built with libavif; the refusal without it has its own test.
@pytest.mark.skipif("AVIF" not in read_formats(), reason="this Pillow was built without AVIF")
def test_avif():
    picture = Image.new("RGB", (16, 8), (100, 100, 100))
    np.testing.assert_allclose(decoded(encoded(picture, "AVIF")), np.full((8, 16, 3), 100), atol=3)
    assert decoded(encoded(picture, "AVIF", exif=QUARTER.tobytes())).shape == (16, 8, 3)
    frames = encoded(picture, "AVIF", save_all=True, append_images=[Image.new("RGB", (16, 8))])
    np.testing.assert_allclose(decoded(frames), np.full((8, 16, 3), 100), atol=3)


def heic(**options):
    file = io.BytesIO()
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), (100, 100, 100))).save(file, quality=90, **options)
    return file.getvalue()


def test_heic():
    np.testing.assert_allclose(decoded(heic()), np.full((32, 64, 3), 100), atol=3)
    assert decoded(heic(exif=QUARTER.tobytes())).shape == (64, 32, 3)
    refused(heic()[:300], "corrupt image")


def test_a_format_whose_library_is_missing_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr(rgb, "read_formats", lambda: ("JPEG", "PNG"))
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"HEIC, which needs pip install 'optical_jax\[heic\]'")
    refused(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", r"AVIF, .* pip install 'Pillow>=11.3'")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7\n", "not an image .* but PDF; save it as PNG or JPEG"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "but SVG; save it as PNG or JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "but Git LFS pointer; run git lfs pull"),
        (b"\n<!DOCTYPE html><title>404</title>", "but HTML; an error page, perhaps; download the file again"),
        (b"PK\3\4", "but zip; unpack it"),
        (b"8BPS\0\1", "but Photoshop"),
    ],
)
def test_files_of_other_kinds_are_named(data, message):
    refused(data, message)


# ---- bounds on work ----------------------------------------------------------------------------------------------


def test_a_progressive_jpeg_of_many_scans(monkeypatch):
    """The last scan over and over: each is decoded into all of the image."""
    monkeypatch.setattr(rgb, "MAX_SCANNED", 64 * 64 * 100)
    plain = encoded(Image.fromarray(drawn(64, 64)), "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    refused(plain[:-2] + last * 100 + plain[-2:], r"a JPEG of 64 x 64 pixels in 1\d\d scans, too many; save it again")
    # What follows the image is not of it: a video of a live picture.
    np.testing.assert_array_equal(decoded(plain + last * 100), decoded(plain))


def test_ppm_that_takes_long_to_read():
    """As text, and of 10 bits; the same of fewer pixels are read."""
    for head, pixel in (
        (b"P3 %d 1000 255\n", b"1 2 3\n"),
        (b"P6 %d 1000 1023\n", b"\1\2" * 3),
        (b"P1 %d 1000\n", b"1 "),
    ):
        refused(head % 501 + pixel * 501_000, r"501 x 1000 pixels in a PPM as text or not of 8 .*; save it as PNG")
        assert decoded(head.replace(b"1000", b"4") % 2 + pixel * 8).shape == (4, 2, 3)
    assert decoded(b"P6 1000 501 255\n" + b"\1" * 3 * 501_000).shape == (501, 1000, 3)


def test_bmp_that_takes_long_to_read():
    """Of runs of one pixel."""

    def bmp(width, height, runs):
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
        colours = b"".join(bytes([n, n, n, 0]) for n in range(256))
        return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + header + colours + runs

    assert pixels(bmp(2, 1, b"\1\7\1\x09\0\1")) == [grey(7), grey(9)]
    refused(bmp(3000, 2000, b"\1\7" * 6_000_000), "3000 x 2000 pixels in a compressed BMP, which takes long to read")


def test_exif_of_a_thousand_parts():
    """Pillow joins them in quadratic time: 120 MB took more than a minute."""
    plain = encoded(Image.new("RGB", (16, 8), (100, 100, 100)), "JPEG")
    start = time.perf_counter()
    data = plain[:2] + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\0" * 60_000) * 2000 + plain[2:]
    np.testing.assert_array_equal(decoded(data), np.full((8, 16, 3), 100))
    assert time.perf_counter() - start < 5


def test_a_long_edge():
    refused(png_of(1_000_001, 1), "1000001 x 1 pixels, an edge of more than 1,000,000; cut it into parts")
    refused(png_of(1, 1_000_001), "1 x 1000001 pixels, an edge of more than 1,000,000")
    refused(png_of(100_000_000, 1), "64,000,000")


def test_a_file_that_does_not_end(monkeypatch, tmp_path):
    monkeypatch.setattr(rgb, "MAX_BYTES", 1000)
    for path in (tmp_path / "large.png", "/dev/zero"):
        if path != "/dev/zero":
            path.write_bytes(b"\0" * 1001)
        elif not os.path.exists(path):
            continue
        with pytest.raises(DataError, match="more than 1,000 bytes"):
            read_rgb(type(tmp_path)(path))


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
    form=st.sampled_from([form for form in read_formats() if form != "HEIC"]),
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
