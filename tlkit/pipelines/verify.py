"""`tlkit verify`: check that an artifact still gives the logits it gave at export.

tlkit verify exported/onnx
"""

from pathlib import Path
from typing import Any

from tlkit.base.story import Phase, Silence, Story, percent
from tlkit.exporting.artifact import GOLDEN, model_bytes, read_artifact
from tlkit.exporting.formats import refuse_missing
from tlkit.exporting.golden import Golden, agreement, difference, refuse_different
from tlkit.exporting.runtimes import Runtime
from tlkit.options.commands import VerifyConfig
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE

REMEDY = "do not use it here; try the version of the runtime in contract.json, or export again."
PHASES = (  # with seconds of a small network on two cores
    Phase("reading files", 0.1),
    Phase("loading the model", 2.0),
    Phase("computing logits", 0.5),
    Phase("timing", 0.5),
)


def run(config: VerifyConfig, story: Story | None = None) -> dict[str, Any]:
    """Check the files, run the golden batch and measure the differences.

    Returns:
        `artifact`, `kind`, `runtime`, `bytes` of the model, `max_difference` of a logit, `tolerance`, `agreement`
        with the classifier in Keras (fraction of golden images that keep their class), `latency_ms` and `text`.

    Raises:
        TlkitError: if it is not an artifact, or the runtime is missing or cannot load it.
        OutOfDate: if files have changed, or the logits differ from the expected ones.
    """
    story = story or Silence()
    story.expect(*PHASES)
    story.begin("reading files")
    found = read_artifact(Path(config.artifact))
    refuse_missing([found.row], writing=False)
    story.say(f"{config.artifact}: {len(found.contract['files'])} files unchanged since export")
    golden = Golden.read(found.folder / GOLDEN)
    story.begin("loading the model")
    runtime = Runtime(found.row, found.folder)
    story.begin("computing logits")
    logits = runtime(golden.samples)["logits"]
    tolerance = found.contract["golden"]["tolerance"]
    task = TASKS[found.contract.get("task", SINGLE.name)]
    refuse_different(logits, golden, tolerance, f"{config.artifact} in {runtime.name}", REMEDY, task)
    story.begin("timing")
    result = {
        "artifact": config.artifact,
        "kind": found.row.name,
        "runtime": runtime.name,
        "bytes": model_bytes(found.contract),
        "images": len(golden.images),
        "max_difference": difference(logits, golden.logits),
        "tolerance": tolerance,
        "agreement": agreement(logits, golden.reference, task),
        "latency_ms": round(runtime.latency(golden.samples), 3),
    }
    return {**result, "text": _text(result)}


def _text(result: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"{result['artifact']}: as exported",
            f"  runtime      {result['runtime']}",
            f"  model        {result['bytes'] / 1e6:.2f} MB",
            f"  logits       differ by {result['max_difference']:.1e} at most on {result['images']} drawn images, "
            f"allowed {result['tolerance']:g} (times the largest logit where that is above 1)",
            f"  decisions    {percent(result['agreement'], 1)} as in Keras",
            f"  latency      {result['latency_ms']:.2f} ms an image",
        ]
    )
