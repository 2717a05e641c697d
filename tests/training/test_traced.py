"""Stages that are trained several times: traces of the first fold are reused by the others, as if recompiled."""

import json
import shutil

import keras
import numpy as np
import pytest

from tlkit.base.story import Silence
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import TrainingOptions
from tlkit.pipelines.finetune import run
from tlkit.training import crossing, stages
from tlkit.training.crossing import Traced
from tlkit.training.fit import Epoch
from tlkit.training.optimizer import Updates, exchange_averages, unfreeze_and_compile
from tlkit.training.stages import Ready, made_ready


class UntilChosen(Silence):
    """Ends a run when the folds are done, before the training on all images."""

    def say(self, text):
        if text.startswith("choice, by"):
            raise KeyboardInterrupt


@pytest.fixture
def eleven(colours, tmp_path):
    """Images of which 4, 4 and 3 of a class train where two in three are for testing: folds of 4, 4 and 3 images."""
    images = shutil.copytree(colours, tmp_path / "images")
    for number in range(3):
        (images / "red" / f"{number:02d}.png").unlink()
    return images


def test_every_fold_learns_what_it_learns_when_it_is_compiled_anew(
    eleven, tiny_backbone, tmp_path, monkeypatch, empty_cache
):
    """With averages, BatchNorm that moves, dropout, and a second stage in which other layers learn."""
    made = []
    monkeypatch.setattr(crossing, "made_ready", lambda *given: made.append(given[0].name) or made_ready(*given))
    options = {"images": str(eleven), "backbone": str(tiny_backbone), "validate": "folds", "test": 0.67, "audit": False}
    options |= {"stages": ("head", "top", "all"), "blocks": 1, "epochs": (2,), "views": 2, "batch_size": 4}
    options |= {"ema": 0.9, "batchnorm": "train", "dropout": 0.3}

    def read(path):
        with np.load(path) as arrays:
            return dict(arrays)

    def folds(name):
        with pytest.raises(KeyboardInterrupt):
            run(FinetuneConfig(**options, out=str(tmp_path / name)), UntilChosen())
        choice = json.loads((tmp_path / name / "choice.json").read_text())
        return choice, [read(path) for path in sorted((tmp_path / name / "checkpoints" / "folds").glob("*.npz"))]

    choice, given = folds("traced")
    assert made == ["head", "top", "all"]  # once each, though some folds have fewer images, and smaller batches
    monkeypatch.setattr(Traced, "ready", lambda self, *given: made_ready(*given, stages.examples_of(*given)))
    other, anew = folds("anew")
    assert len(given) == len(anew) > 2 and choice["chosen"] == other["chosen"]
    assert len({len(next(iter(fold.values()))) for fold in given}) == 2
    for one, two in zip(given, anew, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)
        first, *_, last = one.values()
        assert not np.array_equal(first, last)  # something was learned


@pytest.fixture
def kept(tiny_backbone):
    """A model whose last block learns, its batches of momentum and averages, and its remembered state."""
    model = keras.saving.load_model(tiny_backbone)
    grid = keras.layers.GlobalAveragePooling2D()(model.output)
    model = keras.Model(model.input, keras.layers.Dense(2, name="logits")(grid))
    for layer in model.layers:
        layer.trainable = layer.name.startswith(("block3", "logits"))
    unfreeze_and_compile(
        model, TrainingOptions(ema=0.9, optimizer="sgd"), blocks=(), learn="all", updates=Updates(0.1, 10)
    )
    return model, crossing._Kept.of(Ready(model, Epoch(lambda *_: (0.0, 0.0))), ("as planned",))


def test_what_was_traced_serves_while_all_that_it_holds_is_the_same(kept):
    model, remembered = kept
    assert remembered.serves(("as planned",))
    assert not remembered.serves(("with twice as many updates",))
    for layer in model.layers:  # another stage of the previous fold has trained them all
        layer.trainable = True
    model.get_layer("block3_conv").bias.assign_add([1.0] * 16)  # which learns, so that no trace holds its values
    assert remembered.serves(("as planned",))
    assert [layer.name for layer in model.layers if layer.weights and layer.trainable] == [
        *("block3_conv", "block3_bn", "logits")
    ]
    model.get_layer("block1_bn").moving_mean.assign_add([1.0] * 8)  # which may be folded into a kernel
    assert not remembered.serves(("as planned",))


def test_what_was_compiled_since_serves_no_more(kept):
    model, remembered = kept
    unfreeze_and_compile(model, TrainingOptions(), blocks=(), learn="all", updates=Updates(0.1, 10, parts=2))
    assert not remembered.serves(("as planned",))


def test_an_optimizer_goes_back_to_its_beginning(kept):
    model, remembered = kept
    optimizer, variables = remembered.optimizer, model.trainable_variables
    for _ in range(3):
        optimizer.apply([keras.ops.ones_like(variable) for variable in variables], variables)
    assert int(optimizer.iterations) == 3
    moved = [np.array(variable) for variable in variables]
    optimizer.rewind(remembered.start)
    assert int(optimizer.iterations) == 0
    averages = {id(average) for _, average in optimizer.averages()}
    others = [np.array(variable) for variable in optimizer.variables if id(variable) not in averages]
    start = [
        values
        for variable, values in zip(optimizer.variables, remembered.start, strict=True)
        if id(variable) not in averages
    ]
    assert all(map(np.array_equal, others, start))
    exchange_averages(optimizer)  # averages start at the weights
    assert all(np.array_equal(variable, values) for variable, values in zip(variables, moved, strict=True))
