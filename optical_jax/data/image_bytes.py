"""Image files as bytes: format by signature, and removal of metadata that the pixels do not need (PNG, JPEG)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

HEAD_BYTES = 512
"""Bytes at the start of a file that tell its format."""
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\0\0\1\0", "ICO"),
    (b"PK\3\4", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"),
)
HEIC_BRANDS = (b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
AVIF_BRANDS = (b"avif", b"avis")


def image_format(head: bytes) -> str:
    """Format of a file by its first bytes, such as PNG, HEIC or HTML; empty if unknown.

    Of the formats that are read BMP and PPM are not recognised: text may begin with their signatures.
    """
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4]), len(head))
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, length, 4))]
        found = [name for name, of in (("AVIF", AVIF_BRANDS), ("HEIC", HEIC_BRANDS)) if any(b in of for b in brands)]
        return found[0] if found else ""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return "SVG" if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text else ""


def is_cut_off(head: bytes) -> bool:
    """Whether an AVIF or HEIC file has nothing behind the box with its signature, as placeholders of files have."""
    length = int.from_bytes(head[:4])
    return length + 8 <= HEAD_BYTES and not head[length : length + 8].strip(b"\0")


def without_metadata(data: bytes) -> bytes:
    """The file without metadata, which may be broken or huge where the pixels are whole; EXIF and XMP are kept.

    Both may hold the orientation. Files of other formats than PNG and JPEG are returned as they are.
    """
    kind = image_format(data[:HEAD_BYTES])
    return _png(data) if kind == "PNG" else _jpeg(data) if kind == "JPEG" else data


def jpeg_scans(data: bytes) -> int:
    """Number of scans of a JPEG, each of which decodes all of it again; 0 for other formats."""
    if image_format(data[:HEAD_BYTES]) != "JPEG":
        return 0
    first = max((end for _, _, end in _segments(data)), default=2)
    # Entropy-coded data hold no markers; behind the end marker there may be anything, such as a video.
    end = data.find(b"\xff\xd9", first)
    return data.count(b"\xff\xda", first, end if end >= 0 else len(data))


# ---- PNG ---------------------------------------------------------------------------------------------------------

PNG_START = 8
NEEDED = (b"tRNS", b"eXIf")
"""Ancillary chunks that are kept. Frames after the first (acTL, fcTL, fdAT) are not."""
ORIENTED = (b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Keywords of text chunks that may hold the orientation."""
TEXT_BYTES = 1_000_000
"""Longest unpacked text, and longest EXIF and XMP of a JPEG, that are kept. Pillow refuses PNGs with longer texts."""


def _png(data: bytes) -> bytes:
    view = memoryview(data)
    kept, found = [view[:PNG_START]], set[bytes]()
    at = PNG_START
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = view[at : at + 12 + length]
        is_ancillary = bool(kind[0] & 0x20)
        if not is_ancillary or (kind in NEEDED and _is_intact(chunk)):
            kept.append(chunk)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = bytes(chunk[8:88]).partition(b"\0")[0]
            if keyword in ORIENTED and keyword not in found and _is_intact(chunk) and _is_short(kind, chunk):
                kept.append(chunk)
                found.add(keyword)
        at += 12 + length
        if kind == b"IEND":
            break
    return b"".join(kept)


def _is_intact(chunk: memoryview) -> bool:
    return len(chunk) >= 12 and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def _is_short(kind: bytes, chunk: memoryview) -> bool:
    """Whether a text chunk is valid and has at most `TEXT_BYTES`; no more than these are unpacked."""
    _, _, text = bytes(chunk[8:-4]).partition(b"\0")
    if kind == b"iTXt":
        is_packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    else:
        is_packed, text = kind == b"zTXt", text[1:]
    if not is_packed:
        return len(text) <= TEXT_BYTES
    unpack = zlib.decompressobj()
    try:
        unpack.decompress(text, TEXT_BYTES)
    except zlib.error:
        return False
    return not unpack.unconsumed_tail


# ---- JPEG --------------------------------------------------------------------------------------------------------

JPEG_METADATA = (0xFE, *range(0xE2, 0xEE), 0xEF)
"""Comments and application segments, but for JFIF (APP0), EXIF and XMP (APP1) and Adobe's colour space (APP14)."""
APP1, SOS = 0xE1, 0xDA


def _jpeg(data: bytes) -> bytes:
    view = memoryview(data)
    kept, end, app1_bytes = [view[:2]], 2, 0
    for marker, start, end in _segments(data):
        # Pillow joins the segments of EXIF data in time quadratic in their number.
        app1_bytes += end - start if marker == APP1 else 0
        if marker not in JPEG_METADATA and (marker != APP1 or app1_bytes <= TEXT_BYTES):
            kept.append(view[start:end])
    return b"".join([*kept, view[end:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment before the first scan, up to what is not a segment."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == SOS or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or end > len(data):
            return
        yield marker, at, end
        at = end
