"""Kinds of TIFF against what tifffile (with imagecodecs) reads, and against libvips and OpenCV where they have RGB."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode, native

tifffile = pytest.importorskip("tifffile", reason="an independent reader of TIFF, of the dev extra")
pytest.importorskip("imagecodecs", reason="unpacks for tifffile, of the dev extra")

H, W = 37, 45
RAMP = (np.arange(H * W).reshape(H, W) * 7919) % 10007 / 10006  # 0..1, all values different


def written(values, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def by_hand(values, bits, tags=(), *, big=False, kind=1):
    """A TIFF of one strip whose samples (h, w, n) are packed in `bits`; `tags` are (tag, type, values) more."""
    h, w, n = values.shape
    single = (values.reshape(h, w * n, 1).astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(single.reshape(h, -1).astype(np.uint8), axis=1).tobytes()
    order = ">" if big else "<"
    entries = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * n), 259: (3, [1]), 277: (3, [n]), 278: (4, [h])}
    entries |= {339: (3, [kind] * n), 279: (4, [len(data)]), 273: (4, [8])} | {t: (k, v) for t, k, v in tags}
    start = 8 + len(data) + len(data) % 2
    extra = b""
    body = struct.pack(order + "H", len(entries))
    after = start + 2 + 12 * len(entries) + 4
    for tag, (kind_of, numbers) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'HI'[kind_of == 4]}", *numbers)
        if len(packed) > 4:
            place = struct.pack(order + "I", after + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        body += struct.pack(order + "HHI", tag, kind_of, len(numbers)) + place
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", start)
    return head + data.ljust(start - 8, b"\0") + body + b"\0" * 4 + extra


def scaled(values, white):
    return np.floor(values.astype(np.float64) * 255 / white + 0.5).clip(0, 255)


def grey(expected):
    return np.repeat(expected[..., None], 3, axis=2) if expected.ndim == 2 else expected


def apart(source, expected):
    return np.abs(native(source).astype(int) - grey(np.asarray(expected)).astype(int)).max()


# -- sample types ------------------------------------------------------------------------------

PACKINGS = [
    {"compression": None},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": True},
    {"compression": "deflate"},
    {"compression": "deflate", "predictor": True},
    {"compression": "packbits"},
    {"compression": "zstd"},
    {"compression": "lzma"},
]
LAYOUTS = [{}, {"rowsperstrip": 8}, {"tile": (16, 32)}, {"bigtiff": True}, {"byteorder": ">"}]
TYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


def numbers(kind):
    """Grey of a type, and what bytes it becomes: unsigned of up to 16 bits by their white, the rest least to greatest."""
    if kind[0] == "f":
        return (RAMP * 3000 - 1000).astype(kind)
    info = np.iinfo(kind)
    return (RAMP * (float(info.max) - info.min) + info.min).round().clip(info.min, info.max).astype(kind)


def as_bytes(read):
    read = read.astype(read.dtype.newbyteorder("="))
    if read.dtype in (np.uint8, np.uint16):
        return scaled(read, np.iinfo(read.dtype).max)
    low, high = float(read.min()), float(read.max())
    return np.floor((read.astype(np.float64) - low) * 255 / (high - low) + 0.5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("kind", TYPES)
def test_grey_of_every_type_packing_and_layout(kind, packing, layout):
    source = written(numbers(kind), photometric="minisblack", **packing, **layout)
    assert apart(source, as_bytes(tifffile.imread(io.BytesIO(source)))) == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_colours_of_every_layout(kind, planar, packing, layout):
    bands = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 0 if planar == "separate" else 2)
    values = (bands * (1 if kind == "f4" else np.iinfo(kind).max)).astype(kind)
    source = written(values, photometric="rgb", planarconfig=planar, **packing, **layout)
    read = tifffile.imread(io.BytesIO(source))
    read = read.transpose(1, 2, 0) if planar == "separate" else read
    assert apart(source, scaled(read, 1 if kind == "f4" else np.iinfo(kind).max)) == 0


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_odd_numbers_of_bits(bits, white_is_zero):
    values = (RAMP * (2**bits - 1)).round().astype(np.uint16)
    source = by_hand(values[..., None], bits, [(262, 3, [0 if white_is_zero else 1])])
    read = tifffile.imread(io.BytesIO(source)).astype(int)
    expected = scaled(read, 2**bits - 1)
    assert np.array_equal(read, values)
    assert apart(source, 255 - expected if white_is_zero else expected) == 0


def test_twelve_bits_of_three_colours():
    values = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2) * 4095
    source = by_hand(values.round().astype(np.uint16), 12, [(262, 3, [2])])
    assert apart(source, scaled(values.round(), 4095)) == 0


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_white_is_zero(kind, byteorder):
    cv2 = pytest.importorskip("cv2", reason="an independent reader, of the dev extra")
    values = numbers(kind)
    source = written(values, photometric="miniswhite", byteorder=byteorder)
    white = np.iinfo(kind).max
    assert apart(source, scaled(white - values, white)) == 0
    read = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(native(source)[..., 0].astype(int) - read).max() <= 1


def test_the_lowest_bit_first():
    values = (RAMP > 0.5).astype(np.uint8)
    plain = by_hand(values[..., None], 1, [(262, 3, [1])])
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in plain[8 : 8 + H * 6])
    source = by_hand(values[..., None], 1, [(262, 3, [1]), (266, 3, [2])])
    source = source[:8] + turned + source[8 + len(turned) :]
    assert apart(source, values * 255) == 0


# -- colours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("wide", [True, False], ids=["map of 16 bits", "map of 8 bits"])
def test_colour_maps(bits, wide):
    colours = np.random.default_rng(0).integers(0, 256, (3, 2**bits))
    indices = (RAMP * (2**bits - 1)).round().astype(np.uint8)
    table = (colours * 257 if wide else colours).ravel().tolist()
    source = by_hand(indices[..., None], bits, [(262, 3, [3]), (320, 3, table)])
    assert apart(source, colours.T[indices]) == 0


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_ink(kind):
    pyvips = pytest.importorskip("pyvips", reason="an independent reader, of the dev extra")
    white = np.iinfo(kind).max
    ink = (np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP[::-1, ::-1] / 2], 2) * white).astype(kind)
    source = written(ink, photometric="separated")
    shares = 1 - scaled(ink, white) / 255
    expected = 255 * shares[..., :3] * shares[..., 3:]
    assert np.abs(native(source) - expected).max() <= 1
    assert pyvips.Image.new_from_buffer(source, "").bands == 4


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
def test_lab(photometric):
    cv2 = pytest.importorskip("cv2", reason="an independent reader, of the dev extra")
    lab = np.stack([RAMP * 60 + 20, RAMP[::-1] * 20 - 10, RAMP[:, ::-1] * 20 - 10], 2).astype(np.float32)
    signed = np.round(lab * [255 / 100, 1, 1]).astype(np.int64)
    stored = (signed % 256 if photometric == "cielab" else signed + np.array([0, 128, 128])).astype(np.uint8)
    source = written(stored, photometric=photometric)
    expected = cv2.cvtColor((signed / [2.55, 1, 1]).astype(np.float32), cv2.COLOR_Lab2RGB) * 255
    assert np.abs(native(source) - expected).mean() < 2


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_a_fourth_sample(kind, extra):
    white = np.iinfo(kind).max
    alpha = RAMP[..., None]
    colours = np.stack([RAMP[::-1], RAMP[:, ::-1], RAMP], 2) * (alpha if extra == "assocalpha" else 1)
    values = (np.concatenate([colours, alpha], 2) * white).astype(kind)
    source = written(values, photometric="rgb", extrasamples=[extra])
    share = scaled(values[..., 3:], white) / 255
    seen = {
        "unassalpha": scaled(values[..., :3], white) * share + 255 * (1 - share),
        "assocalpha": scaled(values[..., :3], white) + 255 * (1 - share),
        "unspecified": scaled(values[..., :3], white),
    }[extra]
    assert np.abs(native(source) - seen.clip(0, 255)).max() <= 1


def test_grey_with_alpha():
    values = np.stack([RAMP, RAMP[::-1]], 2)
    values = (values * 255).astype(np.uint8)
    source = written(values, photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig")
    share = values[..., 1] / 255
    assert apart(source, np.floor(values[..., 0] * share + 255 * (1 - share) + 0.5)) <= 1


def test_colours_with_more_bands_are_the_colours():
    values = (np.stack([RAMP] * 8, 2) * [255, 200, 150, 1, 2, 3, 4, 5]).astype(np.uint8)
    source = written(values, photometric="rgb", extrasamples=["unspecified"] * 5, planarconfig="contig")
    assert apart(source, values[..., :3]) == 0


@pytest.mark.parametrize("packing", [{"compression": "jpeg"}, {"compression": "jpeg", "tile": (32, 32)}])
@pytest.mark.parametrize("colours", [1, 3])
def test_jpeg_inside(packing, colours):
    smooth = np.stack(np.meshgrid(np.arange(96), np.arange(64)), 2).sum(2).astype(np.uint8)
    values = smooth if colours == 1 else np.stack([smooth, smooth + 20, 200 - smooth], 2)
    source = written(values, photometric="minisblack" if colours == 1 else "rgb", **packing)
    assert apart(source, tifffile.imread(io.BytesIO(source))) <= 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_orientation_tag(orientation):
    values = (RAMP * 255).astype(np.uint8)
    turned = {1: values, 3: values[::-1, ::-1], 6: np.rot90(values, -1), 8: np.rot90(values)}[orientation]
    source = written(values, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    assert apart(source, turned) == 0


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4"])
def test_what_stands_for_nothing_is_left_out_of_the_range(kind):
    values = (np.tile(np.arange(64), (48, 1)) * 10).astype(kind)
    values[:, 0] = -9999
    tags = [(42113, "s", 0, "-9999", True)]
    source = written(values, photometric="minisblack", extratags=tags)
    expected = scaled(values.clip(0), 65535)
    assert apart(source, expected) == 0
    ramp = (values / 640).astype("f4") if kind[0] == "f" else None
    if ramp is not None:
        ramp[:, 0] = -9999
        assert native(written(ramp, photometric="minisblack", extratags=tags))[5, [0, 1, 63], 0].tolist() == [0, 4, 251]


def test_the_first_page_that_is_no_reduced_copy():
    stream = io.BytesIO()
    large = (RAMP * 255).astype(np.uint8)
    with tifffile.TiffWriter(stream) as writer:
        writer.write(large[::4, ::4], photometric="minisblack", subfiletype=1)
        writer.write(large, photometric="minisblack")
    assert apart(stream.getvalue(), large) == 0


# -- what is set aside, and why ----------------------------------------------------------------


def reason(source):
    with pytest.raises(UnreadableImage) as caught:
        decode(source, InputContract(height=8, width=8))
    return caught.value.message


def test_reasons_are_true():
    many = (np.stack([RAMP] * 13, 2) * 255).astype(np.uint8)
    assert "13 bands" in reason(written(many, photometric="minisblack", planarconfig="contig"))
    assert "complex" in reason(written(RAMP.astype(np.complex64), photometric="minisblack"))
    twelve = written((RAMP * 4095).astype(np.uint16), photometric="minisblack", compression="jpeg", bitspersample=12)
    assert "JPEG of 12 bits" in reason(twelve)
    mosaic = by_hand((RAMP * 255).astype(np.uint8)[..., None], 8, [(262, 3, [32803])])
    assert "mosaic" in reason(mosaic)
    jpeg_xl = by_hand((RAMP * 255).astype(np.uint8)[..., None], 8, [(262, 3, [1]), (259, 3, [50002])])
    assert "method 50002" in reason(jpeg_xl)


@pytest.mark.parametrize("packing", PACKINGS[:7], ids=str)
def test_cut_short(packing):
    source = written((RAMP * 65535).astype(np.uint16), photometric="minisblack", **packing)
    with tifffile.TiffFile(io.BytesIO(source)) as opened:
        place, size = opened.pages[0].dataoffsets[0], opened.pages[0].databytecounts[0]
    entries = source.replace(struct.pack("<I", size), struct.pack("<I", size // 2)) if place else source
    if entries == source:
        pytest.skip("the size is not written as four bytes")
    assert reason(entries)


def test_float_and_palette_levels_and_bytes():
    values = (RAMP * 4095).astype(np.uint16)
    source = written(values, photometric="minisblack")
    contract = InputContract(height=H, width=W, levels=(0, 4095))
    assert np.array_equal(decode(source, contract)[..., 0], scaled(values, 4095))
    bytes_only = written((RAMP * 100).astype(np.uint8), photometric="minisblack")
    assert decode(bytes_only, contract).max() == 100


def test_libvips_agrees_on_what_it_has_in_bytes():
    pyvips = pytest.importorskip("pyvips", reason="an independent reader, of the dev extra")
    bands = (np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2) * 255).astype(np.uint8)
    for options in ({}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}, {"planarconfig": "separate"}):
        values = bands.transpose(2, 0, 1) if "planarconfig" in options else bands
        source = written(values, photometric="rgb", **options)
        read = pyvips.Image.new_from_buffer(source, "").numpy()
        assert np.array_equal(native(source), read)


def test_pillow_and_we_read_the_same_of_what_pillow_writes():
    photo = np.stack([RAMP * 255, RAMP[::-1] * 255, RAMP[:, ::-1] * 255], 2).astype(np.uint8)
    for packing in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
            stream = io.BytesIO()
            image = Image.fromarray(photo).convert(mode)
            image.save(stream, "TIFF", compression=packing)
            alone = image.convert("RGB")
            assert apart(stream.getvalue(), np.asarray(alone)) <= 1, (packing, mode)
