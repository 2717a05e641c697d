"""Dynamic batching of images from many requests: decoded in threads, computed together as they become ready.

The engine waits only for images already being decoded, and for those a few milliseconds at most. So a single client
never waits, and many clients fill the batches.
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
    """One image being processed.

    Args:
        content: its file.
        waiting: one-item list shared by the images of a request: how many are unfinished.
        done: future, resolved when none is.
        pixels: uint8 (H, W, 3), once decoded.
        answer: its output from the engine.
        problem: the reason if it has none.
    """

    content: bytes
    waiting: list[int]
    done: asyncio.Future
    pixels: np.ndarray | None = None
    answer: Any = None
    problem: RequestProblem | None = None


class Batcher:
    """Decodes files and computes their outputs in batches; for one event loop.

    Args:
        decode: a file's bytes -> uint8 (H, W, 3); raises RequestProblem.
        infer: uint8 (B, H, W, 3) -> B answers; called in a thread of the batcher.
        batch_size: maximum images per batch.
        wait: seconds that a batch waits for images being decoded.
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
        self.under_way = 0  # images between `run` and its answer; changed only by the event loop
        self._loop = asyncio.get_running_loop()
        self._ready: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._over: list[Work] = []  # taken from the queue for the next batch
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tlkit-decode")
        self._thread = threading.Thread(target=self._work, name="tlkit-batch")
        self._thread.start()

    async def run(self, contents: Sequence[bytes]) -> list[Work]:
        """Decode and compute every image, in order; those that fail hold their problem."""
        waiting, done = [len(contents)], self._loop.create_future()
        works = [Work(content, waiting, done) for content in contents]
        self.under_way += len(works)
        for work in works:
            self._decoders.submit(self._decode, work)
        await done
        return works

    def close(self) -> None:
        """Stop the threads after finishing pending work."""
        self._decoders.shutdown(wait=True)
        self._ready.put(None)
        self._thread.join()

    def _decode(self, work: Work) -> None:
        try:
            if not work.done.cancelled():  # cancelled if the client has gone
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

        Engines prepare every layer for each batch size and cache a limited number of sizes, so only few sizes are used.
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
