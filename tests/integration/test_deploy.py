"""The manifests are well-formed, agree with each other and with the server the tests start, and work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import jsonschema
import psutil
import pytest
from ruamel.yaml import YAML

from workbench.config import MemoryServer
from workbench.diagnostics import doctor, servers
from workbench.errors import CorruptError
from workbench.memory.weaviate.local_server import VERSION, LocalServer, find_binary, root_key

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "pipelines/deploy"
KEY = "WORKBENCH_TEST_ROOT_KEY"
SECRET = "one-key-for-this-test"
#: What the server of the tests has otherwise, and why.
DIFFERENT = {
    "PERSISTENCE_DATA_PATH": "a volume there, a folder of the test here",
    "GRPC_PORT": "the default there, a free one here",
    "AUTHENTICATION_APIKEY_ALLOWED_KEYS": "a reference there",
    "CLUSTER_BASIC_AUTH_PASSWORD": "a reference there, random here",
}
SECRETS = ("AUTHENTICATION_APIKEY_ALLOWED_KEYS", "CLUSTER_BASIC_AUTH_PASSWORD")
#: What only one of the two sets, and why.
TESTS_ONLY = {
    "CLUSTER_GOSSIP_BIND_PORT": "several servers share a machine",
    "CLUSTER_DATA_BIND_PORT": "several servers share a machine",
    "RAFT_PORT": "several servers share a machine",
    "RAFT_INTERNAL_RPC_PORT": "several servers share a machine",
    "RAFT_TIMEOUTS_MULTIPLIER": "one node on this machine waits for no network",
    "PATH": "the process's own", "HOME": "the process's own", "TMPDIR": "the process's own",
}  # fmt: skip
DEPLOYED_ONLY = {"API_BASED_MODULES_DISABLED": "nothing there may call out"}

needs_server = pytest.mark.skipif(
    find_binary() is None, reason="there is no weaviate-server; to get one: make weaviate"
)


def yaml(path: Path):
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def compose() -> dict:
    return yaml(DEPLOY / "compose.yaml")


def manifests() -> dict[str, dict]:
    return {one["kind"]: one for path in (DEPLOY / "kubernetes").glob("*.yaml") for one in [yaml(path)]}


def container() -> dict:
    [one] = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return one


def kubernetes_errors(manifest: dict) -> list[str]:
    schema = json.loads((ROOT / "tests/schemas/kubernetes-1.34.json").read_text())
    schema["$ref"] = f"#/$defs/{manifest['kind']}"
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]


def compose_errors(file: dict) -> list[str]:
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(file)]


def test_the_compose_file_is_one_by_the_specification():
    assert compose_errors(compose()) == []


def test_a_misspelt_key_of_the_compose_file_is_seen():
    file = compose()
    file["services"]["weaviate"]["enviroment"] = {}
    assert compose_errors(file) == ["$.services.weaviate"]


def test_every_kubernetes_object_is_one_by_its_schema():
    assert set(manifests()) == {"StatefulSet", "Service", "NetworkPolicy"}
    assert not {kind: found for kind, one in manifests().items() if (found := kubernetes_errors(one))}
    claims = manifests()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert [kubernetes_errors(claim) for claim in claims] == [[]]


def test_a_misspelt_key_deep_inside_a_kubernetes_object_is_seen():
    object_ = manifests()["StatefulSet"]
    object_["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert kubernetes_errors(object_)


def test_labels_ports_and_volumes_of_the_objects_fit_each_other():
    objects = manifests()
    spec = objects["StatefulSet"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    for chosen in (
        spec["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert chosen.items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert {p["targetPort"]: p["port"] for p in objects["Service"]["spec"]["ports"]} == ports
    [rule] = objects["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == list(ports.values())
    assert spec["serviceName"] == objects["Service"]["metadata"]["name"]
    volumes = {v["name"] for v in spec["template"]["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == volumes


def test_both_manifests_and_the_continuous_build_are_of_the_version_the_tests_run():
    images = {compose()["services"]["weaviate"]["image"], container()["image"]}
    assert [image.rpartition(":")[2] for image in images] == [VERSION]
    assert re.findall(r"^version=(.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE) == [VERSION]


def test_compose_and_kubernetes_set_the_same_environment():
    there = dict(compose()["services"]["weaviate"]["environment"])
    here = {one["name"]: one.get("value") for one in container()["env"]}
    assert list(here) == list(there)
    there |= dict.fromkeys(SECRETS)  # references in both, each of its own kind
    assert here == there


@pytest.mark.parametrize("name", SECRETS)
def test_no_manifest_holds_a_secret(name):
    [variable] = [one for one in container()["env"] if one["name"] == name]
    assert set(variable) == {"name", "valueFrom"} and set(variable["valueFrom"]) == {"secretKeyRef"}
    reference = compose()["services"]["weaviate"]["environment"][name]
    assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", reference)


def test_the_environment_is_that_of_the_server_the_tests_start(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    here = LocalServer(tmp_path, api_key_env=KEY)._environment()
    there = compose()["services"]["weaviate"]["environment"]
    assert set(there) - set(here) == set(DEPLOYED_ONLY)
    assert set(here) - set(there) <= set(TESTS_ONLY)
    both = set(here) & set(there)
    assert {name for name in both if here[name] != there[name]} == set(DIFFERENT)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A server with the environment of the compose file, on ports of its own."""
    said = compose()["services"]["weaviate"]["environment"]
    same = {name: value for name, value in said.items() if name not in DIFFERENT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, SECRET)
        with LocalServer(tmp_path_factory.mktemp("weaviate"), api_key_env=KEY, environment=same) as server:
            yield server


def status(url: str, key: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def looked(server: LocalServer, variable: str | None, environment: dict[str, str]) -> list[doctor.Finding]:
    address = server.address
    where = MemoryServer(url=address.url, grpc=f"127.0.0.1:{address.grpc_port}", api_key_env=variable)
    return list(servers.server(where, tenants=("acme",), needed=True, environment=environment))


@needs_server
def test_a_server_so_deployed_refuses_strangers_and_loads_no_module(deployed):
    schema = f"{deployed.address.url}/v1/schema"
    assert [status(schema), status(schema, "wrong"), status(schema, SECRET)] == [401, 401, 200]
    request = urllib.request.Request(
        f"{deployed.address.url}/v1/meta", headers={"Authorization": f"Bearer {SECRET}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["modules"] in ({}, None)


@needs_server
def test_the_doctor_tells_a_right_key_from_a_wrong_one_and_from_none(deployed):
    right = looked(deployed, KEY, {KEY: SECRET})
    assert [found.state for found in right] == ["ok", "ok"] and VERSION in right[0].detail
    for variable, environment, said in (
        (KEY, {KEY: "wrong"}, "refuses the key"),
        (None, {}, "asks for a key"),
        (KEY, {}, "not set"),
        ("KEY_{tenant}", {}, "KEY_ACME"),
    ):
        found = looked(deployed, variable, environment)
        assert said in found[0].detail and found[0].state != "ok" and found[0].fix
        assert SECRET not in str(found) and "wrong" not in str(found)


@needs_server
def test_the_doctor_sees_a_closed_grpc_port(deployed, free_port):
    where = MemoryServer(url=deployed.address.url, grpc=f"127.0.0.1:{free_port}", api_key_env=KEY)
    found = list(servers.server(where, needed=True, environment={KEY: SECRET}))
    assert [one.state for one in found] == ["ok", "missing"] and "memory_grpc" in found[1].fix


def listening(pid: int) -> list[tuple[str, int]]:
    """Addresses and ports at which a process takes connections or datagrams."""
    sockets = psutil.Process(pid).net_connections("inet")
    return [tuple(one.laddr) for one in sockets if one.status in {"LISTEN", "NONE"}]


def refusal(port: int, method: str, metadata: tuple = ()) -> str:
    """What the server says to a gRPC call with an empty request."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}"
    return "OK"


SERVICE = "/weaviate.v1.Weaviate"
#: Rows, states and users, as one node of a cluster asks another for them.
INNER = ("/nodes/status", "/indices/X/shards/y/objects/1", "/replicas/indices/X", "/cluster/users/db/")


@needs_server
def test_a_server_with_a_key_listens_on_loopback_or_refuses_whoever_has_none(deployed):
    data, raft = deployed.data_port, deployed.raft_port
    outside = {port for address, port in listening(deployed.pid) if address != "127.0.0.1"}
    assert outside == {deployed.grpc_port, data}, "these two the server binds to every interface"
    inside = {port for address, port in listening(deployed.pid) if address == "127.0.0.1"}
    assert inside == {deployed.http_port, deployed.gossip_port, raft, raft + 1}
    for verb in ("Search", "BatchObjects", "BatchDelete", "TenantsGet", "Aggregate"):
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            assert "extract auth" in refusal(deployed.grpc_port, f"{SERVICE}/{verb}", metadata), verb
    right = (("authorization", f"Bearer {SECRET}"),)
    assert "extract auth" not in refusal(deployed.grpc_port, f"{SERVICE}/TenantsGet", right)
    assert {status(f"http://127.0.0.1:{data}{path}") for path in INNER} == {401}
    for replication in ("FileReplicationService/CreateReplicaSnapshot", "ReplicationService/FetchObjects"):
        assert "UNAUTHENTICATED" in refusal(data, f"/clusterapi.{replication}")


SERVE = """
import sys
from pathlib import Path
from workbench.cli import weaviate
verb, ports = sys.argv[1], tuple(map(int, sys.argv[2:]))
if verb == "start":
    sys.exit(weaviate.start(Path.cwd(), say=print, ports=ports))
sys.exit(weaviate.stop(Path.cwd(), say=print))
"""


def serve(folder: Path, verb: str, ports: tuple[int, ...], **variables: str):
    return subprocess.run(
        [sys.executable, "-c", SERVE, verb, *map(str, ports)],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def ports(tmp_path) -> tuple[int, ...]:
    spare = LocalServer(tmp_path / "spare")
    return spare.http_port, spare.grpc_port, spare.data_port


@needs_server
def test_a_server_is_started_once_outlives_its_command_and_is_stopped(tmp_path, ports):
    try:
        first = serve(tmp_path, "start", ports)
        assert first.returncode == 0, first.stderr
        assert f"memory_url: http://127.0.0.1:{ports[0]}" in first.stdout
        assert "STOP=1" in first.stdout
        folder = tmp_path / ".workbench/weaviate-server"
        pid = int((folder / "pid").read_text().split()[0])
        assert psutil.pid_exists(pid)
        key, url = (folder / "key").read_text().strip(), f"http://127.0.0.1:{ports[0]}/v1/schema"
        assert [(folder / name).stat().st_mode & 0o777 for name in ("", "key")] == [0o700, 0o600]
        assert [status(url), status(url, key)] == [401, 200]
        assert 'export WEAVIATE_ROOT_KEY="$(cat .workbench/weaviate-server/key)"' in first.stdout
        assert "memory_api_key_env: WEAVIATE_ROOT_KEY" in first.stdout and key not in first.stdout
        assert key not in (folder / "server.log").read_text()
        again = serve(tmp_path, "start", ports)
        assert again.returncode == 0 and "already" in again.stdout and "WEAVIATE_ROOT_KEY" in again.stdout
    finally:
        stopped = serve(tmp_path, "stop", ports)
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    assert not psutil.pid_exists(pid)
    assert (folder / "data").is_dir() and (folder / "key").read_text().strip() == key
    assert "no server" in serve(tmp_path, "stop", ports).stdout


def test_no_outgoing_connection_takes_the_ports_of_a_server_that_is_stopped(tmp_path):
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for _ in range(20):
        server = LocalServer(tmp_path)
        taken = {server.http_port, server.grpc_port, server.data_port, server.gossip_port}
        taken |= {server.raft_port, server.raft_port + 1}
        assert len(taken) == 6 and not [port for port in taken if first <= port <= last]


def test_without_a_server_and_without_go_the_other_ways_are_named(tmp_path, ports):
    told = serve(tmp_path, "start", ports, PATH=str(tmp_path), HOME=str(tmp_path), WORKBENCH_WEAVIATE="")
    assert told.returncode == 2, told.stderr
    assert "docker compose -f pipelines/deploy/compose.yaml" in told.stdout
    assert "memory_url" in told.stdout


def test_a_number_that_another_process_has_by_now_is_not_stopped(tmp_path, ports):
    folder = tmp_path / ".workbench/weaviate-server"
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{os.getpid()} 1.00\n")
    assert "no server" in serve(tmp_path, "stop", ports).stdout
    assert not (folder / "pid").exists()


@pytest.mark.parametrize("text", ["", "half a key\n", "a" * 63 + "\n"])
def test_a_file_that_holds_no_key_is_an_error_and_stays_as_it_is(tmp_path, text):
    path = tmp_path / ".workbench/weaviate-server/key"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(CorruptError, match="hexadecimal") as caught:
        root_key(tmp_path)
    assert "make weaviate" in caught.value.hint and path.read_text() == text
