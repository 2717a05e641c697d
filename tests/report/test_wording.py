"""A report on clips says clips, in every sentence; what users wrote stays as they wrote it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.report.pages import full_page
from tlkit.classifier.facts import ClipFacts, Facts
from tlkit.data.dataset import InputContract
from tlkit.evaluation.judgement import ClipReader, frame_evidence
from tlkit.report.build import facts, render, render_markdown
from tlkit.report.headline import in_clips, said_of
from tlkit.report.plates.captions import of_reliability
from tlkit.report.plates.depicted import Depicted


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("12 test images, an image each", "12 test clips, a clip each"),
        ("An image of cat", "A clip of cat"),
        ("Images: 3 of these images.", "Clips: 3 of these clips."),
        ("--image-size 96, image_size, images/a.jpg, image.jpg, ImageNet", None),
        ("of 5 images of image, image-like", "of 5 clips of image, image-like"),
    ],
)
def test_sentences_are_reworded_and_names_are_not(said, expected):
    assert in_clips(said, ["image"] if "of image" in said else []) == (expected or said)
    assert said_of("image", said) == said


def on_clips(page):
    splits = {name: replace(result, sample="clip") for name, result in page.evaluation.splits.items()}
    return replace(page, evaluation=replace(page.evaluation, splits=splits))


def visible(html):
    """The visible text of a page: no tags, no script, no style, no pictures."""
    body = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_a_page_on_clips_says_clips():
    page = full_page(audit=None, command="", config="")  # clips are not audited
    text, other = visible(render(page)), visible(render(on_clips(page)))
    assert re.search(r"\btest images\b", text) and re.search(r"\btest clips\b", other)
    left = re.findall(r".{30}\b[Ii]mages?\b(?![-/.\w]).{20}", other)
    assert left == [], left
    assert len(re.findall(r"\b[Cc]lips?\b", other)) >= len(re.findall(r"\b[Ii]mages?\b(?![-/.\w])", text)) - 3
    markdown = render_markdown(facts(on_clips(page)))
    assert "test clips" in markdown and "test images" not in markdown


def test_a_caption_on_clips_says_clips(tmp_path):
    result = on_clips(full_page()).evaluation.splits["test"]
    depicted = Depicted(tmp_path, result, 1)
    assert "test clips" in depicted.where and "images" not in depicted.said(of_reliability(depicted))


def test_the_evidence_of_a_frame_is_what_its_leaving_costs():
    """A head that adds up two logits over the frames: by hand, with one frame masked."""

    def head(features):
        return np.asarray(features, np.float64)[..., :2].sum(axis=1)

    clip = ClipFacts(frames=4, stride=1, time="gru", pooling="avg")
    known = Facts(
        classes=("a", "b"), contract=InputContract(height=8, width=8), backbone="x", grid_layer="y", clip=clip
    )
    features = np.array([[2.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    found = frame_evidence(ClipReader(None, head, None), features, 3, 0, known)

    def log_chance(one, other):
        return -np.log1p(np.exp(other - one))

    whole = log_chance(2.5, 1.0)
    assert np.allclose(
        found, [whole - log_chance(0.5, 1.0), whole - log_chance(2.0, 1.0), whole - log_chance(2.5, 0.0)]
    )
    assert found[0] > found[1] > 0 > found[2]
    assert frame_evidence(ClipReader(None, head, None), features, 1, 0, known).tolist() == [0.0]
