#!/usr/bin/env bash
# What: since 1.29 (1.26 does not), the wheel of ONNX Runtime for Linux holds Microsoft's telemetry client, and `import
#   onnxruntime` alone starts it: it makes a lasting device ID in ~/.cache/Microsoft/DeveloperTools/.onnxruntime, a session
#   ID in $TMPDIR/.ses, and a database in which an event waits to be sent to mobile.events.data.microsoft.com: a hash of the
#   device, distribution, kind of container and of virtual machine, processor, memory, and the path of the Python that ran.
#   `onnxruntime.disable_telemetry_events()` comes too late: it can be called only after the import that has written all
#   of it. ORT_DISABLE_TELEMETRY=1 in the environment before the import keeps all of it away.
# Why it surprises: telemetry of ONNX Runtime was a matter of Windows builds, where the system's own settings rule it; its
#   privacy page speaks of those. A library for inference is expected to write nothing.
# Who is hurt: whoever promises that images and machines stay private, runs with a read-only home, makes images of containers
#   after a test import (one device ID for all copies), counts files left behind, or depends on a package that imports it.
# Instead: set ORT_DISABLE_TELEMETRY=1 before the first import, in the container's environment too.
# Source: github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md (telemetry is described for official Windows builds).
# Guessed beforehand: importing it writes nothing, and disable_telemetry_events() suffices if it does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 1.26.0 1.32.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install -qq --disable-pip-version-check "onnxruntime==$version" numpy==2.4.6
done
cat > written.py <<'PY'
import pathlib, sqlite3, sys

home = pathlib.Path(sys.argv[1])
files = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
print("  files:", files or "none")
for database in home.rglob("onnxruntime.db"):
    rows = sqlite3.connect(database).execute("select payload from events").fetchall()
    asked = ("containerType", "cpuModel", "virtualizationType", "totalMemoryMB", "osDescription", "AppSessionGuid")
    here = any(b"/bin/python" in payload for (payload,) in rows)
    names = [name for name in asked if any(name.encode() in payload for (payload,) in rows)]
    print(f"  events waiting: {len(rows)}; fields among others: {names}; path of Python: {here}")
PY
look() { # NAME VERSION VARIABLE PROGRAM
  local home="$work/home-$1"
  mkdir -p "$home/tmp"
  echo "$1:"
  env -u XDG_CACHE_HOME -u ORT_DISABLE_TELEMETRY HOME="$home" TMPDIR="$home/tmp" ${3:-HOME="$home"} "venv-$2/bin/python" -c "$4"
  python3 written.py "$home" | tee "$1.txt"
}
look old 1.26.0 "" 'import onnxruntime; print("  version", onnxruntime.__version__)'
look imported 1.32.0 "" 'import onnxruntime; print("  version", onnxruntime.__version__)'
look disabled_in_python 1.32.0 "" 'import onnxruntime; onnxruntime.disable_telemetry_events()'
look disabled_in_environment 1.32.0 ORT_DISABLE_TELEMETRY=1 'import onnxruntime; print("  version", onnxruntime.__version__)'
grep -q "files: none" old.txt
for name in imported disabled_in_python; do
  grep -q "deviceid.*onnxruntime.db.*tmp/.ses" "$name.txt"
  grep -q "events waiting: 1.*cpuModel.*path of Python: True" "$name.txt"
done
grep -q "files: none" disabled_in_environment.txt
echo "as described"
