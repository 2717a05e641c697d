import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.data.decode import dark, decode, least_to_greatest
from tlkit.options.groups import parse_levels
from tlkit.pixels.contract import InputContract


class Heard(list):
    say = list.append


@pytest.fixture
def scans(tmp_path):
    """Grey scans of 16 bits up to a value; `start` differs from scan to scan."""

    def draw(top, count=5, start=0):
        files = []
        for number in range(count):
            values = np.linspace(start + number, top, 48).reshape(6, 8).round().astype(np.uint16)
            files.append(tmp_path / f"{top}-{number}.{('png', 'tif')[number % 2]}")
            Image.fromarray(values).save(files[-1])
        return files

    return draw


@pytest.mark.parametrize(("top", "remedy"), [(4080, "0,4095"), (255, "0,255"), (16383, "0,16383")])
def test_dark_scans_are_named_with_the_remedy(scans, top, remedy):
    sentence = dark(scans(top))
    assert f"--levels {remedy}" in sentence and "in 5 of more than 8 bits" in sentence


def test_scans_that_use_their_bits_are_not_dark_nor_is_a_set_with_one_of_them(scans):
    assert dark(scans(60000)) == ""
    assert dark(scans(4095) + scans(60000, count=1)) == ""


def test_bytes_are_never_called_dark(tmp_path):
    Image.new("L", (8, 8), 3).save(tmp_path / "dark.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "dark.jpg")
    assert dark([tmp_path / "dark.png", tmp_path / "dark.jpg"]) == dark([]) == ""


def test_auto_is_the_least_and_greatest_of_the_set_and_is_said(scans):
    heard = Heard()
    assert least_to_greatest(scans(3000, start=100), heard) == (100, 3000)
    assert "100 to 3000" in heard[0] and "5 images" in heard[0]


def test_auto_needs_numbers_of_more_than_8_bits(tmp_path):
    Image.new("L", (8, 8), 3).save(tmp_path / "a.png")
    with pytest.raises(TlkitError, match="no image has more than 8 bits"):
        least_to_greatest([tmp_path / "a.png"], Heard())


def test_stated_levels_spread_dark_scans(scans):
    file = scans(4095, count=1)[0]
    plain, spread = (decode(file, InputContract(height=6, width=8, levels=levels)) for levels in (None, (0, 4095)))
    assert plain.max() == 16 and spread.max() == 255
    assert len(np.unique(plain)) <= 17 and len(np.unique(spread)) == 48


@pytest.mark.parametrize("text", ["", "1", "5,5", "9,3", "a,b", "1,2,3", "nan,4"])
def test_levels_that_are_no_range(text):
    with pytest.raises(TlkitError, match="LOW,HIGH"):
        parse_levels(text)


def test_contracts_without_levels_keep_the_name_that_they_had_before_there_were_any():
    old = {"height": 8, "width": 8, "fit": "squash", "version": 1}
    assert InputContract(**old).as_json() == old
    stated = InputContract(height=8, width=8, levels=(0, 4095))
    assert InputContract(**stated.as_json()) == stated
    assert stated.as_json() != InputContract(height=8, width=8).as_json()


def test_a_contract_of_a_later_tlkit_is_refused():
    with pytest.raises(TlkitError, match="version 99"):
        InputContract(height=8, width=8, version=99)
