#!/usr/bin/env bash
# What: OpenCV's CAP_PROP_POS_FRAMES and CAP_PROP_FRAME_COUNT are exact for MP4 of constant rate and misleading beyond,
#   while reading in order gives every frame of every file below. 600 frames of H.264, a key frame a second:
#   MP4, half at 30 and half at 6 a second: asked for frame 100, read about 254; frame 599, which exists: none.
#   Matroska, the same: the count is 1796, and frame 599 gives about 407. Matroska that starts at 3 s: the count is 690.
#   MPEG transport stream of constant rate: asked for frame 0, read 29, the last before the second key frame; with key
#   frames every 250 frames, read 249. So "rewind" loses the beginning.
# Why it surprises: the properties are documented as an index and a number of frames; where they are estimates from
#   duration and mean rate, nothing says so.
# Who is hurt: clips sampled evenly by index, as most pipelines for action recognition do, from telephones and screen
#   recorders (variable rate), streams and camcorders (.mkv, .ts, .mts): doubled, missing and wrong frames.
# Instead: read in order, grab() for what is skipped and retrieve() for what is wanted, or decode with PyAV and count;
#   to begin again open the file again.
# Source: OpenCV documentation: "CAP_PROP_POS_FRAMES: 0-based index of the frame to be decoded/captured next",
#   "CAP_PROP_FRAME_COUNT: Number of frames in the video file".
# Guessed beforehand: counts wrong at a variable rate in every container, seeking right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - 2>messages.txt <<'PY'
from fractions import Fraction

import av, cv2, numpy as np

print("opencv", cv2.__version__, "av", av.__version__, "libavcodec", av.library_versions["libavcodec"])
noise = np.random.default_rng(0)


def write(path, times, group):
    """A video whose k-th picture shows k in ten stripes above noise, at times in thirtieths of a second."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"g": str(group), "bf": "2"}
        stream.time_base = stream.codec_context.time_base = Fraction(1, 30)
        for number, time in enumerate(times):
            pixels = noise.integers(0, 256, (128, 160, 3)).astype("uint8")
            pixels[:64] = np.repeat(np.uint8([255 * (number >> bit & 1) for bit in range(10)]), 16)[None, :, None]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def shown(read):
    """The number that a picture shows, None where there is no picture."""
    ok, pixels = read
    return sum(int(pixels[32, 16 * bit + 8].mean() > 128) << bit for bit in range(10)) if ok else None


constant, variable, late = range(600), [*range(300), *range(300, 1800, 5)], range(90, 690)
asked = [0, 20, 100, 299, 450, 599]
found = {}
for name, kind, times, group in (
    ("mp4", "constant", constant, 30),
    ("mp4", "variable", variable, 30),
    ("mkv", "variable", variable, 30),
    ("mkv", "late", late, 30),
    ("ts", "constant", constant, 30),
    ("ts", "constant", constant, 250),
):
    path = f"{kind}{group}.{name}"
    write(path, times, group)
    video = cv2.VideoCapture(path)
    assert [shown(video.read()) for _ in times] == list(range(600)), path
    video, sought = cv2.VideoCapture(path), []
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    for index in asked:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        sought.append(shown(video.read()))
    found[name, kind, group] = count, sought
    print(f"{name}, {kind}, key frame every {group}: count {count}, asked for {asked}, read {sought}")
assert found["mp4", "constant", 30] == (600, asked)
count, sought = found["mp4", "variable", 30]
assert count == 600 and sought[2] > 200 and sought[-1] is None, "MP4 of variable rate"
count, sought = found["mkv", "variable", 30]
assert count > 1700 and sought[-1] < 500, "Matroska of variable rate"
assert found["mkv", "late", 30] == (690, asked), "Matroska that starts late"
assert found["ts", "constant", 30][1][0] == 29 and found["ts", "constant", 250][1][0] == 249, "transport stream"
PY
