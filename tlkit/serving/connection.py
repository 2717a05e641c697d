"""Limits on connections, against slow and oversized requests, on top of uvicorn's parser.

uvicorn's settings do not suffice (0.54, both of its parsers, tried with tests/serving/test_hostile.py): none limits how
long the head of a request may take, or with httptools how large it may be; a client that half-closes after its request
(`eof_received`) gets no answer; broken chunks and too many connections are refused, but in plain text; a request that
offers an upgrade to another protocol loses its body. A proxy would limit heads, but the server must be safe without
one. The methods overridden here are not public in uvicorn: the tests cover every line.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tlkit.serving.pixels import HEAD_BYTES, LINGER_SECONDS
from tlkit.serving.problems import RequestProblem


class _Guarded(HttpToolsProtocol):
    """One connection. A head must arrive soon and be small; clients that keep sending after a refusal are cut off.

    Attributes:
        seconds: limit for the head of a request to arrive, and for the client to read an answer.
        most: maximum open connections.
    """

    seconds: float
    most: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._beside = 0  # bytes received outside a body: of a head, or after a body
        self._in_body = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(RequestProblem("too-busy", f"{self.most} connections are open, which is the limit."))
        else:
            self._within(self.seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._beside += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._beside > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(RequestProblem("header-too-large", f"It has more than {HEAD_BYTES} bytes."))

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            if self._declines():
                self._parse(self._plain_head() + data[offered.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _declines(self) -> bool:
        """Whether the request offers an upgrade: to HTTP/2, as Java's client does by default, or to WebSocket."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _plain_head(self) -> bytes:
        """The head without the offer (optional: RFC 9110, 7.8) for a new parser; this one would skip the body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's return type, which uvicorn omits
        """Handle a half-close: the client may still be reading, so complete requests are answered, and no others."""
        super().eof_received()
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        if self._in_body or last is None or last.response_complete:
            return False  # asyncio closes the connection
        last.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._within(self.seconds, self._too_slow)

    def on_headers_complete(self) -> None:
        if self._declines():
            return  # the head is parsed again
        self._within(None)
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._declines():
            return
        self._beside, self._in_body = 0, False
        if self.cycle.response_complete:
            self._within(None)  # complete within the time limit
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # refused mid-body: keep reading briefly, so that the client reads the refusal
            self._within(LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._within(self.seconds, self.transport.abort)  # the client does not read the answer

    def resume_writing(self) -> None:
        super().resume_writing()
        self._within(None)

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestProblem("bad-request", msg))

    def _too_slow(self) -> None:
        self._refuse(RequestProblem("too-slow", f"Its head was not there after {self.seconds:g} seconds."))

    def _within(self, limit: float | None, otherwise: Callable[[], None] | None = None) -> None:
        """Restart the timer: call `otherwise` after `limit` seconds; None cancels it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(limit, otherwise) if limit is not None and otherwise else None

    def _refuse(self, problem: RequestProblem) -> None:
        """Send a refusal outside the application and close; if an answer has begun, only close."""
        self._within(None)
        if self.cycle is not None and not self.cycle.response_complete:
            if not self._in_body or self.pipeline or self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # its body is broken: the application must not answer it
            self.cycle.message_event.set()
        body = problem.body()
        headers = {**problem.headers(), "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {problem.status} Refused", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()


def guarded(seconds: float, connections: int) -> type[_Guarded]:
    """The class of connections with these limits."""
    return type("GuardedWithin", (_Guarded,), {"seconds": seconds, "most": connections})
