"""The service behind the routes. It does not import Keras, so that the server responds before Keras is loaded."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tlkit.base.machine import usable_cores
from tlkit.classifier.facts import ClipFacts
from tlkit.data.clips import Sampling
from tlkit.data.dataset import InputContract
from tlkit.serving.batcher import Batcher, Work
from tlkit.serving.body import BodyBudget, Upload
from tlkit.serving.films import frames_of, may_be_film
from tlkit.serving.gate import Metrics
from tlkit.serving.pixels import EXPLAINED, EXPLANATIONS, Limits, pixels
from tlkit.serving.problems import RequestProblem


@dataclass(frozen=True, kw_only=True)
class ServedClassifier:
    """The functions of a loaded classifier.

    Args:
        name: name shown on the page; not a path.
        facts: reported by `GET /v1/model` beside the limits: `backbone`, `threshold` and so on.
        classes: class names.
        contract: how to decode a file to pixels.
        batch_size: maximum images per call of `infer`.
        infer: images uint8 (B, H, W, 3) -> B outputs; called from one thread at a time.
        judge: such outputs and the number of classes to list -> for each image `predicted`, `probability`, `abstained`,
            `classes` and so on.
        explain: an image's bytes, its pixels uint8 (H, W, 3), its output and a method -> `explanation`; called from a
            single thread other than that of `infer`. None if it cannot explain.
        clip: for a classifier of clips: a request is the frames of one clip, or one film; `infer` gives the features of
            each frame, and `judge` takes those of the sampled frames, in order, and gives one result.
        close: stops its background work.
    """

    name: str
    facts: dict[str, Any]
    classes: Sequence[str]
    contract: InputContract
    batch_size: int
    infer: Callable[[np.ndarray], Iterable[Any]]
    judge: Callable[[list[Any], int], list[dict[str, Any]]]
    explain: Callable[[bytes, np.ndarray, Any, str], dict[str, Any]] | None = None
    clip: ClipFacts | None = None
    close: Callable[[], None] = lambda: None


# -- The service: the classifier once loaded, its batches, its explanations, its memory ---


class Service:
    """Answers requests once it has a classifier.

    Args:
        limits: the server's limits.
        wait: seconds that a batch waits for images being decoded.
        fault: called with internal errors.
    """

    def __init__(self, limits: Limits, *, wait: float, fault: Callable[[BaseException], None]) -> None:
        self.limits, self.wait, self.fault = limits, wait, fault
        self.subject: ServedClassifier | None = None
        self.batcher: Batcher | None = None
        self.budget = BodyBudget(limits.held_bytes)
        self.metrics = Metrics(lambda: self.batcher.under_way if self.batcher else 0)
        self.requests = self.explanations = 0  # in progress
        self.images = 0  # answered
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="tlkit-explain")
        self._films = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tlkit-film")

    def open(self, subject: ServedClassifier) -> None:
        """Start answering with this classifier; called in the event loop."""
        self.batcher = Batcher(
            partial(pixels, contract=subject.contract, limits=self.limits),
            subject.infer,
            batch_size=subject.batch_size,
            wait=self.wait,
            seen=self.metrics.batches.observe,
        )
        self.subject = subject

    def close(self) -> None:
        """Stop answering; waits for the threads."""
        subject, self.subject = self.subject, None
        if subject:
            subject.close()
        self._explainer.shutdown(wait=True, cancel_futures=True)
        self._films.shutdown(wait=True, cancel_futures=True)
        if self.batcher:
            self.batcher.close()

    def ready(self) -> ServedClassifier:
        """The classifier.

        Raises:
            RequestProblem: if it is not loaded yet.
        """
        if self.subject is None:
            raise RequestProblem("not-ready", "The classifier is being loaded.")
        return self.subject

    def refuse_when_full(self) -> None:
        """Raise if the maximum number of requests is in progress.

        Raises:
            RequestProblem: in that case.
        """
        if self.requests >= self.limits.requests:
            raise RequestProblem("too-busy", f"{self.requests} requests are being answered, which is the limit.")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Occupy one of the places for requests.

        Raises:
            RequestProblem: if all are taken.
        """
        self.refuse_when_full()
        self.requests += 1
        self.metrics.under_way.inc()
        try:
            yield
        finally:
            self.requests -= 1
            self.metrics.under_way.dec()

    async def answer(self, images: Sequence[Upload], top: int, method: str | None) -> list[dict[str, Any]]:
        """Results for all images, in order; the problem of a single image is raised.

        Args:
            images: the uploads.
            top: number of classes to list.
            method: explanation method; None for no explanation.

        Raises:
            RequestProblem: that of the only image, or for explanations of too many.
        """
        subject = self.ready()
        if method and subject.clip is not None:
            raise RequestProblem(
                "invalid",
                "Explanations are of single images, but this classifier takes clips.",
                "ask without explain=true.",
            )
        if method and len(images) > EXPLAINED:
            raise RequestProblem("too-many-images", f"At most {EXPLAINED} images per request are explained.")
        if method and subject.explain is None:
            raise RequestProblem(
                "invalid",
                "This server cannot explain predictions: it has no Keras.",
                "ask without explain=true.",
            )
        if subject.clip is not None:
            return [await self._of_clip(subject, subject.clip, images, top)]
        works = await self._batcher().run([image.content for image in images])
        answers = [work.answer for work in works if work.answer is not None]
        judged = iter(subject.judge(answers, top) if answers else [])
        results = []
        for index, (image, work) in enumerate(zip(images, works, strict=True)):
            result: dict[str, Any] = {"index": index, "name": image.name}
            if work.problem is not None:
                result["error"] = self._refused(work.problem, alone=len(works) == 1)
            else:
                result |= next(judged)
                self.metrics.judged(result)
                self.images += 1
                if method:
                    result["explanation"] = await self._explain(subject, work, method)
            results.append(result)
        return results

    async def _of_clip(
        self, subject: ServedClassifier, clip: ClipFacts, uploads: Sequence[Upload], top: int
    ) -> dict[str, Any]:
        """The result for one clip; an unreadable frame is a problem of the clip."""
        frames = await self._frames(Sampling(clip.frames, clip.stride), uploads)
        works = await self._batcher().run(frames)
        for work in works:
            if work.problem is not None:
                self._refused(work.problem, alone=True)
        result = {"index": 0, "name": uploads[0].name, **subject.judge([work.answer for work in works], top)[0]}
        self.metrics.judged(result)
        self.images += 1
        return result

    async def _frames(self, sampling: Sampling, uploads: Sequence[Upload]) -> list[bytes]:
        """The files of the sampled frames; a film is decoded in a thread so as not to block other requests."""
        try:
            if not may_be_film(uploads):
                return [uploads[place].content for place in sampling.choose(len(uploads)).tolist()]
            given = (uploads[0].content, sampling, self.limits)
            return await asyncio.get_running_loop().run_in_executor(self._films, frames_of, *given)
        except RequestProblem as problem:
            self._refused(problem, alone=True)
            raise

    def _batcher(self) -> Batcher:
        if self.batcher is None:
            raise RequestProblem("not-ready", "The classifier is being loaded.")
        return self.batcher

    def _refused(self, problem: RequestProblem, *, alone: bool) -> dict[str, Any]:
        """The problem of one image as its result; raised if it is the only image."""
        self.metrics.refused.labels(problem.kind).inc()
        if problem.__cause__ is not None:
            self.fault(problem.__cause__)
        if alone:
            raise problem
        return problem.as_json()

    async def _explain(self, subject: ServedClassifier, work: Work, method: str) -> dict[str, Any]:
        if self.explanations >= EXPLANATIONS:
            raise RequestProblem(
                "too-busy", f"{EXPLANATIONS} images are being explained or waiting for it, which is the limit."
            )
        self.explanations += 1
        try:
            loop, given = asyncio.get_running_loop(), (work.content, work.pixels, work.answer, method)
            return await loop.run_in_executor(self._explainer, subject.explain, *given)  # type: ignore[arg-type]
        finally:
            self.explanations -= 1
