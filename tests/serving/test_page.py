"""Page: one self-contained answer without the bundle's data, and its script."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

import pytest
from made_asgi import Client, call, started
from made_browser import run_page, text_of, with_class

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


def test_page_is_self_contained(client: Client) -> None:
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


class Answers(NamedTuple):
    """Answers of a page's server.

    Attributes:
        scores: scores of a user's candidates "item 0", "item 1", ...
        unknown: number of unknown fields per candidate.
        behaviours: number of unknown fields of each of the two behaviours.
    """

    scores: list[float]
    unknown: list[int] | None = None
    behaviours: tuple[int, int] = (0, 0)


def shown(answers: Answers, then: str = "", failing: str = "") -> Element:
    """Run the page's script with its own server; refuse requests to `failing`."""
    count = len(answers.scores)
    request = {"user": {"history": ["a", "b"]}, "candidates": {"item": [f"item {n}" for n in range(count)]}}
    features = [{"name": "item", "is": "categorical"}, {"name": "history", "is": "sequence"}]
    model = {"model": "m", "expid": "A_model", "metrics": {}, "features": features, "example": request}
    unknown = {
        "user": 0,
        "candidates": answers.unknown or [0] * count,
        "behaviours": {"history": list(answers.behaviours)},
    }
    replies = {
        "v1/model": {**model, "limits": {"candidates": 100}},
        "v1/examples": {"model": "m", "examples": [], "titles": {}, "item_fields": ["item"]},
        "v1/score": {"model": "m", "scores": answers.scores, "unknown": unknown},
        "v1/explain": {"model": "m", "sequences": [{"fields": ["history"], "seen": [0, 1]}]},
    }
    fetch = f"""
    let failing = {json.dumps(failing)};
    globalThis.fetch = async (path) => path === failing
      ? {{ ok: false, status: 422, json: async () => ({{ error: "candidates.item: is missing" }}) }}
      : {{ ok: true, status: 200, json: async () => ({json.dumps(replies)})[path] }};"""
    return run_page(load_page().html.decode(), then=then, first=fetch)


def place(body: Element, name: str) -> Element:
    (element,) = (element for element in body.iter() if element.get("id") == name)
    return element


def rows(body: Element) -> list[str]:
    return [" ".join(" ".join(row.itertext()).split()) for row in place(body, "ranking").iter("tr")]


def test_candidates_are_ranked_by_score() -> None:
    body = shown(Answers([0.25, 0.5, 0.125]))
    assert rows(body) == ["1 A item 1 0.5000", "2 B item 0 0.2500", "3 C item 2 0.1250"]
    assert text_of(place(body, "sequences")).startswith("History2 behaviours.")


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.00012, "0.00012"),
        (0.0004996, "0.00050"),
        (0.0012, "0.0012"),
        (1.234e-7, "1.2e-7"),
        (0, "0.0000"),
        (1, "1.0000"),
    ],
)
def test_a_small_score_has_more_digits(score: float, text: str) -> None:
    assert rows(shown(Answers([score]))) == [f"1 A item 0 {text}"]


def test_unknown_ids_are_marked() -> None:
    body = shown(Answers([0.5, 0.25], unknown=[0, 2], behaviours=(1, 0)))
    assert [text_of(mark) for mark in with_class(place(body, "ranking"), "unknown")] == ["2 unknown"]
    assert [text_of(mark) for mark in with_class(place(body, "sequences"), "unknown")] == ["1 unknown"]
    assert "1 candidate and 1 behaviour" in text_of(place(body, "unknown"))
    assert text_of(place(shown(Answers([0.5])), "unknown")) == ""


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ('failing = "v1/score"; $("request").value = "{}";', "candidates.item: is missing"),
        ('$("request").value = "{";', "The request is not JSON: "),
        (
            '$("request").value = "{}"; globalThis.fetch = async () => { throw new Error(); };',
            "The server does not answer.",
        ),
    ],
    ids=["refused", "no JSON", "no server"],
)
def test_an_old_result_is_cleared_when_a_request_fails(then: str, message: str) -> None:
    submit = '$("paste").listeners.submit({ preventDefault() {} }); await settled();'
    body = shown(Answers([0.5, 0.25], unknown=[1, 0]), f"{then} {submit}")
    assert text_of(place(body, "error")).startswith(message)
    assert rows(body) == [] and text_of(place(body, "sequences")) == text_of(place(body, "unknown")) == ""
    again = 'failing = ""; $("users").querySelector("button").click(); await settled();'
    if "Error" not in then:
        body = shown(Answers([0.5, 0.25]), f"{then} {submit} {again}")
        assert len(rows(body)) == 2 and text_of(place(body, "error")) == ""


def test_a_failed_explanation_keeps_the_scores() -> None:
    body = shown(Answers([0.5, 0.25]), failing="v1/explain")
    assert text_of(place(body, "error")) == "candidates.item: is missing"
    assert len(rows(body)) == 2 and text_of(place(body, "sequences")) == ""


def test_eleventh_candidate_hides_none() -> None:
    choose = """
    for (const row of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) if (!shown.chosen.has(row)) choose(row);
    await settled();"""
    body = shown(Answers([0.5] * 12), choose)
    pressed = [button for button in place(body, "ranking").iter("button") if button.get("aria-pressed") == "true"]
    assert len(pressed) == 10 and text_of(place(body, "full")).startswith("10 candidates are compared. Remove one")


def test_the_page_says_what_a_score_is() -> None:
    assert "is the predicted probability, from 0 to 1, that the user chooses" in load_page().html.decode()
