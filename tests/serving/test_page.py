"""The page: one self-contained answer without data of the bundle."""

import base64
import hashlib
import re
from collections.abc import Iterator

import pytest
from made_asgi import Client, call, started

from dien_fuxictr.serving.app import load_page
from dien_fuxictr.serving.bundle import Bundle

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def client(opened: Bundle) -> Iterator[Client]:
    request = {"user": {"item_history": [EVIL]}, "candidates": {"item_id": [EVIL]}}
    changed = {"expid": EVIL, "examples": [request], "titles": {EVIL: EVIL}}
    client = started(lambda: Bundle(**{**vars(opened), **changed})).loaded()
    yield client
    client.close()


def test_it_needs_nothing_beside_it(client: Client) -> None:
    reply = client.get("/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    html = reply.body.decode()
    assert set(re.findall(r"""https?://[^"'\s]*""", html)) == {"http://www.w3.org/2000/svg"}, "the namespace alone"
    assert re.findall(r"""\b(?:src|href)=["'][^"']*""", html) == ['href="data:,']
    assert not re.findall(r"@import|\burl\(|\bimport\(", html)


def test_only_its_own_style_and_script_run(client: Client) -> None:
    reply = client.get("/")
    policy = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", reply.body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert " style=" not in reply.body.decode(), "the policy would refuse it"


def test_nothing_of_the_bundle_is_in_it(client: Client) -> None:
    """Values come as JSON, and the script writes them as text."""
    assert EVIL in client.get("/v1/examples").body.decode() and EVIL in client.get("/v1/model").body.decode()
    assert client.get("/").body == load_page().html and EVIL.encode() not in client.get("/").body
    scripts = load_page().html.decode()
    assert "textContent" in scripts
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", scripts)


def test_head_is_get_without_the_body(client: Client) -> None:
    headers = {"x-request-id": "a"}
    head, get = (client.run(call(client.app, method, "/", headers=headers)) for method in ("HEAD", "GET"))
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert int(head.headers["content-length"]) == len(get.body)
    assert client.post("/", b"").headers["allow"] == "GET, HEAD"


def test_it_is_there_while_the_model_loads() -> None:
    client = started(lambda: None)
    assert client.get("/").status == 200
    client.close()
