"""Commands as Python functions document their arguments, and errors say what to do."""

import inspect
import os
import subprocess
import sys
import traceback
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import tlkit
from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.cli.commands import COMMANDS
from tlkit.options.commands import EvaluateConfig, FinetuneConfig
from tlkit.python import functions
from tlkit.python.functions import FURTHER, options_of

FUNCTIONS = {name.removeprefix("list_").removeprefix("draw_"): name for name in tlkit.__all__}


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_signature_and_help_are_those_of_the_command(row):
    function = getattr(tlkit, FUNCTIONS[row.name])
    assert options_of(row.name) is row.options and function.__name__ == FUNCTIONS[row.name]
    shown = inspect.signature(function).parameters
    assert set(shown) == {spec.name for spec in fields(row.options)} | set(FURTHER)
    for spec in fields(row.options):
        assert shown[spec.name].default == (inspect.Parameter.empty if spec.default is MISSING else spec.default)
        by_position = shown[spec.name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert by_position == bool(spec.metadata.get("argument"))
        assert f"    {spec.name} (" in function.__doc__ and spec.metadata["help"] in function.__doc__
    assert "Returns:" in function.__doc__ or "Raises:" in function.__doc__ or len(fields(row.options)) == 0


def test_help_of_a_function_names_type_default_range_and_choices():
    text = tlkit.finetune.__doc__
    assert "batch_size (int, default 32, 1..4096): Maximum images per batch" in text
    assert "fit (str, default 'squash', one of squash, crop, pad): How an image" in text
    assert "epochs (tuple[int, ...] | None, default None, 1..): Maximum epochs" in text


def test_completion_and_help_load_nothing_heavy():
    program = """
import inspect, sys
import tlkit
for name in dir(tlkit):
    inspect.getdoc(getattr(tlkit, name))
    if name in tlkit.__all__:
        inspect.signature(getattr(tlkit, name))
assert callable(tlkit.load)
found = [name for name in ("keras", "tensorflow", "pandas", "sklearn", "matplotlib", "PIL") if name in sys.modules]
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


_MENTIONS = TlkitError("mirrored: --no-flip", "give --batch-size 8 and --head mlp, or ray start --port 1.")


def test_flags_of_an_error_are_named_as_arguments(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(TlkitError, match="already exists") as error:
        tlkit.finetune(str(tmp_path), out=str(tmp_path / "out"))
    assert error.value.__notes__[-1] == "in Python: overwrite=True"
    assert functions._flags_named(_MENTIONS, FinetuneConfig) == ["flip=False", "batch_size=..."]
    moved = TlkitError("the images are gone.", "say where they are now: tlkit evaluate run --images FOLDER")
    assert functions._flags_named(moved, EvaluateConfig) == ["moved_to=..."]


def test_a_hint_is_shown_once_with_the_error(tmp_path):
    with pytest.raises(TlkitError) as caught:
        tlkit.finetune(tmp_path, backbone="resnet5O")
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("did you mean 'resnet50'") == 1 and "\nhint: did you mean" in shown
    assert not hasattr(TlkitError("no hint."), "__notes__")


def test_a_wrong_call_is_refused_before_anything_loads(tmp_path):
    with pytest.raises(TypeError, match="takes images by position"):
        tlkit.split("a", "b")
    with pytest.raises(TlkitError, match="does not exist"):
        tlkit.features(tmp_path / "none")


def test_several_of_one_kind_are_one_list_and_a_comma_is_a_letter_of_a_name(tmp_path):
    with pytest.raises(
        TypeError, match=r"takes runs by position, but 2 were given; pass several runs as one list: tlkit.compare"
    ):
        tlkit.compare("a", "b")
    with pytest.raises(TypeError, match=r"takes run, paths by position, but 3 .* tlkit.predict\(run, \[..., ...\]\)"):
        tlkit.predict("run", "a.jpg", "b.jpg")
    with pytest.raises(TlkitError, match="'one,two' does not exist"):
        tlkit.compare(["one,two", "three"])
    with pytest.raises(TlkitError, match="a comparison takes two runs, and one is given"):
        tlkit.compare("one,two")


def test_an_error_shows_the_line_of_the_caller_and_none_of_ours(tmp_path, monkeypatch):
    def frames(call):
        with pytest.raises(TlkitError) as found:
            call()
        assert found.value.__suppress_context__ or os.environ.get("TLKIT_DEBUG")
        return [Path(frame.filename).name for frame in traceback.extract_tb(found.value.__traceback__)][2:]

    calls = (lambda: tlkit.audit(tmp_path / "gone"), lambda: tlkit.audit(tmp_path, backbon="nano"))
    assert [frames(call) for call in calls] == [["functions.py"]] * 2
    monkeypatch.setenv("TLKIT_DEBUG", "1")
    assert [frames(call)[-1] for call in calls] == ["option.py"] * 2


def test_who_interrupts_a_training_is_told_how_it_goes_on(tmp_path, monkeypatch):
    def interrupted(name, story):
        raise KeyboardInterrupt

    monkeypatch.setattr("tlkit.pipelines.load", interrupted)
    run = tmp_path / "run"
    for left, words in (
        ((), []),
        (("config.toml",), [f"interrupted; continue with: tlkit.finetune(resume={str(run)!r})"]),
        (("config.toml", "run.json"), [f"{run} is as it was."]),
    ):
        for name in left:
            run.mkdir(exist_ok=True)
            (run / name).write_text('{"state": "finished"}')
        story = Listener()
        with pytest.raises(KeyboardInterrupt):
            tlkit.finetune(tmp_path, out=run, overwrite=True, story=story)
        assert story.said == words
