"""The progress of whole commands: phases in the expected order, never backwards, to the end."""

import shutil

import pytest

from tlkit.base.story import PlainStory
from tlkit.options import commands
from tlkit.pipelines import audit, compare, evaluate, explain, export, features, finetune, predict, rank, verify
from tlkit.pipelines.upkeep import doctor


class Watched(PlainStory):
    """Notes the phase and the share of the whole whenever something has moved."""

    def __init__(self):
        super().__init__(0)
        self.seen, self.expected = [], ()

    def expect(self, *phases):
        self.expected = [phase.name for phase in phases]
        super().expect(*phases)

    def _moved(self):
        if self.progress.fraction is not None:
            self.seen.append((self.progress.name, self.progress.fraction))


def assert_whole(story, last):
    names = list(dict.fromkeys(name for name, _ in story.seen))
    shares = [share for _, share in story.seen]
    assert names == [name for name in story.expected if name in names]
    assert shares == sorted(shares) and names[-1] == story.expected[-1] == last
    assert shares[0] < shares[-1] <= 1  # the expected time of the last phase still counts as remaining when it begins


def test_a_run_takes_its_phases_from_its_plan_and_a_run_gone_on_with_passes_over_what_is_done(options, tmp_path):
    given = options | {"stages": ("head", "top"), "blocks": 1, "epochs": (2,)}
    story = Watched()
    finetune.run(commands.FinetuneConfig(**given, out=str(tmp_path / "run")), story)
    assert_whole(story, "evaluating")
    assert "training the head" in story.expected and "training the head and the last block" in story.expected
    begun = {name for name, _ in story.seen}
    assert {"reading files", "training the head and the last block"} <= begun  # features may be stored by now


@pytest.mark.parametrize(
    ("command", "name", "given", "last"),
    [
        (features, "Features", {"out": "features.csv"}, "writing"),
        (audit, "Audit", {"out": "audit"}, "writing"),
        (rank, "Rank", {"out": "rank"}, "timing"),
    ],
)
def test_commands_on_images(command, name, given, last, colours, tiny_backbone, tmp_path):
    network = {"backbones": (str(tiny_backbone),)} if name == "Rank" else {"backbone": str(tiny_backbone)}
    story = Watched()
    out = {key: str(tmp_path / value) for key, value in given.items()}
    command.run(getattr(commands, f"{name}Config")(images=str(colours), **network, **out), story)
    assert_whole(story, last)


@pytest.mark.parametrize(
    ("command", "name", "last"),
    [
        (evaluate, "Evaluate", "measuring"),
        (predict, "Predict", "predicting"),
        (explain, "Explain", "explaining"),
        (export, "Export", "writing keras"),
    ],
)
def test_commands_on_a_run(command, name, last, finished, colours, tmp_path):
    story, out = Watched(), {"out": str(tmp_path / ("out.csv" if name == "Predict" else "out"))}
    images = {"Evaluate": {"images": str(colours)}, "Export": {}}.get(name, {"paths": (str(colours / "red"),)})
    command.run(getattr(commands, f"{name}Config")(run=str(finished[0]), **images, **out), story)
    assert_whole(story, last)


def test_doctor_and_comparisons(finished, tmp_path):
    looked, compared = Watched(), Watched()
    doctor.run(commands.DoctorConfig(), looked)
    assert_whole(looked, "looking around")
    compare.run(
        commands.CompareConfig(runs=(str(finished[0]), str(shutil.copytree(finished[0], tmp_path / "other")))), compared
    )
    assert_whole(compared, "comparing")


def test_an_artifact_is_verified_in_phases(finished, tmp_path):
    export.run(commands.ExportConfig(run=str(finished[0]), format=("keras",), out=str(tmp_path / "out")))
    story = Watched()
    verify.run(commands.VerifyConfig(artifact=str(tmp_path / "out" / "keras")), story)
    assert_whole(story, "timing")
