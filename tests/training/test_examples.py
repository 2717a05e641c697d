import numpy as np
import pytest

from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.data.augment import Augmentation
from tlkit.data.images import decode
from tlkit.data.scan import scan
from tlkit.training import examples as module
from tlkit.training.examples import Examples, PixelReader, balanced_weights, stored_reader


def make(epoch=0, count=10):
    rows = np.arange(count, dtype=np.float32)[:, None]
    return Examples(
        lambda positions, epoch: rows[positions] + 100 * epoch,
        np.arange(count) % 3,
        np.ones(count, np.float32),
        classes=3,
        batch_size=4,
        seed=5,
        epoch=epoch,
    )


def epoch_of(examples):
    return np.concatenate([examples[i][0] for i in range(len(examples))]).ravel()


def test_every_image_comes_once_an_epoch_with_its_label():
    examples = make()
    inputs, labels = epoch_of(examples), np.concatenate([examples[i][1] for i in range(len(examples))])
    assert sorted(inputs) == list(range(10))
    assert (labels.argmax(axis=1) == inputs % 3).all()


def test_a_resumed_epoch_is_the_one_that_would_have_come():
    first = make()
    first.on_epoch_end()
    first.on_epoch_end()
    assert (epoch_of(first) == epoch_of(make(epoch=2))).all()
    assert (epoch_of(make()) != epoch_of(make(epoch=2)) - 200).any()


def test_stored_views_mix_by_epoch_and_each_image_shows_one_of_its_own():
    views = [np.arange(50, dtype=np.float32)[:, None] + 1000 * view for view in range(3)]
    read = stored_reader(views, seed=0)
    everything = np.arange(50)
    for epoch in (0, 1):
        assert (read(everything, epoch)[:, 0] % 1000 == everything).all()
    assert set(read(everything, 0)[:, 0] // 1000) == {0, 1, 2}
    assert (read(everything, 0) != read(everything, 1)).any()
    assert (read(everything[::-1], 0)[::-1] == read(everything, 0)).all()


@pytest.mark.parametrize("memory", [0, module.MEMORY_BYTES])
def test_pixels_are_the_decoded_images_and_fresh_views_of_them(colours, monkeypatch, memory):
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    manifest, contract = scan(colours), InputContract(height=16, width=16)
    read = PixelReader(manifest, contract, Augmentation(seed=0))
    plain = read(np.array([3, 30]), -1)
    np.testing.assert_array_equal(plain[1], decode(manifest.file(30), contract))
    assert (read(np.array([3]), 0) == read(np.array([3]), 0)).all()
    assert (read(np.array([3]), 0) != read(np.array([3]), 1)).any()


def test_a_file_that_vanished_is_named(colours, tmp_path):
    import shutil

    images = shutil.copytree(colours, tmp_path / "images")
    manifest = scan(images)
    (images / "red" / "00.png").unlink()
    with pytest.raises(TlkitError, match=r"00\.png"):
        PixelReader(manifest, InputContract(height=16, width=16), Augmentation(strength="none"))


def test_balanced_weights_give_every_class_the_same_mass():
    labels = np.array([0] * 8 + [1] * 2)
    weights = balanced_weights(labels, 3, "weights")
    assert weights[:8].sum() == pytest.approx(weights[8:].sum())
    assert weights.mean() == pytest.approx(1)
    assert (balanced_weights(labels, 2, "none") == 1).all()
