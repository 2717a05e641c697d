"""Files of weights: downloaded from a misbehaving server, recognised by content, moved between machines."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from tests.misbehaving import HASTE
from tlkit.backbones import weight_files
from tlkit.backbones.weight_files import read_spec
from tlkit.backbones.weight_transfer import export_files, fetch, header_problem, import_files, plain_name, recognise
from tlkit.base.errors import TlkitError
from tlkit.base.files import md5_file
from tlkit.base.story import Silence

RESNET = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
SMALL = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{}_no_top.h5"


def weights(path, numbers=1000, **options):
    """A file in the format of Keras's, of that many numbers."""
    with h5py.File(path, "w", **options) as file:
        file.attrs["layer_names"] = ["conv", "relu"]
        file.create_group("relu").attrs["weight_names"] = []
        group = file.create_group("conv")
        group.attrs["weight_names"] = ["kernel"]
        group["kernel"] = np.random.default_rng(numbers).normal(size=numbers).astype("float32")
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder in which Keras keeps its weights, which does not exist yet."""
    monkeypatch.setattr(weight_files, "models_folder", lambda: tmp_path / "home" / "models")
    monkeypatch.setattr(weight_files, "FALLBACK_FOLDER", tmp_path / "fallback")
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file that Keras publishes as the weights of ResNet50, by its checksum, under an arbitrary name."""
    path = weights(tmp_path / "download (1).h5")
    monkeypatch.setitem(weight_files.SUMS, "resnet50", md5_file(path))
    return path


@pytest.fixture
def get(server, published, home, monkeypatch):
    server.content[RESNET] = published.read_bytes()

    def run(manner, spec="resnet50"):
        monkeypatch.setenv("TLKIT_WEIGHTS_URL", server.url(manner, ""))
        return fetch(read_spec(spec), Silence(), HASTE)

    return run


@pytest.mark.parametrize("manner", ["ok", "truncates", "stalls", "norange", "busy"])
def test_what_can_be_had_is_had_and_checked(manner, get, home, published):
    assert get(manner).read_bytes() == published.read_bytes()
    assert [path.name for path in home.iterdir()] == [RESNET]


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("403", r"answers with HTTP 403 \(Forbidden\)"),
        ("500", r"answers with HTTP 500 \(3 tries\)"),
        ("never", r"breaks off .*timed out"),
        ("lies", r"sends another file: its md5 is [0-9a-f]{32}, expected [0-9a-f]{32}"),
    ],
)
def test_what_the_server_does_wrong_is_one_error_with_the_ways_out(manner, reason, get, server, home):
    with pytest.raises(TlkitError, match=reason) as refused:
        get(manner)
    assert RESNET in refused.value.message
    for way in ("HTTPS_PROXY", f"keras-applications/resnet/{RESNET}", "tlkit weights import", "--weights none"):
        assert way in refused.value.hint
    assert not (home / RESNET).exists()


def test_where_keras_states_no_sum_a_page_and_half_a_file_are_refused(get, server, home, tmp_path):
    name = SMALL.format(224)
    server.content[name] = b"<!DOCTYPE html> please log in"
    with pytest.raises(TlkitError, match="sends another file: it is not an HDF5 file: it begins with '<!DOCTYPE html>"):
        get("ok", "mobilenetv2:alpha=0.35")
    whole = weights(tmp_path / "whole.h5").read_bytes()
    server.content[name] = whole[: len(whole) // 2]
    with pytest.raises(TlkitError, match=r"it is cut short: [0-9,]+ of [0-9,]+ bytes"):
        get("ok", "mobilenetv2:alpha=0.35")
    assert list(home.iterdir()) == []


def test_what_is_here_is_checked_and_nothing_asked_for(get, server, home, published):
    home.mkdir(parents=True)
    shutil.copy(published, home / RESNET)
    assert get("ok") == home / RESNET and not server.requests
    (home / RESNET).write_bytes(b"something else")
    with pytest.raises(TlkitError, match=r"is not what Keras publishes for resnet50: its md5 is .* not an HDF5 file"):
        get("ok")
    assert (home / RESNET).read_bytes() == b"something else"


def test_offline_the_error_names_the_file_the_folder_and_the_ways(get, server, home, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    with pytest.raises(TlkitError, match=f"{RESNET} .*is not in {home}, and tlkit is offline") as refused:
        get("ok")
    assert "`tlkit weights fetch resnet50`" in refused.value.hint and "tlkit weights import" in refused.value.hint
    assert not server.requests


def test_a_home_that_cannot_be_written_is_explained(get, home, server, monkeypatch):
    home.parent.write_bytes(b"a file where the folder should be")
    monkeypatch.setenv("KERAS_HOME", str(home.parent))
    with pytest.raises(TlkitError, match=r"as KERAS_HOME says.*, which cannot be written") as refused:
        get("ok")
    assert "set KERAS_HOME to a folder of yours" in refused.value.hint and not server.requests


@pytest.mark.parametrize(
    "address", ["ftp://host/folder", "/mnt/weights", "https://me:secret@host/folder", "https:///x"]
)
def test_a_mirror_that_is_none_is_refused(address, home, monkeypatch):
    monkeypatch.setenv("TLKIT_WEIGHTS_URL", address)
    with pytest.raises(TlkitError, match="TLKIT_WEIGHTS_URL is not") as refused:
        fetch(read_spec("resnet50"), Silence())
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_header_tells_half_a_file(libver, tmp_path):
    path = weights(tmp_path / "whole.h5", libver=libver)
    assert header_problem(path) == ""
    os.truncate(path, path.stat().st_size - 1)
    assert "it is cut short" in header_problem(path)
    os.truncate(path, 0)
    assert header_problem(path) == "it is empty"


@pytest.mark.parametrize(
    "name", ["x_notop (1).h5", "x_notop(12).h5", "x_notop.h5.1", "x_notop - Copy.h5", "x_notop copy.h5", "x_notop.h5"]
)
def test_what_browsers_add_to_a_name_is_taken_off(name):
    assert plain_name(name) == "x_notop.h5"


def test_a_file_is_known_by_its_sum_whatever_it_is_called(published, home):
    (row,) = import_files([published], Silence())
    assert (row["backbone"], row["done"]) == ("resnet50", "placed")
    assert (home / RESNET).read_bytes() == published.read_bytes()
    assert import_files([published], Silence())[0]["done"] == "there already"
    os.truncate(home / RESNET, 100)
    assert import_files([published], Silence())[0]["done"] == "replaced"
    assert (home / RESNET).read_bytes() == published.read_bytes()


def test_without_a_sum_the_name_and_the_count_of_numbers_decide(tmp_path, home):
    right = weights(tmp_path / SMALL.format("160").replace(".h5", " (1).h5"), 410_208)
    (row,) = import_files([right], Silence())
    assert row["backbone"] == "mobilenetv2:alpha=0.35,size=160" and (home / SMALL.format("160")).exists()
    with pytest.raises(TlkitError, match="which are 410,208 numbers, but holds 1,000 numbers"):
        recognise(weights(tmp_path / SMALL.format("224")), {})
    with pytest.raises(
        TlkitError, match=r"weights of mobilenetv2:alpha=0\.35, but Keras states no checksum"
    ) as refused:
        recognise(weights(tmp_path / "download.h5", 410_208), {})
    assert SMALL.format("224") in refused.value.hint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.h5", "is none of the files that Keras publishes"),
        (RESNET, "is named like the weights of resnet50, but its md5 is"),
        ("page.h5", "holds no weights: it is not an HDF5 file: it begins with '<html>"),
        ("absent.h5", "does not exist"),
    ],
)
def test_what_is_none_of_keras_s_is_refused_and_nothing_placed(name, message, published, home, tmp_path):
    path = tmp_path / name
    if name == "page.h5":
        path.write_text("<html>404</html>")
    elif name != "absent.h5":
        weights(path, 77)
    with pytest.raises(TlkitError, match=message) as refused:
        import_files([published, path], Silence())
    assert not list(home.glob("*"))
    if name in ("mine.h5", RESNET):
        assert f"--weights {path}" in refused.value.hint


def test_an_export_is_imported_elsewhere_and_damage_on_the_way_is_seen(published, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "SEEN", {})  # of the file that has real weights in it
    small = weights(tmp_path / SMALL.format("224"), 410_208)
    files = [(read_spec("resnet50"), published), (read_spec("mobilenetv2:alpha=0.35"), small)]
    stick = tmp_path / "stick"
    rows = export_files(files, stick, Silence())
    assert export_files(files[:1], stick, Silence()) == rows[:1]  # again, and existing files stay
    assert [row["name"] for row in json.loads((stick / "weights.json").read_text())["files"]] == [RESNET, small.name]
    assert "tlkit weights import" in (stick / "README.md").read_text()
    monkeypatch.setattr(weight_files, "models_folder", lambda: tmp_path / "other")
    assert [row["done"] for row in import_files(sorted(stick.iterdir()), Silence())] == ["placed", "placed"]
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == [small.name, RESNET]
    with (stick / small.name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    with pytest.raises(TlkitError, match=r"was damaged in transfer: its sha256 is .*weights\.json beside it says"):
        import_files([stick], Silence())


def test_an_export_never_overwrites_another_file(published, tmp_path):
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / RESNET).write_bytes(b"precious")
    with pytest.raises(TlkitError, match="is there already, with other content"):
        export_files([(read_spec("resnet50"), published)], tmp_path / "stick", Silence())
    assert (tmp_path / "stick" / RESNET).read_bytes() == b"precious"


def test_a_damaged_file_is_not_exported(published, tmp_path):
    os.truncate(published, 1000)
    with pytest.raises(TlkitError, match="is not what Keras publishes for resnet50"):
        export_files([(read_spec("resnet50"), published)], tmp_path / "stick", Silence())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet5O", "is not a backbone"),
        ("resnet50:alpha=2", "'alpha' is not a variant of resnet50 that has weights of its own"),
        ("mobilenetv2:alpha=0.3", "no ImageNet weights of mobilenetv2"),
        ("mobilenetv2:alpha=wide", "alpha of .* is 'wide', expected a number"),
        ("mobilenetv2:size=large", "size of .* is 'large', expected pixels"),
    ],
)
def test_a_name_without_weights_is_refused(spec, message):
    with pytest.raises(TlkitError, match=message):
        read_spec(spec)
