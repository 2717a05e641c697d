import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tlkit
from tlkit.base.story import Silence
from tlkit.cli.main import app

REAL = "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
cli = CliRunner()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("tlkit.backbones.weight_files.models_folder", lambda: tmp_path / "models")
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    return tmp_path / "models"


def listed(*arguments):
    done = cli.invoke(app, ["weights", "list", *arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    return {row["backbone"]: row for row in json.loads(done.stdout)["files"]}


def test_real_weights_come_in_are_listed_carried_and_imported_elsewhere(home, shared_file, tmp_path, monkeypatch):
    small = "mobilenetv2:alpha=0.35"
    assert listed()[small]["weights"] == "absent"
    done = cli.invoke(app, ["weights", "import", str(shared_file(REAL))])
    assert done.exit_code == 0 and f"{small}: {home / Path(REAL).name} (placed)" in done.stdout
    assert listed()[small]["weights"] == "at hand" and listed("--verify")[small]["weights"] == "verified"
    assert tlkit.weights("fetch", ["nano", small], story=Silence())["files"][0]["downloaded"] is False
    done = cli.invoke(app, ["weights", "export", str(tmp_path / "stick"), small])
    assert done.exit_code == 0 and "tlkit weights import stick" in done.stdout
    monkeypatch.setattr("tlkit.backbones.weight_files.models_folder", lambda: tmp_path / "elsewhere")
    assert cli.invoke(app, ["weights", "import", str(tmp_path / "stick")]).exit_code == 0
    assert (tmp_path / "elsewhere" / Path(REAL).name).read_bytes() == shared_file(REAL).read_bytes()


def test_the_list_has_sums_licences_and_says_what_is_damaged(home):
    home.mkdir()
    (home / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"half")
    row = listed("vgg16")["vgg16"]
    assert (row["weights"], row["md5"], row["licence"]) == ("damaged", "6d6bbae143d832006294945121d1f1fc", "CC-BY-4.0")
    text = cli.invoke(app, ["weights"]).stdout
    assert "it is not an HDF5 file" in text and "nano" in text and "size=160" not in text
    assert "mobilenetv2:alpha=0.35,size=160" in cli.invoke(app, ["weights", "list", "mobilenetv2"]).stdout


def test_verifying_says_what_cannot_be_verified_and_ends_with_1_where_a_file_is_damaged(home, shared_file):
    home.mkdir()
    shutil.copy(shared_file(REAL), home)
    unknown = home / Path(REAL).name.replace("0.35", "0.5")
    shutil.copy(shared_file(REAL), unknown)  # whatever it holds, no checksum of it is published
    text = cli.invoke(app, ["weights", "list", "mobilenetv2", "--verify"]).stdout
    states = {line.split()[0]: line for line in text.splitlines() if line.startswith("mobilenetv2")}
    assert "verified" in states["mobilenetv2:alpha=0.35"] and "not verifiable" in states["mobilenetv2:alpha=0.5"]
    real = home / Path(REAL).name
    content = bytearray(real.read_bytes())
    content[len(content) // 2] ^= 1
    real.write_bytes(content)
    done = cli.invoke(app, ["weights", "list", "--verify"])
    assert done.exit_code == 1 and real.name in done.stderr and "tlkit has only met" in done.stderr
    assert "weights fetch mobilenetv2:alpha=0.35" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch"], "needs a backbone"),
        (["import"], "needs a file or folder"),
        (["export"], "needs a folder"),
        (["export", "stick"], "there is nothing to export"),
        (["export", "stick", "vgg16"], "weights of vgg16 are not in"),
        (["fetch", "resnet50"], "tlkit is offline"),
        (["fetch", "resnet5O"], "is not a backbone"),
        (["fetch", "resnet50", "--verify"], "--verify has no effect on fetch"),
        (["get", "resnet50"], "'get' is not a value of ACTION"),
        (["import", "."], "there is no .h5 file in"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli.invoke(app, ["weights", *arguments])
    assert done.exit_code == 1 and message in done.stderr
    assert not (tmp_path / "stick").exists()


def test_offline_is_a_flag_of_every_command_and_ends_with_it(home, monkeypatch):
    monkeypatch.delenv("TLKIT_OFFLINE")
    with pytest.raises(tlkit.base.errors.TlkitError, match="tlkit is offline"):
        tlkit.weights("fetch", ["resnet50"], offline=True, story=Silence())
    assert "TLKIT_OFFLINE" not in os.environ
    monkeypatch.setenv("TLKIT_OFFLINE", "0")  # which the flag overrides for this test
    done = cli.invoke(app, ["weights", "fetch", "resnet50", "--offline"])
    assert done.exit_code == 1 and "tlkit is offline" in done.stderr


def test_looking_and_carrying_load_no_keras(tmp_path):
    program = (
        "import sys; from tlkit.cli.main import main\n"
        "sys.argv = ['tlkit', 'weights', 'list', '--verify', '-q']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"KERAS_HOME": str(tmp_path)}, check=True, capture_output=True
    )
