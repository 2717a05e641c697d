"""The examples for clusters: well formed, and they hand out every share once and then gather."""

import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
JOB = yaml.safe_load((EXAMPLES / "kubernetes_features.yaml").read_text())


def typed(**properties):
    """A JSON Schema of an object with these fields, each with whether it must be there, and no others."""
    required = [name for name, (_, needed) in properties.items() if needed]
    fields = {name: schema for name, (schema, _) in properties.items()}
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def must(schema):
    return (schema, True)


def may(schema):
    return (schema, False)


TEXT, NUMBER, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = typed(
    name=must(NAME),
    image=must(TEXT),
    command=may({"type": "array", "items": TEXT}),
    args=may({"type": "array", "items": TEXT}),
    env=may({"type": "array", "items": typed(name=must(TEXT), value=must(TEXT))}),
    resources=may(typed(requests=may(AMOUNTS), limits=may(AMOUNTS))),
    volumeMounts=may({"type": "array", "items": typed(name=must(NAME), mountPath=must(TEXT), readOnly=may(YES))}),
)
VOLUME = typed(name=must(NAME), persistentVolumeClaim=must(typed(claimName=must(TEXT), readOnly=may(YES))))
POD = typed(
    restartPolicy=must({"enum": ["Never", "OnFailure"]}),  # a Job takes no other
    securityContext=may(
        typed(runAsNonRoot=may(YES), runAsUser=may(NUMBER), runAsGroup=may(NUMBER), fsGroup=may(NUMBER))
    ),
    containers=must({"type": "array", "items": CONTAINER, "minItems": 1}),
    volumes=may({"type": "array", "items": VOLUME}),
)
# The part of `io.k8s.api.batch.v1.Job` (Kubernetes 1.33, where backoffLimitPerIndex is stable) that the example may use.
SCHEMA = typed(
    apiVersion=must({"const": "batch/v1"}),
    kind=must({"const": "Job"}),
    metadata=must(typed(name=must(NAME))),
    spec=must(
        typed(
            completionMode=may({"enum": ["Indexed", "NonIndexed"]}),
            completions=may(NUMBER),
            parallelism=may(NUMBER),
            backoffLimit=may(NUMBER),
            backoffLimitPerIndex=may(NUMBER),
            maxFailedIndexes=may(NUMBER),
            template=must(typed(spec=must(POD))),
        )
    ),
)


def test_the_job_is_one():
    jsonschema.validate(JOB, SCHEMA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda job: job["spec"].update(restartPolicy="Never"),
        lambda job: job["spec"].update(completions="8"),
        lambda job: job["spec"]["template"]["spec"].update(restartPolicy="Always"),
        lambda job: job["spec"]["template"]["spec"]["containers"][0].pop("image"),
        lambda job: job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update(memory="6 GB"),
    ],
)
def test_the_schema_notices_what_a_cluster_would_refuse(spoil):
    job = yaml.safe_load((EXAMPLES / "kubernetes_features.yaml").read_text())
    spoil(job)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_every_volume_that_is_mounted_is_there_and_the_job_is_indexed():
    spec, pod = JOB["spec"], JOB["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and "backoffLimit" not in spec  # per index and in all exclude each other
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pod["volumes"]}


@pytest.fixture
def called(tmp_path):
    """A `tlkit` that only notes how it is called; gives the environment, and what was noted."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tlkit"
    program.write_text('#!/bin/sh\necho "$@" >> "$NOTED"\n')
    program.chmod(0o755)
    noted = tmp_path / "noted"
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "NOTED": str(noted)}
    return environment, lambda: noted.read_text().splitlines()


def shards(lines):
    return sorted(line.partition("--shard ")[2] for line in lines)


def test_the_pods_take_every_share_once(called):
    environment, noted = called
    container, count = JOB["spec"]["template"]["spec"]["containers"][0], JOB["spec"]["completions"]
    for index in range(count):
        asked = environment | {"JOB_COMPLETION_INDEX": str(index)}
        subprocess.run([*container["command"], *container["args"]], env=asked, check=True)
    assert shards(noted()) == [f"{number}/{count}" for number in range(1, count + 1)]


def test_the_array_takes_every_share_once_and_the_last_job_gathers(called, tmp_path):
    environment, noted = called
    script = EXAMPLES / "slurm_features.sh"
    for task in range(16):
        asked = environment | {"SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash", script], env=asked, cwd=tmp_path, check=True)
    assert shards(noted()) == sorted(f"{number}/16" for number in range(1, 17))
    subprocess.run(["bash", script], env=environment, cwd=tmp_path, check=True)
    assert noted()[-1] == "features images --backbone resnet50 --out features.parquet"


def test_parallel_takes_every_share_once_and_then_gathers(called, tmp_path):
    environment, noted = called
    if not shutil.which("parallel"):  # what GNU parallel does with these arguments on one machine, one at a time
        stand_in = tmp_path / "bin" / "parallel"
        stand_in.write_text(
            '#!/bin/bash\nwhile [ "$1" != tlkit ]; do shift; done\nwhile read -r n; do "${@//\\{\\}/$n}"; done\n'
        )
        stand_in.chmod(0o755)
    subprocess.run(["bash", EXAMPLES / "parallel_features.sh"], env=environment, cwd=tmp_path, check=True)
    lines = noted()
    assert shards(lines[:-1]) == [f"{number}/8" for number in range(1, 9)]
    assert "--shard" not in lines[-1]
