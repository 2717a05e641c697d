"""Images of many requests in batches of one engine: decoded in threads, computed together as they are ready.

The engine never waits while there is something to compute, except for images that are being decoded already, and for
those a few milliseconds at most. So a single client never waits, and many clients fill the batches.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.base.machine import usable_cores
from tlkit.serving.problems import RequestProblem, mistake


@dataclass(eq=False)
class Work:
    """One image on its way.

    Args:
        content: its file.
        waiting: how many images of its request are not done, in a list of one that they share.
        done: called when none is.
        pixels: uint8 (H, W, 3), once decoded.
        answer: what the engine says of it.
        problem: why it has none.
    """

    content: bytes
    waiting: list[int]
    done: asyncio.Future
    pixels: np.ndarray | None = None
    answer: Any = None
    problem: RequestProblem | None = None


class Batcher:
    """Files in, answers out; for one event loop.

    Args:
        decode: a file's bytes -> uint8 (H, W, 3); raises RequestProblem.
        infer: uint8 (B, H, W, 3) -> B answers; called in a thread of the batcher.
        batch_size: most images of a batch.
        wait: seconds that a batch waits for images which are being decoded.
        seen: called with the size of every batch.
    """

    def __init__(
        self,
        decode: Callable[[bytes], np.ndarray],
        infer: Callable[[np.ndarray], Iterable[Any]],
        *,
        batch_size: int,
        wait: float,
        seen: Callable[[int], None],
    ) -> None:
        self.decode, self.infer, self.batch_size, self.wait, self.seen = decode, infer, batch_size, wait, seen
        self.under_way = 0  # images between `run` and its answer; changed by the event loop alone
        self._loop = asyncio.get_running_loop()
        self._ready: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._over: list[Work] = []  # taken from the queue, but for the next batch
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tlkit-decode")
        self._thread = threading.Thread(target=self._work, name="tlkit-batch")
        self._thread.start()

    async def run(self, contents: Sequence[bytes]) -> list[Work]:
        """Every image decoded and computed, in order; those that could not be hold their problem."""
        waiting, done = [len(contents)], self._loop.create_future()
        works = [Work(content, waiting, done) for content in contents]
        self.under_way += len(works)
        for work in works:
            self._decoders.submit(self._decode, work)
        await done
        return works

    def close(self) -> None:
        """Stop the threads; what is under way is finished first."""
        self._decoders.shutdown(wait=True)
        self._ready.put(None)
        self._thread.join()

    def _decode(self, work: Work) -> None:
        try:
            if not work.done.cancelled():  # whoever asked has gone: nothing to do
                work.pixels = self.decode(work.content)
                self._ready.put(work)
                return
        except RequestProblem as problem:
            work.problem = problem
        except BaseException as error:  # noqa: BLE001 - reported to the request
            work.problem = mistake(error)
        self._tell([work])

    def _work(self) -> None:
        while batch := self._batch():
            try:
                answers = self.infer(np.stack([work.pixels for work in batch if work.pixels is not None]))
                for work, answer in zip(batch, answers, strict=True):
                    work.answer = answer
            except BaseException as error:  # noqa: BLE001 - reported to the request
                for work in batch:
                    work.problem = mistake(error)
            self.seen(len(batch))
            self._tell(batch)

    def _batch(self) -> list[Work]:
        """The next images to compute, a power of two of them or `batch_size`; none when the batcher is closed.

        Engines prepare every layer for each size they meet, and keep what they prepared for so many: of few sizes all.
        """
        batch, self._over = self._over, []
        if not batch and (first := self._ready.get()) is not None:
            batch.append(first)
        until = time.monotonic() + self.wait
        while batch and len(batch) < self.batch_size:
            try:
                more = self._ready.get_nowait()
            except queue.Empty:
                left = until - time.monotonic()
                if self.under_way <= len(batch) or left <= 0:
                    break
                try:
                    more = self._ready.get(timeout=left)
                except queue.Empty:
                    break
            if more is None:
                self._ready.put(None)
                break
            batch.append(more)
        size = len(batch) if len(batch) == self.batch_size else 1 << len(batch).bit_length() >> 1
        batch, self._over = batch[:size], batch[size:]
        return batch

    def _tell(self, works: list[Work]) -> None:
        self._loop.call_soon_threadsafe(self._finish, works)

    def _finish(self, works: list[Work]) -> None:
        self.under_way -= len(works)
        for work in works:
            work.waiting[0] -= 1
            if not work.waiting[0] and not work.done.done():
                work.done.set_result(None)
