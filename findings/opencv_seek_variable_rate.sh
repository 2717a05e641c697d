#!/usr/bin/env bash
# What: in a video of variable frame rate OpenCV's CAP_PROP_POS_FRAMES goes to another frame than the one asked for:
#   60 frames at 30 a second and 60 at 6 a second, frame 31 asked for, frame 52 read; 59 gives 95, and 119, which
#   exists, gives none. The count is right (120), reading in order is right, and seeking is exact at a constant rate.
#   The index is turned into a time by the average rate, and that rate (10.3) holds nowhere in the file.
# Why it surprises: the property is documented as the index of a frame; the time has a property of its own.
# Who is hurt: clips sampled evenly by index, as most pipelines for action recognition do, from telephones and screen
#   recorders, which write variable rates: doubled and missing frames, and the last ones silently lost.
# Instead: read in order with grab() and retrieve() only what is needed, or decode with PyAV and count.
# Source: OpenCV documentation: "CAP_PROP_POS_FRAMES: 0-based index of the frame to be decoded/captured next."
# Guessed beforehand: the count wrong, seeking right. It is the other way round.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - <<'PY'
from fractions import Fraction

import av, cv2, numpy as np

print("opencv", cv2.__version__, "av", av.__version__, "libavcodec", av.library_versions["libavcodec"])


def write(path, times):
    """A video whose k-th picture shows k in eight stripes, at times in thirtieths of a second."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv420p", {"g": "30", "bf": "2"}
        stream.time_base = stream.codec_context.time_base = Fraction(1, 30)
        for number, time in enumerate(times):
            stripes = [255 * (number >> bit & 1) for bit in range(8)]
            pixels = np.repeat(np.uint8(stripes), 8)[None, :, None].repeat(64, 0).repeat(3, 2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def shown(read):
    """The number that a picture shows, None where there is no picture."""
    ok, pixels = read
    return sum(int(pixels[32, 8 * bit + 4].mean() > 128) << bit for bit in range(8)) if ok else None


times = {"constant": list(range(120)), "variable": [*range(60), *range(60, 360, 5)]}
asked = (0, 5, 31, 59, 70, 90, 119)
sought = {}
for kind, at in times.items():
    write("clip.mp4", at)
    video = cv2.VideoCapture("clip.mp4")
    in_order = [shown(video.read()) for _ in at]
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 120 and in_order == list(range(120))
    sought[kind] = []
    for index in asked:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        sought[kind].append(shown(video.read()))
    print(f"{kind}: mean rate {video.get(cv2.CAP_PROP_FPS):.1f}, asked for {list(asked)}, read {sought[kind]}")
assert sought["constant"] == list(asked)
assert sought["variable"][:2] == [0, 5] and sought["variable"][-1] is None
assert all(found > index + 10 for found, index in zip(sought["variable"][2:-1], asked[2:-1]))
PY
