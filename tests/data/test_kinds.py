"""Kinds of PNG, BMP, JPEG 2000 and PNM that Pillow reads differently, against OpenCV and hand-made values."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode, native

H, W = 24, 30
RANDOM = np.random.default_rng(3)
RAMP = np.linspace(0, 1, H * W).reshape(H, W)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, bits, kind, see_through=None):
    """PNG of samples (h, w, n), with rows filtered by differences, from the standard alone."""
    h, w, n = values.shape
    if bits == 16:
        rows = values.astype(">u2").reshape(h, -1).view(np.uint8).reshape(h, -1)
    else:
        single = (values.reshape(h, w * n, 1) >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(single.reshape(h, -1).astype(np.uint8), axis=1)
    step = max(1, n * bits // 8)
    differences = rows.copy()
    differences[:, step:] -= rows[:, :-step]
    body = b"".join(b"\1" + row.tobytes() for row in differences)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, kind, 0, 0, 0))
    clear = b"" if see_through is None else chunk(b"tRNS", struct.pack(f">{len(see_through)}H", *see_through))
    return b"\x89PNG\r\n\x1a\n" + head + clear + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def eighths(values, white=65535):
    return np.floor(values.astype(np.float64) * 255 / white + 0.5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_one_see_through_grey_of_a_low_bit_depth(bits):
    values = (RAMP * (2**bits - 1)).round().astype(np.uint8)
    for clear in range(2**bits):
        found = native(png(values[..., None], bits, 0, (clear,)))
        expected = np.where(values == clear, 255, values * (255 // (2**bits - 1)))
        assert np.array_equal(found, np.repeat(expected[..., None], 3, axis=2)), (bits, clear)


@pytest.mark.parametrize(("kind", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_sixteen_bits_is_read_whole(kind, bands):
    values = RANDOM.integers(0, 65536, (H, W, bands)).astype(np.uint16)
    values[0, 0] = 65535
    values[0, 1] = 0
    found = native(png(values, 16, kind)).astype(int)
    colours = eighths(values[..., : bands - 1 + bands % 2])
    if bands in (2, 4):
        share = eighths(values[..., -1:]) / 255
        colours = colours * share + 255 * (1 - share)
    assert np.abs(found - (colours if bands > 2 else np.repeat(colours, 3, axis=2))).max() <= (bands in (2, 4))


def test_png_of_sixteen_bits_is_what_opencv_reads():
    cv2 = pytest.importorskip("cv2", reason="an independent reader, of the dev extra")
    values = RANDOM.integers(0, 65536, (H, W, 3)).astype(np.uint16)
    source = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    read = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(read, values)
    assert np.array_equal(native(source), eighths(read))


def test_one_see_through_colour_of_sixteen_bits():
    values = RANDOM.integers(0, 65536, (H, W, 3)).astype(np.uint16)
    values[3, 4] = clear = (300, 301, 302)
    values[3, 5] = (300, 301, 303)
    found = native(png(values, 16, 2, clear))
    assert found[3, 4].tolist() == [255] * 3 and found[3, 5].tolist() == [1] * 3


def bmp(alpha):
    """32 bits with a V5 head that names an alpha mask, as Windows programs write it."""
    values = np.dstack([(RAMP * 255).astype(np.uint8)] * 3)
    values[..., 0] //= 2
    rows = np.dstack([values[..., ::-1], alpha])[::-1].astype(np.uint8).tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, W, H, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    head += struct.pack("<IIII", 4, 0, 0, 0)
    return values, b"BM" + struct.pack("<IHHI", 14 + 124 + len(rows), 0, 0, 14 + 124) + head + rows


def test_a_bmp_whose_alpha_is_nowhere_set_has_none():
    values, source = bmp(np.zeros((H, W)))
    assert np.array_equal(native(source), values)


def test_a_bmp_with_alpha_is_over_white():
    alpha = np.zeros((H, W))
    alpha[0, 0] = 255
    values, source = bmp(alpha)
    found = native(source)
    assert np.array_equal(found[0, 0], values[0, 0]) and found[1:].min() == 255


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_grey_jpeg_2000_by_its_own_white(bits):
    imagecodecs = pytest.importorskip("imagecodecs", reason="an independent writer, of the dev extra")
    values = (RAMP * (2**bits - 1)).round().astype(np.uint16)
    source = imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, codecformat="jp2")
    assert np.array_equal(imagecodecs.jpeg2k_decode(source), values)
    assert np.array_equal(native(source)[..., 0], eighths(values, 2**bits - 1))


@pytest.mark.parametrize("bits", [12, 16])
def test_jpeg_2000_in_colour_of_more_than_8_bits_is_set_aside(bits):
    imagecodecs = pytest.importorskip("imagecodecs", reason="an independent writer, of the dev extra")
    values = np.full((H, W, 3), 2**bits - 1, np.uint16)
    source = imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, codecformat="jp2")
    with pytest.raises(UnreadableImage, match=f"JPEG 2000 of {bits} bits in 3 components"):
        native(source)


def test_jpeg_2000_of_eight_bits_in_colour():
    values = np.dstack([(RAMP * 255).astype(np.uint8)] * 3)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", irreversible=False)
    assert np.array_equal(native(stream.getvalue()), values)


@pytest.mark.parametrize("white", [255, 1000, 4095, 65535])
@pytest.mark.parametrize("bands", [1, 3])
def test_pnm_of_any_maximum(bands, white):
    values = RANDOM.integers(0, white + 1, (H, W, bands))
    body = values.astype(np.uint8 if white < 256 else ">u2").tobytes()
    source = f"P{6 if bands == 3 else 5}\n# a comment\n{W} {H}\n{white}\n".encode() + body
    assert np.abs(native(source) - eighths(values, white)).max() == 0


# -- stated levels -----------------------------------------------------------------------------

LEVELS = InputContract(height=H, width=W, levels=(100, 4095))


def stated(values):
    return np.floor((values.clip(100, 4095) - 100) * 255 / 3995 + 0.5)


@pytest.mark.parametrize(("kind", "bands"), [(0, 1), (2, 3)])
def test_levels_of_png(kind, bands):
    values = RANDOM.integers(0, 6000, (H, W, bands)).astype(np.uint16)
    assert np.abs(decode(png(values, 16, kind), LEVELS) - stated(values.astype(float))).max() == 0


@pytest.mark.parametrize("bands", [1, 3])
def test_levels_of_pnm(bands):
    values = RANDOM.integers(0, 6000, (H, W, bands))
    source = f"P{6 if bands == 3 else 5}\n{W} {H}\n65535\n".encode() + values.astype(">u2").tobytes()
    assert np.abs(decode(source, LEVELS) - stated(values.astype(float))).max() == 0


def test_levels_leave_bytes_alone():
    values = RANDOM.integers(0, 256, (H, W, 3)).astype(np.uint8)
    for source in (png(values, 8, 2), b"P6\n%d %d\n255\n" % (W, H) + values.tobytes()):
        assert np.array_equal(decode(source, LEVELS), values)
