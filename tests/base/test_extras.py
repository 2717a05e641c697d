import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from tlkit.base.machine import EXTRAS, install, versions

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Installed:
    """A distribution as `importlib.metadata` gives it."""

    requires = (
        "numpy>=1.26",
        "av>=14 ; extra == 'video'",
        "onnx>=1.17; extra == 'onnx'",
        "tf2onnx; extra == 'onnx'",
    )

    def __init__(self, url):
        self.url = url

    def read_text(self, name):
        return self.url if name == "direct_url.json" else None


def test_doctor_knows_every_extra_of_the_project():
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - {"dev"}


@pytest.mark.parametrize(
    ("url", "command"),
    [
        (None, "pip install 'tlkit[onnx]'"),  # from an index
        ('{"url": "file:///src", "dir_info": {"editable": true}}', "pip install 'onnx>=1.17' 'tf2onnx'"),
        ('{"url": "file:///tlkit-0.1.0-py3-none-any.whl"}', "pip install 'onnx>=1.17' 'tf2onnx'"),
    ],
)
def test_the_command_that_installs_goes_by_where_tlkit_came_from(url, command, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(url))
    assert install("onnx") == command


def test_a_checkout_that_was_never_installed_names_itself(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    assert install("video") == "pip install '.[video]', in the checkout"


def test_versions_name_what_shapes_a_run():
    shapes = {"cleanlab", "simplejpeg", "scipy", "h5py"}  # always there
    assert shapes <= set(versions())
