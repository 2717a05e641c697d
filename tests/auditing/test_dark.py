from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.auditing.evidences import evidence
from tlkit.auditing.files import check_dark


def scans(folder, most):
    """Eight 16-bit scans whose brightest value is `most`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        values = random.integers(0, most + 1, (12, 12)).astype(np.uint16)
        values[0, 0] = most
        Image.fromarray(values).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(8)]


def found(folder, most, **more):
    paths = scans(folder, most)
    one = evidence(np.arange(8) % 2, np.zeros((8, 2)), paths=paths, **more)
    one.dataset = replace(one.dataset, root=folder)
    return list(check_dark(one))


def test_scans_of_12_bits_are_named_with_the_remedy(tmp_path):
    (finding,) = found(tmp_path / "dark", 4095)
    assert finding.severity == "serious" and "--levels 0,4095" in finding.sentence
    assert "--levels auto" in finding.command


@pytest.mark.parametrize("most", [65535, 20000])
def test_scans_that_use_their_range_are_not(tmp_path, most):
    assert found(tmp_path / "bright", most) == []


def test_nothing_is_said_where_levels_are_given(tmp_path):
    assert found(tmp_path / "dark", 4095, levelled=True) == []
