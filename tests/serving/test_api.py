import base64
import json
import re

import pytest

from tests.serving.conftest import CLASSES, check_problem, form, png, subject
from tlkit.serving import schema
from tlkit.serving.gate import GUARDED, PATHS
from tlkit.serving.problems import KINDS

JSON = {"Content-Type": "application/json"}


def as_json(*contents):
    return json.dumps({"images": [base64.b64encode(content).decode() for content in contents]})


def test_images_of_a_form_in_order_with_the_error_of_each(server):
    files = [("a.png", png(250)), ("../../etc/passwd", b"root:x:0:0"), ("c.png", png(10))]
    status, _, body = server.predict(*files)
    assert status == 200
    schema.Results.model_validate(body)
    first, second, third = body["results"]
    assert [result["name"] for result in body["results"]] == ["a.png", "../../etc/passwd", "c.png"]
    assert [result["index"] for result in body["results"]] == [0, 1, 2]
    assert (first["predicted"], third["predicted"]) == (["bright"], ["dark"])
    assert first["probability"] == pytest.approx(250 / 255, abs=1e-6) and first["abstained"] is False
    assert [entry["name"] for entry in third["classes"]] == ["dark", "bright"]
    assert second["error"]["status"] == 415 and "holds text" in second["error"]["detail"]
    assert "predicted" not in second


def test_base64_plain_broken_into_lines_and_as_data_url(server):
    plain = base64.b64encode(png(250)).decode()
    texts = [plain, "\n".join(re.findall(".{1,20}", plain)), "data:image/png;base64," + plain]
    status, _, body = server.ask("POST", "/v1/predict?top=1", json.dumps({"images": texts}), JSON)
    assert status == 200
    assert [(result["name"], len(result["classes"])) for result in body["results"]] == [(None, 1)] * 3
    assert len({result["probability"] for result in body["results"]}) == 1


def test_explained_on_request(server):
    status, _, body = server.predict(("a.png", png(250)), query="?explain=true&method=gradcam")
    assert status == 200
    schema.Results.model_validate(body)
    assert body["results"][0]["explanation"]["method"] == "gradcam"
    assert "explanation" not in server.predict(("a.png", png(250)))[2]["results"][0]


BODY, KIND = form(("a.png", png(250)))
REFUSED = {
    "nothing there": ("GET", "/v1/../../etc/passwd", None, {}, "not-found"),
    "other method": ("PUT", "/v1/predict", b"", {}, "wrong-method"),
    "no type": ("POST", "/v1/predict", b"x", {}, "wrong-type"),
    "other type": ("POST", "/v1/predict", png(1), {"Content-Type": "image/png"}, "wrong-type"),
    "an encoded body": ("POST", "/v1/predict", BODY, {"Content-Type": KIND, "Content-Encoding": "gzip"}, "wrong-type"),
    "no boundary": ("POST", "/v1/predict", BODY, {"Content-Type": "multipart/form-data"}, "invalid"),
    "cut short": ("POST", "/v1/predict", BODY[:-60], {"Content-Type": KIND}, "invalid"),
    "long boundary": ("POST", "/v1/predict", BODY, {"Content-Type": KIND + "x" * 1000}, "invalid"),
    "no file": ("POST", "/v1/predict", *form(), "invalid"),
    "other field": ("POST", "/v1/predict", *form(("a.png", png(1)), field="file\u00e9"), "invalid"),
    "no json": ("POST", "/v1/predict", "{", JSON, "invalid"),
    "deep json": ("POST", "/v1/predict", "[" * 50_000, JSON, "invalid"),
    "other key": ("POST", "/v1/predict", '{"images": ["aGFsbG8="], "path": "/etc/passwd"}', JSON, "invalid"),
    "no base64": ("POST", "/v1/predict", '{"images": ["Zm9v", "/etc/pässwd"]}', JSON, "invalid"),
    "no images": ("POST", "/v1/predict", '{"images": []}', JSON, "invalid"),
    "bad value": ("POST", "/v1/predict?top=0", BODY, {"Content-Type": KIND}, "invalid"),
    "bad name": ("POST", "/v1/predict?tops=1", BODY, {"Content-Type": KIND}, "invalid"),
    "many images": ("POST", "/v1/predict", as_json(*[b"x"] * 5), JSON, "too-many-images"),
    "many files": ("POST", "/v1/predict", *form(*[("a", b"x")] * 5), "too-many-images"),
    "large file": ("POST", "/v1/predict", *form(("a", png(1) + bytes(100_000))), "image-too-large"),
    "large body": ("POST", "/v1/predict", *form(("a", bytes(400_000))), "body-too-large"),
    "many pixels": ("POST", "/v1/predict", *form(("a", png(1, (1001, 1000)))), "too-many-pixels"),
    "no image": ("POST", "/v1/predict", *form(("a", b"hello")), "not-an-image"),
    "an empty file": ("POST", "/v1/predict", *form(("a", b"")), "not-an-image"),
    "from another site": (
        "POST",
        "/v1/predict",
        BODY,
        {"Content-Type": KIND, "Sec-Fetch-Site": "cross-site"},
        "cross-site",
    ),
    "from another port of this machine": (
        "POST",
        "/v1/predict",
        BODY,
        {"Content-Type": KIND, "Sec-Fetch-Site": "same-site"},
        "cross-site",
    ),
    "from another origin": (
        "POST",
        "/v1/predict",
        BODY,
        {"Content-Type": KIND, "Origin": "http://127.0.0.1:1"},
        "cross-site",
    ),
    "from a page without an origin": (
        "POST",
        "/v1/predict",
        BODY,
        {"Content-Type": KIND, "Origin": "null"},
        "cross-site",
    ),
    "under another name": ("GET", "/", None, {"Host": "evil.example:80"}, "wrong-host"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_do(server, name):
    method, path, body, headers, kind = REFUSED[name]
    headers = {"Content-Type": headers} if isinstance(headers, str) else headers
    check_problem(server.ask(method, path, body, headers), kind)


def test_its_own_page_may_ask(server):
    own = {"Content-Type": KIND, "Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("POST", "/v1/predict", BODY, own)[0] == 200
    assert server.ask("POST", "/v1/predict", BODY, own | {"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_at_the_limit_is_not_beyond_it(server):
    answers = [server.predict(*[("a", png(250))] * 4), server.predict(("a", png(1, (1000, 1000))))]
    assert [status for status, *_ in answers] == [200, 200]


def test_explanations_are_bounded_too(start):
    server = start(load=lambda: subject(explain=None), images=9)
    check_problem(server.predict(("a.png", png(250)), query="?explain=true"), "invalid")
    check_problem(server.predict(*[("a", png(250))] * 5, query="?explain=true"), "too-many-images")


def test_a_token_guards_answers_and_numbers_but_no_probe(start):
    server = start(token="correct-horse-battery")
    for path in sorted(PATHS - {"/v1/predict"}):
        answer = server.ask("GET", path)
        if path in GUARDED:
            check_problem(answer, "no-token")
            assert answer[1]["www-authenticate"] == "Bearer"
        else:
            assert answer[0] == 200, path
    check_problem(server.predict(("a", png(1)), headers={"Authorization": "Bearer wrong-horse-battery"}), "wrong-token")
    check_problem(server.predict(("a", png(1)), headers={"Authorization": "Bearer é"}), "wrong-token")
    right = {"Authorization": "bearer correct-horse-battery", "Host": "cats.example"}
    assert server.predict(("a", png(1)), headers=right)[0] == 200


def test_what_prometheus_reads(start):
    server = start()
    server.predict(("a", png(250)), ("b", b"no"), ("c", png(140)))
    server.ask("GET", "/wp-admin")
    text = server.ask("GET", "/metrics")[2].decode()
    for line in (
        'tlkit_requests_total{path="/v1/predict",status="200"} 1.0',
        'tlkit_requests_total{path="other",status="404"} 1.0',
        'tlkit_images_total{predicted="bright"} 2.0',
        "tlkit_images_abstained_total 1.0",
        'tlkit_images_refused_total{problem="not-an-image"} 1.0',
        "tlkit_batch_images_sum 2.0",
        "tlkit_queue_images 0.0",
        "tlkit_predictions_under_way 0.0",
        'tlkit_request_seconds_count{path="/v1/predict"} 1.0',
    ):
        assert line in text.splitlines()


def test_the_model_and_the_description(server):
    _, _, model = server.ask("GET", "/v1/model")
    schema.Model.model_validate(model)
    assert model["classes"] == list(CLASSES) and model["limits"]["pixels"] == 1_000_000
    _, _, description = server.ask("GET", "/openapi.json")
    assert set(description["paths"]) == PATHS - {"/", "/docs", "/openapi.json"}
    asked = description["paths"]["/v1/predict"]["post"]
    assert set(asked["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "413", "415", "422", "429"} <= set(asked["responses"])


def test_pages_ask_for_nothing_from_elsewhere(server):
    for path in ("/", "/docs"):
        status, headers, content = server.ask("GET", path)
        text = content.decode()
        assert status == 200 and not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", text)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert all(f'id="{kind}"' in text for kind in KINDS)  # where `type` of problem details points to


def test_probes_may_ask_for_the_head_alone(server):
    status, headers, body = server.ask("HEAD", "/readyz")
    assert (status, body) == (200, b"") and headers["content-length"] == "18"
