"""Progress with time left: in logs, in notebooks, and not at all."""

import sys
import types

import pytest

import tlkit
from tlkit.base import story
from tlkit.base.story import NotebookStory, PlainStory, Silence, clock, progress, story_for_python


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (125, "2:05 min"), (4200, "1:10 h")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (320, 398, 16.0, "reading: 320 of 398 (20/s), 4 s left"),
        (3, 600, 2.0, "reading: 3 of 600 (1.5/s), 6:38 min left"),
        (5, None, 10.0, "reading: 5 (0.5/s)"),
        (0, 10, 1.0, "reading: 0 of 10 (0.0/s)"),
    ],
)
def test_progress_says_what_is_left(done, total, seconds, text):
    assert progress("reading", done, total, seconds) == text


class Time:
    """A clock that goes on by a second whenever it is read."""

    now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


def test_a_log_gets_a_line_every_five_seconds(monkeypatch, capsys):
    monkeypatch.setattr(story, "time", Time())
    assert list(PlainStory().track(range(20), "reading", 20)) == list(range(20))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  reading: 5 of 20 (1.0/s), 15 s left" and len(lines) == 4


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
    assert notebook[0] == "36 images" and notebook[-1] == "36 images\ndone"
    assert "36 images\n  reading: 1 of 2 (1.0/s), 1 s left" in notebook
    assert capsys.readouterr() == ("", "")


def test_nobody_listens_without_verbose(capsys, tmp_path):
    assert isinstance(story_for_python(False), Silence)
    tlkit.sample("shapes", tmp_path / "s", count=12, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert type(story_for_python()) is PlainStory
