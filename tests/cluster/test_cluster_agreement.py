"""The files in cluster/ agree with each other, with the image, with Ray's versions and with what is safe."""

from __future__ import annotations

import re
import tomllib

import pytest
from cluster_files import (
    CLUSTER,
    CLUSTERS,
    CONTAINERS,
    JOBS,
    KUBERAY,
    PROMETHEUS_FILES,
    RAY_UP,
    RAY_UP_FILES,
    README,
    ROOT,
    TEXTS,
    Container,
    RayCluster,
    of_name,
    quantity,
    shell_lines,
)
from packaging.requirements import Requirement
from strict_schema import read_yaml

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
ENVIRONMENT = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1", "RAY_SCHEDULER_EVENTS": "0"}
PORTS = {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "as-metrics": 44217, "dash-metrics": 44227}


def test_versions_agree() -> None:
    (ray,) = [Requirement(text) for text in PROJECT["dependencies"] if text.startswith("ray[")]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    for cluster in CLUSTERS:
        assert cluster.spec["rayVersion"] == pinned[1] and pinned[1] in ray.specifier
    images = {container.spec["image"] for container in CONTAINERS}
    images |= {config["docker"]["image"] for path in RAY_UP_FILES if "docker" in (config := read_yaml(path))}
    named = set().union(*(re.findall(r"[\w./-]*/raycp:[\w.]+", text) for text in TEXTS.values()))
    assert images == named == {f"registry.example.com/raycp:{PROJECT['version']}"}
    assert f"docker build --file cluster/Dockerfile --tag {named.pop()} ." in TEXTS[README]


@pytest.mark.parametrize("container", CONTAINERS, ids=of_name)
def test_containers(container: Container) -> None:
    spec = container.spec
    environment = {variable["name"]: variable["value"] for variable in spec["env"]}
    assert environment == {"RAY_USAGE_STATS_ENABLED": "0", **ENVIRONMENT}
    assert {port["name"]: port["containerPort"] for port in spec["ports"]}.items() <= PORTS.items()
    assert f"WORKDIR {spec['workingDir']}\n" in DOCKERFILE  # where relative paths of a job start
    assert container.pod["securityContext"]["runAsNonRoot"]
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
    assert str(container.pod["securityContext"]["runAsUser"]) == user != "0"
    # Ray counts on the limits; a pod that was promised less would be the first to go.
    assert spec["resources"]["requests"] == spec["resources"]["limits"]


@pytest.mark.parametrize("container", CONTAINERS, ids=of_name)
def test_shared_memory_holds_the_object_store_and_no_more_than_half(container: Container) -> None:
    from ray._private.ray_constants import DEFAULT_OBJECT_STORE_MEMORY_PROPORTION as SHARE

    (mount,) = [mount for mount in container.spec["volumeMounts"] if mount["mountPath"] == "/dev/shm"]
    (volume,) = [volume for volume in container.pod["volumes"] if volume["name"] == mount["name"]]
    size, memory = quantity(volume["emptyDir"]["sizeLimit"]), container.amounts["memory"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert SHARE * memory <= 0.95 * size <= memory / 2  # Ray takes 95% of /dev/shm at most


@pytest.mark.parametrize("cluster", CLUSTERS, ids=of_name)
def test_heads_do_no_work_and_are_not_spot(cluster: RayCluster) -> None:
    assert cluster.spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    spot = {container.pod.get("nodeSelector", {}).get("eks.amazonaws.com/capacityType"): container.is_head
            for container in cluster.containers()}  # fmt: skip
    assert spot["ON_DEMAND"] and not spot["SPOT"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for container in cluster.containers()
              for volume in container.pod["volumes"] if "persistentVolumeClaim" in volume}  # fmt: skip
    assert claims == {read_yaml(KUBERAY / "data.yaml")["metadata"]["name"]}


def test_the_cluster_that_stays() -> None:
    (stays,) = [cluster for cluster in CLUSTERS if cluster not in JOBS]
    spec = stays.spec
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
    assert "secretKeyRef" in spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]
    gpu, cpu = stays.groups
    assert (gpu["replicas"], cpu["replicas"]) == (0, 0) and gpu["maxReplicas"] > 0 and cpu["maxReplicas"] > 0
    has_gpu = {c.place.split()[-1]: "nvidia.com/gpu" in c.amounts for c in stays.containers()}
    assert has_gpu == {"head": False, gpu["groupName"]: True, cpu["groupName"]: False}


def test_prometheus_finds_what_pods_offer() -> None:
    monitor = read_yaml(KUBERAY / "podmonitor.yaml")["spec"]
    asked = {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]}
    assert asked == {name for name in PORTS if "metrics" in name}
    assert monitor["selector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    for cluster in CLUSTERS:
        offered = {port["name"] for container in cluster.containers() for port in container.spec["ports"]}
        missing = asked - offered
        assert missing == set() if "enableInTreeAutoscaling" in cluster.spec else missing == {"as-metrics"}
        for group in (cluster.spec["headGroupSpec"], *cluster.groups):
            assert group["rayStartParams"]["metrics-export-port"] == str(PORTS["metrics"])


def test_prometheus_asks_the_dashboard_with_the_token() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    by_name = {path.stem: read_yaml(path)["scrape_configs"] for path in PROMETHEUS_FILES}
    (by_file,), (by_http,) = by_name["prometheus"], by_name["prometheus-http"]
    assert by_file["file_sd_configs"][0]["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
    (discovery,) = by_http["http_sd_configs"]
    assert discovery["url"] == "http://127.0.0.1:8265/api/prometheus/sd"
    assert discovery["authorization"]["type"] == "Bearer" and "credentials_file" in discovery["authorization"]
    assert "authorization" not in by_http  # the token is for the dashboard, not for every node in its list


def test_tokens_are_on_everywhere() -> None:
    for cluster in CLUSTERS:
        assert cluster.spec["authOptions"] == {"mode": "token"}, cluster.path
    for path in RAY_UP_FILES:
        config = read_yaml(path)
        assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
        for role in ("head", "worker"):
            stop, start = config[f"{role}_start_ray_commands"]
            assert stop == "ray stop"
            settings = {"RAY_AUTH_MODE": "token", **ENVIRONMENT}
            for name, value in settings.items():
                assert f" {name}={value} " in start.partition("ray start ")[0], (path, role)
            for flag in ("--disable-usage-stats", "--metrics-export-port=8080"):
                assert flag in start
            assert ("--dashboard-host=127.0.0.1" in start) == (role == "head")
    started = [line for line in shell_lines(TEXTS[README]) if "ray start" in line]
    assert started and all(line.startswith("RAY_AUTH_MODE=token ") for line in started)


def test_aws_starts_spot_nodes_from_none_and_no_open_ports() -> None:
    config = read_yaml(RAY_UP / "aws-spot.yaml")
    head, gpu = (config["available_node_types"][name] for name in ("head", "gpu"))
    assert config["head_node_type"] == "head" and head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in config["head_start_ray_commands"][1]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, config["max_workers"])
    # The group that Ray would make has SSH open to all.
    assert all(node["node_config"]["SecurityGroupIds"] for node in (head, gpu))
    options = config["docker"]["run_options"]
    assert any(option.startswith("--shm-size=") for option in options) and "-e RAY_AUTH_MODE=token" in options


def test_no_file_opens_a_port_ends_ray_or_names_a_place_of_this_machine() -> None:
    for path, text in TEXTS.items():
        assert not re.search(r"0\.0\.0\.0|LoadBalancer|NodePort|enableIngress", text), path
        assert "ray stop" not in text or path.parent == RAY_UP, path
        assert str(ROOT.parent) not in text and "/root/" not in text, path
        hosts = re.findall(r"https?://([\w.-]+)", text)
        assert set(hosts) <= {"127.0.0.1", "localhost", "HEAD"}, path
