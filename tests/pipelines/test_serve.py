import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from tests.serving.conftest import Listener, form
from tlkit.base.errors import TlkitError
from tlkit.base.machine import install
from tlkit.classifier.answers import Answers
from tlkit.classifier.facts import Facts
from tlkit.data.dataset import InputContract
from tlkit.options.commands import PredictConfig, ServeConfig
from tlkit.pipelines import predict, serve
from tlkit.serving import schema
from tlkit.serving.answering import judged, readable
from tlkit.tasks.multi import MULTI


@pytest.fixture(scope="module")
def served(finished):
    """The port of a server of the finished run, and its story."""
    story, stop, result = Listener(), threading.Event(), {}
    config = ServeConfig(run=str(finished[0]), port=0, max_images=64, timeout=SLOW)
    thread = threading.Thread(target=lambda: result.update(serve.run(config, story, stop=stop)))
    thread.start()
    assert story.heard("ready:", 120)
    port = int(next(text for text in story.said if "ready:" in text).split("  ")[0].rpartition(":")[2])
    yield port, story
    stop.set()
    thread.join(60)
    assert result["requests"] > 0 and result["images"] >= 36 and result["url"].endswith(f":{port}")


SLOW = 120  # the first explanation loads Keras


def ask(port, files, query=""):
    body, kind = form(*files)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SLOW)
    connection.request("POST", "/v1/predict" + query, body, {"Content-Type": kind})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    schema.Results.model_validate(answer)
    return answer["results"]


def test_it_says_what_predict_says(served, finished, colours):
    files = sorted(colours.rglob("*.png"))
    said = predict.run(PredictConfig(run=str(finished[0]), paths=tuple(map(str, files)), top=3))["predictions"]
    answers = ask(served[0], [(file.name, file.read_bytes()) for file in files], "?top=3")
    assert len(answers) == len(said) == 36
    for ours, theirs in zip(answers, said, strict=True):
        assert ours["predicted"] == [theirs["class"]] and ours["abstained"] == theirs.get("abstain", False)
        one, other = (
            {row[key]: row["probability"] for row in rows}
            for rows, key in ((ours["classes"], "name"), (theirs["top"], "class"))
        )
        assert set(one) == set(other)
        assert np.allclose([one[name] for name in other], list(other.values()), atol=2e-6)
        assert ours.get("unfamiliar") == theirs.get("unfamiliar")


def test_it_explains_with_training_images(served, colours):
    port, story = served
    file = colours / "red" / "03.png"
    first = ask(port, [("a.png", file.read_bytes())], "?explain=true")[0]["explanation"]
    assert first["overlay"].startswith("data:image/jpeg;base64,")
    assert first["neighbours"] or "still being looked at" in first["note"]
    assert story.heard("neighbours among", 60)
    for method in ("integrated", "gradcam"):
        deadline = time.monotonic() + 30
        while True:  # the last message comes a moment before it is ready
            found = ask(port, [("a.png", file.read_bytes())], f"?explain=true&method={method}")[0]["explanation"]
            if found["neighbours"] or time.monotonic() > deadline:
                break
        assert found["overlay"].startswith("data:image/jpeg;base64,") and found["method"] == method
        assert len(found["neighbours"]) == 3 and found["note"] == ""
        assert all(other["thumbnail"].startswith("data:image/jpeg;base64,") for other in found["neighbours"])
        assert str(colours) not in json.dumps(found)


def test_what_is_wrong_is_named_before_anything_is_loaded(finished, tmp_path, monkeypatch):
    run = str(finished[0])
    with pytest.raises(TlkitError, match="not a run folder"):
        serve.run(ServeConfig(run=str(tmp_path)))
    with pytest.raises(TlkitError, match=r"token-file.*No such file"):
        serve.run(ServeConfig(run=run, port=0, token_file=str(tmp_path / "none")))
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(TlkitError, match="is not of 16 or more"):
        serve.run(ServeConfig(run=run, port=0, token_file=str(tmp_path / "token")))
    monkeypatch.setenv("TLKIT_SERVE_TOKEN", "")
    with pytest.raises(TlkitError, match="TLKIT_SERVE_TOKEN"):
        serve.run(ServeConfig(run=run, port=0))
    monkeypatch.setitem(sys.modules, "tlkit.serving.server", None)
    monkeypatch.setattr(serve.importlib, "import_module", _without_uvicorn)
    with pytest.raises(TlkitError, match="'uvicorn', which is not installed") as error:
        serve.run(ServeConfig(run=run, port=0))
    assert error.value.hint == install("serve")


def _without_uvicorn(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name="uvicorn")


def test_a_model_file_has_no_training_images_and_strangers_are_warned_of(finished, colours):
    story, stop = Listener(), threading.Event()
    config = ServeConfig(run=str(finished[0] / "model.keras"), port=0, host="0.0.0.0", timeout=SLOW)
    thread = threading.Thread(target=lambda: serve.run(config, story, stop=stop))
    thread.start()
    try:
        assert story.heard("warning: anybody who reaches 0.0.0.0")
        assert story.heard("ready:", 60)
        port = int(next(text for text in story.said if "ready:" in text).split("  ")[0].rpartition(":")[2])
        content = (colours / "red" / "03.png").read_bytes()
        deadline = time.monotonic() + 30
        while "no training images" not in (
            note := ask(port, [("a.png", content)], "?explain=true")[0]["explanation"]["note"]
        ):
            assert time.monotonic() < deadline, note
        assert story.heard("no neighbours", 60)
    finally:
        stop.set()
        thread.join(60)


def test_names_that_are_no_text_can_be_sent():
    assert [readable(name) for name in ("Käfer", "b\udce4r")] == ["Käfer", "b\\udce4r"]


def test_several_labels_an_image():
    facts = Facts(
        classes=("cat", "dog", "owl"),
        contract=InputContract(height=8, width=8),
        backbone="none",
        grid_layer="none",
        temperature=2.0,
        task=MULTI,
    )
    logits = np.array([[2.0, -4.0, 6.0], [-2.0, -2.2, -2.4]], np.float32)
    both, none = judged(list(Answers(logits, np.array([0.5, 1.5], np.float32))), facts, 1)
    chances = [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))]
    assert both["predicted"] == ["owl", "cat"] and both["probability"] is None and both["unfamiliar"] is False
    assert [entry["name"] for entry in both["classes"]] == ["owl", "cat"]  # all predicted labels, whatever `top`
    assert [entry["probability"] for entry in both["classes"]] == pytest.approx(chances, abs=1e-6)
    assert none["predicted"] == [] and len(none["classes"]) == 1 and none["unfamiliar"] is True
    (unmeasured,) = judged(list(Answers(logits[:1])), facts, 1)
    assert "unfamiliar" not in unmeasured


# As a process that does not ignore SIGHUP; tests themselves may run under `nohup`, which ignores it.
OF_A_TERMINAL = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as Unix has them")
@pytest.mark.parametrize("told", ["SIGTERM", "SIGHUP"])
def test_a_process_that_is_told_to_stop_answers_first(finished, colours, told):
    command = [sys.executable, "-m", "tlkit", "serve", str(finished[0]), "--port", "0", "--json", "--neighbours", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", OF_A_TERMINAL, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = iter(process.stderr.readline, "")
    port = int(next(line for line in lines if "ready:" in line).split("  ")[0].rpartition(":")[2])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as response:
        assert response.status == 200
    body, kind = form(("a.png", (colours / "red" / "03.png").read_bytes()))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/v1/predict")
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    time.sleep(0.2)
    process.send_signal(getattr(signal, told))
    time.sleep(0.5)
    connection.send(body[100:])
    response = connection.getresponse()
    assert response.status == 200 and json.loads(response.read())["results"][0]["predicted"]
    connection.close()
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in rest
    assert json.loads(out)["images"] == 1


LATE = """
import sys, threading, urllib.request
from tlkit.base.story import Silence
from tlkit.options.commands import ServeConfig
from tlkit.pipelines import serve

run, image = sys.argv[1:]


class Ready(Silence):
    def say(self, text):
        if text.startswith("ready: "):
            self.address = text.split()[1]
            ready.set()


def ask(query):
    content = open(image, "rb").read()
    body = b'--x\\r\\nContent-Disposition: form-data; name="image"; filename="a.png"\\r\\n\\r\\n' + content + b"\\r\\n--x--\\r\\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with urllib.request.urlopen(urllib.request.Request(story.address + "/v1/predict" + query, body, kind)) as answer:
        assert (b"overlay" in answer.read()) == bool(query)
    print("keras" in sys.modules)


story, stop, ready = Ready(), threading.Event(), threading.Event()
config = ServeConfig(run=run, port=0, timeout=120)
thread = threading.Thread(target=serve.run, args=(config, story), kwargs={"stop": stop})
thread.start()
assert ready.wait(120)
ask("")
ask("?explain=true")
stop.set()
thread.join()
"""


def test_the_first_explanation_loads_keras_and_nothing_else_does(finished, colours):
    pytest.importorskip("tensorflow", reason="answering files are made by TensorFlow")
    words = [sys.executable, "-c", LATE, str(finished[0]), str(colours / "red" / "03.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr[-2000:]
