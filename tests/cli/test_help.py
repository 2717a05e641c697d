"""Help starts with the important options; usage errors suggest what was meant, in tlkit's own words."""

import json
from dataclasses import fields

import pytest
from typer.testing import CliRunner

import tlkit
from tlkit.base.errors import TlkitError
from tlkit.cli.commands import COMMANDS
from tlkit.cli.main import app
from tlkit.options.option import _ELSEWHERE, option_meant
from tlkit.options.option import COMMANDS as OTHER_COMMANDS

cli = CliRunner()


def test_help_begins_with_the_options_that_matter_and_says_where_the_others_are():
    shown = cli.invoke(app, ["finetune", "--help"]).stdout
    shown = shown[shown.index("Arguments:") :]
    assert 0 < shown.index("--backbone") < shown.index("--out") < shown.index("--epochs")
    assert "--layer-decay" not in shown and "tlkit finetune --help-all" in shown
    everything = cli.invoke(app, ["finetune", "--help-all"])
    assert everything.exit_code == 0 and "--layer-decay" in everything.stdout


@pytest.mark.parametrize("command", [row for row in COMMANDS if row.first], ids=lambda row: row.name)
def test_what_help_shows_first_are_options_of_the_command(command):
    assert set(command.first) <= {spec.name for spec in fields(command.options)}
    assert len(command.first) <= 16


def test_summaries_in_the_list_of_commands_are_whole():
    shown = " ".join(cli.invoke(app, ["--help"]).stdout.split())
    for command in COMMANDS:
        assert command.help in shown


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["train", "x"], "tlkit has no command 'train'.", "did you mean: tlkit finetune x"),
        (["finetun", "x"], "tlkit has no command 'finetun'.", "did you mean: tlkit finetune x"),
        (["trian", "x"], "tlkit has no command 'trian'.", "did you mean: tlkit finetune x"),
        (["finetune", "x", "--lr", "1"], "tlkit finetune has no option --lr.", "did you mean --learning-rate?"),
        (["finetune", "x", "--epoch", "1"], "tlkit finetune has no option --epoch.", "did you mean --epochs?"),
        (["finetune", "x", "--device", "cpu"], "tlkit finetune has no option --device.", "tlkit doctor"),
        (["finetune", "x", "--top", "3"], "tlkit finetune has no option --top.", "an option of `tlkit predict`"),
        (["finetune", "--data", "x"], "tlkit finetune has no option --data.", "tlkit finetune IMAGES"),
        (["finetune", "x", "224"], "'224' is one argument too many.", "--help"),
        (["finetune", "--out"], "--out needs a value.", "--help"),
        (["finetune", "x", "--json=1"], "--json takes no value.", "--help"),
        (["predict"], "RUN is not given.", "for example: tlkit predict run photo.jpg"),
        (["--lr", "3"], "tlkit has no option --lr.", "after the name of a command"),
    ],
)
def test_wrong_usage_is_two_lines_of_our_own(arguments, error, hint):
    done = cli.invoke(app, arguments)
    assert done.exit_code == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: {error}" and lines[1].startswith("hint:  ") and hint in lines[1] and len(lines) == 2


@pytest.mark.parametrize(
    ("flag", "value", "hint"),
    [
        ("--image-size", "224x224", "--image-size 224"),
        ("--image-size", "224x320", "--fit pad"),
        ("--epochs", "3.5", "for example: --epochs 3"),
        ("--val", "15%", "a fraction is expected: --val 0.15"),
    ],
)
def test_a_value_of_the_wrong_kind_is_met_with_one_of_the_right(flag, value, hint):
    done = cli.invoke(app, ["finetune", "x", flag, value])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {flag} is {value!r}, expected a") and hint in done.stderr


def test_a_percentage_is_met_with_the_share_that_was_meant():
    done = cli.invoke(app, ["split", ".", "--val", "15"])
    assert done.exit_code == 1 and "a fraction is expected: --val 0.15" in done.stderr
    done = cli.invoke(app, ["split", ".", "--val", "200"])
    assert done.exit_code == 1 and "see `--help` for --val" in done.stderr


def test_wrong_usage_is_json_where_that_is_asked_for():
    done = cli.invoke(app, ["finetune", "x", "--lr", "1", "--json"])
    assert json.loads(done.stdout) == {
        "error": "tlkit finetune has no option --lr.",
        "hint": "did you mean --learning-rate?",
    }


def test_python_is_told_the_argument_that_was_meant():
    with pytest.raises(TlkitError) as raised:
        tlkit.finetune("x", lr=3)
    assert raised.value.message == "unknown option 'lr' (did you mean 'learning_rate'?)."


def test_names_from_elsewhere_lead_to_names_that_are_there():
    options = {spec.name.replace("_", "-") for row in COMMANDS for spec in fields(row.options)}
    assert set(_ELSEWHERE) - options <= {"quiet", "help-all"}  # every command has these two
    commands = {row.name for row in COMMANDS} | {"--version"}
    assert {meant.split()[0] for meant in OTHER_COMMANDS.values()} <= commands
    assert not set(OTHER_COMMANDS) & commands
    assert option_meant("--lr", ["val"]) == ""  # no guess if no similar option exists
