"""The container file and the manifests for jobs: valid, closed, of one piece, and made of what git has."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import click
import jsonschema
import kubernetes_validate
import pytest
from clones import ROOT
from ruamel.yaml import YAML

from workbench.cli.app import cli
from workbench.jobs.exports import JobEntry, to_kubernetes
from workbench.jobs.schedule import Schedule

DEPLOY = ROOT / "pipelines" / "deploy"
NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
#: Instructions of the container file: a word and the rest of its line.
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")


def yaml(text):
    return YAML(typ="safe", pure=True).load(text)


def manifests():
    found = [yaml(path.read_text()) for path in sorted((DEPLOY / "jobs" / "kubernetes").glob("*.yaml"))]
    return {manifest["kind"]: manifest for manifest in found}


def cron_job():
    entry = JobEntry(
        name="answers",
        root=Path("/repo"),
        command=("workbench", "jobs", "run", "answers"),
        schedule=Schedule(cron="0 6 * * *"),
        seconds=900,
        variables=("OPENAI_API_KEY",),
    )
    [text] = to_kubernetes(entry, now=NOW).values()
    return yaml(text)


def templates():
    """The pods of the deployment and of an exported job."""
    return [
        manifests()["Deployment"]["spec"]["template"],
        cron_job()["spec"]["jobTemplate"]["spec"]["template"],
    ]


def of(word):
    return [rest for found, rest in INSTRUCTIONS if found == word]


def test_every_kubernetes_object_is_one_by_its_schema_and_has_no_key_beside():
    assert set(manifests()) == {"Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service"}
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    wrong = manifests()["Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_the_compose_file_is_one_by_the_specification():
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    file = yaml((DEPLOY / "jobs" / "compose.yaml").read_text())
    jsonschema.validate(file, schema)
    file["services"]["jobs"]["enviroment"] = {}
    with pytest.raises(jsonschema.ValidationError, match="enviroment"):
        jsonschema.validate(file, schema)


@pytest.mark.parametrize("template", templates(), ids=["deployment", "cron job"])
def test_a_pod_has_no_rights_a_read_only_root_and_limits(template):
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"] and not pod.get("hostNetwork")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/repo", "/tmp"}
        for variable in container.get("env", []):
            assert "value" not in variable or not SECRET.search(variable["name"])


def test_a_compose_service_has_no_rights_a_read_only_root_and_limits():
    for name, service in yaml((DEPLOY / "jobs" / "compose.yaml").read_text())["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] == "10001:10001"
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "/ready" in service["healthcheck"]["test"][-1] and "ports" not in service


def test_labels_ports_volumes_and_users_of_all_parts_fit_each_other():
    objects = manifests()
    deployment, job = templates()
    [selector] = objects["NetworkPolicy"]["spec"]["podSelector"]["matchExpressions"]
    for template in (deployment, job):
        labels = template["metadata"]["labels"]
        assert labels[selector["key"]] in selector["values"], "the policy is of this pod"
        assert labels["workbench/memory"] == "client"
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in template["spec"]["volumes"]
                  if "persistentVolumeClaim" in volume]  # fmt: skip
        assert claims == [objects["PersistentVolumeClaim"]["metadata"]["name"]]
    labels = deployment["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {
        port["name"]: port["containerPort"]
        for container in deployment["spec"]["containers"]
        for port in container["ports"]
    }
    admitted = [rule["ports"][0]["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"]]
    assert sorted(ports.values()) == sorted(admitted) == [8340, 8350]
    assert {port["targetPort"]: port["port"] for port in objects["Service"]["spec"]["ports"]} == {
        "https": ports["https"]
    }
    for container in deployment["spec"]["containers"]:
        assert container["args"][-1 if container["name"] == "gateway" else 3].endswith(
            str(container["ports"][0]["containerPort"])
        )
        probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")]
        assert probes == ["/health", "/health"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert of("USER") == ["10001:10001"] and "--uid 10001 " in DOCKERFILE


def commands():
    """The commands of the workbench that the files start, without the first process and its own name."""
    services = yaml((DEPLOY / "jobs" / "compose.yaml").read_text())["services"]
    containers = [container for template in templates() for container in template["spec"]["containers"]]
    started = [container.get("args") or container["command"] for container in containers]
    found = [*started, *(service["command"] for service in services.values()), json.loads(of("CMD")[0])]
    return [words[words.index("workbench") + 1 :] if "workbench" in words else words for words in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_that_a_file_starts_is_one_with_these_options(words):
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group) and (name := words[0]) in command.list_commands(context):
        command, words = command.get_command(context, name), words[1:]
    command.make_context("workbench", list(words))


def test_the_container_file_names_no_host_holds_no_secret_and_its_steps_are_shell():
    assert of("FROM") == ["${BASE} AS build", "${BASE}"]
    for argument in of("ARG"):
        assert not re.search(r"[.:]\w+[/:]|//", argument.partition("=")[2]), "a registry host"
    assert not [rest for rest in (*of("ARG"), *of("ENV")) if SECRET.search(rest)]
    for step in of("RUN"):
        subprocess.run(["/bin/sh", "-n", "-c", step], check=True, timeout=10)
    assert "make env" in of("RUN")
    assert json.loads(of("ENTRYPOINT")[0])[-1] == "workbench"


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """What the container file copies, in a folder of its own."""
    folder = tmp_path_factory.mktemp("image")
    for line in of("COPY"):
        if line.startswith("--from"):
            continue
        *sources, target = line.split()
        for source in sources:
            place = folder / target if len(sources) == 1 else folder / target / Path(source).name
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    return folder


def test_a_build_is_given_what_it_copies_and_nothing_else_of_the_checkout(copied):
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[1] == "*"
    copies = {source for line in of("COPY") if not line.startswith("--from") for source in line.split()[:-1]}
    assert copies == admitted
    assert not (copied / ".workbench").exists() and not (copied / "data").exists()


def test_the_same_step_runs_without_a_container_from_what_is_copied(copied):
    """`make env` is what every checkout runs; here it is shown that the copied files are enough for it."""
    plan = subprocess.run(
        ["make", "-n", "env"], cwd=copied, capture_output=True, text=True, timeout=60, check=False
    )
    assert plan.returncode == 0, plan.stderr
    named = set(re.findall(r"(?:locks|workbench)/[\w./]+\.(?:lock|sh|py)", plan.stdout))
    assert {"locks/bootstrap.lock", "locks/workbench.lock"} <= named
    assert not [name for name in named if not (copied / name).exists()]
    build = "from hatchling.build import build_editable; build_editable('wheel')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copied, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert list((copied / "wheel").glob("workbench-*.whl"))


#: A root that is read-only but for two folders, no capability, and the command: what the manifests demand.
CLOSED = """
set -e
mount --bind "$1" "$1"
mount --bind "$2" "$2"
mount -o remount,bind,ro /
cd "$1"
shift 2
if touch /etc/workbench-was-here 2>/dev/null; then exit 9; fi
exec setpriv --bounding-set -all --inh-caps -all --no-new-privs "$@"
"""


def test_the_server_is_ready_with_a_read_only_root_and_without_capabilities(tmp_path, free_port):
    repository, scratch = tmp_path / "repo", tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, repository], check=True, timeout=60)
    address = f"127.0.0.1:{free_port}"
    serve = [sys.executable, "-m", "workbench.cli", "jobs", "serve", "--address", address, "--grace", "1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--map-root-user", "--mount", "/bin/sh", "-c", CLOSED, "sh",
             repository, scratch, *serve],
            env={"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch)},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        assert ready(process, f"http://{address}/ready") == 200, (tmp_path / "log").read_text()[-2_000:]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, (tmp_path / "log").read_text()[-2_000:]
    assert (repository / ".workbench/state/jobs.db").is_file()


def ready(process, url):
    """The status of a server that has answered, or None when it ended or took a minute."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status
        except OSError:
            time.sleep(0.1)
    return None
