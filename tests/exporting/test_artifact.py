import json

import pytest

from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.exporting.artifact import describe_files, model_bytes, read_artifact


@pytest.fixture
def folder(tmp_path):
    """The files of an artifact."""
    folder = tmp_path / "exported" / "openvino"
    folder.mkdir(parents=True)
    (folder / "model.xml").write_text("<xml/>")
    (folder / "model.bin").write_bytes(b"12345")
    (folder / "labels.txt").write_text("a\nb\n")
    write(folder, files=describe_files(folder))
    return folder


def write(folder, **changes):
    contract = {"format": 1, "kind": "openvino", "files": {}, "versions": {"tlkit": "0.0"}}
    (folder / "contract.json").write_text(json.dumps(contract | changes))


def test_what_was_exported_is_read(folder):
    found = read_artifact(folder)
    assert found.row.name == "openvino" and model_bytes(found.contract) == 11
    assert list(found.contract["files"]) == ["labels.txt", "model.bin", "model.xml"]


def test_every_changed_and_lost_file_is_named(folder):
    (folder / "model.bin").write_bytes(b"1234!")
    (folder / "labels.txt").unlink()
    with pytest.raises(OutOfDate, match=r"labels.txt is gone, model.bin has changed"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../b"])
def test_a_contract_cannot_reach_outside(folder, name):
    write(folder, files={name: {"bytes": 1, "sha256": ""}})
    with pytest.raises(OutOfDate, match="lies outside"):
        read_artifact(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "kind": [], "files": 3}'])
def test_a_damaged_contract_is_one_clear_error(folder, content):
    (folder / "contract.json").write_text(content)
    with pytest.raises(TlkitError, match="damaged"):
        read_artifact(folder)


def test_another_format_names_the_version_that_wrote_it(folder):
    write(folder, format=2)
    with pytest.raises(TlkitError, match="has format 2") as caught:
        read_artifact(folder)
    assert "0.0" in caught.value.hint


def test_the_folder_above_points_to_the_artifact(folder):
    with pytest.raises(TlkitError, match="is not an artifact") as caught:
        read_artifact(folder.parent)
    assert "openvino" in caught.value.hint
