"""A film is one clip, with the same frames as everywhere else; damage and missing packages are reported."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image, features

from tests.serving.conftest import check_problem, infer, judge, png, subject
from tlkit.classifier.facts import ClipFacts

VALUES = (0, 40, 80, 120, 160, 200, 240)
SIDE = 16


def clips(rows, top):
    """Of the brightness of the frames: the mean as bright, and each as what is listed."""
    said = judge([np.mean(rows, axis=0)], top)[0]
    return [said | {"classes": [{"name": f"frame {n}", "probability": float(row[0])} for n, row in enumerate(rows)]}]


def of_clips():
    return subject(clip=ClipFacts(frames=4, stride=1, time="mean", pooling="avg"), infer=infer, judge=clips)


@pytest.fixture
def server(start):
    return start(of_clips, images=8)


def grey(value):
    return Image.new("RGB", (SIDE, SIDE), (value,) * 3)


def gif(values=VALUES):
    file = io.BytesIO()
    grey(values[0]).save(file, "GIF", save_all=True, append_images=[grey(value) for value in values[1:]], duration=40)
    return file.getvalue()


def mkv(values=VALUES):
    av, file = pytest.importorskip("av"), io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        out = container.add_stream("ffv1", rate=10)
        out.height, out.width, out.pix_fmt = SIDE, SIDE, "bgr0"
        for value in values:
            container.mux(out.encode(av.VideoFrame.from_ndarray(np.asarray(grey(value)), format="rgb24")))
        container.mux(out.encode())
    return file.getvalue()


def seen(answer):
    """Brightness 0..255 of the frames that were taken."""
    status, _, body = answer
    assert status == 200 and len(body["results"]) == 1, body
    return [round(255 * one["probability"]) for one in body["results"][0]["classes"]]


@pytest.mark.parametrize("film", [gif, mkv])
def test_a_film_is_its_frames(server, film):
    taken = [VALUES[place] for place in (0, 2, 4, 6)]
    assert seen(server.predict(*((f"{n}.png", png(value)) for n, value in enumerate(VALUES)))) == taken
    assert seen(server.predict(("film", film()))) == taken
    assert seen(server.predict(("film", film(VALUES[:2])))) == list(VALUES[:2])


def avif(value):
    if not features.check("avif"):
        pytest.skip("Pillow writes no AVIF here")
    file = io.BytesIO()
    grey(value).save(file, "AVIF", quality=100)
    return file.getvalue()


def test_an_image_alone_is_a_clip_of_one_frame(server):
    for content in (png(80), gif((80,))):
        assert seen(server.predict(("one", content))) == [80]


def test_photographs_in_the_boxes_of_films_are_frames(server):
    frames = [avif(value) for value in (80, 160)]
    assert seen(server.predict(("one", frames[0]))) == pytest.approx([80], abs=2)
    assert seen(server.predict(*(("frame", frame) for frame in frames))) == pytest.approx([80, 160], abs=2)


def test_what_cannot_be_read_is_refused(server):
    whole = mkv()
    for content in (whole[: len(whole) // 2], whole[:70] + bytes(200), gif()[:60], b"\x1aE\xdf\xa3"):
        check_problem(server.predict(("film", content)), "not-an-image")
    check_problem(server.predict(("a.png", png(1)), ("film.mkv", whole)), "invalid")


def test_a_film_may_have_as_many_pixels_as_a_request(start):
    server = start(of_clips, images=100, pixels=100)  # a frame of 256 is too large
    for content in (mkv(), gif()):
        check_problem(server.predict(("film", content)), "too-many-pixels")
    server = start(of_clips, images=2, pixels=14_000)  # each frame counts for 4096 at least
    assert len(seen(server.predict(("film", gif(VALUES[:6]))))) == 4
    check_problem(server.predict(("film", gif())), "too-many-pixels")


def test_without_pyav_films_are_refused_and_animations_answered(server, monkeypatch):
    content, real = mkv(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else real(name, *rest))
    check_problem(server.predict(("film", content)), "no-films")
    assert len(seen(server.predict(("film", gif())))) == 4
