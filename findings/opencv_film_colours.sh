#!/usr/bin/env bash
# What: OpenCV 5 reads films in other colours than OpenCV 4 did, and than PyAV does where they are of high dynamic range. Version
#   4.12 undoes every film's YCbCr by BT.601, whatever its tags say (up to 29 levels off for ordinary BT.709); 5.0 and PyAV
#   go by the tag; and of BT.2020 with HLG or PQ, as phones record it, OpenCV 5 converts gamut and transfer curve as well:
#   grey of 128 is 144 or 185 there and 128 in PyAV, colours are up to 149 levels apart. Nobody says anything.
# Why it surprises: all of them decode by FFmpeg, and one call, VideoCapture.read, has meant the same pixels for years.
# Who is hurt: a classifier whose frames were taken before an upgrade, or with another reader than it answers with: hue and
#   brightness shift, most for films of new phones, which looks like a property of their users.
# Instead: one reader for training and use, pinned; look at stream.codec_context.color_trc and convert such films once, on
#   purpose (for example by FFmpeg's zscale and tonemap filters).
# Source: https://docs.opencv.org/5.x/d8/dfe/classcv_1_1VideoCapture.html; https://pyav.org/docs/stable/api/video.html.
# Guessed beforehand: that PyAV ignores the tags and OpenCV goes by them; no, twice.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 5.0.0.93 4.12.0.88; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install -qq --disable-pip-version-check av==18.1.0 "opencv-python-headless==$version"
done
cat > film.py <<'PY'
import sys

import av, cv2, numpy as np

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128)]
MATRICES = {9: (0.2627, 0.0593), 1: (0.2126, 0.0722)}  # BT.2020, BT.709: the weights of red and blue
WIDTH, HEIGHT = 640, 360
CENTRES = [(HEIGHT // 2, (2 * place + 1) * WIDTH // 8) for place in range(4)]


def planes(matrix):
    red, blue = MATRICES[matrix]
    found = [np.empty((HEIGHT, WIDTH), np.uint8), *np.empty((2, HEIGHT // 2, WIDTH // 2), np.uint8)]
    for place, (r, g, b) in enumerate(np.array(COLOURS) / 255):
        y = red * r + (1 - red - blue) * g + blue * b
        values = 16 + 219 * y, 128 + 112 * (b - y) / (1 - blue), 128 + 112 * (r - y) / (1 - red)
        for plane, value in zip(found, values):
            step = plane.shape[1] // 4
            plane[:, place * step : (place + 1) * step] = round(value)
    return found


def write(matrix, curve):
    with av.open("film.mp4", "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"qp": "0"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = matrix
        context.color_trc, context.color_range = curve, 1
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, values in zip(frame.planes, planes(matrix)):
            rows = np.zeros((values.shape[0], plane.line_size), np.uint8)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        for number in range(3):
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


print("PyAV", av.__version__, "OpenCV", cv2.__version__)
new = cv2.__version__.startswith("5")
for name, matrix, curve, managed in (("BT.709", 1, 1, False), ("BT.2020, HLG", 9, 18, True), ("BT.2020, PQ", 9, 16, True)):
    write(matrix, curve)
    with av.open("film.mp4") as film:
        first = next(film.decode(video=0)).to_ndarray(format="rgb24")
    film = cv2.VideoCapture("film.mp4")
    other = film.read()[1][..., ::-1]
    one, two = (np.array([image[place] for place in CENTRES]).astype(int) for image in (first, other))
    print(f"{name}: drawn {COLOURS}, PyAV {one.tolist()}, OpenCV {two.tolist()}")
    assert abs(one - COLOURS).max() <= 3
    apart = abs(one - two).max()
    print(f"    up to {apart} levels apart")
    if new:
        assert apart > 40 and abs(two[3] - 128).min() > 10 if managed else apart <= 3
    else:
        assert 15 < apart < 60 and abs(two[3] - 128).max() <= 3
PY
for version in 5.0.0.93 4.12.0.88; do
  "venv-$version/bin/python" film.py
done
