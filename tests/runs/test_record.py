"""Runs started with options that no longer exist."""

import json

import numpy as np
import pytest

from tlkit.base.errors import OutOfDate
from tlkit.base.files import write_checked_json
from tlkit.data.dataset import Dataset
from tlkit.options.commands import FinetuneConfig
from tlkit.runs import record
from tlkit.runs.folder import RunDir


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that has its options and its record, and no more."""
    (tmp_path / "images").mkdir()
    return record.begin(FinetuneConfig(images=str(tmp_path / "images"), out=str(tmp_path / "run"), seed=7))


def with_options(run_dir, state, *lines):
    """As an earlier version would have written it."""
    run_dir.config.write_text("\n".join([run_dir.config.read_text(), *lines]))
    content = json.loads(run_dir.record.read_text()) | {"state": state, "files": {}}
    content.pop("checksum", None)
    write_checked_json(run_dir.record, content)


@pytest.mark.parametrize(
    "line, said", [("lora = 8", "--lora 8"), ("search = 6", "--search 6"), ('unfreeze = "auto"', "--unfreeze auto")]
)
def test_a_finished_run_with_a_retired_option_is_read_and_an_unfinished_one_refused(begun, line, said):
    with_options(begun, "finished", line)
    config, retired = record.begun_with(RunDir(begun.path))
    assert (config.seed, config.unfreeze, retired) == (7, None, [said])
    record.reopen(FinetuneConfig(resume=str(begun.path)))
    with_options(begun, "running")
    with pytest.raises(OutOfDate, match=f"{said}, which this version no longer offers"):
        record.reopen(FinetuneConfig(resume=str(begun.path)))


def test_values_that_are_still_offered_are_kept(begun):
    with_options(begun, "finished", 'unfreeze = "middle"')
    config, retired = record.begun_with(RunDir(begun.path))
    assert (config.unfreeze, retired) == ("middle", [])


def test_what_had_no_effect_is_passed_over(begun):
    with_options(begun, "running")
    lines = begun.config.read_text().splitlines()
    changed = {"momentum": "momentum = 0.5", "hidden": "hidden = [64]", "blocks": ""}
    kept = [changed.pop(line.split(" = ")[0], line) for line in lines] + ["blocks = 3"]
    begun.config.write_text(
        "\n".join(kept).replace('optimizer = "sgd"', 'optimizer = "adamw"') + '\nstages = ["head"]\n'
    )
    config, retired = record.begun_with(RunDir(begun.path))
    assert (config.momentum, config.hidden, config.blocks, config.stages, retired) == (0.9, (256,), None, ("head",), [])
    record.reopen(FinetuneConfig(resume=str(begun.path)))


def test_a_run_that_is_refused_leaves_the_one_it_was_to_replace(begun, tmp_path):
    (begun.path / "checkpoints").mkdir()
    (begun.path / "model.keras").write_text("an hour of work")
    again = record.begin(FinetuneConfig(images=str(tmp_path / "images"), out=str(begun.path), overwrite=True))
    assert not again.model.exists() and not again.checkpoints.exists()
    record.discard_empty(again)
    assert begun.model.read_text() == "an hour of work" and begun.checkpoints.is_dir()
    assert record.begun_with(RunDir(begun.path))[0].seed == 7 and not list(begun.path.glob(".tmp-*"))
    again = record.begin(FinetuneConfig(images=str(tmp_path / "images"), out=str(begun.path), overwrite=True))
    heard = []
    record.RunSink(again, heard.append).prepared("material")
    assert heard == ["material"] and not again.model.exists() and not list(begun.path.glob(".tmp-*"))


@pytest.mark.parametrize("state, command", [("running", "finetune --resume"), ("finished", "evaluate")])
def test_images_that_moved_are_said_to_the_command_that_can_go_on(begun, tmp_path, state, command):
    with_options(begun, state)
    gone = Dataset.of_files(tmp_path / "gone", ["a.png"], np.zeros((1, 32), np.uint8), np.ones(1, np.int64))
    with pytest.raises(OutOfDate, match="are no longer in") as caught:
        record.refuse_moved(RunDir(begun.path), gone)
    assert f"tlkit {command} {begun.path} --images FOLDER" in caught.value.hint
