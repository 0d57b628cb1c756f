"""Configurations of docs/guides/deployment.md match the server."""

import re
from typing import Any

import pytest
import yaml
from pages import ROOT, blocks

from dien_fuxictr.serving.app import ENDPOINTS
from dien_fuxictr.serving.cli import parse_arguments
from dien_fuxictr.serving.queueing import DEADLINE
from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.worker import GRACE

NGINX, ENVOY, _, KUBERNETES = (block.text for block in blocks(ROOT / "docs" / "guides" / "deployment.md"))


@pytest.fixture(scope="module")
def pod() -> Any:
    deployment, service = yaml.safe_load_all(KUBERNETES)
    template, labels = deployment["spec"]["template"], deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == labels == template["metadata"]["labels"]
    return template["spec"]


def nginx(directive: str) -> str:
    (value,) = re.findall(rf"^ +{directive} (.+);$", NGINX, re.MULTILINE)
    return value


def test_proxies_close_idle_connections_first() -> None:
    (envoy,) = re.findall(r"\bidle_timeout: (\d+)s", ENVOY)
    assert max(int(envoy), int(nginx("keepalive_timeout").removesuffix("s"))) < Settings.idle_timeout


def test_proxies_take_bodies_of_the_servers_size() -> None:
    (envoy,) = re.findall(r"max_request_bytes: (\d+)", ENVOY)
    assert int(envoy) == Settings.max_body == int(nginx("client_max_body_size").removesuffix("m")) << 20


def test_nginx_sends_the_clients_deadline() -> None:
    assert f"proxy_set_header {DEADLINE} 200;" in NGINX


def test_only_scores_are_passed_on() -> None:
    (envoy,) = re.findall(r"prefix: (\S+)\}", ENVOY)
    (location,) = re.findall(r"location (\S+) \{", NGINX)
    assert envoy == location
    assert {path for path in ENDPOINTS if path.startswith(location)} == {
        "/v1/score",
        "/v1/score:batch",
        "/v1/explain",
        "/v1/model",
        "/v1/examples",
    }


def test_probes_ask_what_the_server_answers(pod: Any) -> None:
    (container,) = pod["containers"]
    (port,) = (each["containerPort"] for each in container["ports"])
    options = parse_arguments(container["command"][1:])
    assert container["command"][0] == "run_serve" and options.port == port and options.host == "0.0.0.0"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        ask = container[name]["httpGet"]
        assert ask["path"] in ENDPOINTS and ask["port"] == port
    (envoy,) = re.findall(r"http_health_check: \{path: (\S+)\}", ENVOY)
    assert envoy == container["readinessProbe"]["httpGet"]["path"]


def test_pods_have_the_time_to_end(pod: Any) -> None:
    (container,) = pod["containers"]
    supervisor = GRACE + 5
    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + supervisor
