import threading

import numpy as np
import pytest

from tlkit.base.machine import usable_cores
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches, decode, in_order

CONTRACT = InputContract(height=12, width=10)


@pytest.fixture
def files(tmp_path, write_image):
    return [write_image(tmp_path / f"{n}.png", seed=n, size=(20, 16)) for n in range(11)]


@pytest.mark.parametrize("threads", [1, 2, 5, None])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_every_image_in_order(files, batch_size, threads):
    found = list(batches(files, CONTRACT, batch_size, threads=threads))
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert np.concatenate([batch.indices for batch in found]).tolist() == list(range(11))
    images = np.concatenate([batch.images for batch in found])
    assert np.array_equal(images, np.stack([decode(file, CONTRACT) for file in files]))
    assert found[0].indices.dtype == np.int64


def test_bad_files_are_left_out_and_counted(files):
    files[0].write_bytes(b"text")
    files[5].unlink()
    found = list(batches(files, CONTRACT, 4))
    assert [len(batch) for batch in found] == [4, 4, 3]
    assert found[0].indices.tolist() == [1, 2, 3]
    assert found[0].images.shape == (3, 12, 10, 3)
    assert found[0].problems == [(0, "holds text, not an image")]
    assert [index for batch in found for index, _ in batch.problems] == [0, 5]
    assert np.array_equal(found[1].images[1], decode(files[6], CONTRACT))


def test_a_batch_of_bad_files_only(tmp_path):
    found = list(batches([b"", b""], CONTRACT, 2))
    assert (len(found[0]), found[0].images.shape, found[0].indices.shape) == (2, (0, 12, 10, 3), (0,))


def test_no_files_no_batches():
    assert list(batches([], CONTRACT, 4)) == []


def test_batches_do_not_share_memory(files):
    first, second, *_ = batches(files, CONTRACT, 4)
    kept = first.images.copy()
    second.images[:] = 0
    assert np.array_equal(first.images, kept)


def test_look_ahead_is_bounded(files):
    taken = []
    stream = batches((taken.append(n) or file for n, file in enumerate(files * 20)), CONTRACT, 4, threads=2)
    next(stream)
    assert len(taken) <= 4 + 2 * 4 + 2
    stream.close()


def test_stopping_early_ends_the_threads(files):
    stream = batches(files * 10, CONTRACT, 2, threads=3)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tlkit-data")]


def test_an_unexpected_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda n: 1 // n, [1, 1, 0, 1], threads=2, ahead=2))


def test_there_is_a_core():
    assert usable_cores() >= 1
