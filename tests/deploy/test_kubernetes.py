"""The manifests of docs/deploy/kubernetes: Kubernetes would take them, and what they say of infermux is so."""

from __future__ import annotations

import math
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from infermux.actors.ledger import GRACE
from infermux.actors.purse_keeper import STORE_PATIENCE
from infermux.config.loader import load_text
from infermux.config.settings import Config
from infermux.config.values import address
from infermux.http.management import EXEMPT
from infermux.serving import CUT_GRACE
from tests.deploy.test_deploy import instructions, parsed

FOLDER = Path(__file__).parents[2] / "docs" / "deploy" / "kubernetes"
FOREIGN = {"kustomization.yaml", "podmonitor.yaml"}  # kinds that are not Kubernetes' own
KUBERNETES = "1.34"


@cache
def documents() -> dict[str, Any]:
    """By kind."""
    found = [each for path in FOLDER.glob("*.yaml") for each in yaml.safe_load_all(path.read_text())]
    kinds = {each["kind"]: each for each in found}
    assert len(kinds) == len(found)
    return kinds


def pod() -> Any:
    return documents()["Deployment"]["spec"]["template"]


def container() -> Any:
    [only] = pod()["spec"]["containers"]
    return only


def most_pods() -> int:
    """With those that an update starts before others end."""
    surge: str = documents()["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    most: int = documents()["HorizontalPodAutoscaler"]["spec"]["maxReplicas"]
    return most + math.ceil(most * int(surge.removesuffix("%")) / 100)


def config() -> Config:
    text = documents()["ConfigMap"]["data"]["infermux.yml"]
    return load_text(text, source="infermux.yml", environ=documents()["Secret"]["stringData"])


def validated(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = ["kubernetes-validate", "-k", KUBERNETES, "--strict", "--quiet", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.needs("kubernetes-validate")
def test_kubernetes_has_nothing_to_say_about_them() -> None:
    done = validated(*(path for path in sorted(FOLDER.glob("*.yaml")) if path.name not in FOREIGN))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.needs("kubernetes-validate")
def test_what_kubernetes_does_not_know_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((FOLDER / "service.yaml").read_text().replace("selector:", "selectors:"))
    assert validated(wrong).returncode != 0


def test_the_configuration_is_one_and_has_all_that_it_refers_to() -> None:
    text = documents()["ConfigMap"]["data"]["infermux.yml"]
    given = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container()["env"]}
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= set(given)
    assert all(reference == {"name": "infermux", "key": name} for name, reference in given.items())
    assert set(given) == set(documents()["Secret"]["stringData"])
    assert config().ledger.url is not None


def test_the_command_is_ours_and_reads_what_is_mounted() -> None:
    program, *arguments = container()["args"]
    assert program == "infermux"
    file = Path(parsed(arguments).params["path"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    [volume] = [each for each in pod()["spec"]["volumes"] if each["name"] == mounts[str(file.parent)]]
    assert volume["configMap"]["name"] == documents()["ConfigMap"]["metadata"]["name"]
    assert file.name in documents()["ConfigMap"]["data"]
    assert pod()["spec"]["securityContext"]["runAsUser"] == int(instructions("USER")[0])


def test_probes_ask_for_what_needs_no_token_where_it_is_served() -> None:
    listen = config().management_listen
    assert listen is not None
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert ports == {"http": address(config().listen).port, "management": address(listen).port}
    probes = {kind: container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"management"}
    assert {probe["path"] for probe in probes.values()} == {"/_infermux/health", "/_infermux/accepting"} <= EXEMPT
    assert probes["readiness"]["path"] == "/_infermux/accepting"


def test_a_pod_that_starts_without_redis_takes_no_more_than_its_part_whatever_the_autoscaler_has_made() -> None:
    assert config().state.url is not None
    assert config().state.nodes == most_pods()


def test_its_database_is_to_have_a_connection_for_each_that_a_pod_may_open() -> None:
    said = (FOLDER / "horizontalpodautoscaler.yaml").read_text()
    assert f"update {6 * most_pods()}, where its max_connections" in said


def test_servers_have_to_prove_who_they_are_by_an_authority_that_is_mounted() -> None:
    given: dict[str, str] = documents()["Secret"]["stringData"]
    ledger, state = urlsplit(given["LEDGER_URL"]), urlsplit(given["STATE_URL"])
    of_ledger, of_state = dict(parse_qsl(ledger.query)), dict(parse_qsl(state.query))
    assert (of_ledger["sslmode"], state.scheme) == ("verify-full", "rediss")
    mounts = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert {str(Path(file).parent) for file in (of_ledger["sslrootcert"], of_state["ssl_ca_certs"])} <= mounts


def test_a_pod_has_the_time_that_its_drain_takes() -> None:
    readiness = container()["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert config().shutdown_delay >= noticed + 5
    whole = config().shutdown_delay + config().shutdown_grace + CUT_GRACE + 2 * GRACE + STORE_PATIENCE
    assert pod()["spec"]["terminationGracePeriodSeconds"] >= whole + 10


def test_they_speak_of_the_same_pods() -> None:
    labels, kinds = pod()["metadata"]["labels"], documents()
    assert kinds["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        assert kinds[kind]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": kinds["Deployment"]["metadata"]["name"]
    }  # fmt: skip
    assert kinds["ServiceAccount"]["metadata"]["name"] == pod()["spec"]["serviceAccountName"]
    named = {each["name"] for each in container()["ports"]}
    asked = [port["targetPort"] for port in kinds["Service"]["spec"]["ports"]]
    asked += [port["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    asked += [each["port"] for each in kinds["PodMonitor"]["spec"]["podMetricsEndpoints"]]
    assert set(asked) == named


def test_all_of_them_are_applied_but_for_the_examples_and_what_not_every_cluster_knows() -> None:
    left_out = {*FOREIGN, "secret.example.yaml"}
    assert {*documents()["Kustomization"]["resources"]} == {path.name for path in FOLDER.glob("*.yaml")} - left_out
