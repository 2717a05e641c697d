import csv

import keras
import numpy as np
import pytest

from tlkit.base.story import Silence
from tlkit.classifier.model import load
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run


class Killed(Silence):
    """Stops the run after its first epoch of the top stage."""

    def say(self, text):
        if text.startswith("  top 1:"):
            raise KeyboardInterrupt


def epochs(path):
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_a_run_by_factors_goes_on_as_if_nothing_had_happened(options, tmp_path):
    settings = options | {"epochs": (3,), "patience": 9}
    common = {"stages": ("head", "top"), "blocks": 2, "lora": 2, "ema": 0.9, "batch_size": 4, "audit": False}
    whole = run(FinetuneConfig(**settings, **common, out=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        run(FinetuneConfig(**settings, **common, out=str(tmp_path / "cut")), Killed())
    resumed = run(FinetuneConfig(resume=str(tmp_path / "cut")))
    assert whole["metrics"] == resumed["metrics"]
    told = [epochs(tmp_path / name / "history.csv") for name in ("whole", "cut")]
    assert told[0] == told[1] and len(told[0]) == 1 + 4
    first, second = (load(tmp_path / name / "model.keras").model for name in ("whole", "cut"))
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other), err_msg=one.path)
    layers = keras.models.load_model(tmp_path / "cut" / "model.keras", compile=False).layers
    assert not any("lora_rank" in layer.get_config() for layer in layers)
