"""The outer layer of every request: authorisation, time limits, metrics."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tlkit.serving.problems import RequestProblem, mistake

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The Prometheus metrics of one server.

    Args:
        queue: returns how many images are waiting or being computed.
    """

    def __init__(self, queue: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()

        def of(kind: Any, name: str, help: str, labels: Iterable[str] = (), **more: Any) -> Any:
            return kind(f"tlkit_{name}", help, labels, registry=self.registry, **more)

        self.requests = of(Counter, "requests", "Requests answered.", ("path", "status"))
        self.seconds = of(Histogram, "request_seconds", "From request to answer.", ("path",), buckets=_SECONDS)
        self.under_way = of(Gauge, "predictions_under_way", "Prediction requests in progress.")
        self.batches = of(Histogram, "batch_images", "Images per inference step.", buckets=_SIZES)
        self.predicted = of(Counter, "images", "Images by predicted class.", ("predicted",))
        self.abstained = of(Counter, "images_abstained", "Images on which the classifier abstained.")
        self.unfamiliar = of(Counter, "images_unfamiliar", "Images unlike anything in training.")
        self.refused = of(Counter, "images_refused", "Images that were refused.", ("problem",))
        of(Gauge, "queue_images", "Images waiting or being computed.").set_function(queue)

    def judged(self, answer: dict[str, Any]) -> None:
        """Count one image's answer."""
        for name in answer["predicted"]:
            self.predicted.labels(name).inc()
        if answer["abstained"]:
            self.abstained.inc()
        if answer.get("unfamiliar"):
            self.unfamiliar.inc()

    def text(self) -> bytes:
        """The metrics in Prometheus text format."""
        return generate_latest(self.registry)


# -- The gate: authorisation, time limit and metrics of every request ---

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PREDICT = "/v1/predict"
PATHS = frozenset(("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/model", PREDICT))
GUARDED = frozenset((PREDICT, "/v1/model", "/metrics"))  # need the token, if one is set
LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
SAFE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Gate:
    """An ASGI middleware.

    Args:
        application: the wrapped application.
        token: bearer token that requests must carry; None if none is needed.
        local: whether only this machine should send requests. Without a token, other host names are then refused,
            because a foreign page could point its own host name here and read the answers (DNS rebinding).
        seconds: maximum duration of a request.
        metrics: counts the requests.
        fault: called with internal errors.
    """

    def __init__(
        self,
        application: Application,
        *,
        token: str | None,
        local: bool,
        seconds: float,
        metrics: Metrics,
        fault: Callable[[BaseException], None],
    ) -> None:
        self.application, self.metrics, self.seconds, self.fault = application, metrics, seconds, fault
        self._token = None if token is None else token.encode()
        self._hosts = LOOPBACK if local and token is None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        answer = _Answer(send)
        started = time.perf_counter()
        path = scope["path"] if scope["path"] in PATHS else "other"
        try:
            self._admit(scope, dict(scope["headers"]))
            if scope["method"] == "HEAD":  # without a body
                scope = {**scope, "method": "GET"}
            async with asyncio.timeout(self.seconds):
                await self.application(scope, receive, answer)
        except TimeoutError:
            await answer.refuse(RequestProblem("too-slow", f"It was not done after {self.seconds:g} seconds."))
        except RequestProblem as problem:
            await answer.refuse(problem)
        except Exception as error:  # noqa: BLE001 - a bug must not stop the server
            self.fault(error)
            await answer.refuse(mistake(error))
        finally:
            self.metrics.requests.labels(path, str(answer.status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self._hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            if host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
                raise RequestProblem(
                    "wrong-host", f"The header Host is {host[:100]!r}, but this server is for this machine."
                )
        if scope["method"] == "POST" and (reason := _sent_by_another(headers)):
            raise RequestProblem("cross-site", reason)
        if self._token is not None and scope["path"] in GUARDED:
            self._authorize(headers.get(b"authorization", b""))

    def _authorize(self, given: bytes) -> None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise RequestProblem("no-token", "The request carries no token.")
        if not hmac.compare_digest(token.strip(), self._token or b""):
            raise RequestProblem("wrong-token", "The token does not match.")


def _sent_by_another(headers: dict[bytes, bytes]) -> str:
    """The reason to consider a request cross-origin, "" if it is not; programs other than browsers send neither header.

    Browsers send Sec-Fetch-Site only if the page came over HTTPS or from this machine; Origin they send with every
    POST.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        own = site in (b"same-origin", b"none")
        return "" if own else "The browser says that a page of another origin sent this."
    origin = headers.get(b"origin")
    if origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower():
        return ""
    return f"A page of the origin {origin.decode('latin-1')[:100]!r} sent this."


class _Answer:
    """Passes a response on with the common headers, and records whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self.whole = send, 0, False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *SAFE]
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, problem: RequestProblem) -> None:
        """Answer with a problem; if another response has begun, close the connection instead."""
        if self.whole:
            return
        if self.status:
            raise ConnectionAbortedError(problem.detail)
        body = problem.body()
        headers = {**problem.headers(), "Content-Length": str(len(body))}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self({"type": "http.response.body", "body": body})
