"""Every file in cluster/ is what its tool reads, by the tool's own schema where there is one; unknown fields fail."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_files import (
    AUTOSCALING,
    CLUSTER,
    CLUSTERS,
    CONTAINERS,
    JOBS,
    PROMETHEUS_FILES,
    RAY_UP_FILES,
    README,
    TEXTS,
    RayCluster,
    of_name,
)
from jsonschema import ValidationError
from strict_schema import read_yaml, schema_of_crd, validate


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object that has these properties, may have those, and no others."""
    properties = {**required, **optional}
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": False
    }  # fmt: skip


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


TEXT = {"type": "string", "minLength": 1}
STRINGS = {"type": "object", "additionalProperties": TEXT}
# The parts in use of what has no schema beside the tests.
SCHEMAS = {
    "kuberay/podmonitor.yaml": closed({
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "PodMonitor"},
        "metadata": closed({"name": TEXT}, labels=STRINGS),
        "spec": closed({
            "selector": closed({"matchLabels": STRINGS}),
            "podMetricsEndpoints": listed(closed(
                {"port": TEXT, "interval": TEXT},
                relabelings=listed(closed({"sourceLabels": listed(TEXT), "targetLabel": TEXT})),
            )),
        }),
    }),
    "kuberay/data.yaml": closed({
        "apiVersion": {"const": "v1"},
        "kind": {"const": "PersistentVolumeClaim"},
        "metadata": closed({"name": TEXT}),
        "spec": closed({
            "accessModes": listed({"enum": ["ReadWriteOnce", "ReadWriteMany"]}),
            "resources": closed({"requests": closed({"storage": TEXT})}),
        }),
    }),
    "monitoring/grafana/provisioning/datasources/raycp.yaml": closed({
        "apiVersion": {"const": 1},
        "datasources": listed(closed(
            {"name": {"const": "Prometheus"}, "type": {"const": "prometheus"}, "url": TEXT},
            access={"const": "proxy"}, uid=TEXT, isDefault={"type": "boolean"}, jsonData={"type": "object"},
        )),
    }),
    "monitoring/grafana/provisioning/dashboards/raycp.yaml": closed({
        "apiVersion": {"const": 1},
        "providers": listed(closed(
            {"name": TEXT, "type": {"const": "file"}, "options": closed({"path": TEXT})},
            folder=TEXT, updateIntervalSeconds={"type": "integer"},
        )),
    }),
}  # fmt: skip


@pytest.fixture(scope="session")
def crds(shared_data: Path) -> dict[str, dict[str, Any]]:
    """KubeRay's strict schemas, by kind."""
    folder = shared_data / "kuberay-crds"
    if not folder.is_dir():
        pytest.skip(f"no KubeRay schemas at {folder}")
    found = [yaml.load(path.read_text(), Loader=yaml.CSafeLoader) for path in folder.glob("*.yaml")]
    return {crd["spec"]["names"]["kind"]: schema_of_crd(crd, "v1") for crd in found}


def test_every_file_has_a_check_and_a_place_in_the_readme() -> None:
    checked = {AUTOSCALING, *RAY_UP_FILES, *PROMETHEUS_FILES, *(cluster.path for cluster in CLUSTERS), README}
    checked |= {CLUSTER / name for name in (*SCHEMAS, "Dockerfile", "Dockerfile.dockerignore")}
    assert TEXTS.keys() == checked
    assert len(CLUSTERS) == 3 and len(JOBS) == 2 and len(CONTAINERS) == 7 and len(RAY_UP_FILES) == 2
    for path in checked - {README, CLUSTER / "Dockerfile.dockerignore"}:
        name = "GF_PATHS_PROVISIONING" if "provisioning" in path.parts else path.name
        assert name in TEXTS[README], path


@pytest.mark.parametrize("cluster", CLUSTERS, ids=of_name)
def test_kuberay_accepts(cluster: RayCluster, crds: dict[str, dict[str, Any]]) -> None:
    validate(cluster.manifest, crds[cluster.manifest["kind"]])


def change(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a place; `a/0/b`."""
    changed = here = copy.deepcopy(manifest)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        here = here[part]
    here[last] = value
    return changed


CLUSTER_SPEC = "spec/rayClusterSpec"
HEAD, WORKERS = f"{CLUSTER_SPEC}/headGroupSpec", f"{CLUSTER_SPEC}/workerGroupSpecs/0"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec/backofLimit", 3, "'backofLimit' was unexpected"),
        ("spec/backoffLimit", "3", "'3' is not of type 'integer'"),
        ("spec/backoffLimit", 2**31, "greater than the maximum"),
        (f"{CLUSTER_SPEC}/authOptions/mode", "tokens", "'tokens' is not one of"),
        (f"{CLUSTER_SPEC}/autoscalerOptions/idleTimeoutSecond", 1, "'idleTimeoutSecond' was unexpected"),
        (f"{HEAD}/template/spec/containers/0/volumeMount", [], "'volumeMount' was unexpected"),
        (f"{HEAD}/template/spec/volumes/0/emptyDir/sizelimit", "1Gi", "'sizelimit' was unexpected"),
        (f"{HEAD}/rayStartParams/num-cpus", 0, "0 is not of type 'string'"),
        (f"{WORKERS}/template/spec/containers/0/resources/limits/cpu", "4 cores", "'4 cores' does not match"),
        (WORKERS, {"groupName": "gpu"}, "is a required property"),
        ("metadata/name", "Raycp", "'Raycp' does not match"),
        ("metadata/label", {}, "'label' was unexpected"),
        ("kind", "RayCluster", "'RayJob' was expected"),
        ("apiVersion", "ray.io/v1alpha1", "'ray.io/v1' was expected"),
        ("status", {}, "'status' was unexpected"),
    ],
)
def test_kuberay_refuses(path: str, value: Any, message: str, crds: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValidationError) as error:
        validate(change(JOBS[0].manifest, path, value), crds["RayJob"])
    assert message in error.value.message  # the whole text of an error holds the schema, a megabyte of it


def test_kuberay_refuses_a_variable_that_is_set_twice(crds: dict[str, dict[str, Any]]) -> None:
    changed = copy.deepcopy(JOBS[0].manifest)
    head = changed["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["env"].append(head["env"][0])
    with pytest.raises(ValidationError) as error:
        validate(changed, crds["RayJob"])
    assert error.value.message == "there are two items with {'name': 'RAY_USAGE_STATS_ENABLED'}"


def test_repeated_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("spec:\n  replicas: 1\n  replicas: 2\n")
    with pytest.raises(yaml.constructor.ConstructorError, match=r"repeated: \{'replicas'\}"):
        read_yaml(tmp_path / "file.yaml")


@pytest.mark.parametrize("name", SCHEMAS)
def test_small_files(name: str) -> None:
    validate(read_yaml(CLUSTER / name), SCHEMAS[name])


@pytest.mark.parametrize("path", [AUTOSCALING, *RAY_UP_FILES], ids=of_name)
def test_the_autoscaler_knows_every_field(path: Path) -> None:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = read_yaml(path)
    validate(config, schema)
    for wrong in ({"max_worker": 1}, {"provider": {}}):
        with pytest.raises(ValidationError):
            validate({**config, **wrong}, schema)


@pytest.mark.parametrize("path", RAY_UP_FILES, ids=of_name)
def test_ray_up_accepts(path: Path) -> None:
    """What `ray up` does with a file before it looks for machines."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(read_yaml(path))
    validate_config(prepared)
    installs = [prepared[key] for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")]
    assert installs == [[], [], []]  # Ray's defaults for AWS install a nightly Ray


@pytest.mark.parametrize("path", PROMETHEUS_FILES, ids=of_name)
def test_promtool_accepts(path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    # The syntax alone: the token is not on this machine.
    run = subprocess.run([promtool, "check", "config", "--syntax-only", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


# What KubeRay's operator checks beyond its schemas (ValidateRayClusterSpec and ValidateRayJobSpec in KubeRay 1.7)


@pytest.mark.parametrize("cluster", CLUSTERS, ids=of_name)
def test_operator_accepts_the_cluster(cluster: RayCluster) -> None:
    spec = cluster.spec
    assert len(cluster.manifest["metadata"]["name"]) <= (47 if cluster in JOBS else 53)
    # Ports of its own replace all defaults of the head's service, and the operator asks the dashboard by name.
    (head,) = [container for container in cluster.containers() if container.is_head]
    assert {"gcs-server", "dashboard"} <= {port["name"] for port in head.spec["ports"]}
    for group in (spec["headGroupSpec"], *cluster.groups):
        assert "resources" not in group and "labels" not in group["rayStartParams"]
        # Autoscaler v2 and sidecars want Never, which KubeRay sets itself.
        assert "restartPolicy" not in group["template"]["spec"]
    for group in cluster.groups:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert "idleTimeoutSeconds" not in group or spec["autoscalerOptions"]["version"] == "v2"
    assert "upgradeStrategy" not in spec
    for gated in ("networkPolicy", "tlsOptions", "historyServerOptions"):
        assert gated not in spec  # refused unless the operator runs with an alpha gate


@pytest.mark.parametrize("job", JOBS, ids=of_name)
def test_operator_accepts_the_job(job: RayCluster) -> None:
    spec = job.manifest["spec"]
    assert spec["submissionMode"] in ("SidecarMode", "HTTPMode")  # the schema takes any word
    assert "submitterPodTemplate" not in spec and "clusterSelector" not in spec
    # A run directory resumes, so trying again is cheap; nothing that costs money stays behind.
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
