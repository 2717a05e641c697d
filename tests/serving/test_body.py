import asyncio
import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import form
from tlkit.serving.body import BodyBudget, uploads
from tlkit.serving.pixels import Limits
from tlkit.serving.problems import RequestProblem

LIMITS = Limits(image_bytes=1000, request_bytes=4000, images=5, pixels=1000, requests=1, seconds=1)
contents = st.lists(
    st.one_of(st.binary(max_size=300), st.sampled_from([b"\r\n--", b"\r\n\r\n", b"--"])), min_size=1, max_size=5
)


def read(body, kind):
    return asyncio.run(uploads(body, kind, LIMITS))


@given(contents)
def test_a_form_gives_back_what_was_put_in(files):
    named = [(f"{number}.png", content) for number, content in enumerate(files)]
    assert [tuple(upload) for upload in read(*form(*named))] == named


@given(contents)
def test_json_gives_back_what_was_put_in(files):
    body = json.dumps({"images": [base64.b64encode(content).decode() for content in files]}).encode()
    assert [upload.content for upload in read(body, "application/json")] == files


@given(
    contents,
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=3)), max_size=6),
    st.sampled_from(["form", "json"]),
)
def test_whatever_comes_is_read_or_refused(files, changes, way):
    if way == "form":
        body, kind = form(*[("a", content) for content in files])
    else:
        body, kind = json.dumps({"images": [base64.b64encode(x).decode() for x in files]}).encode(), "application/json"
    changed = bytearray(body)
    for place, gone, put in changes:
        changed[place % len(changed) : place % len(changed) + gone] = put
    try:
        found = read(bytes(changed), kind)
    except RequestProblem as problem:
        assert 400 <= problem.status < 500
    else:
        assert 1 <= len(found) <= LIMITS.images


@given(st.text(st.characters(max_codepoint=255), max_size=60))  # headers are Latin-1
def test_any_content_type(kind):
    try:
        read(b"x", kind)
    except RequestProblem as problem:
        assert problem.kind in ("wrong-type", "invalid")


def test_the_budget():
    budget = BodyBudget(10)
    budget.take(6)
    try:
        budget.take(5)
        raise AssertionError
    except RequestProblem as problem:
        assert problem.status == 429
    budget.give_back(6)
    budget.take(10)
