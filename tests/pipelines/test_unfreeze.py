"""`--unfreeze`: only the chosen weights change, from the command's function to the saved file."""

import json

import keras
import numpy as np
import pytest

from tlkit.classifier.model import load
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run


@pytest.mark.parametrize("asked", ["first", "middle"])
def test_one_third_moves_and_no_other(options, tiny_backbone, tmp_path, asked):
    out = tmp_path / "run"
    given = options | {
        "epochs": (3,),
        "audit": False,
        "val": 0.0,
    }  # nothing to validate on: the trained weights are kept
    run(FinetuneConfig(**given, unfreeze=asked, out=str(out)))
    plan = json.loads((out / "run.json").read_text())["plan"]
    before, after = keras.models.load_model(tiny_backbone), load(out / "model.keras").model
    moved = [
        name
        for number, name in enumerate(("first", "middle", "last"), start=1)
        if np.abs(before.get_layer(f"block{number}_conv").kernel - after.get_layer(f"block{number}_conv").kernel).max()
        > 0
    ]
    assert moved == [asked]
    assert plan["stages"][1]["source"] == ("pixels" if asked == "first" else "cut")
