import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.training.plan import THIRDS, span
from tlkit.training.settle import relative_gradients, sample


@pytest.fixture(scope="module")
def measured(tiny_backbone):
    """A backbone, images of three colours, and the relative gradients on them."""
    backbone = build_backbone(str(tiny_backbone))
    random = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = (
        random.normal(100 + 40 * np.eye(3)[labels][:, None, None], 60, (24, 32, 32, 3)).clip(0, 255).astype(np.uint8)
    )
    before = backbone.model.get_weights()
    return backbone, images, labels, before, relative_gradients(backbone, images, labels)


def test_every_third_has_a_number_and_the_network_is_left_as_it_was(measured):
    backbone, _, _, before, found = measured
    assert tuple(found) == THIRDS and all(value > 0 for value in found.values())
    for old, new in zip(before, backbone.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_step_of_gradient_descent_shows_the_gradient(measured):
    """The last third is one convolution: its gradient by TensorFlow's tape, through a head that is solved again."""
    tf = pytest.importorskip("tensorflow")
    from tlkit.training.probe import FALLBACK, fit_probe

    backbone, images, labels, _, found = measured
    features = keras.ops.convert_to_numpy(backbone.model(images.astype(np.float32), training=False)).mean(axis=(1, 2))
    seen = (np.arange(24) // 3) % 2 == 0
    probe = fit_probe([features[seen]], labels[seen], units=np.arange(12), strength=FALLBACK)
    kernel = backbone.model.get_layer("block3_conv").kernel
    with tf.GradientTape() as tape:
        grid = backbone.model(images[~seen].astype(np.float32), training=False)
        logits = tf.reduce_mean(grid, axis=(1, 2)) @ probe.kernel + probe.bias
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[~seen], logits))
    norm = np.linalg.norm(tape.gradient(loss, kernel.value).numpy()) / np.linalg.norm(kernel.numpy())
    assert found["last"] == pytest.approx(norm, rel=1e-3)


def test_a_sample_holds_two_of_every_class_and_no_image_twice():
    labels = np.array([0] * 5000 + [1, 1, 2, 2])
    rows = sample(labels, np.random.default_rng(0))
    assert len(rows) == 256 == len(set(rows))
    assert (np.bincount(labels[rows])[1:] == 2).all()
    assert sorted(sample(labels[-4:], np.random.default_rng(0))) == [0, 1, 2, 3]


def test_thirds_cover_all_blocks_once_and_two_blocks_have_none():
    for count in (3, 4, 17, 18):
        ends = [span(third, count, "net") for third in THIRDS]
        assert [ends[0][0], ends[2][1]] == [0, count] and ends[0][1] == ends[1][0] and ends[1][1] == ends[2][0]
    assert span("all", 2, "net") == (0, 2)
    with pytest.raises(TlkitError, match="2 blocks"):
        span("middle", 2, "net")
