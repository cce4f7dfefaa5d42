"""The Helm chart, by real helm of both majors, against the schemas of Kubernetes and of the Prometheus operator.

No cluster runs here: what it renders is validated, and what it configures is loaded by the program.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

import chart_reference
from alerting import NAMES, ROOT, RULES
from parts.certificates import Authority
from parts.helm import CHART, MAJORS, helm, objects, render
from parts.machine import need

VALUES = sorted((CHART / "ci").glob("*.yaml"))
README = (CHART / "README.md").read_text()
KUBERNETES_VALIDATE = Path(sys.executable).with_name("kubernetes-validate")
KUBERNETES = ("1.29", "1.31", "1.33", "1.34")
MINIMAL = {"databases": {"trading": {"host": "postgres", "existingSecret": "po-reader"}}}
CUSTOM = {model.__name__: model for model in (operator.ServiceMonitor, operator.PodMonitor, operator.PrometheusRule)}


def from_readme(mark: str) -> str:
    return re.search(rf"<!-- {mark} -->\n```yaml\n(.*?)```", README, re.S)[1]


SIDECAR = yaml.safe_load(from_readme("values: sidecar"))["po-exporter"]


def pods(found: dict) -> list[dict[str, Any]]:
    """The specification of every pod."""
    return [o["spec"]["template"]["spec"] if o["kind"] == "Deployment" else o["spec"]
            for o in found.values() if o["kind"] in ("Deployment", "Pod")]  # fmt: skip


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_lint_finds_nothing_to_say(major, values):
    linted = helm(major, "lint", "--strict", CHART, "--values", values)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "[WARNING]" not in linted.stdout


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_both_majors_render_the_same(values):
    three, four = (objects(render(major, values)) for major in MAJORS)
    assert three == four


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_kubernetes_accepts_it(values, kubernetes, tmp_path):
    (tmp_path / "out.yaml").write_text(render(4, values, kubernetes=kubernetes).stdout)
    validated = subprocess.run(
        [KUBERNETES_VALIDATE, "-k", kubernetes, "--strict", tmp_path / "out.yaml"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert validated.returncode == 0, validated.stdout + validated.stderr
    custom = {o["kind"] for o in objects(render(4, values)).values()} & CUSTOM.keys()
    warned = [line for line in (validated.stdout + validated.stderr).splitlines() if "WARN" in line]
    assert len(warned) <= len(custom), warned


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_operator_accepts_it(values):
    """Its types take unknown fields in silence: so what they have understood is compared with what went in."""
    for each in objects(render(4, values)).values():
        if model := CUSTOM.get(each["kind"]):
            understood = model.model_validate(each).model_dump(mode="json", by_alias=True, exclude_unset=True)
            assert understood == each


@pytest.mark.parametrize("major", MAJORS)
def test_it_packages_and_the_package_renders(major, tmp_path):
    packaged = helm(major, "package", CHART, "--destination", tmp_path)
    assert packaged.returncode == 0, packaged.stderr
    (package,) = tmp_path.glob("*.tgz")
    listed = subprocess.run(["tar", "-tzf", package], capture_output=True, text=True, check=True).stdout
    assert "po-exporter/files/rules.yaml" in listed
    assert "/ci/" not in listed
    assert objects(render(major, VALUES[0], chart=package)) == objects(render(major, VALUES[0]))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
async def test_the_program_takes_the_configuration(values, tmp_path, cli):
    """With the files of the pod in a directory of this machine."""
    given, secrets = yaml.safe_load(values.read_text()), tmp_path / "secrets"
    (written,) = [o["data"]["config.yaml"] for (kind, name), o in objects(render(4, values)).items()
                  if kind == "ConfigMap" and "config.yaml" in o.get("data", {})]  # fmt: skip
    for path in re.findall(r"/run/secrets/po-exporter/([\w./-]+)", written):
        (secrets / path).parent.mkdir(parents=True, exist_ok=True)
        (secrets / path).write_text("postgresql:///x" if "dsn" in path or "direct" in path or "feed" in path else "x")
    (secrets / "tokens").write_text("scrape metrics.read s3cret-s3cret-s3cret\n")
    written = written.replace("/run/secrets/po-exporter", str(secrets))
    if "tls" in written:
        for source, name in zip(Authority(tmp_path, "ca").issue("server"), ("tls.crt", "tls.key"), strict=True):
            shutil.copy(source, secrets / "tls" / name)
    (tmp_path / "checks").mkdir()
    written = written.replace("/etc/po-exporter/checks", str(tmp_path / "checks"))
    checked = await cli("config", "check", config=written)
    assert (checked.status, checked.stdout[:28]) == (0, "The configuration is sound: "), checked.stderr
    shown = yaml.safe_load((await cli("config", "show", config=written)).stdout)
    assert shown["databases"].keys() == given["databases"].keys()
    assert "sslmode=verify-full" in written or values.stem == "sidecar"


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_secret_that_the_configuration_names_is_mounted(values):
    found = objects(render(4, values))
    config_text = next(o["data"]["config.yaml"] for o in found.values() if "config.yaml" in o.get("data", {}))
    named = set(re.findall(r"/run/secrets/po-exporter/([\w./-]+)", config_text))
    volumes = pods(found)[0]["volumes"] if pods(found) else volumes_of_the_sidecar(values)
    (projected,) = [v["projected"] for v in volumes if v["name"] == "po-exporter-secrets"]
    mounted = {item["path"] for source in projected["sources"] for each in source.values() for item in each["items"]}
    assert named <= mounted
    assert named


def volumes_of_the_sidecar(values: Path, major: int = 4) -> list[dict[str, Any]]:
    """As another chart includes them."""
    return in_another_chart(yaml.safe_load(values.read_text()), major)["spec"]["volumes"]


def in_another_chart(values: dict[str, Any], major: int) -> dict[str, Any]:
    """The pod template of a chart that has this one as a dependency, and includes its templates as the README says."""
    ours = from_readme("template: sidecar").replace("metadata:", "metadata:\n      labels: {app: trading-api}")
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name) / "trading-api"
        (parent / "templates").mkdir(parents=True)
        shutil.copytree(CHART, parent / "charts" / "po-exporter")
        (parent / "Chart.yaml").write_text(
            "apiVersion: v2\nname: trading-api\nversion: 1.0.0\n"
            'dependencies: [{name: po-exporter, version: 0.1.0, repository: "file://../po-exporter"}]\n'
        )
        (parent / "values.yaml").write_text(yaml.safe_dump({"po-exporter": values}))
        (parent / "templates" / "api.yaml").write_text(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: trading-api}\nspec:\n"
            f"  selector: {{matchLabels: {{app: trading-api}}}}\n  template:\n{ours}"
            "      containers: [{name: api, image: trading-api}]\n"
        )
        found = objects(helm(major, "template", "po", parent, "--kube-version", "1.34"))
    assert ("Deployment", "po-po-exporter") not in found
    return found["Deployment", "trading-api"]["spec"]["template"]


@pytest.mark.parametrize("major", MAJORS)
def test_another_chart_includes_the_sidecar(major):
    pod = in_another_chart(SIDECAR, major)["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always", "a native sidecar"
    assert "readinessProbe" not in sidecar, "it could take the trading API out of service"
    assert "startupProbe" not in sidecar, "it could hold its start up"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    mounted = {mount["name"] for mount in sidecar["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    # Somebody else's pod has no group of ours: what is mounted must be readable without it.
    (projected,) = [v["projected"] for v in pod["volumes"] if "projected" in v]
    assert projected["defaultMode"] == 0o444


def test_the_plain_snippet_is_a_pods(tmp_path):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"},
        "spec": {"containers": [{"name": "api", "image": "api"}], **yaml.safe_load(from_readme("snippet"))},
    }  # fmt: skip
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    for version in KUBERNETES:
        subprocess.run([KUBERNETES_VALIDATE, "-k", version, "--strict", tmp_path / "pod.yaml"], check=True)
    ours_in_full = in_another_chart(SIDECAR, 4)["spec"]
    (ours,) = ours_in_full["initContainers"]
    (plain,) = pod["spec"]["initContainers"]
    for key in ("args", "restartPolicy", "resources", "volumeMounts"):
        assert plain[key] == ours[key], key
    assert plain["securityContext"].items() <= ours["securityContext"].items()
    assert plain["image"] == ours["image"]
    assert pod["spec"]["volumes"][1] == ours_in_full["volumes"][1]
    written = objects(render(4, SIDECAR))["ConfigMap", "po-po-exporter"]["data"]
    assert {name: yaml.safe_load(text) for name, text in written.items()} == {
        "config.yaml": yaml.safe_load(from_readme("config: snippet"))
    }


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_pod_is_restricted(values):
    """As the Pod Security Standard of that name has it, and read-only beside."""
    found = pods(objects(render(4, values)))
    assert found or values.stem == "sidecar"
    for pod in found:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_a_change_of_the_configuration_rolls_the_pods_and_nothing_else_does():
    def checksum(**more: Any) -> str:
        deployment = objects(render(4, MINIMAL | more))["Deployment", "po-po-exporter"]
        return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum(podLabels={"a": "b"})
    assert checksum() != checksum(config={"monitor": {"interval": "5s"}})


def test_a_change_of_the_configuration_rolls_the_pods_that_have_the_sidecar():
    def checksum(**more: Any) -> str:
        return in_another_chart(SIDECAR | more, 4)["metadata"]["annotations"]["checksum/po-exporter"]

    assert checksum() == checksum(port=9843)
    assert checksum() != checksum(config={"monitor": {"interval": "5s"}})


def test_the_configuration_is_mounted_as_a_directory_so_that_a_reload_sees_it():
    (pod, *_) = pods(objects(render(4, MINIMAL)))
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert all("subPath" not in mount for mount in mounts.values())
    assert mounts["po-exporter-config"]["mountPath"] == "/etc/po-exporter/config"


def test_the_rules_are_those_of_the_repository_but_for_what_is_overridden():
    plain = objects(render(4, MINIMAL | {"prometheusRule": {"enabled": True}}))["PrometheusRule", "po-po-exporter"]
    assert plain["spec"] == RULES
    groups = objects(render(4, CHART / "ci" / "everything.yaml"))["PrometheusRule", "po-po-exporter"]["spec"]["groups"]
    rules = {(r["alert"], r["labels"].get("check")): r for g in groups for r in g["rules"] if "alert" in r}
    assert {name for name, _ in rules} == NAMES - {"PositionOrderNoEligibleOrders"}
    changed = rules["UnlinkedFilledOrdersHigh", None]
    assert (changed["expr"], changed["for"]) == ("position_order_unlinked_filled_orders > 5", "30s")
    assert changed["keep_firing_for"] == "5m"
    assert changed["annotations"]["runbook_url"] == "https://wiki.example/alerts/UnlinkedFilledOrdersHigh.md"
    assert rules["PositionOrderOpenIssues", "overfilled_order"]["labels"]["severity"] == "warning"
    assert rules["PositionOrderOpenIssues", "unreadable_fill"]["labels"]["severity"] == "critical"
    assert all(r["labels"]["team"] == "trading" for (name, _), r in rules.items() if name == "PositionOrderOpenIssues")
    assert groups[-1]["name"] == "more"


async def test_promtool_accepts_the_rendered_rules(promtool, tmp_path):
    found = objects(render(4, CHART / "ci" / "everything.yaml"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(found["PrometheusRule", "po-po-exporter"]["spec"]))
    await promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")


@pytest.mark.parametrize("name", ["po-exporter", "watcher"])
def test_the_rules_look_for_the_job_that_the_monitors_make(name):
    more = {"nameOverride": name, "prometheusRule": {"enabled": True}, "serviceMonitor": {"enabled": True}}
    found = objects(render(4, MINIMAL | more))
    monitor = next(o for (kind, _), o in found.items() if kind == "ServiceMonitor")
    service = next(o for (kind, _), o in found.items() if kind == "Service")
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    rules = next(o for (kind, _), o in found.items() if kind == "PrometheusRule")["spec"]["groups"][1]["rules"]
    assert f'up{{job="{job}"}} == 0' in {rule["expr"] for rule in rules}


def test_the_monitors_drop_what_the_example_drops():
    """Word for word what alerts/prometheus.yaml has, which a real Prometheus runs."""
    example = yaml.safe_load((ROOT / "alerts" / "prometheus.yaml").read_text())["scrape_configs"][0]
    camel = [
        {re.sub(r"_([a-z])", lambda match: match[1].upper(), key): value for key, value in each.items()}
        for each in example["metric_relabel_configs"]
    ]
    monitor = objects(render(4, MINIMAL | {"serviceMonitor": {"enabled": True}}))["ServiceMonitor", "po-po-exporter"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["metricRelabelings"] == camel


def test_the_dashboard_is_the_repositorys():
    found = objects(render(4, MINIMAL | {"dashboard": {"enabled": True}}))["ConfigMap", "po-po-exporter-dashboard"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    committed = json.loads((ROOT / "dashboards" / "po-exporter.json").read_text())
    assert json.loads(found["data"]["po-exporter.json"]) == committed


def test_several_replicas_are_spread_and_drained_one_by_one():
    found = objects(render(4, CHART / "ci" / "replicas.yaml"))
    assert found["PodDisruptionBudget", "po-po-exporter"]["spec"]["maxUnavailable"] == 1
    (pod, *_) = pods(found)
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert ("PodDisruptionBudget", "po-po-exporter") not in objects(render(4, MINIMAL)), "it would stop every drain"


def test_the_helm_test_is_not_served_by_the_service():
    found = objects(render(4, MINIMAL))
    selector = found["Service", "po-po-exporter"]["spec"]["selector"]
    assert not selector.items() <= found["Pod", "po-po-exporter-test"]["metadata"]["labels"].items()


REFUSED = {
    "a typo": ({**MINIMAL, "replica": 2}, "replica"),
    "a typo further down": ({"databases": {"trading": {"host": "a", "existingSecrets": "b"}}}, "existingSecrets"),
    "a wrong type": ({**MINIMAL, "port": "http"}, "port"),
    "no database": ({}, "databases: name at least one database to watch"),
    "no host": ({"databases": {"trading": {"existingSecret": "a"}}}, "databases.trading: set host, or dsnKey"),
    "no Secret": (
        {"databases": {"trading": {"host": "a"}}},
        "databases.trading.existingSecret: name the Secret that holds the password",
    ),
    "a key without its Secret": (
        {"databases": {"trading": {"host": "a", "noPassword": True, "feedDsnKey": "feed"}}},
        "databases.trading.feedDsnKey: existingSecret has to name the Secret",
    ),
    "both forms": (
        {"databases": {"trading": {"host": "a", "dsnKey": "dsn", "existingSecret": "b"}}},
        "databases.trading: host and dsnKey contradict each other",
    ),
    "replicas without the lock": (
        {**MINIMAL, "replicas": 2, "config": {"leader": "off"}},
        "replicas: 2 replicas need the leader lock",
    ),
    "an alert that is not there": (
        {**MINIMAL, "prometheusRule": {"enabled": True, "overrides": {"PositionOrderDown": {"enabled": False}}}},
        "prometheusRule.overrides.PositionOrderDown: there is no such alert",
    ),
    "databases in config": (
        {**MINIMAL, "config": {"databases": {}}},
        "config.databases: databases have a section of their own",
    ),
    "an address in config": ({**MINIMAL, "config": {"server": {"listen": ":1"}}}, "config.server.listen: set port"),
    "a monitor of no pods": (
        {**MINIMAL, "mode": "sidecar", "podMonitor": {"enabled": True}},
        "podMonitor.selector: say which pods have the sidecar",
    ),
}  # fmt: skip


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_a_sentence(major, case):
    values, sentence = REFUSED[case]
    refused = render(major, values)
    assert refused.returncode != 0
    assert sentence in refused.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_an_older_kubernetes_is_refused(major):
    refused = render(major, MINIMAL, kubernetes="1.28")
    assert refused.returncode != 0
    assert "kubeVersion: >=1.29.0-0" in refused.stderr


def test_the_readmes_first_values_render():
    assert ("Deployment", "po-po-exporter") in objects(render(4, {**yaml.safe_load(from_readme("values: first"))}))


def test_the_readme_lists_every_value():
    assert chart_reference.table() in README, "`make generated` writes it anew"


async def test_checkov_has_nothing_against_it(tmp_path):
    checkov = need(ROOT / ".cache" / "checkov" / "bin" / "checkov", "`make .cache/checkov/bin/checkov`")
    # Without the pod of `helm test`, which lives for a moment and has no probes, and without what is not the chart's.
    found = {key: each for key, each in objects(render(4, CHART / "ci" / "everything.yaml")).items()
             if key[0] != "Pod" and each["metadata"].get("namespace")}  # fmt: skip
    (tmp_path / "out.yaml").write_text(yaml.safe_dump_all(found.values()))
    process = await asyncio.create_subprocess_exec(
        checkov, "--file", tmp_path / "out.yaml", "--framework", "kubernetes",
        "--skip-download", "--compact", "--quiet",
        "--skip-check", "CKV_K8S_11",  # no CPU limit: it would throttle polls
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
