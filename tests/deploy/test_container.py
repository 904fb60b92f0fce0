"""The container files and the workflows: the files, settings and targets that they name exist."""

import json
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STANDARD = re.compile(r"HOME|PATH|(PYTHON|POSTGRES_)\w+")
MAKE = re.compile(r"\bmake ([\w-]+)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    document = yaml.safe_load(read(name))
    assert isinstance(document, dict)
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load("compose.yaml")["services"]
    return found


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), without comments and with joined lines."""
    text = re.sub(r"^\s*#.*\n", "", read("Dockerfile"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", "").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def runtime(name: str) -> list[str]:
    """The arguments of all such instructions in the last stage of the Dockerfile."""
    every = instructions()
    last = max(at for at, (word, _) in enumerate(every) if word == "FROM")
    return [rest for word, rest in every[last:] if word == name]


def environment() -> dict[str, str]:
    """The environment variables that the Dockerfile sets for the API."""
    return dict(item.split("=", 1) for line in runtime("ENV") for item in line.split())


def jobs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(".github/workflows/ci.yml")["jobs"]
    return found


def images() -> list[str]:
    """Every image that the build, the stack and the workflows pull."""
    built = {service["image"] for service in services().values() if "build" in service}
    found = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    found += [service["image"] for service in services().values()]
    found += [
        service["image"] for job in jobs().values() for service in job.get("services", {}).values()
    ]
    return [image for image in found if image not in built]


def requirements() -> set[str]:
    return set(re.findall(r"^([\w-]+)(?:\[\w+\])?==", read("requirements.txt"), re.MULTILINE))


def test_every_copied_file_exists_and_is_not_ignored() -> None:
    let_in = read(".dockerignore").splitlines()
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert "wsgi.py" in copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "*" in let_in
    assert [name for name in copied if f"!{name}" not in let_in] == []


def test_the_image_runs_gunicorn_and_never_migrates() -> None:
    assert [json.loads(command) for command in runtime("CMD")] == [["gunicorn", "wsgi:app"]]
    assert runtime("ENTRYPOINT") == []
    assert {"command", "entrypoint"}.isdisjoint(services()["api"])
    assert "gunicorn" in requirements()
    assert "app = " in read("wsgi.py")


def test_the_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    *_, user = runtime("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_user_can_write_to_the_instance_directory() -> None:
    place = environment()["INSTANCE_DIR"]
    *_, user = runtime("USER")
    uid, gid = user.split(":")
    assert runtime("VOLUME") == [place]
    assert any(f"-o {uid} -g {gid} {place}" in command for command in runtime("RUN"))
    for name in ("api", "migrate"):
        assert services()[name]["read_only"] is True
        assert f"{place}:uid={uid},gid={gid},mode=0700" in services()[name]["tmpfs"]


def test_the_user_can_write_to_every_volume_on_aws() -> None:
    """Fargate gives a volume to root unless the image declares it."""
    template = read("deploy/aws/cloudformation.yaml")
    assert re.findall(r"ContainerPath: (\S+)", template) == runtime("VOLUME")
    assert re.findall(r"Name: TMPDIR\s+Value: (\S+)", template) == runtime("VOLUME")


def test_the_migration_job_is_applied_with_its_settings() -> None:
    """By one command, which selects both by their labels."""
    kustomization = load("deploy/kubernetes/kustomization.yaml")
    [settings] = kustomization["configMapGenerator"]
    job = yaml.safe_load(read("deploy/kubernetes/migrate.yaml"))
    labels = [settings["options"]["labels"], job["metadata"]["labels"]]
    values = ", ".join(label["app.kubernetes.io/component"] for label in labels)
    assert f"component in ({values})" in read("deploy/kubernetes/migrate.yaml")


def test_images_are_pinned_by_version_and_digest() -> None:
    assert [
        image for image in images() if not re.search(r":\d[\w.-]*@sha256:[0-9a-f]{64}$", image)
    ] == []


@pytest.mark.parametrize("name", ["ci", "release"])
def test_actions_are_pinned_by_commit(name: str) -> None:
    uses = re.findall(r"uses: (\S+)", read(f".github/workflows/{name}.yml"))
    assert uses
    assert [
        use for use in uses if not use.startswith("./") and not re.search(r"@[0-9a-f]{40}$", use)
    ] == []


def test_every_variable_is_a_setting() -> None:
    """The variables are settings, or standard ones."""
    known = set(re.findall(r"\"([A-Z][A-Z0-9_]+)\"", read("config.py") + read("gunicorn.conf.py")))
    names = set(environment())
    for name in ("api", "migrate"):
        names |= set(services()[name]["environment"])
    assert sorted(name for name in names - known if not STANDARD.fullmatch(name)) == []


def test_the_migration_is_a_separate_step() -> None:
    """A failed migration must not stop a running API."""
    migrate = services()["migrate"]
    assert migrate["command"] == ["flask", "--app", "wsgi", "db", "upgrade"]
    assert migrate["profiles"] == ["migrate"]
    assert migrate["image"] == services()["api"]["image"]
    assert migrate["restart"] == "no"
    assert migrate["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert set(services()["api"]["depends_on"]) == {"postgres"}


def test_only_the_proxy_publishes_ports() -> None:
    """Clients must not be able to bypass the trusted proxy."""
    assert [name for name, service in services().items() if "ports" in service] == ["proxy"]
    assert all("network_mode" not in service for service in services().values())


def test_every_service_is_limited() -> None:
    for name, service in services().items():
        assert {"mem_limit", "pids_limit", "cpus"} <= set(service), name
        assert service["logging"]["options"]["max-size"], name


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "POSTGRES_PASSWORD", "SITE"])
def test_the_stack_has_no_default_secret(name: str) -> None:
    uses = re.findall(rf"\$\{{{name}\b[^}}]*\}}", read("compose.yaml"))
    assert uses
    assert all(use.startswith(f"${{{name}:?") for use in uses)


def test_redis_keeps_stale_pages_and_stays_within_its_memory() -> None:
    command = " ".join(services()["redis"]["command"])
    for option in ("--appendonly yes", "--maxmemory ", "--maxmemory-policy allkeys-lru"):
        assert option in command
    assert services()["redis"]["volumes"] == ["redis:/data"]


def test_the_workflow_calls_targets_that_exist() -> None:
    steps = [step.get("run", "") for job in jobs().values() for step in job["steps"]]
    targets = {target for command in steps for target in MAKE.findall(command)}
    assert targets >= {"lint", "lint-deploy", "test"}
    rules = re.findall(r"^([a-z][\w -]*):(?!=)", read("Makefile"), re.MULTILINE)
    assert targets <= {name for rule in rules for name in rule.split()}


def test_the_python_of_the_image_is_tested_in_ci() -> None:
    images = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert len(images) == 1
    version = re.search(r"^python:(\d+\.\d+)", images.pop())
    assert version
    assert version[1] in jobs()["test"]["strategy"]["matrix"]["python"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_fails_if_liveness_fails(status: int, healthy: bool) -> None:
    """The check does not use a proxy."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    (check,) = runtime("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[0] == "python"
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        variables = {"PORT": str(server.server_port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, *command[1:]],
            check=False,
            env=variables,
            capture_output=True,
            timeout=30,
        )
    assert asked == ["/health/live"]
    assert (done.returncode == 0) is healthy
