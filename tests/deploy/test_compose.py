"""The compose files: complete, closed, and true to the images and files that they name.

No engine runs here. What one would refuse, or find missing, is looked for instead.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stream_detector.settings import load
from tests.peers.program import missing

from .composing import DEPLOY, FILES, compose, filled_in

PEERS = Path(__file__).parents[2] / ".venv" / "peers" / "node_modules"
SERVICES = [
    pytest.param(file, name, id=f"{file}-{name}") for file in FILES for name in compose(file)["services"]
]
KEPT_BY_NOBODY = {"secrets", "simulator"}
"""The one ends at once, the other serves nothing that could be asked."""


def service_of(file: str, name: str) -> dict[str, Any]:
    """Return one service."""
    found: dict[str, Any] = compose(file)["services"][name]
    return found


def mounts(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Return (source, target, whether read-only) of all volumes."""
    parts = [text.split(":") for text in service.get("volumes", [])]
    return [(part[0], part[1], part[2:] == ["ro"]) for part in parts]


@pytest.mark.stack
@pytest.mark.parametrize("file", FILES)
def test_the_linter_has_nothing_to_say(file: str) -> None:
    """`dclint` finds no error and no warning."""
    node, program = shutil.which("node"), PEERS / "dclint" / "bin" / "dclint.cjs"
    if node is None or not program.exists():
        missing("dclint is not installed (Debian: apt install nodejs npm; then make stack installs it)")
    done = subprocess.run(
        [str(node), program, "--max-warnings", "0", file],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.stack
@pytest.mark.parametrize("file", FILES)
def test_it_keeps_the_compose_specification(file: str) -> None:
    """It is valid by the JSON schema of the specification."""
    schema = PEERS / "dclint" / "schemas" / "compose.schema.json"
    if not schema.exists():
        missing("dclint is not installed (Debian: apt install nodejs npm; then make stack installs it)")
    jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(compose(file))


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_every_service_is_closed(file: str, name: str) -> None:
    """No power, no writable root, no root user, bounded memory, processor, processes and logs."""
    service = service_of(file, name)
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys() or name == "secrets"
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]) or name == "secrets"
    assert service["restart"] == ("no" if name == "secrets" else "unless-stopped")
    assert not any("docker.sock" in source for source, _, _ in mounts(service))


def test_who_makes_the_secrets_can_do_little_else() -> None:
    """It has no network, ends at once, and keeps two powers: to give files away, and to read them then."""
    service = service_of("compose.yaml", "secrets")
    assert service["cap_add"] == ["CHOWN", "DAC_READ_SEARCH"]
    assert service["network_mode"] == "none"
    writers = [
        name
        for name, other in compose()["services"].items()
        if any(source == "secrets" and not readonly for source, _, readonly in mounts(other))
    ]
    assert writers == ["secrets"]


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_images_are_pinned(file: str, name: str) -> None:
    """Each image has a whole version as its tag; ours is the version of the package."""
    image = service_of(file, name)["image"]
    assert re.fullmatch(r"[a-z0-9/-]+:v?\d+\.\d+\.\d+", image), image
    if image.startswith("stream-detector:"):
        about = (DEPLOY.parent / "stream_detector" / "__init__.py").read_text()
        assert f'__version__ = "{image.split(":")[1]}"' in about


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_ports_are_published_on_the_loopback(file: str, name: str) -> None:
    """Nobody else reaches a port, unless a variable says so."""
    for port in service_of(file, name).get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", filled_in(port)), port


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_what_is_mounted_is_there(file: str, name: str) -> None:
    """Each file exists and comes read-only, each volume, network and secret is declared."""
    content, service = compose(file), service_of(file, name)
    for source, _, readonly in mounts(service):
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert readonly, source
        else:
            assert source in content["volumes"], source
    assert set(service.get("networks", [])) <= content.get("networks", {}).keys()
    assert set(service.get("secrets", [])) <= content.get("secrets", {}).keys()
    if "build" in service:
        context = DEPLOY / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_declared_in_vain(file: str) -> None:
    """Every volume, network and secret has a user."""
    content = compose(file)
    services = content["services"].values()
    used = {source for service in services for source, _, _ in mounts(service)}
    assert content["volumes"].keys() <= used
    for kind in ("networks", "secrets"):
        asked_for = {each for service in services for each in service.get(kind, [])}
        assert content.get(kind, {}).keys() == asked_for


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_what_is_waited_for_can_happen(file: str, name: str) -> None:
    """A dependency exists, is not switched off by a profile, and can reach the state that is waited for."""
    for other, wanted in service_of(file, name).get("depends_on", {}).items():
        service = service_of(file, other)
        assert "profiles" not in service
        if wanted["condition"] == "service_healthy":
            assert "test" in service["healthcheck"]
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert service["restart"] == "no"


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_every_service_that_stays_has_a_health_check(file: str, name: str) -> None:
    """It runs a program of the image on the port that is published."""
    service = service_of(file, name)
    if name in KEPT_BY_NOBODY:
        assert "test" not in service.get("healthcheck", {})
        return
    check = service["healthcheck"]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= check.keys()
    ports = {port.rpartition(":")[2] for port in service["ports"]}
    asked = " ".join(check["test"])
    assert any(f"127.0.0.1:{port}/" in asked for port in ports) or asked.startswith("CMD-SHELL mosquitto_sub")


def test_who_reads_a_secret_waits_for_it_and_can_read_it() -> None:
    """Every path below /secrets is made by secrets.sh, for the user of the service that names it."""
    script = (DEPLOY / "secrets.sh").read_text()
    uids = dict(re.findall(r"(\w+)=(\d+)", script))
    owner = {path: uids[user] for path, user in re.findall(r"(?:secret|put) (\S+) \$(\w+)", script)}
    named: dict[str, set[str]] = {}
    for name, service in compose()["services"].items():
        if name == "secrets":
            continue
        text = json.dumps(service)
        named[name] = set(re.findall(r"/secrets/([\w/-]+)", text))
        if any(source == "secrets" for source, _, _ in mounts(service)):
            assert "secrets" in service["depends_on"], name
    named["mosquitto"] |= set(
        re.findall(r"/secrets/([\w/-]+)", (DEPLOY / "mosquitto" / "compose.conf").read_text())
    )
    named["stream-detector"] |= set(
        re.findall(r"/secrets/([\w/-]+)", (DEPLOY / "stream-detector" / "config.yaml").read_text())
    )
    for name, paths in named.items():
        user = compose()["services"][name]["user"].split(":")[0]
        assert {path: owner.get(path) for path in paths} == dict.fromkeys(paths, user), name
    assert all(named[name] for name in ("mosquitto", "stream-detector", "simulator", "grafana", "node-red"))


def test_the_configuration_of_the_plant_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files start the service with a configuration that it takes, with series for 200 devices."""
    config = DEPLOY / "stream-detector" / "config.yaml"
    settings = load(config)
    assert settings.broker.address.host in compose()["services"]
    assert settings.metrics.device_series == 200
    minimal = service_of("compose.minimal.yaml", "stream-detector")
    for key, value in minimal["environment"].items():
        monkeypatch.setenv(key, "mqtt://192.0.2.7:1883" if "URL" in key else filled_in(value))
    settings = load(config)
    assert settings.broker.address.host == "192.0.2.7"
    secrets = {f"/run/secrets/{name}" for name in minimal["secrets"]}
    assert {str(settings.broker.password_file), str(settings.http.token_file)} == secrets


def test_each_part_reaches_what_it_talks_to() -> None:
    """Names of hosts in the configurations are services, and share a network with who uses them."""
    services = compose()["services"]

    def reach(one: str, other: str) -> bool:
        return bool(set(services[one]["networks"]) & set(services[other]["networks"]))

    scraped = re.findall(r'targets: \["([\w-]+):8808"\]', (DEPLOY / "prometheus/prometheus.yml").read_text())
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    assert scraped == ["stream-detector"]
    assert reach("prometheus", "stream-detector")
    assert "url: http://prometheus:9090" in source
    assert reach("grafana", "prometheus")
    for name in ("stream-detector", "simulator", "node-red"):
        assert reach(name, "mosquitto")
    assert services["node-red"]["environment"]["MQTT_HOST"] == "mosquitto"
    assert "--broker=mqtt://mosquitto:1883" in services["simulator"]["command"]
    assert not reach("grafana", "mosquitto")


def test_grafana_finds_the_dashboards() -> None:
    """The folder that the provisioning names is the one that is mounted."""
    said = (DEPLOY / "grafana/provisioning/dashboards/stream-detector.yml").read_text()
    path = re.search(r"path: (\S+)", said)
    assert path
    assert path[1] in [target for _, target, _ in mounts(compose()["services"]["grafana"])]


def test_the_broker_of_the_plant_is_the_one_that_we_ship() -> None:
    """compose.conf has the settings of mosquitto.conf, but for paths, the listener and the log."""

    def said(name: str) -> set[str]:
        lines = (DEPLOY / "mosquitto" / name).read_text().splitlines()
        return {line for line in lines if line and not line.startswith("#")}

    own = ("persistence_location", "listener", "password_file", "acl_file", "log_dest")
    shipped, composed = said("mosquitto.conf"), said("compose.conf")
    assert all(line.startswith(own) for line in shipped ^ composed), shipped ^ composed
    assert len(composed - shipped) == len(own)
