"""A server on loopback with a classifier that needs no Keras: bright or dark."""

import contextlib
import http.client
import io
import json
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import InputContract
from tlkit.serving.pixels import Limits
from tlkit.serving.problems import KINDS
from tlkit.serving.server import bind, serve
from tlkit.serving.service import ServedClassifier

CLASSES = ("bright", "dark")
ROOT = str(Path(__file__).parents[2])


class Listener:
    """A story that remembers what was said; `heard` waits for words."""

    def __init__(self):
        self.said, self._news = [], threading.Condition()

    def say(self, text):
        with self._news:
            self.said.append(text)
            self._news.notify_all()

    detail = say

    def heard(self, words, seconds=20):
        with self._news:
            return self._news.wait_for(lambda: any(words in text for text in self.said), seconds)


def infer(images):
    """Brightness 0..1 and the rest of it."""
    bright = images.mean(axis=(1, 2, 3), dtype=np.float64) / 255
    return np.stack([bright, 1 - bright], axis=1).astype(np.float32)


def judge(rows, top):
    answers = []
    for row in rows:
        order = np.argsort(-row, kind="stable")
        classes = [{"name": CLASSES[k], "probability": round(float(row[k]), 6)} for k in order]
        answers.append(
            {
                "predicted": [classes[0]["name"]],
                "probability": classes[0]["probability"],
                "abstained": classes[0]["probability"] < 0.6,
                "classes": classes[:top],
            }
        )
    return answers


def explain(content, pixels, row, method):
    return {
        "method": method,
        "label": "bright",
        "overlay": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=",
        "blank": False,
        "neighbours": [{"label": "dark", "cosine": 0.5, "thumbnail": None}],
        "note": "",
    }


def subject(**changes):
    contract = InputContract(height=8, width=8)
    given = {
        "name": "light",
        "facts": {"backbone": "none"},
        "classes": CLASSES,
        "contract": contract,
        "batch_size": 8,
        "infer": infer,
        "judge": judge,
        "explain": explain,
    }
    return ServedClassifier(**given | changes)


class Server:
    """One that runs in a thread."""

    def __init__(self, load, token, **limits):
        small = {"image_bytes": 100_000, "request_bytes": 400_000, "images": 4, "pixels": 1_000_000}
        self.limits = Limits(**small | {"requests": 4, "seconds": 20} | limits)
        self.story, self.stop, self.ended = Listener(), threading.Event(), None
        self.listening = bind("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]

        def work():
            options = {"limits": self.limits, "token": token, "wait": 0.002, "story": self.story, "stop": self.stop}
            self.ended = serve(load, self.listening, **options)

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def close(self):
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body); JSON is parsed."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        kind = response.headers.get("content-type", "")
        return response.status, response.headers, json.loads(content) if "json" in kind and content else content

    def predict(self, *files, query="", headers=None):
        body, kind = form(*files)
        return self.ask("POST", "/v1/predict" + query, body, {"Content-Type": kind, **(headers or {})})


def form(*files, field="image"):
    """Body and content type of a form with these (name, content)."""
    boundary = uuid.uuid4().hex.encode()
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
        % (boundary, field.encode(), name.encode(), content)
        for name, content in files
    ]
    return b"".join(parts) + b"--%s--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


def png(value, size=(20, 10)):
    """A grey image as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def check_problem(answer, kind):
    """Problem details of this kind, with nothing of the machine in them."""
    status, headers, body = answer
    assert (status, body["type"]) == (KINDS[kind].status, f"/docs#{kind}"), body
    assert headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "remedy"} and body["status"] == status
    assert all(body[name] for name in body)
    assert ROOT not in str(body) and "Traceback" not in str(body) and "site-packages" not in str(body)


@pytest.fixture
def start():
    """Start servers; they are stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def one(load=subject, token=None, ready=True, **limits):
            server = Server(load, token, **limits)
            stack.callback(server.close)
            assert not ready or server.story.heard("ready:")
            return server

        yield one


@pytest.fixture(scope="module")
def server():
    """One that tests only ask."""
    found = Server(subject, None)
    assert found.story.heard("ready:")
    yield found
    found.close()
