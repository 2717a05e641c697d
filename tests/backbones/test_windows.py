"""Swin's network of Keras's own layers; against KerasHub's: test_hub.py."""

import keras
import numpy as np
import pytest

from tlkit.backbones.blocks import find_blocks
from tlkit.backbones.build import Backbone
from tlkit.backbones.transformers.windows import Stages, _apart, _rolled, build
from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.exporting.formats import installed
from tlkit.exporting.golden import Inputs
from tlkit.exporting.runtimes import Runtime
from tlkit.exporting.writers import in_keras, write
from tlkit.extraction.engine import build_engine
from tlkit.extraction.onnx_engine import open_parts
from tlkit.extraction.onnx_graph import to_onnx
from tlkit.options.catalog import FORMATS
from tlkit.options.groups import HeadOptions


def stages(**more):
    random = np.random.default_rng(0)
    made = {
        "patch": 4,
        "width": 8,
        "blocks": (2, 2),
        "heads": (2, 4),
        "window": 3,
        "hidden": 2.0,
        "normed": True,
    } | more
    positions = [
        random.normal(size=(heads, 9, 9))
        for heads, count in zip(made["heads"], made["blocks"], strict=True)
        for _ in range(count)
    ]
    return Stages(**made, positions=tuple(positions))


def pixels(height, width):
    return np.random.default_rng(1).integers(0, 256, (2, height, width, 3)).astype("float32")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build(stages(), (40, 56))  # 10 by 14 tokens, then 5 by 7: windows of 3 are padded


def test_the_engine_and_onnx_give_what_keras_gives_and_a_file_loads(network, tmp_path):
    images = pixels(40, 56)
    expected = keras.ops.convert_to_numpy(network(images))
    assert expected.shape == (2, 5, 7, 16) and [block.name for block in find_blocks(network)][-1].startswith("block4")
    close = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(build_engine(network).run(images)[0], expected, atol=close)
    (tmp_path / "network.onnx").write_bytes(to_onnx(network).SerializeToString())
    (found,) = open_parts(tmp_path / "network.onnx")(images)().values()
    np.testing.assert_allclose(found, expected, atol=close)
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert np.array_equal(keras.ops.convert_to_numpy(again(images)), expected)


@pytest.fixture(scope="module")
def classifier(network):
    """A head on it, and its outputs in Keras."""
    backbone = Backbone("swin", network, (40, 56), "hub", "none", "", find_blocks(network))
    head, contract = build_head(HeadOptions(), backbone.grid_shape, 3), InputContract(height=40, width=56, fit="squash")
    made = compose(backbone, head, ("a", "b", "c"), contract)
    return made, in_keras(made, Inputs(pixels(40, 56).astype("uint8")))["logits"]


@pytest.mark.parametrize("format_name", ["savedmodel", "onnx", "litert", "openvino"])
def test_other_runtimes_give_the_same(classifier, format_name, tmp_path):
    row, (made, expected) = FORMATS[format_name], classifier
    if not all(map(installed, row.writing)):
        pytest.skip(f"{format_name} cannot be written here")
    write(row, made, tmp_path / row.model, None)
    found = Runtime(row, tmp_path)(Inputs(pixels(40, 56).astype("uint8")))["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_rolling_is_numpy_s_and_back_again():
    grid = np.arange(2 * 5 * 6 * 3, dtype="float32").reshape(2, 5, 6, 3)
    start = keras.Input((5, 6, 3))
    rolled = keras.Model(start, _rolled(start, 2, "there"))
    np.testing.assert_array_equal(rolled(grid), np.roll(grid, (-2, -2), axis=(1, 2)))
    back = keras.Model(start, _rolled(_rolled(start, 2, "there"), -2, "back"))
    np.testing.assert_array_equal(back(grid), grid)


def test_only_tokens_that_were_no_neighbours_are_kept_apart():
    """Two windows of 2 in a row, rolled by 1: in the last one a column comes from the other end."""
    found = _apart((1, 2), 2, 1)
    assert found.shape == (2, 1, 4, 4)
    assert (found[0, 0][[0, 1], [1, 0]] == 0).all() and found[1, 0][0, 1] == -100
    assert found[0, 0][0, 2] == -100  # the only row of windows is the last: its second row came from the top


def test_sizes_that_no_window_fits_are_refused_with_the_nearest():
    with pytest.raises(TlkitError, match="images of 20 by 24 pixels do not suit windows of 3 by 3 tokens") as refused:
        build(stages(), (20, 24))
    assert "24 by 24" in refused.value.hint
