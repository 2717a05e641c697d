"""Identify a file's format by its first bytes; the extension only tells whether it was meant to be an image."""

import re

HEADER_BYTES = 512  # bytes of a file that `sniff` and `describe` need

# (offset, bytes, Pillow's name of the format)
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"qoif", "QOI"),
    (0, b"8BPS\x00\x01", "PSD"),
    (0, b"DDS ", "DDS"),
    (0, b"\x01\xda\x00", "SGI"),
    (0, b"\x01\xda\x01", "SGI"),
    (0, b"icns", "ICNS"),
)
# Signatures too short to be reliable alone.
_PATTERNS = (
    (re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6]\s+[\d#]"), "PPM"),
    (re.compile(rb"P[fF]\s+\d+\s+\d+\s+-?[\d.]"), "PPM"),
    (re.compile(rb"\x00\x00\x01\x00[^\x00].{3}.\x00", re.DOTALL), "ICO"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIF"
)

IMAGE_SUFFIXES = frozenset(
    (
        *("jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "png", "apng", "gif", "bmp", "dib", "webp", "tif", "tiff"),
        *("avif", "avifs", "heic", "heics", "heif", "heifs", "hif", "jp2", "j2k", "j2c", "jpc", "jpx", "jpf", "jxl"),
        *("ico", "icns", "ppm", "pgm", "pbm", "pnm", "pfm", "qoi", "psd", "dds", "sgi", "bw", "rgb", "rgba", "xbm"),
        *("tga", "icb", "vda", "vst", "svg", "svgz", "eps"),
        *("dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "pef", "srw"),  # camera raw
    )
)
# TGA has no signature: its extension is trusted, and decoding decides.
_UNSIGNED_SUFFIXES = frozenset(("tga", "icb", "vda", "vst"))


def suffix(path: str) -> str:
    """Lower-case extension of a path without the dot, "" if there is none."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def sniff(header: bytes, path: str = "") -> str | None:
    """The image format of a file by its beginning, as named by Pillow, or None.

    Args:
        header: the first `HEADER_BYTES` of the file.
        path: used only for formats without a signature (TGA).
    """
    for offset, signature, name in _SIGNATURES:
        if header.startswith(signature, offset):
            return name
    if header[4:8] == b"ftyp":
        return _brand(header)
    for pattern, name in _PATTERNS:
        if pattern.match(header):
            return name
    return "TGA" if suffix(path) in _UNSIGNED_SUFFIXES and len(header) >= 18 else None


def _brand(header: bytes) -> str | None:
    """AVIF or HEIF by the major brand, else by the compatible brands; `mif1` alone indicates neither."""
    end = min(int.from_bytes(header[:4], "big"), len(header))
    brands = [header[8:12], *(header[i : i + 4] for i in range(16, end, 4))]
    known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if not known:
        return None
    return "AVIF" if "AVIF" in known and brands[0] not in (b"heic", b"heix") else known[0]


def describe(header: bytes) -> str:
    """What a file is that does not begin like an image, as the end of a sentence: "holds text, not an image"."""
    start = header.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if not header:
        return "is empty (0 bytes)"
    if not header.strip(b"\x00"):
        return "holds only zeros"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "holds an HTML page, not an image"
    if b"<svg" in header.lower():
        return "holds SVG, a vector drawing, not pixels"
    for signature, words in _OTHERS:
        if header.startswith(signature):
            return f"holds {words}"
    if header[4:8] == b"ftyp":
        return "holds a video or camera raw file, not an image"
    return "holds text, not an image" if _is_text(header) else "begins like no image format known here"


_OTHERS = (
    (b"<?xml", "XML, not an image"),
    (b"%PDF", "PDF, not an image"),
    (b"%!PS", "PostScript, not pixels"),
    (b"PK\x03\x04", "a ZIP archive, not an image"),
    (b"\x1f\x8b", "a gzip archive, not an image"),
    (b"version https://git-lfs", "a Git LFS pointer; `git lfs pull` fetches the file itself"),
    (b"\xff\x0a", "JPEG XL, which Pillow does not read"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL, which Pillow does not read"),
)


def _is_text(header: bytes) -> bool:
    """Whether the bytes are printable UTF-8, ignoring a character truncated at the end."""
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < max(len(header) - 4, 1):
            return False
        text = header[: error.start].decode("utf-8")
    return all(char.isprintable() or char in "\t\r\n\f" for char in text)
