import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode, native, thumbnail
from tlkit.pixels import opening

PHOTO_LIKE = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(48) * 5, indexing="xy"), axis=-1).astype(np.uint8)
GRADIENT = np.concatenate([PHOTO_LIKE, 255 - PHOTO_LIKE[..., :1]], axis=-1)  # (48, 64, 3)


def encoded(image, image_format="PNG", **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, image_format, **options)
    return stream.getvalue()


def reason(source):
    with pytest.raises(UnreadableImage) as caught:
        decode(source, InputContract(height=8, width=8))
    return caught.value.message


# -- orientation -------------------------------------------------------------------------------

TURNED = {  # how upright pixels are stored under each orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_upright(orientation, image_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](GRADIENT)))
    source = encoded(stored, image_format, exif=exif, **({"lossless": True} if image_format == "WEBP" else {}))
    assert np.array_equal(native(source), GRADIENT)


@pytest.mark.parametrize("orientation", TURNED)
def test_a_jpeg_decoded_smaller_is_upright_too(orientation):
    upright = np.asarray(Image.fromarray(GRADIENT).resize((1280, 960)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = encoded(np.ascontiguousarray(TURNED[orientation](upright)), "JPEG", quality=95, exif=exif)
    contract = InputContract(height=48, width=64)
    found = decode(source, contract).astype(int)
    assert np.abs(found - decode(encoded(upright), contract)).max() <= 6


def test_a_damaged_exif_block_does_not_cost_the_image():
    source = encoded(GRADIENT, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffgarbage")
    assert native(source).shape == GRADIENT.shape


def test_real_orientations_agree(shared_data):
    folder = shared_data("odd-images")
    contract = InputContract(height=64, width=96)
    found = [decode(folder / f"exif__Landscape_{n}.jpg", contract).astype(int) for n in range(1, 9)]
    assert all(np.abs(image - found[0]).mean() < 1.0 for image in found)


# -- colour ------------------------------------------------------------------------------------


def test_grey_is_repeated_in_three_channels():
    found = native(encoded(GRADIENT[..., 0]))
    assert np.array_equal(found, np.repeat(GRADIENT[..., :1], 3, axis=2))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(image_format):
    values = np.array([[0, 257, 300, 32768, 65534, 65535]], dtype=np.uint16)
    found = native(encoded(values, image_format))
    assert found[0, :, 0].tolist() == [0, 1, 1, 128, 255, 255]


def test_big_endian_sixteen_bits():
    values = np.array([[0, 257, 32768, 65535]], dtype=">u2")
    found = native(encoded(Image.frombytes("I;16B", (4, 1), values.tobytes()), "TIFF"))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_tiff_that_declares_twelve_bits_is_white_at_4095(shared_data):
    found = native(shared_data("odd-images") / "pillow__12bit.cropped.tif")
    assert found.max() == round(30 * 255 / 4095)


def test_sixteen_bit_pgm_is_scaled_by_its_own_maximum():
    assert native(b"P5\n3 1\n1000\n" + struct.pack(">3H", 0, 500, 1000))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # floats in 0..1
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),  # no usual range: smallest to largest
        ([0.0, 5e5, 1e6], [0, 128, 255]),
        ([np.nan, 0.0, 1.0], [0, 0, 255]),
        ([np.inf, 0.0, 0.5], [0, 0, 128]),
        ([7e7, 7e7, 7e7], [0, 0, 0]),
    ],
)
def test_floats_by_the_smallest_usual_range(values, expected):
    found = native(encoded(np.array([values], dtype=np.float32), "TIFF"))
    assert found[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 200], [0, 1, 200]), ([0, 257, 65535], [0, 1, 255]), ([-100, 0, 100], [0, 128, 255])],
)
def test_long_integers_by_the_smallest_usual_range(values, expected):
    found = native(encoded(np.array([values], dtype=np.int32), "TIFF"))
    assert found[0, :, 0].tolist() == expected


def test_an_image_of_nothing_but_nan_is_refused():
    assert "no finite number" in reason(encoded(np.full((4, 4), np.nan, dtype=np.float32), "TIFF"))


def test_alpha_is_over_white():
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert native(encoded(pixels))[0].tolist() == [[200, 0, 0], [255, 255, 255], [127, 127, 127]]


def test_grey_with_alpha_is_over_white():
    image = Image.new("LA", (2, 1))
    image.putdata([(10, 255), (10, 0)])
    assert native(encoded(image))[0, :, 0].tolist() == [10, 255]


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "WEBP"])
def test_a_see_through_palette_colour_is_white(image_format):
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 0, 0, 0, 250])
    image.putdata([0, 1])
    options = {"transparency": 1, "lossless": True} if image_format == "WEBP" else {"transparency": 1}
    if image_format == "WEBP":
        image.info["transparency"] = 1
    assert native(encoded(image, image_format, **options))[0].tolist() == [[250, 0, 0], [255, 255, 255]]


def test_a_palette_with_an_alpha_for_each_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 0, 0, 0, 250])
    image.putdata([0, 1])
    assert native(encoded(image, transparency=bytes([255, 0])))[0].tolist() == [[250, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize(("mode", "pixel", "transparent"), [("L", 7, 7), ("1", 0, 0), ("RGB", (1, 2, 3), (1, 2, 3))])
def test_one_see_through_colour_without_a_palette(mode, pixel, transparent):
    source = encoded(Image.new(mode, (2, 2), pixel), transparency=transparent)
    assert native(source).min() == 255


def test_a_see_through_grey_of_sixteen_bits():
    values = np.array([[0, 300, 65535]], dtype=np.uint16)
    body = encoded(values)
    chunk = b"tRNS" + struct.pack(">H", 300)
    inserted = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    source = body[:33] + inserted + body[33:]
    assert native(source)[0, :, 0].tolist() == [0, 255, 255]


def test_cmyk_jpeg_and_tiff():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for image_format in ("JPEG", "TIFF"):
        found = native(encoded(red, image_format)).reshape(-1, 3).mean(axis=0)
        assert np.abs(found - [255, 0, 0]).max() < 3


def test_adobe_cmyk_from_a_real_file_is_not_a_negative(shared_data):
    folder = shared_data("odd-images")
    cmyk, rgb = native(folder / "pillow__pil_sample_cmyk.jpg"), native(folder / "pillow__pil_sample_rgb.jpg")
    assert np.abs(cmyk.astype(int) - rgb).mean() < 10


def test_lab_and_ycbcr():
    white = Image.frombytes("LAB", (2, 2), bytes([255, 0, 0] * 4))
    assert native(encoded(white, "TIFF")).min() >= 253
    ycbcr = Image.fromarray(GRADIENT).convert("YCbCr")
    assert np.abs(native(encoded(ycbcr, "TIFF")).astype(int) - GRADIENT).max() <= 3


def test_lab_of_a_real_file_looks_like_the_original(shared_data):
    folder = shared_data("odd-images")
    lab, rgb = native(folder / "pillow__hopper.Lab.tif"), native(folder / "pillow__hopper.ppm")
    assert np.abs(lab.astype(int) - rgb).mean() < 6


def test_one_bit():
    image = Image.new("1", (2, 1))
    image.putdata([0, 1])
    assert native(encoded(image))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_several(image_format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    source = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    assert np.abs(native(source).reshape(-1, 3).mean(axis=0) - [255, 0, 0]).max() < 4


# -- resize ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (7, 5), (200, 100), (1, 1)])
def test_squash_is_the_antialiased_bilinear_resize_that_pillow_has(size):
    image = Image.fromarray(GRADIENT).resize(size)
    expected = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR)).astype(int)
    found = decode(encoded(image), InputContract(height=20, width=30))
    assert (found.shape, found.dtype) == ((20, 30, 3), np.uint8)
    assert np.abs(found - expected).max() <= 1


def test_models_and_stores_of_version_1_are_given_the_pixels_of_version_1():
    large = Image.fromarray(GRADIENT).resize((1003, 751), Image.Resampling.BICUBIC)
    for image in (Image.fromarray(GRADIENT), large):
        source = encoded(image, "JPEG")
        opened = Image.open(io.BytesIO(source))
        opened.draft(None, (60, 40))
        expected = opened.resize((30, 20), Image.Resampling.BILINEAR, reducing_gap=2.0)
        found = decode(source, InputContract(height=20, width=30, version=1))
        assert np.array_equal(found, np.asarray(expected))


def test_large_images_are_averaged_first_and_lose_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), dtype=np.uint8)
    plain = np.asarray(Image.fromarray(noise).resize((64, 48), Image.Resampling.BILINEAR)).astype(int)
    for source in (encoded(noise), encoded(noise, "JPEG", quality=95, subsampling=0)):
        assert np.abs(decode(source, InputContract(height=48, width=64)) - plain).mean() < 3


@pytest.mark.parametrize("size", [(30, 10), (10, 30)])
def test_crop_is_a_resize_of_the_short_side_and_a_cut_of_the_middle(size):
    image = Image.fromarray(GRADIENT).resize(size)
    resized = np.asarray(image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BILINEAR))
    middle = resized[:, 5:10] if size[0] > size[1] else resized[5:10]
    assert np.array_equal(decode(encoded(image), InputContract(height=5, width=5, fit="crop")), middle)


def test_crop_to_another_aspect():
    found = decode(encoded(GRADIENT), InputContract(height=10, width=40, fit="crop"))
    expected = Image.fromarray(GRADIENT).resize((40, 10), Image.Resampling.BILINEAR, box=(0, 16, 64, 32))
    assert np.array_equal(found, np.asarray(expected))


def test_pad_keeps_the_aspect_and_adds_black():
    white = np.full((10, 20, 3), 255, dtype=np.uint8)
    found = decode(encoded(white), InputContract(height=40, width=40, fit="pad"))
    assert found[:10].max() == found[30:].max() == 0
    assert found[10:30].min() == 255


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 2)])
def test_extreme_aspects(fit, size):
    image = Image.new("RGB", size, "white")
    assert decode(encoded(image), InputContract(height=32, width=24, fit=fit)).shape == (32, 24, 3)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_files_and_bytes_give_the_same(fit, tmp_path):
    source = encoded(GRADIENT, "JPEG")
    (tmp_path / "x").write_bytes(source)
    contract = InputContract(height=16, width=16, fit=fit)
    assert np.array_equal(decode(source, contract), decode(tmp_path / "x", contract))


def test_thumbnails_keep_the_aspect_and_do_not_grow():
    assert thumbnail(encoded(GRADIENT), 32).size == (32, 24)
    assert thumbnail(encoded(GRADIENT, "JPEG"), 100).size == (64, 48)
    large = Image.fromarray(GRADIENT).resize((2000, 1000))
    assert thumbnail(encoded(large, "JPEG"), 100).size == (100, 50)


# -- what cannot be read -----------------------------------------------------------------------


def test_cut_files_say_so():
    assert "cut short" in reason(encoded(GRADIENT, "JPEG")[:-200])
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert "cut short" in reason(encoded(noise)[:-200])


def test_a_cut_jpeg_is_found_when_decoded_smaller():
    large = Image.effect_noise((2000, 1500), 80)
    assert "cut short" in reason(encoded(large, "JPEG")[:-2000])


def png_of_size(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [14_000, 100_000])
def test_bombs_are_refused_by_what_they_declare(side):
    assert f"{opening.PIXEL_LIMIT:,}" in reason(png_of_size(side, side))


def test_images_below_the_limit_need_no_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        assert "cut short" in reason(png_of_size(10_000, 10_000))
    assert not caught


def test_files_that_are_not_there(tmp_path):
    assert "No such file" in reason(tmp_path / "gone.jpg")
    assert "directory" in reason(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "text"),
        (b"<html>", "HTML"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
    ],
)
def test_contents_that_are_no_images(content, words):
    assert words in reason(content)


def test_postscript_is_never_run():
    assert "PostScript" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")


@pytest.mark.skipif(opening.HEIF, reason="pillow_heif is installed")
def test_heic_without_the_extra_says_how_to_get_it():
    assert "pip install pillow-heif" in reason(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)


def test_camera_raw_is_not_replaced_by_its_preview():
    info = {50706: bytes([1, 4, 0, 0])}
    assert "camera raw" in reason(encoded(GRADIENT, "TIFF", tiffinfo=info))


def test_every_odd_file_becomes_an_image_or_a_reason(shared_data):
    contract = InputContract(height=32, width=32)
    reasons = {}
    for path in sorted(shared_data("odd-images").iterdir()):
        try:
            assert decode(path, contract).shape == (32, 32, 3)
        except UnreadableImage as error:
            reasons[path.name] = error.message
    assert 30 <= len(reasons) <= 50
    assert all(text and "\n" not in text and "Traceback" not in text for text in reasons.values())


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "ICO"]
)
def test_whatever_is_damaged_only_unreadable_is_raised(image_format):
    whole = np.frombuffer(encoded(GRADIENT, image_format), dtype=np.uint8)
    random = np.random.default_rng(0)
    contract = InputContract(height=8, width=8)
    for _ in range(25):
        damaged = whole.copy()
        damaged[random.integers(0, min(len(whole), random.choice([64, len(whole)])), 4)] = random.integers(0, 256, 4)
        try:
            assert decode(damaged.tobytes(), contract).shape == (8, 8, 3)
        except UnreadableImage as error:
            assert error.message
