"""What the server must know of a classifier: a few functions. No Keras here, so that it can answer before Keras is up."""

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
    """A classifier that is ready to answer.

    Args:
        name: what the page calls it; no path.
        facts: what `GET /v1/model` tells beside the limits: `backbone`, `threshold` and the like.
        classes: their names.
        contract: what pixels to make of a file.
        batch_size: most images in one call of `infer`.
        infer: images uint8 (B, H, W, 3) -> B answers; called from one thread at a time.
        judge: such answers and how many classes to list -> for each image `predicted`, `probability`, `abstained`,
            `classes` and what else is known.
        explain: an image's bytes, its pixels uint8 (H, W, 3), its answer and a method -> `explanation`; called from one
            thread, which is not that of `infer`. None where it cannot.
        clip: of a classifier of clips: the images of a request are the frames of one, or its one file a film, `infer` gives the features of each, and
            `judge` is given those of the frames that are taken, in order, and says one thing.
        close: ends what it does beside.
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


# -- What stands behind the routes: the subject when it is there, its batches, its explanations, what is held in memory ---


class Service:
    """Answers images once it has a subject.

    Args:
        limits: of the server.
        wait: seconds that a batch waits for images which are being decoded.
        fault: called with internal errors.
    """

    def __init__(self, limits: Limits, *, wait: float, fault: Callable[[BaseException], None]) -> None:
        self.limits, self.wait, self.fault = limits, wait, fault
        self.subject: ServedClassifier | None = None
        self.batcher: Batcher | None = None
        self.budget = BodyBudget(limits.held_bytes)
        self.metrics = Metrics(lambda: self.batcher.under_way if self.batcher else 0)
        self.requests = self.explanations = 0  # under way
        self.images = 0  # answered
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="tlkit-explain")
        self._films = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tlkit-film")

    def open(self, subject: ServedClassifier) -> None:
        """Answer with this subject from now on; in the event loop."""
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
        """The subject.

        Raises:
            RequestProblem: it is not there yet.
        """
        if self.subject is None:
            raise RequestProblem("not-ready", "The classifier is being loaded.")
        return self.subject

    def refuse_when_full(self) -> None:
        """Raise while all places are taken.

        Raises:
            RequestProblem: saying so.
        """
        if self.requests >= self.limits.requests:
            raise RequestProblem("too-busy", f"{self.requests} requests are being answered, which is the limit.")

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for requests.

        Raises:
            RequestProblem: all are taken.
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
        """A result for every image, in order; the problem itself where there is but one image.

        Args:
            images: as they came.
            top: classes to list.
            method: of explaining; None for no explanation.

        Raises:
            RequestProblem: of the only image; explanations for too many.
        """
        subject = self.ready()
        if method and subject.clip is not None:
            raise RequestProblem(
                "invalid",
                "Explanations are of single images, and this classifier takes clips.",
                "ask without explain=true.",
            )
        if method and len(images) > EXPLAINED:
            raise RequestProblem("too-many-images", f"{EXPLAINED} images of a request are explained at most.")
        if method and subject.explain is None:
            raise RequestProblem("invalid", "This server cannot explain: it has no Keras.", "ask without explain=true.")
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
        """The result for one clip; the problem of a frame that cannot be read is that of the clip."""
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
        """The files of the frames that are taken, of a film in a thread of its own: other requests go on."""
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
        """The problem of one image among several; raised where there is no other."""
        self.metrics.refused.labels(problem.kind).inc()
        if problem.__cause__ is not None:
            self.fault(problem.__cause__)
        if alone:
            raise problem
        return problem.as_json()

    async def _explain(self, subject: ServedClassifier, work: Work, method: str) -> dict[str, Any]:
        if self.explanations >= EXPLANATIONS:
            raise RequestProblem(
                "too-busy", f"{EXPLANATIONS} images are being explained or wait for it, which is the limit."
            )
        self.explanations += 1
        try:
            loop, given = asyncio.get_running_loop(), (work.content, work.pixels, work.answer, method)
            return await loop.run_in_executor(self._explainer, subject.explain, *given)  # type: ignore[arg-type]
        finally:
            self.explanations -= 1
