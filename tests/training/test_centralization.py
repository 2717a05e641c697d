import pytest

from tlkit.options.commands import FinetuneConfig
from tlkit.training.optimizer import FREE_FROM, is_centralized


@pytest.mark.parametrize(
    ("asked", "train", "centralized", "why"),
    [
        ("auto", FREE_FROM - 1, True, "1,999 training images, fewer than 2,000"),
        ("auto", FREE_FROM, False, "2,000 training images, not fewer than 2,000"),
        ("on", 10**6, True, "asked for"),
        ("off", 10, False, "asked for"),
    ],
)
def test_few_images_are_centralized_and_the_plan_says_why(asked, train, centralized, why):
    found, note = is_centralized(FinetuneConfig(images="images", centralize=asked), train)
    assert found == centralized and why in note
