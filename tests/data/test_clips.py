"""Clips as samples: which frames are taken, which belong together, what is refused, and what a split keeps together."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.data.clips import Sampling, fold, holds_clips, natural, scan_clips
from tlkit.data.dataset import Dataset
from tlkit.data.scan import scan
from tlkit.data.split import split
from tlkit.data.table import CLIP


def write_frames(folder, count, tint=0):
    folder.mkdir(parents=True)
    for time in range(count):
        pixels = np.full((12, 12, 3), (20 * time + tint) % 256, np.uint8)
        pixels[0, 0] = (tint % 256, time, 7)
        Image.fromarray(pixels).save(folder / f"frame_{time}.png")


@pytest.fixture
def clips(tmp_path):
    """Two classes of four clips; the last clip of each has 2 frames, the others 11."""
    for place, name in enumerate(("left", "right")):
        for number in range(4):
            write_frames(tmp_path / "clips" / name / f"clip{number}", 2 if number == 3 else 11, 50 * place + 5 * number)
    return tmp_path / "clips"


@pytest.mark.parametrize(
    ("frames", "stride", "count", "chosen"),
    [
        (None, 1, 4, [0, 1, 2, 3]),
        (3, 1, 9, [0, 4, 8]),
        (3, 1, 2, [0, 1]),
        (1, 1, 9, [4]),
        (2, 3, 10, [0, 9]),
        (8, 4, 10, [0, 4, 8]),
    ],
)
def test_frames_are_evenly_spaced(frames, stride, count, chosen):
    assert Sampling(frames, stride).choose(count).tolist() == chosen


def test_frame_2_comes_before_frame_10():
    assert sorted(["frame_10", "frame_2", "frame_1"], key=natural) == ["frame_1", "frame_2", "frame_10"]


def test_a_folder_of_frames_is_one_sample(clips):
    dataset = scan_clips(clips, Sampling(4))
    assert dataset.paths[:4] == ["left/clip0", "left/clip1", "left/clip2", "left/clip3"]
    assert dataset.class_counts().tolist() == [4, 4]
    assert dataset.clips.counts.tolist() == [4, 4, 4, 2] * 2
    assert dataset.clips.places[3].tolist() == [12, 13, -1, -1]
    assert [dataset.members.paths[i] for i in dataset.clips.of(0)] == [
        f"left/clip0/frame_{i}.png" for i in (0, 3, 7, 10)
    ]
    frames = dataset.members.sha256[list(dataset.clips.of(3))]
    assert dataset.sha256[3].tobytes() == hashlib.sha256(frames.tobytes()).digest()
    assert dataset.file(3).name == "frame_1.png"


def test_the_same_frames_in_another_order_are_another_clip(clips):
    dataset = scan_clips(clips, Sampling(4))
    first = dataset.members.select(np.arange(4))
    other = dataset.members.select(np.array([1, 0, 2, 3]))
    folded = [fold(frames, ["clip"] * 4, Sampling(4)) for frames in (first, other)]
    assert folded[0].sha256.tobytes() != folded[1].sha256.tobytes()


def test_single_images_among_clips_are_refused(clips):
    Image.new("RGB", (8, 8)).save(clips / "left" / "alone.png")
    with pytest.raises(TlkitError, match=r"single images and clips: 'left/alone.png'.*'left/clip0/frame_0.png'"):
        scan_clips(clips, Sampling(4))


def test_single_images_alone_are_no_clips(colours):
    with pytest.raises(TlkitError, match="single images and no clips"):
        scan_clips(colours, Sampling(4))


def test_without_the_word_clip_a_nested_folder_holds_single_images(clips):
    assert not holds_clips(clips, Sampling(4, asked=False))
    assert len(scan(clips, classes=("left", "right"))) == 2 * (3 * 11 + 2)


def test_a_frame_that_cannot_be_read_is_missing_in_its_clip(clips):
    (clips / "left" / "clip3" / "frame_0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    dataset = scan_clips(clips, Sampling(4))
    assert dataset.clips.counts.tolist() == [4, 4, 4, 1, 4, 4, 4, 2]
    assert [problem.path for problem in dataset.set_aside] == ["left/clip3/frame_0.png"]


def listed(clips, rows, header=("path", "label", "clip", "frame")):
    with (clips / "frames.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return clips / "frames.csv"


def test_a_table_names_clips_and_the_order_of_their_frames(clips):
    rows = [
        [f"{name}/{clip}/frame_{time}.png", name, f"{name}{clip}", 10 - time]
        for name in ("left", "right")
        for clip in ("clip0", "clip1")
        for time in range(5)
    ]
    table = listed(clips, rows)
    assert holds_clips(table, Sampling(4, asked=False))
    assert not holds_clips(table, Sampling(4, asked=False), group_by="clip")
    dataset = scan_clips(table, Sampling(3))
    assert dataset.paths == ["leftclip0", "leftclip1", "rightclip0", "rightclip1"]
    assert dataset.members.paths[:3] == [f"left/clip0/frame_{time}.png" for time in (4, 2, 0)]
    assert CLIP not in dataset.extra


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["left/clip0/frame_1.png", "right", "a", 1], "do not agree"),
        (["left/clip0/frame_1.png", "left", "", 1], "clips and single images: row 3"),
        (["left/clip0/frame_1.png", "left", "a", "soon"], "expected a number"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(clips, row, said):
    rows = [["left/clip0/frame_0.png", "left", "a", 0], row, ["right/clip0/frame_0.png", "right", "b", 0]]
    with pytest.raises(TlkitError, match=said):
        scan_clips(listed(clips, rows), Sampling(3))


def test_what_is_written_is_read_again(clips, tmp_path):
    dataset = scan_clips(clips, Sampling(4)).select(np.array([5, 3, 0]))
    dataset.write_csv(tmp_path / "manifest.csv")
    again = Dataset.read_csv(tmp_path / "manifest.csv", clips, dataset.classes)
    again = fold(again, again.extra.pop(CLIP), Sampling(4))
    assert again.paths == dataset.paths == ["right/clip1", "left/clip3", "left/clip0"]
    assert again.labels.tolist() == [1, 0, 0]
    assert np.array_equal(again.clips.places, dataset.clips.places)
    assert again.fingerprint() == dataset.fingerprint()
    assert again.members.paths == dataset.members.paths


def test_no_split_tears_a_clip_or_its_copy_apart(tmp_path):
    for place, name in enumerate(("left", "right")):
        for number in range(20):
            write_frames(tmp_path / name / f"clip{number:02}", 3, 100 * place + 5 * number)
        write_frames(tmp_path / name / "copy", 3, 100 * place)  # of clip00
    dataset = scan_clips(tmp_path, Sampling(3))
    for seed in range(5):
        codes = split(dataset, val=0.3, test=0.2, seed=seed).codes
        assert len(codes) == len(dataset) == 42
        where = dict(zip(dataset.paths, codes.tolist(), strict=True))
        assert all(where[f"{name}/clip00"] == where[f"{name}/copy"] for name in ("left", "right"))


def test_groups_of_frames_are_groups_of_clips(clips):
    dataset = scan_clips(clips, Sampling(4), group_by=r"clip(\d)")
    assert dataset.groups == ["0", "1", "2", "3"] * 2
    codes = split(dataset, val=0.25, test=0.0, seed=0).codes
    assert (codes[:4] == codes[4:]).all()


def test_the_table_of_a_split_is_one_of_clips(clips, tmp_path):
    from tlkit.options.commands import SplitConfig
    from tlkit.pipelines import split as command

    out = tmp_path / "splits.csv"
    done = command.run(SplitConfig(images=str(clips), frames=3, val=0.25, test=0.25, out=str(out)))
    assert done["images"] == 8 and sum(done["splits"].values()) == 8
    assert holds_clips(out, Sampling(asked=False))
    again = scan_clips(out, Sampling(3))
    assert again.paths == [f"{name}/clip{number}" for name in ("left", "right") for number in range(4)]
    assert [(again.given == code).sum() for code in range(3)] == list(done["splits"].values())
