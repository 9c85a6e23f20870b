"""The files in `deploy/` for other machines, checked without these machines: schemas, names, our rules."""

import http.client
import json
import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement

from api.composition.settings import KNOWN, SettingsError, read_settings, refuse_unsafe
from api.http.problems import KINDS, MEDIA_TYPE
from deploy.image.healthcheck import connection_to
from deploy.image.healthcheck import main as healthcheck
from deploy.image.requirements import blocks_of, name_of, needed
from deploy.local.install import kafka_version
from deploy.local.server import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
WITHOUT_PRIVILEGES = "restricted"


# --- compose -------------------------------------------------------------------------------------------------------


class Override(dict[str, Any]):
    """A mapping that takes another's place instead of being merged with it."""


class ComposeLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the one tag of compose files that ours use."""


def _override(loader: ComposeLoader, node: yaml.MappingNode) -> Override:
    loader.flatten_mapping(node)
    return Override(loader.construct_mapping(node, deep=True))


ComposeLoader.add_constructor("!override", _override)


def compose(*names: str) -> dict[str, Any]:
    """The files merged, as compose merges them."""
    merged: dict[str, Any] = {}
    for name in names:
        merged = _merged(merged, yaml.load((DEPLOY / name).read_text(), ComposeLoader))  # noqa: S506 - a SafeLoader
    return merged


def _merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict) and not isinstance(over, Override):
        return {key: _merged(under.get(key), over[key]) if key in over else under[key] for key in {**under, **over}}
    return over


SETS = (("compose.yaml",), ("compose.yaml", "compose.mysql.yaml"))


def services(files: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Those that are started."""
    found: dict[str, dict[str, Any]] = compose(*files)["services"]
    return {name: service for name, service in found.items() if not service.get("profiles")}


def ours(files: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services(files).items() if service.get("image") == "stakelog"}


@pytest.mark.parametrize("files", [*SETS, ("compose.mysql.yaml",)])
def test_the_compose_files_are_such_by_the_schema_alone_and_together(files: tuple[str, ...]) -> None:
    schema = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text())
    Draft202012Validator(schema).validate(json.loads(json.dumps(compose(*files))))


@pytest.mark.parametrize("files", SETS)
def test_the_set_is_three_brokers_a_database_redis_three_nodes_two_workers_and_a_balancer(
    files: tuple[str, ...],
) -> None:
    database = "mysql" if len(files) > 1 else "postgresql"
    kinds = {name.rstrip("-0123456789") for name in services(files)}
    assert kinds == {"kafka", database, "redis", "node", "worker", "balancer"}
    assert sorted(ours(files)) == ["node-1", "node-2", "node-3", "worker-1", "worker-2"]
    assert sorted(name for name in services(files) if name.startswith("kafka")) == ["kafka-1", "kafka-2", "kafka-3"]


@pytest.mark.parametrize("files", SETS)
@pytest.mark.system
def test_whatever_a_service_waits_for_or_mounts_is_there_and_tells_whether_it_is_well(files: tuple[str, ...]) -> None:
    volumes = compose(*files)["volumes"]
    for name, service in services(files).items():
        for needed_name, how in service.get("depends_on", {}).items():
            other = services(files)[needed_name]
            assert how["condition"] != "service_healthy" or "healthcheck" in other, f"{name} waits for {needed_name}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), f"{name} mounts {source}"
    database = "mysql" if len(files) > 1 else "postgresql"
    for name, service in ours(files).items():
        assert {database, "redis", "kafka-1", "kafka-2", "kafka-3"} <= service["depends_on"].keys(), name
        assert service["environment"]["STAKELOG_READ_MODEL"].startswith(f"{database}://")


@pytest.mark.parametrize("files", SETS)
def test_nodes_have_login_and_only_the_balancer_is_published_on_loopback(files: tuple[str, ...]) -> None:
    for name, service in ours(files).items():
        assert not service.get("ports"), name
        given = service["environment"]
        if name.startswith("node"):
            assert given.get("STAKELOG_AUTH", "on") == "on"
            assert given["STAKELOG_ADVERTISE"] == f"http://{name}:{given['STAKELOG_INTERNAL'].split(':')[1]}"
            for secret in ("ADMIN_SECRET", "CLUSTER_SECRET", "MASTER_KEY"):
                assert given[f"STAKELOG_{secret}"].startswith(f"${{STAKELOG_{secret}:?"), "none is in the file"
        else:
            assert not {"STAKELOG_ADMIN_SECRET", "STAKELOG_CLUSTER_SECRET", "STAKELOG_MASTER_KEY"} & given.keys()
    published = {name: service["ports"] for name, service in services(files).items() if service.get("ports")}
    assert published == {"balancer": ["127.0.0.1:8080:8080"]}
    balanced = services(files)["balancer"]["environment"]
    assert [balanced[f"NODE_{number}"] for number in (1, 2, 3)] == [f"node-{number}:8080" for number in (1, 2, 3)]


def test_the_settings_of_a_node_are_accepted_by_the_program() -> None:
    made = {"STAKELOG_ADMIN_SECRET": "a" * 32, "STAKELOG_CLUSTER_SECRET": "c" * 32}
    made["STAKELOG_MASTER_KEY"] = "bWFzdGVyLWtleS1vZi0zMi1ieXRlcy1pbi1iYXNlNjQ="
    for files in SETS:
        for name, service in ours(files).items():
            if name.startswith("node"):
                refuse_unsafe(read_settings(service["environment"] | made))
    nodes = one("StatefulSet", "stakelog-node")["spec"]["template"]["spec"]["containers"][0]
    addresses = {
        name: value.replace("REPLACE-ME", "secret")
        for name, value in one("Secret", "stakelog-addresses")["stringData"].items()
    }
    given = one("ConfigMap", "stakelog-settings")["data"] | addresses
    (advertise,) = (variable["value"] for variable in nodes["env"] if variable["name"] == "STAKELOG_ADVERTISE")
    advertise = advertise.replace("$(POD_NAME)", "stakelog-node-0").replace("$(POD_NAMESPACE)", "stakelog")
    refuse_unsafe(read_settings(given | made | {"STAKELOG_ADVERTISE": advertise}))


def test_nothing_starts_with_a_placeholder_of_the_manifests() -> None:
    for secret in ("stakelog-addresses", "stakelog-login"):
        for name, value in one("Secret", secret)["stringData"].items():
            with pytest.raises(SettingsError, match=rf"^{name} still has the placeholder REPLACE-ME"):
                read_settings({name: value})


@pytest.mark.parametrize("files", SETS)
def test_containers_get_known_settings_no_privileges_and_images_of_a_version(files: tuple[str, ...]) -> None:
    for name, service in ours(files).items():
        assert {key for key in service["environment"] if key.startswith("STAKELOG_")} <= KNOWN, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    for name, service in services(files).items():
        assert service["restart"] == "unless-stopped", name
        if service["image"] != "stakelog":
            assert re.search(r":\d+\.\d+\.?\d*", service["image"]), f"{name} runs {service['image']}"
    assert services(files)["kafka-1"]["image"] == f"apache/kafka:{kafka_version()}"


# --- Kubernetes ----------------------------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    return [one for path in sorted(KUBERNETES.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


def resources() -> list[dict[str, Any]]:
    return [one for one in manifests() if one["kind"] != "Kustomization"]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in resources():
        if one["kind"] in {"StatefulSet", "Deployment"}:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def one(kind: str, name: str) -> dict[str, Any]:
    return next(found for found in resources() if (found["kind"], found["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("version", ["1.33", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", resources(), ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_a_manifest_is_such_by_the_schema_of_its_kind(resource: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


def test_the_kustomization_lists_every_file_once() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.stem != "kustomization")


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_runs_unprivileged_on_a_read_only_file_system_with_known_settings(
    name: str, pod: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(user_of_the_image())
    assert pod["enableServiceLinks"] is False, "the service stakelog would appear as an unknown setting"
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] >= 45
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108 - in the pod
    settings: dict[str, str] = one("ConfigMap", "stakelog-settings")["data"]
    for source in container["envFrom"]:
        if "secretRef" in source:
            settings |= one("Secret", source["secretRef"]["name"])["stringData"]
    secrets = {"STAKELOG_ADMIN_SECRET", "STAKELOG_CLUSTER_SECRET", "STAKELOG_MASTER_KEY"}
    assert secrets & settings.keys() == (secrets if name == "stakelog-node" else set()), "of nodes only"
    given = settings.keys() | {variable["name"] for variable in container.get("env", [])}
    assert {setting for setting in given if setting.startswith("STAKELOG_")} <= KNOWN
    assert settings["STAKELOG_AUTH"] == "on", "what is reached over a network asks who it is"


def test_nodes_keep_a_name_and_a_volume_and_are_ready_by_readyz_and_alive_by_healthz() -> None:
    nodes = one("StatefulSet", "stakelog-node")["spec"]
    (container,) = nodes["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert nodes["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    headless = one("Service", nodes["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True
    (advertise,) = (variable for variable in container["env"] if variable["name"] == "STAKELOG_ADVERTISE")
    assert f".{nodes['serviceName']}." in advertise["value"]
    assert advertise["value"].endswith(f":{ports_of(container)['internal']}")
    assert "clusterIP" not in one("Service", "stakelog")["spec"]


def ports_of(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_only_nodes_and_prometheus_reach_the_internal_port_of_a_node() -> None:
    (container,) = one("StatefulSet", "stakelog-node")["spec"]["template"]["spec"]["containers"]
    settings = one("ConfigMap", "stakelog-settings")["data"]
    ports = ports_of(container)
    assert settings["STAKELOG_INTERNAL"] == f"0.0.0.0:{ports['internal']}"
    assert settings["STAKELOG_PORT"] == str(ports["http"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "internal", "clients cannot crowd it out"
    scraped = one("StatefulSet", "stakelog-node")["spec"]["template"]["metadata"]["annotations"]
    assert scraped["prometheus.io/port"] == str(ports["internal"])
    for_clients, inside = one("NetworkPolicy", "stakelog-nodes")["spec"]["ingress"]
    assert for_clients == {"ports": [{"port": "http"}]}
    assert inside["ports"] == [{"port": "internal"}]
    nodes, prometheus = inside["from"]
    labels = one("StatefulSet", "stakelog-node")["spec"]["template"]["metadata"]["labels"]
    assert nodes["podSelector"]["matchLabels"].items() <= {"app.kubernetes.io/name": "stakelog", **labels}.items()
    assert {"namespaceSelector", "podSelector"} == prometheus.keys()
    assert one("Service", "stakelog")["spec"]["ports"][0]["targetPort"] == "http"


def test_selectors_find_the_pods_that_they_are_meant_for() -> None:
    labels = {
        found["metadata"]["name"]: found["spec"]["template"]["metadata"]["labels"]
        for found in resources()
        if found["kind"] in {"StatefulSet", "Deployment"}
    }
    for found in resources():
        selector = found.get("spec", {}).get("selector") or found.get("spec", {}).get("podSelector") or {}
        wanted = selector.get("matchLabels", selector)
        if "matchExpressions" not in wanted and wanted:
            assert any(wanted.items() <= own.items() for own in labels.values()), found["metadata"]["name"]
    budgets = [found for found in resources() if found["kind"] == "PodDisruptionBudget"]
    assert {budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for budget in budgets} == {
        "node",
        "worker",
    }


def test_the_namespace_lets_in_only_what_has_no_privileges() -> None:
    labels = one("Namespace", "stakelog")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == WITHOUT_PRIVILEGES


# --- the image -----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order; lines that go on are one."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def user_of_the_image() -> str:
    return next(rest for name, rest in reversed(instructions()) if name == "USER").split(":")[0]


def test_the_image_is_of_a_pinned_slim_base_and_runs_as_a_number_that_is_not_roots() -> None:
    (base,) = (rest for name, rest in instructions() if name == "ARG")
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert [rest.split()[0] for name, rest in instructions() if name == "FROM"] == ["${BASE}", "${BASE}"]
    last_stage = [name for name, _ in instructions()]
    assert "USER" in last_stage[len(last_stage) - last_stage[::-1].index("FROM") :]
    assert user_of_the_image().isdigit()
    assert int(user_of_the_image()) > 0


def test_the_image_has_no_shell_between_the_program_and_its_signals() -> None:
    for name, rest in instructions():
        if name in {"RUN", "CMD", "ENTRYPOINT"}:
            assert isinstance(json.loads(rest), list), f"{name} {rest}"
        if name == "HEALTHCHECK":
            command = json.loads(rest.partition("CMD ")[2])
            assert command[-1] == "/healthz"


def test_all_that_is_installed_is_installed_by_its_hash() -> None:
    installs = [json.loads(rest) for name, rest in instructions() if name == "RUN" and '"install", "--no' in rest]
    from_outside = [one for one in installs if "--no-index" not in one]
    assert from_outside
    assert all("--require-hashes" in one for one in from_outside)


def test_what_the_image_copies_is_there_and_let_through() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_through = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == rule or source.startswith(f"{rule}/") for rule in let_through), source


def test_the_images_part_of_the_lock_file_is_all_that_the_program_needs_and_nothing_of_developers() -> None:
    """Held against what the installed packages themselves say that they need."""
    lock = (ROOT / "requirements.lock").read_text()
    dependencies = [str(one) for one in own_requirements("stakelog")]
    chosen = blocks_of(needed(lock, dependencies))
    assert all("--hash=sha256:" in block for block in chosen.values())
    wanted, todo = set[str](), {name_of(one) for one in dependencies}
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo |= {name_of(str(one)) for one in own_requirements(name)} - wanted
    assert wanted <= chosen.keys()
    assert not {"pytest", "mypy", "ruff", "hypothesis", "kubernetes-validate"} & chosen.keys()


def own_requirements(name: str) -> list[Requirement]:
    """Without those of extras."""
    found = [Requirement(text) for text in requires(name) or ()]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_a_dependency_that_the_lock_file_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="lacks lacking: run `make lock`"):
        needed("aiohttp==1 \\\n    --hash=sha256:00\n    # via stakelog\n", ["aiohttp>=1", "Lacking"])


def test_a_health_check_says_why_it_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert healthcheck(["/healthz", str(port)]) == 1
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("port", "settings", "asked"),
    [
        ("", {}, (http.client.HTTPConnection, "127.0.0.1", 8080)),
        ("", {"PORT": "81"}, (http.client.HTTPConnection, "127.0.0.1", 81)),
        ("", {"PORT": "81", "TLS_CERT": "/cert"}, (http.client.HTTPSConnection, "127.0.0.1", 81)),
        ("", {"INTERNAL": "0.0.0.0:90", "TLS_CERT": "/cert"}, (http.client.HTTPConnection, "127.0.0.1", 90)),
        ("", {"INTERNAL": "[::]:90"}, (http.client.HTTPConnection, "::1", 90)),
        ("", {"INTERNAL": "10.0.0.7:90"}, (http.client.HTTPConnection, "10.0.0.7", 90)),
        ("6066", {"INTERNAL": "0.0.0.0:90"}, (http.client.HTTPConnection, "127.0.0.1", 6066)),
    ],
)
def test_a_health_check_asks_the_internal_listener_where_there_is_one(
    port: str, settings: dict[str, str], asked: tuple[type, str, int]
) -> None:
    connection = connection_to(port, {f"STAKELOG_{name}": value for name, value in settings.items()})
    assert (type(connection), connection.host, connection.port) == asked


# --- the balancer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [("no-node", "not_owner"), ("no-response", "outcome_unknown"), ("too-slow", "request_timeout")],
)
def test_the_balancers_own_responses_are_problems_of_the_contract(name: str, code: str) -> None:
    head, _, body = (DEPLOY / f"balancer/{name}.http").read_bytes().partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    problem = json.loads(body)
    assert int(status.split()[1]) == KINDS[code].status
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"] == MEDIA_TYPE
    assert int(headers["Content-Length"]) == len(body)
    assert int(headers.get("Retry-After", 0)) >= (KINDS[code].retry_after_s or 0)
    assert (problem["type"], problem["code"]) == (f"urn:stakelog:problem:{code}", code)
    assert (problem["status"], problem["title"]) == (KINDS[code].status, KINDS[code].title)


def test_the_balancer_does_not_retry_a_request_that_was_sent() -> None:
    """The owner may still decide the first attempt, so a refusal of the second one would not be final."""
    (again,) = re.findall(r"retry-on (.*)", (DEPLOY / "balancer/haproxy.cfg").read_text())
    assert again.split() == ["conn-failure"]


def test_the_balancer_replaces_what_a_client_says_of_its_address() -> None:
    """The nodes trust the balancer, so they would believe an address that it passes on."""
    lines = [line.strip() for line in (DEPLOY / "balancer/haproxy.cfg").read_text().splitlines()]
    assert "http-request set-header X-Forwarded-For %[src]" in lines
    assert "option forwardfor" not in lines
