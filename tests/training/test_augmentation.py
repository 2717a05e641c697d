import pytest

from tlkit.options.commands import FinetuneConfig
from tlkit.training.planner import STRENGTH_FROM, settle


def settled(train=300, classes=("cat", "dog", "ant"), **options):
    config, notes = settle(FinetuneConfig(images="images", **options), train, classes)
    return config.augment, config.mix, "\n".join(map(str, notes))


@pytest.mark.parametrize("each", [1, *(least + more for least, _ in STRENGTH_FROM for more in (-1, 0) if least), 10**5])
def test_the_strength_goes_by_images_a_class_and_the_plan_says_so(each):
    augment, mix, told = settled(train=3 * each)
    assert augment == next(name for least, name in STRENGTH_FROM if each >= least)
    assert mix == ("none" if augment == "light" else "mixup")
    assert augment in told and f"{each:.1f} training images a class" in told


def test_what_is_asked_for_stays():
    assert settled(train=3, augment="strong", mix="none")[:2] == ("strong", "none")
    assert settled(train=3, augment="none")[:2] == ("none", "none")
    assert settled(train=3000, mix="cutmix")[:2] == ("light", "cutmix")
    assert "asked for" in settled(augment="medium")[2]


@pytest.mark.parametrize(
    ("classes", "options", "doubted"),
    [
        (("0", "1", "2"), {}, True),
        (("a", "b"), {}, True),
        (("0", "1"), {"flip": False}, False),
        (("0", "1"), {"augment": "none"}, False),
        (("0", "none"), {}, False),
        (("cat", "dog"), {}, False),
    ],
)
def test_mirrored_digits_are_questioned_and_nothing_is_changed(classes, options, doubted):
    config, notes = settle(FinetuneConfig(images="images", **options), 100, classes)
    told = "\n".join(map(str, notes))
    assert ("WARNING" in told and "--no-flip" in told) == doubted
    assert config.flip == options.get("flip", True)
