import pytest

from tlkit.base.errors import TlkitError
from tlkit.options.obtain import RankConfig, Wanted, read_candidates


def read(text, size=None):
    return read_candidates([part.strip() for part in text.split(",")], size)


def test_commas_part_candidates_and_options_of_one():
    assert read("nano,mobilenetv2:alpha=0.35,size=160,weights=none, my.net.keras:size=96") == [
        Wanted("nano"),
        Wanted("mobilenetv2:alpha=0.35", 160, "none"),
        Wanted("my.net.keras", 96),
    ]


def test_a_name_is_read_as_it_is_written():
    for text in (
        "nano",
        "nano:size=64",
        "mobilenetv2:alpha=0.35,size=96,weights=w.h5",
        "a/b.keras:size=32,weights=none",
    ):
        assert [one.name for one in read(text)] == [text] and read(read(text)[0].name) == read(text)


def test_a_preset_of_another_family_takes_a_size():
    (one, other) = read("hub:dinov2_small,size=224,hub:/tmp/folder of one")
    assert one == Wanted("hub:dinov2_small", 224) and other == Wanted("hub:/tmp/folder of one")
    assert one.name == "hub:dinov2_small,size=224" and read(one.name) == [one]
    assert one.flags == ["--backbone", "hub:dinov2_small", "--image-size", "224"]


def test_the_flags_train_the_same_network():
    assert read("mobilenetv2:alpha=0.35,size=96,weights=none")[0].flags == [
        *("--backbone", "mobilenetv2:alpha=0.35", "--image-size", "96", "--weights", "none")
    ]


def test_the_common_size_is_for_those_that_name_none():
    assert [one.image_size for one in read("nano,nano:size=64", 96)] == [96, 64]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet5O", "'resnet5O' is not a backbone"),
        ("nano,nano", "'nano' twice"),
        ("nano:size=big", "size of 'nano:size=big' is 'big'"),
        ("nano:size=5", "16 to 4096"),
        ("net.keras:alpha=1", "gives a file the variant alpha=1"),
        ("hub:dinov2_small,alpha=1", "gives a preset the variant alpha=1"),
        ("", "names no candidate"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(TlkitError, match=message):
        RankConfig(images="images", backbones=tuple(text.split(",")))
