import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.exporting.golden import draw

pytest.importorskip("tensorflow", reason="the signature for encoded bytes is TensorFlow's")


def in_graph(contents, contract):
    import tensorflow as tf

    from tlkit.exporting.in_savedmodel import decoded

    return decoded(contract, tf.constant(contents)).numpy()


def png(pixels, path):
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def test_what_needs_no_resizing_keeps_every_pixel(tmp_path):
    images = draw(24, 32)
    contents = [png(image, tmp_path / "image.png") for image in images]
    assert np.array_equal(in_graph(contents, InputContract(height=24, width=32)), images)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(64, 90), (51, 20), (16, 16)], ids=str)
def test_a_resize_is_that_of_tlkit_within_two_grey_levels(tmp_path, fit, size):
    contract = InputContract(height=32, width=24, fit=fit)
    source = png(draw(*size)[8], tmp_path / "image.png")  # smooth: `crop` sees past the edge of its box
    ours, theirs = decode(source, contract).astype(float), in_graph([source], contract)[0]
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= 2


def test_webp_is_read_and_one_with_transparency_takes_the_batch_along(tmp_path):
    """The properties of TensorFlow's decoder in docs/export.md."""
    import tensorflow as tf

    pixels = draw(24, 32)[0]
    Image.fromarray(pixels).save(tmp_path / "plain.webp", lossless=True)
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(tmp_path / "alpha.webp", lossless=True)
    plain, alpha = ((tmp_path / name).read_bytes() for name in ("plain.webp", "alpha.webp"))
    contract = InputContract(height=24, width=32)
    assert np.array_equal(in_graph([plain], contract)[0], pixels)
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_graph([plain, alpha], contract)
