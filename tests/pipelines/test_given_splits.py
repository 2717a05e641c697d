"""Splits given by folders, in a run."""

import shutil

import pytest

import tlkit
from tlkit.base.errors import TlkitError


def test_folders_without_one_to_train_on_are_refused(colours, tiny_backbone, tmp_path):
    for split in ("dev", "test"):
        shutil.copytree(colours, tmp_path / "images" / split)
    with pytest.raises(TlkitError) as refused:
        tlkit.finetune(tmp_path / "images", backbone=str(tiny_backbone), dry_run=True)
    assert "none of the 72 images is for training: val 36, test 36" in refused.value.message
    assert "name the folder" in refused.value.hint


def test_results_inside_the_images_are_refused_and_leave_nothing(colours, tiny_backbone, tmp_path):
    images = shutil.copytree(colours, tmp_path / "images")
    with pytest.raises(TlkitError, match="lies inside the images"):
        tlkit.finetune(images, backbone=str(tiny_backbone), out=images / "run")
    with pytest.raises(TlkitError, match="lies inside the images"):
        tlkit.audit(images, backbone=str(tiny_backbone), out=images / "audit")
    assert sorted(path.name for path in images.iterdir()) == ["blue", "green", "red"]
