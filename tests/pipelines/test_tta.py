import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.classifier.answers import Predictions, softmax
from tlkit.classifier.facts import read_facts, write_facts
from tlkit.classifier.model import load
from tlkit.data.decode import decode
from tlkit.data.views import TtaViews
from tlkit.evaluation.calibration import fit_temperature
from tlkit.options.commands import EvaluateConfig, PredictConfig
from tlkit.pipelines import evaluate, predict
from tlkit.runs import record
from tlkit.runs.folder import RunDir

COUNT = 3


@pytest.fixture
def own(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def by_hand(run, files):
    """Mean of the calibrated probabilities of image, mirror image, centre crop."""
    classifier = load(run / "model.keras")
    images = np.stack([decode(file, classifier.facts.contract) for file in files])
    views = [images, images[:, :, ::-1], TtaViews(flip=False).view(images, None, 1)]
    logits = [np.asarray(classifier.model(np.asarray(view, np.float32))) for view in views]
    return np.mean([softmax(one, classifier.facts.temperature) for one in logits], axis=0)


def test_evaluated_and_predicted_are_the_mean_of_the_views(own, colours, capsys):
    before = {path: path.stat().st_mtime_ns for path in own.iterdir()}
    out = own / f"evaluate-tta-{COUNT}"
    result = evaluate.run(EvaluateConfig(run=str(own), tta=COUNT), PlainStory())
    said = capsys.readouterr().err
    assert result["out"] == str(out) and f"mean of {COUNT} views" in said
    assert f"the other {COUNT - 1} views: extracted " in said  # those of the image itself may have been in the store
    assert f"mean of {COUNT} views" in (out / "report.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }
    found, own_temperature = Predictions.read_csv(out / "predictions.csv"), read_facts(own / "model.keras").temperature
    hand = by_hand(own, [colours / path for path in found.paths])
    np.testing.assert_allclose(softmax(found.logits, own_temperature), hand, atol=1e-4)
    held = found.of_split("val")
    assert found.temperature == pytest.approx(float(fit_temperature(held.logits, held.labels)), rel=1e-3)

    paths = tuple(str(colours / path) for path in found.paths[:5])
    told = predict.run(PredictConfig(run=str(own), paths=paths, tta=COUNT, top=3))["predictions"]
    for row, wanted in zip(told, hand, strict=False):
        assert {one["class"]: one["probability"] for one in row["top"]} == pytest.approx(
            dict(zip(found.classes, wanted, strict=True)), abs=1e-4
        )


def test_other_images_keep_the_temperature_of_one_view_and_say_so(own, colours, capsys):
    result = evaluate.run(EvaluateConfig(run=str(own), images=str(colours), tta=2), PlainStory())
    assert result["out"] == str(own / "evaluate-colours-tta-2")
    assert "the temperature is that of single views" in capsys.readouterr().err
    with (own / "evaluate-colours-tta-2" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36


@pytest.mark.parametrize(("flip", "reason"), [(False, "--no-flip"), (None, "does not say")])
def test_no_mirror_images_where_they_are_not_alike(own, colours, flip, reason, capsys):
    model = own / "model.keras"
    write_facts(model, replace(read_facts(model), flip=flip))
    record.record_files(RunDir(own))
    with pytest.raises(TlkitError, match=f"6 views .*{reason}"):
        evaluate.run(EvaluateConfig(run=str(own), tta=7))
    predict.run(PredictConfig(run=str(model), paths=(str(colours / "red" / "00.png"),), tta=2), PlainStory())
    assert "no view is a mirror image" in capsys.readouterr().err


def test_the_threshold_of_one_view_is_not_chosen_on_several(own):
    with pytest.raises(TlkitError, match="--tta averages"):
        EvaluateConfig(run=str(own), tta=2, target_precision=0.9).check()
