"""`kill -9` at every kind of moment, then `--resume` to the end."""

import json
import os
import signal
import time

import pytest

from tests import processes

# The run has reached this point when this file exists (patterns below the run folder or the cache).
MOMENTS = {
    "scan": ("run", "config.toml"),
    "extraction": ("cache", "features/*/space.json"),
    "head": ("run", "checkpoints/head/state.json"),
    "top": ("run", "checkpoints/top/epoch-*.weights.h5"),
    "all": ("run", "checkpoints/all/epoch-*.weights.h5"),
    "report": ("run", ".tmp-*-files/predictions.csv"),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_again_and_again_finishes(options, tmp_path):
    run, cache, scratch = tmp_path / "run", tmp_path / "cache", tmp_path / "scratch"
    scratch.mkdir()
    folders = {"run": run, "cache": cache}
    environment = os.environ | {"TLKIT_CACHE": str(cache), "TMPDIR": str(scratch)}
    start = [
        *("-m", "tlkit", "finetune", options["images"], "--backbone", options["backbone"]),
        *(
            "--stages",
            "head,top,all",
            "--blocks",
            "1",
            "--epochs",
            "6",
            "--patience",
            "9",
            "--validate",
            "split",
            "--out",
            str(run),
        ),
        *("--ema", "0.9", "--layer-decay", "0.5"),
    ]
    resume = ["-m", "tlkit", "finetune", "--resume", str(run)]
    killed = []
    for moment, (folder, pattern) in MOMENTS.items():
        command = resume if (run / "config.toml").exists() else start
        process = processes.start(command, env=environment)
        while process.poll() is None and not list(folders[folder].glob(pattern)):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed.append(moment)
        assert process.wait() in (0, -signal.SIGKILL), moment
    assert len(killed) >= 4, killed  # a fast machine may finish before the last points are seen
    done = processes.run([*resume, "--json"], env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 36 and result["metrics"]["test"]["accuracy"]["value"] > 0.5
    assert (run / "report.html").read_text().rstrip().endswith("</html>")
    stages = [json.loads((run / "checkpoints" / stage / "state.json").read_text()) for stage in ("head", "top", "all")]
    assert all(state["done"] for state in stages)
    left = [path.name for folder in (run, cache) for path in folder.rglob("*")]
    assert [name for name in left if name.startswith((".tmp-", "native-", ".lock", ".speed-"))] == []
    assert list(scratch.iterdir()) == []
