import asyncio
import threading

import numpy as np

from tlkit.serving.batcher import Batcher
from tlkit.serving.problems import RequestProblem


def decode(content):
    if content == b"bad":
        raise RequestProblem("not-an-image", "It is bad.")
    return np.full((2, 2, 3), int(content), np.uint8)


def test_what_waits_is_computed_together_and_comes_back_in_order():
    go, first, sizes = threading.Event(), threading.Event(), []

    def infer(images):
        first.set()
        assert go.wait(10)
        return images[:, 0, 0, :1].astype(np.float32)

    async def story():
        batcher = Batcher(decode, infer, batch_size=4, wait=0, seen=sizes.append)
        alone = asyncio.create_task(batcher.run([b"7"]))
        await asyncio.to_thread(first.wait, 10)
        asked = [[b"1", b"bad", b"2"], [b"3"], [b"4", b"5", b"6"]]
        rest = [asyncio.create_task(batcher.run(contents)) for contents in asked]
        while batcher.under_way > 7 or batcher._ready.qsize() < 6:
            await asyncio.sleep(0.01)
        go.set()
        found = [await alone, *[await each for each in rest]]
        await asyncio.to_thread(batcher.close)
        return (
            batcher,
            [[None if work.answer is None else int(work.answer[0]) for work in works] for works in found],
            found,
        )

    batcher, rows, found = asyncio.run(story())
    assert rows == [[7], [1, None, 2], [3], [4, 5, 6]] and found[1][1].problem.kind == "not-an-image"
    assert sizes == [1, 4, 2] and batcher.under_way == 0


def test_batches_are_of_few_sizes():
    assert _sizes_of(7, room=8) == [1, 4, 2, 1]
    assert _sizes_of(13, room=6) == [1, 6, 6, 1]


def _sizes_of(count, room):
    """The batches of 1 image and then `count` that came meanwhile, with room for `room`."""
    go, first, sizes = threading.Event(), threading.Event(), []

    def infer(images):
        first.set()
        assert go.wait(10)
        return images[:, 0, 0]

    async def story():
        batcher = Batcher(decode, infer, batch_size=room, wait=0, seen=sizes.append)
        alone = asyncio.create_task(batcher.run([b"1"]))
        await asyncio.to_thread(first.wait, 10)
        rest = asyncio.create_task(batcher.run([b"2"] * count))
        while batcher._ready.qsize() < count:
            await asyncio.sleep(0.01)
        go.set()
        await alone
        await rest
        await asyncio.to_thread(batcher.close)

    asyncio.run(story())
    return sizes


def test_an_image_alone_waits_for_nobody():
    async def story():
        batcher = Batcher(decode, lambda images: images[:, 0, 0], batch_size=8, wait=60, seen=lambda size: None)
        async with asyncio.timeout(10):
            (work,) = await batcher.run([b"9"])
        await asyncio.to_thread(batcher.close)
        return work.answer.tolist()

    assert asyncio.run(story()) == [9, 9, 9]


def test_a_batch_waits_for_images_that_are_being_decoded():
    slow, sizes = threading.Event(), []

    def decode_slowly(content):
        if content == b"2":
            assert slow.wait(10)
        return decode(content)

    async def story():
        infer = lambda images: images[:, 0, 0]  # noqa: E731
        batcher = Batcher(decode_slowly, infer, batch_size=8, wait=10, seen=sizes.append)
        asked = asyncio.create_task(batcher.run([b"1", b"2"]))
        await asyncio.sleep(0.1)
        slow.set()
        await asked
        await asyncio.to_thread(batcher.close)

    asyncio.run(story())
    assert sizes == [2]
