import io

import pytest
from PIL import Image

from tlkit.pixels.sniff import describe, sniff, suffix

WRITABLE = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "DDS", "SGI", "ICO", "PPM", "ICNS")


@pytest.mark.parametrize("image_format", WRITABLE)
def test_every_format_is_known_by_its_first_bytes(image_format):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, image_format)
    assert sniff(stream.getvalue()[:512]) == image_format


@pytest.mark.parametrize(
    ("mode", "image_format", "expected"),
    [("F", "PPM", "PPM"), ("1", "PPM", "PPM"), ("I;16", "TIFF", "TIFF")],
)
def test_other_modes_too(mode, image_format, expected):
    stream = io.BytesIO()
    Image.new(mode, (64, 64)).save(stream, image_format)
    assert sniff(stream.getvalue()[:512]) == expected


def test_tga_has_no_signature_so_its_name_is_believed():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TGA")
    assert sniff(stream.getvalue(), "a/b.TGA") == "TGA"
    assert sniff(stream.getvalue(), "a/b.jpg") is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "is empty"),
        (b"\0" * 100, "only zeros"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b'<?xml version="1.0"?><svg>', "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"BM, he said, is not a bitmap", "text"),
        (b"P5 is a pixel", "text"),
        ("Grüße".encode(), "text"),
        (("x" * 511 + "ü").encode()[:512], "text"),
        (b"\x93\xaf\x00\x01", "no image format"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
    ],
)
def test_what_is_no_image_is_described(header, words):
    assert sniff(header) is None
    assert words in describe(header)


def test_avif_and_heif_differ_by_brand():
    assert sniff(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf") == "AVIF"
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"
    assert sniff(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
    assert sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "HEIF"


def test_suffix_is_lower_case_and_of_the_name_only():
    assert suffix("a.b/IMG.JPG") == "jpg"
    assert suffix("a.b/noname") == ""
