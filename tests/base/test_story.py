"""Progress with time left: in logs, in notebooks, and not at all."""

import os
import re
import sys
import threading
import time
import types

import pytest

import tlkit
from tlkit.base import story
from tlkit.base.story import NotebookStory, Phase, PlainStory, Silence, SteadyStory, story_for_python


class Time:
    """A clock that goes on by a second whenever it is read."""

    now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def told(monkeypatch):
    """A plain story whose clock goes on by a second a look."""
    monkeypatch.setattr(story, "time", Time())
    return PlainStory()


def test_a_log_gets_a_line_on_the_whole_every_few_seconds(told, capsys):
    told.expect(Phase("reading", 30.0), Phase("writing", 30.0))
    assert list(told.track(range(40), "reading", 40)) == list(range(40))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5 and all(re.match(r"  \d+ %, .* left: reading, \d+ of 40 \(", line) for line in lines)
    shares = [int(line.split()[0]) for line in lines]
    assert shares == sorted(shares) and shares[-1] <= 50


def test_a_long_log_gets_lines_more_rarely(told, capsys):
    list(told.track(range(20_000), "reading", 20_000))
    assert len(capsys.readouterr().err.splitlines()) < 300  # one every five seconds would be thousands


def test_the_command_line_is_told_of_what_nobody_counts_and_of_nothing_afterwards(capsys):
    told = SteadyStory()
    told.every = told.look = 0.01
    told.expect(Phase("computing", 30.0))
    told.begin("computing")
    lines, until = [], time.monotonic() + 5
    while len(lines) < 3 and time.monotonic() < until:  # no messages from here on
        time.sleep(0.02)
        lines += capsys.readouterr().err.splitlines()
    told.close()
    assert len(lines) >= 3 and all(re.fullmatch(r"  \d+ %, .* left: computing", line) for line in lines)
    assert not [thread for thread in threading.enumerate() if thread.name == "tlkit-story"]
    quiet = SteadyStory(0)
    quiet.expect(Phase("computing", 30.0))
    assert not [thread for thread in threading.enumerate() if thread.name == "tlkit-story"]
    quiet.close()


@pytest.fixture
def notebook(monkeypatch):
    """A kernel as IPython shows it; what is displayed, and each of its states."""
    states = []

    class Handle:
        def update(self, content, raw):
            states.append(content["text/plain"])

    def display(content, raw, display_id):
        states.append(content["text/plain"])
        return Handle()

    class ZMQInteractiveShell:
        pass

    module = types.ModuleType("IPython")
    module.get_ipython = ZMQInteractiveShell
    module.display = types.ModuleType("IPython.display")
    module.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    return states


def test_a_notebook_gets_one_output_without_a_red_wall(notebook, monkeypatch, capsys):
    monkeypatch.setattr(story, "time", Time())
    told = story_for_python()
    assert isinstance(told, NotebookStory)
    told.say("36 images")
    told.detail("hidden")
    list(told.track("ab", "reading", 2))
    told.say("done")
    told.close()
    assert notebook[0] == "36 images" and notebook[-1] == "36 images\ndone"
    assert any(re.fullmatch(r"36 images\n  50 %, .* left: reading, 1 of 2 \(.*/s\)", state) for state in notebook)
    assert capsys.readouterr() == ("", "")


def test_nobody_listens_without_verbose(capsys, tmp_path):
    assert isinstance(story_for_python(False), Silence)
    tlkit.sample("shapes", tmp_path / "s", count=12, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert type(story_for_python()) is PlainStory


def test_the_work_goes_on_where_nobody_hears_it(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        heard = PlainStory()
        heard.say("a terminal that was closed")
        assert list(heard.track(range(3), "working", 3)) == [0, 1, 2]
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # so that closing it raises no error
