from dataclasses import replace

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.data.views import Augmentation
from tlkit.extraction.engine import Engine
from tlkit.training import examples as module
from tlkit.training.examples import Examples, PixelReader, stored_reader

ROWS = np.arange(10, dtype=np.float32)[:, None]


def make(**options):
    given = {"batch_size": 4, "parts": 1} | options
    return Examples(
        read=lambda positions, epoch: ROWS[positions] + 100 * epoch,
        labels=np.arange(10) % 3,
        weights=np.ones(10, np.float32),
        classes=3,
        seed=5,
        **given,
    )


def epoch_of(examples, epoch=0):
    """Inputs, labels and weights of the rows of an epoch."""
    chunks = list(examples.chunks(epoch))
    return [np.concatenate([np.concatenate(part) for part in parts]) for parts in zip(*chunks, strict=True)]


@pytest.mark.parametrize(("batch_size", "parts", "size"), [(4, 1, 4), (4, 2, 2), (5, 1, 5), (32, 1, 10), (32, 4, 3)])
def test_every_image_comes_once_an_epoch_with_its_label(batch_size, parts, size):
    examples = make(batch_size=batch_size, parts=parts)
    inputs, labels, weights = epoch_of(examples)
    real = weights > 0
    assert examples.part_size == size
    assert sorted(inputs[real].ravel()) == list(range(10))
    assert (labels[real].argmax(axis=1) == inputs[real].ravel() % 3).all()
    assert not labels[~real].any()
    assert real.sum() / len(real) > 0.8


def test_a_filled_update_is_a_mean_over_its_real_rows():
    _, _, weights = epoch_of(make())  # 10 images in 3 updates of 4, 3 and 3
    np.testing.assert_allclose(weights.reshape(3, 4).sum(axis=1), 4)
    assert sorted((weights.reshape(3, 4) > 0).sum(axis=1)) == [3, 3, 4]


def test_every_batch_of_every_chunk_has_one_shape(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_STEPS", 2)
    chunks = list(make().chunks(0))
    assert [chunk.inputs.shape for chunk in chunks] == [(2, 4, 1), (1, 4, 1)]
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert [chunk.inputs.shape[0] for chunk in make().chunks(0)] == [1, 1, 1]


def test_the_order_depends_on_the_epoch_alone():
    first, again, third = (epoch_of(make(), epoch)[0] for epoch in (0, 0, 2))
    assert (first == again).all() and (first != third - 200).any()


def test_what_is_computed_afresh_goes_through_the_network_in_batches():
    sizes = []

    def run(images):
        sizes.append(len(images))
        return (images * 2,)

    read = module.computed_reader(lambda positions, epoch: ROWS[positions] + epoch, Engine(run, "test", ""))
    np.testing.assert_array_equal(read(np.arange(70) % 10, 1), 2 * (ROWS[np.arange(70) % 10] + 1))
    assert sizes == [32, 32, 6]


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
    dataset, contract = scan(colours), InputContract(height=16, width=16)
    read = PixelReader(dataset, contract, Augmentation(seed=0))
    plain = read(np.array([3, 30]), -1)
    np.testing.assert_array_equal(plain[1], decode(dataset.file(30), contract))
    assert (read(np.array([3]), 0) == read(np.array([3]), 0)).all()
    assert (read(np.array([3]), 0) != read(np.array([3]), 1)).any()


def test_a_file_that_vanished_is_named(colours, tmp_path):
    import shutil

    images = shutil.copytree(colours, tmp_path / "images")
    dataset = scan(images)
    (images / "red" / "00.png").unlink()
    with pytest.raises(TlkitError, match=r"00\.png"):
        PixelReader(dataset, InputContract(height=16, width=16), Augmentation(strength="none"))


def test_classes_drawn_equally_come_equally_often_in_every_batch():
    labels = np.array([0] * 7 + [1] * 2 + [2])
    examples = replace(make(batch_size=3), labels=labels, equally=True)
    inputs, one_hot, weights = epoch_of(examples)
    real = weights > 0
    assert real.sum() == 10  # as many as without, and as many updates
    np.testing.assert_array_equal(labels[inputs[real].astype(int).ravel()], one_hot[real].argmax(axis=1))
    assert sorted(one_hot[real].sum(axis=0)) == [3, 3, 4]
    again, other = (epoch_of(examples, epoch)[0] - 100 * epoch for epoch in (0, 1))
    assert (again == inputs).all() and (other != inputs).any()


def test_an_epoch_of_several_passes_shows_every_image_as_often_in_other_orders():
    once, thrice = make(), make(passes=3)
    inputs, labels, weights = epoch_of(thrice)
    assert thrice.updates == 3 * once.updates
    parts = inputs.reshape(3, -1), weights.reshape(3, -1)
    orders = [part[weight > 0].tolist() for part, weight in zip(*parts, strict=True)]
    assert all(sorted(order) == list(range(10)) for order in orders) and len({tuple(order) for order in orders}) == 3
    first = epoch_of(once)
    assert all(
        (part[: len(whole)] == whole).all() for part, whole in zip((inputs, labels, weights), first, strict=True)
    )
