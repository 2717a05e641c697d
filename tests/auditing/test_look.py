import numpy as np
import pytest
from PIL import Image

from tlkit.data.look import jpeg_quality, look


def saved(folder, name, image, **options):
    path = folder / name
    image.save(path, **options)
    return path


def test_facts_are_those_of_the_files(tmp_path, photographs):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110], exif[0x0132] = 6, "Maker", "Model 1", "2024:05:01 10:20:30"
    frames = [photographs[1].convert("P"), photographs[2].convert("P")]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    found = look(
        [
            saved(tmp_path, "turned.jpg", photographs[0], exif=exif, quality=82),
            saved(tmp_path, "grey.png", Image.new("L", (50, 30), 200)),
            saved(tmp_path, "moving.gif", frames[0], save_all=True, append_images=frames[1:]),
            broken,
        ]
    )
    assert found.format.tolist() == ["JPEG", "PNG", "GIF", ""]
    assert found.mode.tolist()[:2] == ["RGB", "L"]
    assert (found.width[0], found.height[0], found.orientation[0]) == (120, 160, 6)  # upright
    assert (found.camera[0], found.taken[0]) == ("Maker Model 1", "2024:05:01 10:20:30")
    assert found.quality[0] == 82 and np.isnan(found.quality[1])
    assert found.frames.tolist() == [1, 1, 2, 0]
    assert found.brightness[1] == pytest.approx(200, abs=0.01) and found.contrast[1] < 0.01 and found.frame[1] < 0.01
    assert found.border[1].tolist() == [200, 200, 200]
    assert found.plain.tolist()[:3] == [False, True, False]
    assert found.contrast[3] == 0


@pytest.mark.parametrize(("left", "right", "plain"), [(90, 90, True), (90, 91, True), (90, 96, False)])
def test_one_colour_is_one_in_every_channel(tmp_path, left, right, plain):
    """Red and green of the same grey are two colours; JPEG changes one colour by a level or two."""
    image = Image.new("RGB", (64, 64), (left, 40, 40))
    image.paste((right, 40, 40), (32, 0, 64, 64))
    two = Image.new("RGB", (64, 64), (255, 0, 0))
    two.paste((0, 130, 0), (32, 0, 64, 64))  # 76 in grey, both
    found = look([saved(tmp_path, "a.png", image), saved(tmp_path, "b.png", two), saved(tmp_path, "c.jpg", image)])
    assert found.plain.tolist() == [plain, False, plain]


@pytest.mark.parametrize("quality", [25, 50, 75, 90, 95, 100])
def test_quality_is_the_one_it_was_saved_with(tmp_path, photographs, quality):
    path = saved(tmp_path, "image.jpg", photographs[0], quality=quality)
    with Image.open(path) as image:
        assert jpeg_quality(image.quantization) == pytest.approx(quality, abs=1)


def test_a_blurred_copy_is_less_sharp(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    sharp, soft = look(
        [saved(tmp_path, "a.png", noise), saved(tmp_path, "b.png", noise.resize((20, 20)).resize((200, 200)))]
    ).sharpness
    assert soft < sharp / 3


def test_no_files_give_no_rows():
    assert len(look([])) == 0
