"""Every file of a run and an artifact, damaged in every way: results are unchanged, or there is one clear error."""

import os
import random
import shutil
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks.damage import damaged
from tlkit.base.errors import TlkitError
from tlkit.classifier.answers import Predictions
from tlkit.classifier.facts import MEMBER, read_facts, read_familiarity
from tlkit.classifier.model import load
from tlkit.exporting.artifact import read_artifact
from tlkit.options.commands import EvaluateConfig, ExportConfig, FinetuneConfig
from tlkit.pipelines import compare, evaluate, export
from tlkit.pipelines.finetune import run
from tlkit.report.run_page import read_choice
from tlkit.runs import record
from tlkit.runs.folder import RunDir, finished_model
from tlkit.runs.history import read_history
from tlkit.training.checkpoint import Checkpoint

TRIES = int(os.environ.get("TLKIT_DAMAGE", "400"))


def facts_of(value):
    """Something to compare: arrays as bytes, objects by what they hold."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {key: facts_of(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [facts_of(one) for one in value]
    return facts_of(value.__dict__) if hasattr(value, "__dict__") else value


def weights_of(folder):
    """The weights of a stage that its state names, checked as they are before they are loaded."""
    checkpoint = Checkpoint(folder)
    state = checkpoint.read()
    taken = [checkpoint.intact(name).read_bytes() for name in sorted({state.latest, state.best, state.start} - {""})]
    return [state, taken]


def readers(run_dir, artifact):
    """Everything that commands read of a run, and of an artifact."""
    stages = sorted(path.name for path in run_dir.checkpoints.iterdir() if path.is_dir())
    return {
        "record": run_dir.read_record,
        "images": lambda: record.read_images(run_dir),
        "contract": lambda: record.read_contract(run_dir),
        "options": lambda: record.reopen(FinetuneConfig(resume=str(run_dir.path)))[0],
        "choice": lambda: read_choice(run_dir),
        "history": lambda: read_history(run_dir.intact(run_dir.history)),
        "predictions": lambda: compare._read(run_dir.path),
        "held": lambda: evaluate._of_run(run_dir),
        "facts": lambda: read_facts(finished_model(str(run_dir.path))),
        "familiarity": lambda: read_familiarity(finished_model(str(run_dir.path))),
        "artifact": lambda: read_artifact(artifact).contract,
        **{f"stage {name}": lambda name=name: weights_of(run_dir.checkpoints / name) for name in stages},
    }


@pytest.fixture(scope="module")
def sound(options, tmp_path_factory):
    """A run with all kinds of files, and an artifact of it."""
    folder = tmp_path_factory.mktemp("damage")
    run(FinetuneConfig(**options, stages=("head", "top"), blocks=1, out=str(folder / "run")))
    export.run(ExportConfig(run=str(folder / "run"), out=str(folder / "artifacts"), check_images=0))
    return RunDir(folder / "run"), folder / "artifacts" / "keras"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_damaged_file_is_never_believed(sound, tmp_path):
    run_dir, artifact = sound
    reads = readers(run_dir, artifact)
    expected = {name: facts_of(read()) for name, read in reads.items()}
    files = [path for root in (run_dir.path, artifact) for path in sorted(root.rglob("*")) if path.is_file()]
    files = [path for path in files if "logs" not in path.parts and path.name != ".lock"]
    refused = 0
    for seed in range(TRIES):
        rng = random.Random(seed)
        path = files[seed % len(files)]
        shutil.copy2(path, tmp_path / "kept")
        how = damaged(path, rng)
        for name, read in reads.items():
            try:
                found = facts_of(read())
            except TlkitError as error:
                assert error.message and error.hint, (seed, path, how, name)
                refused += 1
            else:
                if how == "gone" and path.name == "state.json":  # the stage begins again
                    continue
                assert found == expected[name], (seed, path, how, name)
        shutil.copy2(tmp_path / "kept", path)
    assert refused > TRIES / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predictions.csv", "metrics.json", "choice.json", "history.csv", "model.keras"])
def test_evaluate_or_resume_heals_what_can_be_made_again(sound, tmp_path, name):
    out = tmp_path / "run"
    shutil.copytree(sound[0].path, out)
    (out / name).write_bytes(b"[]")
    if name == "predictions.csv":
        evaluate.run(EvaluateConfig(run=str(out)))
    else:
        run(FinetuneConfig(resume=str(out)))
    assert RunDir(out).damaged() == []
    assert len(Predictions.read_csv(out / "predictions.csv")) == 36


class Unknown(keras.layers.Layer):
    """A layer that plain Keras does not have."""

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "layer", [lambda: keras.layers.Lambda(lambda x: x * 1), Unknown], ids=["Lambda", "unknown class"]
)
def test_a_model_that_is_code_is_refused_in_one_sentence(sound, tmp_path, layer):
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(layer()(image))
    path = tmp_path / "model.keras"
    keras.Model(image, keras.layers.Dense(3)(x)).save(path)
    with zipfile.ZipFile(sound[0].model) as ours, zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, ours.read(MEMBER))
    with pytest.raises(TlkitError) as caught:
        load(path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_facts_that_are_none_are_one_error(sound, tmp_path):
    path = tmp_path / "model.keras"
    for content in ("[]", "{}", "null", '{"format": 1}', '{"format": 1, "classes": 3, "contract": 5}', "{"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MEMBER, content)
        with pytest.raises(TlkitError, match="damaged"):
            read_facts(path)


def test_a_checkpoint_that_was_swapped_for_another_is_refused(sound, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(sound[0].checkpoints / "head", folder)
    state = Checkpoint(folder).read()
    (folder / state.best).write_bytes((folder / state.best).read_bytes() + b"\0")
    with pytest.raises(TlkitError, match="has changed since it was written") as caught:
        Checkpoint(folder).load_weights(None, state.best)
    assert str(folder) in caught.value.hint
    assert replace(state) == state
