"""Clips in one file: the frames read are those written, upright; unreadable files give one reason."""

import io
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.data import films as keeping
from tlkit.data.clips import Sampling, decoded_again, holds_clips, scan_clips
from tlkit.data.decode import native
from tlkit.data.films import clear, frame_files, frames, list_films
from tlkit.data.scan import scan
from tlkit.options.commands import SplitConfig
from tlkit.pipelines import split

av = pytest.importorskip("av")
HEIGHT, WIDTH, COUNT = 48, 64, 12


def drawn(place, height=HEIGHT, width=WIDTH):
    """A frame that is known by its left half, and upright by its corners."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, : width // 2] = (20 * place, 120, 240 - 20 * place)
    image[: height // 4, : width // 4] = (250, 250, 250)  # top left
    return image


def film(path, codec="libx264", form="yuv420p", images=None, *, times=None, options=None, **stream):
    """Encode images at 10 a second, or at the times given in tenths of a second."""
    images = [drawn(place) for place in range(COUNT)] if images is None else images
    with av.open(str(path), "w") as container:
        out = container.add_stream(codec, rate=10, options=options or {})
        out.height, out.width, out.pix_fmt = *images[0].shape[:2], form
        out.codec_context.time_base = Fraction(1, 10)
        for name, value in stream.items():
            if name == "rotation":
                out.set_display_rotation(value)
            else:
                setattr(out.codec_context, name, value)
        for place, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.shape[2] == 3 else "rgba")
            frame.pts, frame.time_base = (times or range(len(images)))[place], Fraction(1, 10)
            container.mux(out.encode(frame))
        container.mux(out.encode())
    return path


def shown(path):
    return [np.asarray(frame.image().convert("RGB")).astype(int) for frame in frames(path)]


def near(found, expected, most=14):
    """Alike away from edges, which chroma blurs; 4:2:0 and quantisation change colours a little."""
    inner = np.s_[16 : HEIGHT - 4, 4 : WIDTH // 2 - 6]
    return np.abs(found[inner] - expected.astype(int)[inner]).max() <= most


FILMS = [
    ("h264.mp4", "libx264", "yuv420p"),
    ("mpeg4.mov", "mpeg4", "yuv420p"),
    ("full-range.avi", "mjpeg", "yuvj420p"),
    ("lossless.mkv", "ffv1", "bgr0"),
    ("vp9.webm", "libvpx-vp9", "yuv420p"),
    ("ten-bits.mkv", "ffv1", "yuv420p10le"),
    ("444.mp4", "libx264", "yuv444p"),
    ("planes-of-rgb.mp4", "libx264rgb", "rgb24"),
]


@pytest.mark.parametrize(("name", "codec", "form"), FILMS)
def test_the_frames_of_a_film_are_those_that_were_put_in(tmp_path, name, codec, form):
    found = list(frames(film(tmp_path / name, codec, form)))
    assert [round(frame.time, 2) for frame in found] == [round(place / 10, 2) for place in range(COUNT)]
    for frame, image in zip(shown(tmp_path / name), map(drawn, range(COUNT)), strict=True):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert near(frame, image)
        assert frame[5, 8].min() > 200 > frame[40, 60].max()


@pytest.mark.parametrize("form", ["gray", "gray10le", "gray16le"])
def test_grey_films_are_grey(tmp_path, form):
    grey = [np.full((HEIGHT, WIDTH, 3), 20 * place, np.uint8) for place in range(4)]
    for frame, image in zip(shown(film(tmp_path / "grey.mkv", "ffv1", form, grey)), grey, strict=True):
        assert np.abs(frame - image.astype(int)).max() <= 2


@pytest.mark.parametrize(("kind", "most"), [("GIF", 60), ("WEBP", 3), ("PNG", 0)])
def test_animations_are_clips_with_their_own_times(tmp_path, kind, most):
    images = [Image.fromarray(drawn(place)) for place in range(COUNT)]
    file = tmp_path / f"a.{kind.lower()}"
    images[0].save(file, kind, save_all=True, append_images=images[1:], duration=[100, 400] * 6, lossless=True)
    found = list(frames(file))
    assert [round(frame.time, 2) for frame in found[:4]] == [0.0, 0.1, 0.5, 0.6]
    for frame, image in zip(shown(file), images, strict=True):
        assert np.abs(frame - np.asarray(image).astype(int)).max() <= most


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_film_is_turned_as_it_says(tmp_path, degrees):
    """`rotation` is anticlockwise, as FFmpeg has it: where the white corner ends up."""
    found = shown(film(tmp_path / "turned.mp4", rotation=degrees))[3]
    expected = np.rot90(drawn(3), degrees // 90)
    assert found.shape == expected.shape
    assert np.median(np.abs(found - expected.astype(int))) <= 14


def test_transparency_is_over_white(tmp_path):
    clear_half = np.dstack([drawn(2), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    clear_half[:, WIDTH // 2 :, 3] = 0
    film(tmp_path / "alpha.mov", "qtrle", "argb", [clear_half] * 3)
    [file] = frame_files(tmp_path / "alpha.mov", Sampling(1).choose)
    pixels = native(file)
    assert (pixels[:, WIDTH // 2 + 2 :] == 255).all() and np.abs(pixels[30, 10].astype(int) - (40, 120, 200)).max() <= 2


def test_fields_of_two_moments_are_parted(tmp_path):
    """Odd rows bright, even rows dark: of one moment, so that neighbouring rows are alike."""
    combed = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    combed[1::2] = 255
    options = {"flags": "+ilme+ildct", "field_order": "tt"}
    film(tmp_path / "fields.mkv", "mpeg2video", "yuv420p", [combed] * 4, options=options)
    found = shown(tmp_path / "fields.mkv")
    assert len(found) == 4
    assert all(np.abs(np.diff(frame[8:-8].mean(axis=(1, 2)))).max() < 40 for frame in found)


def test_pixels_that_are_no_squares_are_made_so(tmp_path):
    found = shown(film(tmp_path / "wide.mp4", sample_aspect_ratio=Fraction(3, 2)))
    assert found[0].shape == (HEIGHT, 96, 3)


def test_uneven_times_choose_by_time(tmp_path):
    """Eight frames in the first second and four in the next: four evenly spaced ones are not every fourth."""
    times = [0, 1, 2, 3, 4, 5, 6, 7, 15, 18, 21, 24]
    film(tmp_path / "uneven.mkv", "ffv1", "bgr0", times=times)
    assert Sampling(4).choose(12, [time / 10 for time in times]).tolist() == [0, 7, 8, 11]
    assert [file.stem for file in frame_files(tmp_path / "uneven.mkv", Sampling(4).choose)] == [
        *("000000", "000007", "000008", "000011")
    ]
    even = [place / 30 for place in range(12)]
    assert (Sampling(5).choose(12, even) == Sampling(5).choose(12)).all()
    crowded = [0, 0.001, 0.002, 0.003, 0.004, 10]
    assert Sampling(4).choose(6, crowded).tolist() == [0, 3, 4, 5]


CUT = [name for name, *_ in FILMS[:5]]


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("left", [0.3, 0.8])
def test_a_film_that_is_cut_short_is_refused(tmp_path, name, left):
    _, codec, form = next(row for row in FILMS if row[0] == name)
    noise = [np.random.default_rng(place).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for place in range(30)]
    options = {"movflags": "faststart"} if name.endswith(("mp4", "mov")) else {}
    with_head = film(tmp_path / name, codec, form, noise, options=options)
    content = with_head.read_bytes()
    with_head.write_bytes(content[: int(left * len(content))])
    with pytest.raises(UnreadableImage, match=r"is damaged|is cut short"):
        list(frames(with_head))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"plain words\n" * 9, "holds text, not a film"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(200), "is damaged or no film"),
        (b"GIF89a" + bytes(3), "is damaged"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", "holds text"),
    ],
)
def test_what_is_no_film_says_what_it_is(tmp_path, content, words):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UnreadableImage, match=words):
        list(frames(tmp_path / "x.mp4"))


def test_sound_alone_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        out = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(out.encode(frame))
        container.mux(out.encode())
    with pytest.raises(UnreadableImage, match="holds sound and no pictures"):
        list(frames(tmp_path / "sound.mp4"))


# -- Folders and tables of them ---


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path, cache):
    """Two classes of a film, an animation and a folder of frames each."""
    for shift, name in enumerate(("a", "b")):
        images = [drawn((place + shift) % COUNT) for place in range(6)]
        (tmp_path / "clips" / name / "frames").mkdir(parents=True)
        film(tmp_path / "clips" / name / "film.mkv", "ffv1", "bgr0", images)
        pictures = [Image.fromarray(image) for image in images]
        pictures[0].save(tmp_path / "clips" / name / "z.webp", save_all=True, append_images=pictures[1:], lossless=True)
        for place, picture in enumerate(pictures):
            picture.save(tmp_path / "clips" / name / "frames" / f"{place}.png")
    return tmp_path / "clips"


def test_containers_and_folders_of_frames_are_clips_alike(folder):
    found = scan_clips(folder, Sampling(4))
    assert found.paths == ["a/film.mkv", "a/frames", "a/z.webp", "b/film.mkv", "b/frames", "b/z.webp"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.clips.counts.tolist() == [4] * 6
    one, other = ([native(found.clips.frames.file(row)) for row in found.clips.of(clip)] for clip in (0, 1))
    assert (np.stack(one) == np.stack(other)).all()
    grouped = scan_clips(folder, Sampling(4), group_by=r"/(\w+)")
    assert grouped.groups == ["film", "frames", "z"] * 2


def test_a_container_is_decoded_once(folder, monkeypatch):
    first = scan_clips(folder, Sampling(4))
    kept = list_films()
    assert len(kept) == 4  # two films, two animations
    monkeypatch.setattr(keeping, "frames", lambda film: pytest.fail("decoded again"))
    assert (scan_clips(folder, Sampling(4)).sha256 == first.sha256).all()
    (folder / "a" / "film.mkv").rename(folder / "a" / "other.mkv")
    assert scan_clips(folder, Sampling(4)).paths[1] == "a/other.mkv"
    assert clear(None) == sum(one.bytes for one in kept) and list_films() == []


def test_a_container_that_cannot_be_read_is_set_aside(folder):
    (folder / "a" / "broken.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(200))
    found = scan_clips(folder, Sampling(4))
    assert [problem.path for problem in found.set_aside] == ["a/broken.mp4"]
    assert len(found) == 6


def test_single_images_and_containers_do_not_mix(folder):
    Image.fromarray(drawn(0)).save(folder / "a" / "photo.jpg")
    with pytest.raises(TlkitError, match="single images and clips"):
        scan_clips(folder, Sampling(4))


def test_a_table_of_containers(folder):
    table = folder / "films.csv"
    table.write_text("path,label,who\na/film.mkv,x,p\na/z.webp,y,q\nb/film.mkv,x,q\n")
    assert holds_clips(table, Sampling(4, asked=False))
    found = scan_clips(table, Sampling(2))
    assert found.paths == ["a/film.mkv", "a/z.webp", "b/film.mkv"]
    assert found.clips.counts.tolist() == [2, 2, 2]
    assert found.extra["who"] == ["p", "q", "q"]


def test_one_container_is_one_clip(folder):
    found = scan_clips(folder / "a" / "film.mkv", Sampling(3), labelled=False)
    assert (found.paths, found.clips.counts.tolist()) == (["film.mkv"], [3])


def test_without_pyav_nothing_is_begun(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(TlkitError, match="need PyAV") as refused:
        scan_clips(folder, Sampling(4))
    assert "video" in refused.value.hint or "av" in refused.value.hint
    for name in ("a", "b"):
        (folder / name / "film.mkv").unlink()
    assert len(scan_clips(folder, Sampling(4))) == 4  # animations need no PyAV


def test_frames_are_written_without_loss(folder):
    [file, *_] = frame_files(folder / "a" / "film.mkv", Sampling(2).choose)
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        assert image.format == "PNG" and (np.asarray(image) == drawn(0)).all()


def test_films_without_a_word_of_clips_are_refused_with_what_to_say(folder):
    for name in ("a", "b"):
        (folder / name / "z.webp").unlink()
        for file in (folder / name / "frames").iterdir():
            file.unlink()
    with pytest.raises(TlkitError, match="holds films and no images") as refused:
        scan(folder)
    assert "--frames" in refused.value.hint


def test_frames_that_the_cache_lost_are_decoded_again(folder):
    found = scan_clips(folder, Sampling(4))
    clear(None)
    again = decoded_again(found)
    assert all(again.clips.frames.file(row).is_file() for row in range(len(again.clips.frames)))
    assert (scan_clips(folder, Sampling(4)).sha256 == found.sha256).all()
    clear(None)
    (folder / "a" / "film.mkv").unlink()
    assert not decoded_again(found).clips.frames.file(0).is_file()


def test_a_table_of_a_split_lists_films_and_is_read_again(folder, tmp_path):
    out = tmp_path / "split.csv"
    split.run(SplitConfig(images=str(folder), out=str(out), frames=4, val=0.0, test=0.0))
    written = out.read_text()
    assert written.count("film.mkv,") == written.count("z.webp,") == 2  # one row each
    assert str(keeping.frames_dir()) not in written
    clear(None)
    again, first = scan_clips(out, Sampling(4)), scan_clips(folder, Sampling(4))
    assert sorted(map(bytes, again.sha256)) == sorted(map(bytes, first.sha256))
    assert again.clips.counts.tolist() == [4] * 6
