"""A server that misbehaves, for each test that asks for it."""

import threading

import pytest

from tests.samples.serving import Misbehaving


@pytest.fixture
def server():
    with Misbehaving() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()
