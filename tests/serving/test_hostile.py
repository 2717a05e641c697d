"""Clients that are slow, endless, many, or gone."""

import contextlib
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.serving.conftest import check_problem, form, infer, png, subject
from tlkit.base.errors import TlkitError
from tlkit.serving import server as serving
from tlkit.serving.pixels import HEAD_BYTES


@contextlib.contextmanager
def connected(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def received(connection):
    """Status and JSON of what comes until the server hangs up."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def answers(server):
    """Whether it still does what it is for."""
    return server.predict(("a.png", png(250)))[0] == 200


def test_not_before_it_is_loaded(start):
    go = threading.Event()

    def load():
        assert go.wait(20)
        return subject()

    server = start(load, ready=False)
    assert server.ask("GET", "/healthz")[0] == 200
    check_problem(server.ask("GET", "/readyz"), "not-ready")
    answer = server.predict(("a.png", png(250)))
    check_problem(answer, "not-ready")
    assert int(answer[1]["retry-after"]) >= 1
    go.set()
    assert server.story.heard("ready:")
    assert server.ask("GET", "/readyz")[0] == 200 and answers(server)


def test_what_cannot_be_loaded_ends_it():
    def load():
        raise TlkitError("no such run.", "train one.")

    with pytest.raises(TlkitError, match="no such run"):
        limits = serving.Limits(image_bytes=1, request_bytes=1, images=1, pixels=1, requests=1, seconds=1)
        options = {"limits": limits, "token": None, "wait": 0, "story": Quiet()}
        serving.serve(load, serving.bind("127.0.0.1", 0), **options)


class Quiet:
    def say(self, text):
        raise AssertionError(text)


def test_a_taken_port_and_no_address():
    with serving.bind("127.0.0.1", 0) as first:
        with pytest.raises(TlkitError, match="cannot listen on") as error:
            serving.bind("127.0.0.1", first.getsockname()[1])
        assert "another --port" in error.value.hint
        assert serving.url(first) == f"http://127.0.0.1:{first.getsockname()[1]}" and serving.is_loopback(first)
    with pytest.raises(TlkitError, match="is not an address"):
        serving.bind("no such host", 0)


@pytest.mark.parametrize("token", ["", "short", "with a space in the middle", "nicht-ganz-ascii-ä-ö-ü"])
def test_tokens_that_are_none(token):
    with pytest.raises(TlkitError, match="the token in here"):
        serving.check_token(token, "here")


def test_bodies_that_never_end_are_refused_at_the_limit(start):
    server = start()
    with connected(server) as connection:  # a gigabyte is announced, none of it read
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 1000000000\r\nConnection: close\r\n\r\n")
        assert received(connection)[0] == 413
    with connected(server) as connection:  # nothing is announced
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 30:
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    assert connection.recv(12) == b"HTTP/1.1 413"
                    break
                connection.settimeout(20)
    assert sent < 50 * server.limits.request_bytes
    assert answers(server)


def test_who_stops_sending_after_a_request_gets_the_answer(start):
    server = start()
    body, kind = form(("a.png", png(250)))
    body = body if isinstance(body, bytes) else body.encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(server) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        status, found = received(connection)
        assert status == 200 and "bright" in json.dumps(found)
    with connected(server) as connection:  # two at once
        connection.sendall(2 * b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        assert b"".join(parts).count(b"HTTP/1.1 200") == 2
    with connected(server) as connection:  # a request whose rest never arrives
        connection.sendall(head.encode() + body[:-10])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert answers(server)


@pytest.mark.parametrize("size", [1 << 16, 7])
@pytest.mark.parametrize(
    "offered", ["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "Connection: Upgrade\r\nUpgrade: websocket"]
)
def test_who_offers_another_protocol_is_answered_in_this_one(start, offered, size):
    """Java's client offers HTTP/2 with each request that is not encrypted, those with a body among them."""
    server = start()
    body, kind = form(("a.png", png(250)))
    body = body if isinstance(body, bytes) else body.encode()
    head = f"Host: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    lines = [f"POST /v1/predict HTTP/1.1\r\n{head}{offered}\r\n\r\n".encode() + body]
    lines += [f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{offered}\r\n\r\n".encode()]
    lines += [f"POST /v1/predict HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode() + body]
    sent = b"".join(lines)
    with connected(server) as connection:
        for start_at in range(0, len(sent), size):
            connection.sendall(sent[start_at : start_at + size])
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    answer = b"".join(parts)
    assert answer.count(b"HTTP/1.1 200") == 3 and answer.count(b"bright") >= 2 and b"alive" in answer
    with connected(server) as connection:
        connection.sendall(f"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n{offered}\r\n\r\n".encode())
        status, body = received(connection)
        assert (status, body["type"]) == (400, "/docs#bad-request")
    assert answers(server)


@pytest.mark.parametrize(
    "chunk", [b"xyz\r\nhello\r\n", b"-5\r\nhello\r\n", b"5\r\nhelloXX\r\n", b"FFFFFFFFFFFFFFFFF\r\n"]
)
def test_a_broken_chunk_is_refused(start, chunk):
    server = start()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connected(server) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        time.sleep(0.1)
        connection.sendall(chunk)
        status, body = received(connection)
        assert (status, body["type"]) == (400, "/docs#bad-request")
    assert answers(server)


def test_heads_that_never_end(start):
    server = start(seconds=1.5)
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + bytes([97]) * 2 * HEAD_BYTES)
        assert received(connection)[0] == 431
    with connected(server) as connection:  # data after a body does not evade the limit
        head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
            for _ in range(100):
                connection.sendall(b"X-More: " + bytes([97]) * 60_000)
            time.sleep(0.1)
            connection.sendall(b"x")
            raise AssertionError("it listens on")
    with connected(server) as connection:
        connection.sendall(b"GET / HT")
        status, body = received(connection)
        assert (status, body["type"]) == (408, "/docs#too-slow")
    with connected(server) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert received(connection)[0] == 400
    assert answers(server)


def test_slow_bodies(start):
    server = start(seconds=1.5)
    with connected(server) as connection:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        connection.settimeout(5)
        assert connection.recv(12) == b"HTTP/1.1 408"
    assert answers(server)


def test_slow_senders_take_nobodys_place(start):
    server = start(requests=1)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connected(server))
            head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        for _ in range(5):
            assert answers(server)


def test_too_many_at_once_and_too_long(start):
    go, begun = threading.Event(), threading.Semaphore(0)

    def slow(images):
        begun.release()
        assert go.wait(20)
        return infer(images)

    server = start(lambda: subject(infer=slow), requests=2, seconds=3)
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(server.predict, ("a.png", png(250))) for _ in range(2)]
        assert begun.acquire(timeout=10)
        deadline = time.monotonic() + 10
        while b"tlkit_predictions_under_way 2.0" not in server.ask("GET", "/metrics")[2]:
            assert time.monotonic() < deadline
        answer = server.predict(("a.png", png(250)))
        check_problem(answer, "too-busy")
        assert int(answer[1]["retry-after"]) >= 1
        for each in under_way:
            check_problem(each.result(), "too-slow")
    go.set()
    assert answers(server)


def test_memory_for_bodies_is_one_budget(start):
    server = start(requests=100, request_bytes=300_000)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connected(server)) for _ in range(10)]
        for connection in many:  # eight bodies fit, nine do not
            connection.sendall(head + b"Content-Length: 300000\r\n\r\n" + b" " * 299_000)
        refused, _, _ = select.select(many, [], [], 10)
        assert refused[0].recv(12) == b"HTTP/1.1 429"
    deadline = time.monotonic() + 10
    while not answers(server):
        assert time.monotonic() < deadline  # clients that have gone release what they held


def test_a_mistake_of_ours_is_told_to_the_log_alone(start):
    def broken(images):
        raise RuntimeError("secret /home/me/run")

    server = start(lambda: subject(infer=broken))
    answer = server.predict(("a.png", png(250)))
    check_problem(answer, "internal")
    assert "secret" not in str(answer[2]) and server.story.heard("secret /home/me/run")
    assert server.ask("GET", "/healthz")[0] == 200
    server = start(lambda: subject(judge=lambda rows, top: 1 / 0))
    check_problem(server.predict(("a.png", png(250))), "internal")
    assert server.story.heard("ZeroDivisionError")


def test_stopping_finishes_what_is_under_way(start):
    go, begun = threading.Event(), threading.Event()

    def slow(images):
        begun.set()
        assert go.wait(20)
        return infer(images)

    server = start(lambda: subject(infer=slow))
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.predict, ("a.png", png(250)))
        assert begun.wait(10)
        server.stop.set()
        deadline = time.monotonic() + 10
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:  # no new client is admitted
                server.ask("GET", "/healthz")
        assert time.monotonic() < deadline
        go.set()
        assert under_way.result()[0] == 200
    server.thread.join(20)
    assert server.ended["images"] == 1


def test_who_goes_away_leaves_nothing_behind(start):
    server = start(requests=2)
    body, kind = form(("a.png", png(250)))
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for cut in (len(body) // 2, len(body)):
        for _ in range(3):
            with connected(server) as connection:
                connection.sendall(head.encode() + body[:cut])
    deadline = time.monotonic() + 10
    while not answers(server):
        assert time.monotonic() < deadline


def test_answers_belong_to_those_who_asked(start):
    server = start(requests=32)
    values = np.random.default_rng(0).integers(0, 256, 60).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda value: server.predict(("a.png", png(value)), query="?top=2"), values))
    for value, (status, _, body) in zip(values, found, strict=True):
        assert status == 200
        bright = {entry["name"]: entry["probability"] for entry in body["results"][0]["classes"]}["bright"]
        assert bright == pytest.approx(value / 255, abs=1e-6)


def test_stopped_while_it_is_being_loaded(start):
    go, closed = threading.Event(), threading.Event()

    def load():
        assert go.wait(20)
        return subject(close=closed.set)

    server = start(load, ready=False)
    assert server.ask("GET", "/healthz")[0] == 200
    server.stop.set()
    go.set()
    server.thread.join(20)
    assert closed.is_set() and server.ended == {"requests": 1, "images": 0}
    assert not server.story.heard("ready:", 0)


def test_connections_that_only_stay_open(start):
    server = start(requests=1)
    with contextlib.ExitStack() as stack:
        for _ in range(server.limits.connections):
            stack.enter_context(connected(server))
        status, headers, body = server.ask("GET", "/healthz")
        assert (status, body["type"]) == (429, "/docs#too-busy") and headers["connection"] == "close"
    deadline = time.monotonic() + 10
    while not answers(server):
        assert time.monotonic() < deadline


def test_every_odd_image_over_http(start, shared_file):
    server = start(image_bytes=20_000_000, request_bytes=30_000_000, pixels=50_000_000)
    found = []
    for path in sorted(shared_file("data/odd-images").iterdir()):
        status, _, body = server.predict((path.name, path.read_bytes()), query="?explain=true")
        assert status in (200, 413, 415), (path.name, body)
        assert str(path.parent) not in str(body), path.name
        found.append(status)
    assert found.count(200) > 100 and found.count(415) > 20 and found.count(413) > 0
    assert not any("mistake" in text for text in server.story.said)
