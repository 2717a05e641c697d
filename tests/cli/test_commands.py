import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tlkit
from tlkit import pipelines
from tlkit.base.story import Silence
from tlkit.cli import main
from tlkit.cli.commands import COMMANDS
from tlkit.cli.main import app

cli = CliRunner()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda row: row.name)
def test_every_option_is_a_flag_and_every_command_shows_examples(command):
    shown = cli.invoke(app, [command.name, "--help-all"]).stdout
    for spec in fields(command.options):
        name = (
            spec.name
            if spec.metadata.get("argument")
            else "--" + (spec.metadata.get("flag") or spec.name.replace("_", "-"))
        )
        assert name.lower() in shown.lower()  # Typer versions differ in the case of arguments
    for example in command.examples:
        assert example in shown


def test_every_command_is_a_python_function():
    plain = [name.removeprefix("list_").removeprefix("draw_") for name in tlkit.__all__]
    assert sorted(row.name for row in COMMANDS) == sorted(plain)
    tlkit.features  # noqa: B018 - loading a pipeline must not put a package in its function's place
    pipelines.load("features", Silence())
    for name in tlkit.__all__:
        assert callable(getattr(tlkit, name))


def test_a_wrong_name_costs_two_lines_and_exit_code_1(colours):
    done = cli.invoke(app, ["finetune", str(colours), "--backbone", "resnet5O"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == "error: 'resnet5O' is not a backbone."
    assert "did you mean 'resnet50'" in done.stderr.splitlines()[1]


def test_what_does_not_exist_is_named(tmp_path):
    done = cli.invoke(app, ["finetune", str(tmp_path / "none")])
    assert done.exit_code == 1 and "does not exist" in done.stderr


@pytest.mark.parametrize("arguments", [["finetun"], ["finetune", "--epoch", "3"], ["predict"]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert cli.invoke(app, arguments).exit_code == 2


def test_flags_override_the_file_and_the_file_the_defaults(colours, tiny_backbone, tmp_path):
    (tmp_path / "config.toml").write_text(
        f'backbone = "{tiny_backbone}"\n[training]\nepochs = 5\nstages = ["head", "top"]\nblocks = 1\n'
    )
    arguments = ["finetune", str(colours), "--config", str(tmp_path / "config.toml"), "--dry-run", "--json"]
    arguments += ["--val", "0"]  # with a validation split, so few images would train the head alone
    plan = json.loads(cli.invoke(app, arguments).stdout)["plan"]
    assert [stage["epochs"] for stage in plan["stages"]] == [5, 5]
    plan = json.loads(cli.invoke(app, [*arguments, "--epochs", "2,3"]).stdout)["plan"]
    assert [stage["epochs"] for stage in plan["stages"]] == [2, 3]


def test_an_unknown_key_in_the_file_is_an_error_with_the_nearest(colours, tmp_path):
    (tmp_path / "config.toml").write_text("[training]\nepoch = 5\n")
    done = cli.invoke(app, ["finetune", str(colours), "--config", str(tmp_path / "config.toml")])
    assert done.exit_code == 1 and "did you mean 'epochs'" in done.stderr


def test_json_is_one_object_on_stdout_also_for_errors(colours, tiny_backbone, tmp_path):
    arguments = ["features", str(colours), "--backbone", str(tiny_backbone), "--out", str(tmp_path / "f.csv"), "--json"]
    result = json.loads(cli.invoke(app, arguments).stdout)
    assert result["images"] == 36 and result["set_aside"] == [] and result["out"] == str(tmp_path / "f.csv")
    error = json.loads(cli.invoke(app, arguments).stdout)
    assert "already exists" in error["error"] and error["hint"]


def test_without_json_stdout_is_the_result_and_stderr_the_story(colours, tiny_backbone, tmp_path):
    arguments = ["features", str(colours), "--backbone", str(tiny_backbone), "--out", str(tmp_path / "f.csv")]
    done = cli.invoke(app, arguments)
    assert done.stdout == f"{tmp_path / 'f.csv'}\n" and "36 images" in done.stderr
    quiet = cli.invoke(app, [*arguments, "--overwrite", "--quiet"])
    assert quiet.exit_code == 0 and quiet.stderr == ""


@pytest.fixture
def heard():
    """Signals as a terminal has them: the background jobs of a shell ignore SIGINT, those of nohup SIGHUP."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_says_how_to_go_on_where_there_is_something_to_go_on_with(
    colours, monkeypatch, tmp_path, empty_cache, number, code
):
    def interrupted(name, story):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("tlkit.pipelines.load", interrupted)
    out = tmp_path / "run"
    done = cli.invoke(app, ["finetune", str(colours), "--out", str(out)])
    assert done.exit_code == code and done.stderr == "\ninterrupted.\n"
    out.mkdir()
    for name in ("config.toml", "model.keras"):
        (out / name).touch()
    done = cli.invoke(app, ["finetune", str(colours), "--out", str(out), "--overwrite"])
    assert done.exit_code == code and f"tlkit finetune --resume {out}" in done.stderr
    (out / "run.json").write_text('{"state": "finished"}')
    done = cli.invoke(app, ["finetune", str(colours), "--out", str(out), "--overwrite"])
    assert done.exit_code == code and f"hint:  {out} is as it was." in done.stderr
    done = cli.invoke(app, ["predict", str(out / "model.keras"), str(colours)])
    assert done.exit_code == code and "hint" not in done.stderr and done.stdout == ""
    done = cli.invoke(app, ["finetune", str(colours), "--out", str(out), "--overwrite", "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout) == {"error": "interrupted.", "hint": f"{out} is as it was."}


def test_a_full_disk_is_one_error_wherever_it_is_noticed(colours, monkeypatch, tmp_path):
    def full(name, story):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "metrics.json"))

    monkeypatch.setattr("tlkit.pipelines.load", full)
    done = cli.invoke(app, ["finetune", str(colours), "--out", str(tmp_path / "run")])
    assert done.exit_code == 1 and "metrics.json: its disk is full" in done.stderr
    assert "make room" in done.stderr and "Traceback" not in done.stderr


def test_python_functions_take_what_the_command_takes(colours, tiny_backbone, tmp_path):
    result = tlkit.features(colours, backbone=tiny_backbone, out=tmp_path / "f.npz")
    assert result["images"] == 36 and (tmp_path / "f.npz").exists()
    with pytest.raises(TypeError, match="images"):
        tlkit.features(colours, "resnet50")


def test_a_file_name_that_is_no_text_comes_out_as_its_bytes(capfdbinary):
    main._print([os.fsdecode(b"\xff.png,red"), "\n"])
    assert capfdbinary.readouterr().out == b"\xff.png,red\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_result_that_cannot_be_written_is_one_error():
    with Path("/dev/full").open("w") as full:
        program, root = [sys.executable, "-m", "tlkit", "backbones"], Path(__file__).parents[2]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=root)
    assert done.returncode == 1 and done.stderr.startswith("error: standard output cannot be written: No space left")
    assert "Traceback" not in done.stderr
