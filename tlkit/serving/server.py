"""The life of the server: bind, load the classifier, report when ready, and stop without dropping a request."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import uvicorn

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.serving.app import build_app
from tlkit.serving.connection import guarded
from tlkit.serving.pixels import KEEP_ALIVE_SECONDS, Limits, pillow_refuses
from tlkit.serving.service import ServedClassifier, Service

SHORTEST_TOKEN = 16


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 takes a free one.

    Raises:
        TlkitError: if the address does not exist here, is taken or is not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise TlkitError(
            f"--host {host!r} is not an address: {error.strerror}.", "use 127.0.0.1 or 0.0.0.0."
        ) from error
    found = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(1024)
    except OSError as error:
        found.close()
        raise TlkitError(
            f"cannot listen on {host} port {port}: {error.strerror}.", "give another --port; 0 takes a free one."
        ) from error
    return found


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ip_address(listening.getsockname()[0]).is_loopback


def url(listening: socket.socket) -> str:
    """The URL for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    address = ip_address(host)
    if address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


def check_token(token: str, place: str) -> str:
    """Return a token that is valid in a header and hard to guess.

    Raises:
        TlkitError: if it is too short, or has characters not allowed in a header.
    """
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise TlkitError(
            f"the token in {place} is not of {SHORTEST_TOKEN} or more plain letters and digits.",
            "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def serve(
    load: Callable[[], ServedClassifier],
    listening: socket.socket,
    *,
    limits: Limits,
    token: str | None,
    wait: float,
    story: Story,
    stop: threading.Event | None = None,
) -> dict[str, int]:
    """Serve until SIGTERM, SIGINT or SIGHUP, then finish pending requests.

    Args:
        load: loads the classifier, in a thread, while the server already answers /healthz.
        listening: bound socket, closed at the end.
        limits: the server's limits.
        token: bearer token that requests must carry; None if none is needed.
        wait: seconds that a batch waits for images being decoded.
        story: receives messages when it is ready, and on internal errors.
        stop: another way to stop it.

    Returns: the number of `requests` and `images` answered.

    Raises:
        TlkitError: as raised by `load`.
    """

    def fault(error: BaseException) -> None:
        story.say("internal error while answering:\n" + "".join(traceback.format_exception(error)).rstrip())

    # their messages on requests are in the responses
    for name in ("python_multipart", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    async def work() -> dict[str, int]:
        service = Service(limits, wait=wait, fault=fault)
        app = build_app(service, token=token, local=is_loopback(listening), fault=fault)
        server = _server(app, limits)
        serving = asyncio.create_task(server.serve([listening]))

        def over() -> bool:
            return server.should_exit or serving.done() or stopped.is_set()

        try:
            subject = await asyncio.to_thread(load)
            while not (server.started or over()):
                await asyncio.sleep(0.01)
            service.open(subject)
            if not over():
                story.say(f"ready: {url(listening)}  (Ctrl+C stops it)")
            while not over():
                await asyncio.sleep(0.1)
        finally:
            server.should_exit = True
            await serving
            await asyncio.to_thread(service.close)
        return {"requests": server.server_state.total_requests, "images": service.images}

    with _signals_end_nothing_else(stop or threading.Event()) as stopped, pillow_refuses(limits.pixels):
        return asyncio.run(work())


def _server(app: Any, limits: Limits) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=guarded(min(limits.seconds, 10.0), limits.connections),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(limits.seconds) + 5,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def _signals_end_nothing_else(stop: threading.Event) -> Iterator[threading.Event]:
    """Ignore the SIGINT or SIGTERM that uvicorn raises again after stopping; SIGHUP sets the yielded `stop`."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers: dict[int, Any] = dict.fromkeys((signal.SIGINT, signal.SIGTERM), lambda *_: None)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        handlers[signal.SIGHUP] = lambda *_: stop.set()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
