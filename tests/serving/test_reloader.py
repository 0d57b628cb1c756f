"""Another bundle replaces the served one without a failed request."""

import asyncio
import gc
import logging
import os
import re
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from made_asgi import Client, Reply, call
from made_bundles import other_bundle, with_nan, without_golden
from made_columns import META, categorical, numeric, sequence
from made_experiment import MODEL, made_experiment
from made_server import PATIENCE

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.serving import bundle as reading
from dien_fuxictr.serving import reloader
from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.bundle import CATALOGUE, WEIGHTS, Bundle, BundleLoader, open_bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.manifest import Manifest, read_manifest, stated_digest, write_manifest
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.reloader import Accepted, background_thread, bundle_fingerprint, short_turns
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.server_metrics import Metrics
from dien_fuxictr.serving.write import write_bundle

CLIENTS = 8


class Site:
    """A symlink to one of four bundles: three, and a broken one."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder, self.link = folder, folder / "current"
        self.clients: list[Client] = []
        for seed, name in enumerate(("b", "c", "broken"), 1):
            other_bundle(bundle, folder / name, seed)
        (folder / "broken" / WEIGHTS).write_bytes(b"broken")
        shutil.copytree(bundle, folder / "a")
        self.switch("a")

    def switch(self, name: str) -> None:
        new = self.folder / "new"
        new.symlink_to(name)
        os.replace(new, self.link)

    def client(self, load: Callable[[], Bundle] | None = None, **options: Any) -> Client:
        app = App(
            load or partial(open_bundle, self.link),
            Limits(),
            1 << 20,
            16,
            fingerprint=partial(bundle_fingerprint, self.link),
            stated=partial(stated_digest, self.link),
            **options,
        )
        self.clients.append(Client(app).loaded())
        return self.clients[-1]


@pytest.fixture
def site(bundle_folder: Path, tmp_path: Path) -> Iterator[Site]:
    site = Site(bundle_folder, tmp_path)
    yield site
    for client in site.clients:
        client.close()


@pytest.fixture
def client(site: Site) -> Client:
    return site.client()


def counted(client: Client, result: str) -> int:
    return int(client.app.metrics._reloads.labels(result)._value.get())


async def reloaded(client: Client, result: str, times: int, asks: bool = True) -> None:
    if asks:
        client.app.check_now()
    for _ in range(100 * PATIENCE):
        if counted(client, result) == times:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def cautions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def reloads(client: Client) -> list[dict[str, str]]:
    """Return the labels and value of each reload's metric."""
    lines = re.findall(r"^serve_reload_seconds{(.*)} (\S+)$", client.get("/metrics").body.decode(), re.M)
    return [{**dict(re.findall(r'(\w+)="([^"]*)"', labels)), "seconds": seconds} for labels, seconds in lines]


def digest_of(client: Client) -> str:
    return client.get("/v1/model").json["model"]


def test_requests_from_all_sides_during_reloads(site: Site, client: Client, opened: Bundle) -> None:
    requests = [made_request(opened.encoder, *sizes) for sizes in ((0, 5), (3, 7), (20, 50), (40, 9))]
    replies: list[list[tuple[int, Reply]]] = [[] for _ in range(CLIENTS)]
    go_on = True

    async def ask(own: list[tuple[int, Reply]], number: int) -> None:
        while go_on:
            number = (number + 1) % len(requests)
            own.append((number, await call(client.app, "POST", "/v1/score", [orjson.dumps(requests[number])])))

    async def answered() -> None:
        before = [len(own) for own in replies]
        while any(len(own) < count + 2 * len(requests) for own, count in zip(replies, before, strict=True)):
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        nonlocal go_on
        tasks = [asyncio.create_task(ask(own, number)) for number, own in enumerate(replies)]
        for name, result, times in (
            ("b", "loaded", 1),
            ("broken", "refused", 1),
            ("c", "loaded", 2),
            ("a", "loaded", 3),
        ):
            await answered()
            site.switch(name)
            await reloaded(client, result, times)
        await answered()
        go_on = False
        await asyncio.gather(*tasks)

    client.run(scenario())
    models = {name: open_bundle(site.folder / name) for name in "abc"}
    scores = {
        bundle.digest: [scorer_of(bundle.model)(RequestReader(bundle, Limits()).read(each)) for each in requests]
        for bundle in models.values()
    }
    for number in range(len(requests)):
        a, b, c = (of_model[number] for of_model in scores.values())
        assert min(np.abs(a - b).max(), np.abs(b - c).max(), np.abs(a - c).max()) > 1e-3
    order = [models[name].digest for name in "abca"]
    for own in replies:
        assert {reply.status for _, reply in own} == {200}
        seen = [reply.json["model"] for _, reply in own]
        assert [digest for i, digest in enumerate(seen) if i == 0 or seen[i - 1] != digest] == order
        for number, reply in own:
            assert reply.json["scores"] == pytest.approx(scores[reply.json["model"]][number].tolist(), abs=1e-6)
    assert (counted(client, "loaded"), counted(client, "refused")) == (3, 1)


def test_a_request_ends_with_the_version_that_it_began_with(site: Site, client: Client, opened: Bundle) -> None:
    body = orjson.dumps(made_request(opened.encoder, 3, 2))
    before = digest_of(client)

    async def swap() -> None:
        site.switch("b")
        await reloaded(client, "loaded", 1)

    reply = client.run(call(client.app, "POST", "/v1/score", [body[:9], body[9:]], before_last=swap))
    after = client.post("/v1/score", body).json["model"]
    assert reply.json["model"] == before == opened.digest
    assert after == digest_of(client) != before
    lines = re.findall(
        r'^serve_model{digest="(.*)",expid="DIEN_amazon"} (.*)$', client.get("/metrics").body.decode(), re.M
    )
    assert lines == [(before, "0.0"), (after, "1.0")]


def test_what_is_replaced_is_free(site: Site) -> None:
    client = site.client(BundleLoader(site.link))
    body = orjson.dumps(client.get("/v1/model").json["example"])
    assert client.post("/v1/score", body).status == 200
    current = client.app._reloader.current
    assert current
    model = weakref.ref(current._bundle.model)
    del current
    site.switch("b")
    gc.disable()
    try:
        client.run(reloaded(client, "loaded", 1))
        assert model() is None
    finally:
        gc.enable()


def test_what_stays_is_left_out_of_collections(site: Site) -> None:
    assert not gc.get_freeze_count()
    client = site.client()
    assert gc.get_freeze_count() > 10_000
    site.clients.remove(client)
    client.close()
    assert not gc.get_freeze_count()


def test_it_looks_by_itself(site: Site, client: Client, opened: Bundle) -> None:
    site.switch("b")
    client.run(reloaded(client, "loaded", 1, asks=False))
    assert digest_of(client) != opened.digest


def test_it_looks_at_once_when_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "_EVERY", 3600)
    client = site.client()
    client.run(asyncio.sleep(0.1))
    site.switch("b")
    client.run(reloaded(client, "loaded", 1))


def test_what_is_broken_is_tried_again_only_when_it_changes(
    site: Site, client: Client, opened: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    site.switch("broken")
    client.run(reloaded(client, "refused", 1))
    (line,) = cautions(caplog)
    problem = f"bundle {site.folder / 'broken'}: {WEIGHTS} does not match its digest in manifest.json"
    broken = stated_digest(site.folder / "broken")
    assert broken and line.startswith(
        f"not reloaded, model {opened.digest} stays, model {broken} is refused: {problem} (validation metric unknown"
    )
    for _ in range(3):
        client.app.check_now()
        client.run(asyncio.sleep(0.3))
    assert (counted(client, "refused"), len(cautions(caplog))) == (1, 1)
    assert digest_of(client) == opened.digest
    shutil.rmtree(site.folder / "broken")
    client.run(reloaded(client, "refused", 2))
    shutil.copytree(site.folder / "b", site.folder / "broken")
    client.run(reloaded(client, "loaded", 1))
    assert digest_of(client) == open_bundle(site.folder / "b").digest


def test_unexpected_error_is_one_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Bundle:
        if site.link.resolve().name == "b":
            raise RuntimeError("two\nlines")
        return open_bundle(site.link)

    client = site.client(load)
    site.switch("b")
    client.run(reloaded(client, "refused", 1))
    (line,) = cautions(caplog)
    assert re.fullmatch("not reloaded, model .* is refused: unexpected RuntimeError in .*: two lines .*", line)
    site.switch("c")
    client.run(reloaded(client, "loaded", 1))


@pytest.mark.parametrize("broken", [False, True])
def test_what_changes_while_it_is_read_is_read_again(site: Site, opened: Bundle, broken: bool) -> None:
    digests: list[str] = []

    def load() -> Bundle:
        bundle = open_bundle(site.link)
        digests.append(bundle.digest)
        if len(digests) == 2:
            site.switch("c")
            if broken:
                raise ValueError
        return bundle

    client = site.client(load)
    site.switch("b")
    client.run(reloaded(client, "loaded", 1))
    assert [open_bundle(site.folder / name).digest for name in "abc"] == digests
    assert digest_of(client) == digests[-1] and not counted(client, "refused")


def test_a_symlink_is_followed_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading.read_manifest

    def read_and_switch(folder: Path) -> Manifest:
        manifest = read(folder)
        site.switch("b")
        return manifest

    monkeypatch.setattr(reading, "read_manifest", read_and_switch)
    mixed = open_bundle(site.link)
    monkeypatch.undo()
    first, second = open_bundle(site.folder / "a"), open_bundle(site.folder / "b")
    assert mixed.digest == first.digest

    def weights(bundle: Bundle) -> Any:
        return np.concatenate([weight.numpy().ravel() for weight in bundle.model.state_dict().values()])

    assert np.array_equal(weights(mixed), weights(first)) and not np.array_equal(weights(mixed), weights(second))


def test_fingerprints(site: Site) -> None:
    fingerprints = [bundle_fingerprint(site.link)]
    assert bundle_fingerprint(site.link) == bundle_fingerprint(site.folder / "a") == fingerprints[0]
    for change in (
        lambda: site.switch("b"),
        lambda: (site.folder / "b" / "new").touch(),
        lambda: os.utime(site.folder / "b" / WEIGHTS, (1, 1)),
        lambda: site.switch("nowhere"),
        lambda: site.switch("current"),
        lambda: site.switch("b"),
    ):
        change()
        fingerprints.append(bundle_fingerprint(site.link))
    assert all(one != other for one, other in pairwise(fingerprints))
    assert fingerprints[-1] == fingerprints[3]


@pytest.mark.parametrize("asked_by", ["folder", "SIGHUP"])
def test_each_reload_is_one_line_and_one_metric(
    asked_by: str, site: Site, opened: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reloader, "_EVERY", 3600 if asked_by == "SIGHUP" else 0.1)
    client, new = site.client(), open_bundle(site.folder / "b")
    client.run(asyncio.sleep(0))
    site.switch("b")
    client.run(reloaded(client, "loaded", 1, asks=asked_by == "SIGHUP"))
    auc = f"{opened.metrics['validation/AUC']:.6g}"
    (line,) = cautions(caplog)
    assert re.fullmatch(
        rf"reloaded, model {new.digest} replaces model {opened.digest} \(validation/AUC {auc}, trained "
        rf"{re.escape(opened.trained)}, golden difference \d\.\de[+-]\d\d, \d+\.\d s, asked by {asked_by}\)",
        line,
    )
    (labels,) = reloads(client)
    assert 0 < float(labels.pop("seconds")) < PATIENCE and float(labels.pop("golden")) <= 1e-4
    assert labels == {
        "result": "loaded",
        "old": opened.digest,
        "new": new.digest,
        "validation": auc,
        "trained": opened.trained,
        "asked_by": asked_by,
    }


def test_other_scores_than_the_golden_ones_leave_the_old_model(
    site: Site, client: Client, opened: Bundle, bundle_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = other_bundle(bundle_folder, site.folder / "wrong", 4, keeps_golden=True)
    site.switch("wrong")
    client.run(reloaded(client, "refused", 1))
    (line,) = cautions(caplog)
    folder = re.escape(str(site.folder / "wrong"))
    difference = re.fullmatch(
        rf"not reloaded, model {opened.digest} stays, model {wrong} is refused: bundle {folder}: request \d of its "
        r"golden.json: candidate \d+ scores 0\.\d+, but 0\.\d+ was written; they may differ by 0.0001 \(.*, golden "
        r"difference (\d\.\de-\d\d), .*\)",
        line,
    )
    assert difference and float(difference[1]) > 1e-4
    (labels,) = reloads(client)
    assert (labels["result"], labels["new"], labels["golden"]) == ("refused", wrong, difference[1])
    assert digest_of(client) == opened.digest


def test_scores_that_are_not_finite_leave_the_old_model(
    site: Site, client: Client, opened: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    without_golden(site.folder / "b")
    with_nan(site.folder / "b")
    site.switch("b")
    client.run(reloaded(client, "refused", 1))
    assert "the scores of its model are not finite" in cautions(caplog)[-1]
    assert digest_of(client) == opened.digest


def test_scores_that_are_not_finite_are_no_start(site: Site) -> None:
    without_golden(site.folder / "b")
    with_nan(site.folder / "b")
    site.switch("b")
    client = site.client()
    assert "not finite" in str(client.app.failure)
    assert client.get("/v2/health/ready").status == 503


def with_fields(folder: Path, *without: str, **changes: dict[str, Any]) -> None:
    """Write a bundle of an untrained experiment on these columns."""
    columns = [
        META,
        categorical("item_id"),
        categorical("cate_id"),
        categorical("zip", **changes.get("zip", {})),
        numeric("price"),
        sequence("item_history", share_embedding="item_id"),
        sequence("cate_history", share_embedding="cate_id"),
    ]
    kept = [column for column in columns if column["name"] not in without]
    write_bundle(made_experiment(folder.with_suffix(".made"), MODEL, kept), folder, [])


@pytest.fixture(scope="module")
def bundles_of_fields(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields")
    with_fields(folder / "all")
    with_fields(folder / "fewer", "price", "zip")
    with_fields(folder / "types", zip={"dtype": "int", "fill_na": -1})
    for name in ("lenient", "demanding"):
        shutil.copytree(bundle_folder, folder / name)
    (folder / "demanding" / CATALOGUE).write_text('{"words": {}, "fields": {}}')
    write_manifest(folder / "demanding")
    return folder


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        ("all", "fewer", "price is not there, was a number; zip is not there, was text"),
        ("fewer", "all", "price is a number, was not there; zip is text, was not there"),
        ("all", "types", "zip is a whole number, was text"),
        ("lenient", "demanding", "cate_history is required now; cate_id is required now"),
        ("demanding", "lenient", ""),
    ],
)
def test_requests_with_other_fields_are_refused(old: str, new: str, differences: str, bundles_of_fields: Path) -> None:
    before, after = (ModelService(open_bundle(bundles_of_fields / name), Limits(), Metrics()) for name in (old, new))
    if not differences:
        after.require_fields_of(before)
        return
    with pytest.raises(UserError) as error:
        after.require_fields_of(before)
    assert str(error.value) == (
        f"bundle {bundles_of_fields / new}: its requests have other fields: {differences}; clients would get 422; "
        "--allow-new-fields accepts it"
    )


def test_a_sequence_is_another_field_than_a_value(opened: Bundle) -> None:
    assert RequestReader(opened, Limits()).fields() == {
        "item_id": "text",
        "cate_id": "text",
        "item_history": "a sequence",
        "cate_history": "a sequence",
        "user_id": "not read",
    }


@pytest.mark.parametrize("allowed", [False, True])
def test_new_fields_are_accepted_if_allowed(
    allowed: bool, site: Site, bundles_of_fields: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("all", "fewer"):
        shutil.copytree(bundles_of_fields / name, site.folder / name)
    site.switch("all")
    client = site.client(allow_new_fields=allowed)
    before = digest_of(client)
    caplog.clear()
    site.switch("fewer")
    client.run(reloaded(client, "loaded" if allowed else "refused", 1))
    assert (digest_of(client) == before) is not allowed
    assert ("its requests have other fields: price is not there" in cautions(caplog)[0]) is not allowed
    (labels,) = reloads(client)
    assert labels["new"] == read_manifest(site.folder / "fewer").digest and float(labels["golden"]) <= 1e-4


class Others:
    """Bundle that other workers have accepted, one of the site's."""

    def __init__(self, site: Site) -> None:
        self.site, self.name = site, ""
        self.took: list[str] = []

    def accepted(self) -> Accepted:
        def digest() -> str:
            return stated_digest(self.site.folder / self.name) if self.name else ""

        return Accepted(digest, lambda: open_bundle(self.site.folder / self.name), self.took.append)


def test_it_starts_with_what_is_accepted(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Start like a worker that restarts after others refused the folder's bundle."""
    others = Others(site)
    others.name = "a"
    site.switch("broken")
    client = site.client(accepted=others.accepted())
    digest = read_manifest(site.folder / "a").digest
    assert digest_of(client) == digest and others.took == [digest]
    client.run(reloaded(client, "refused", 1))
    started, refused = cautions(caplog)
    assert started == f"started with the accepted model {digest}: the folder holds another one"
    assert f"not reloaded, model {digest} stays" in refused and digest_of(client) == digest


def test_starts_with_the_folder_if_it_is_accepted(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    others = Others(site)
    others.name = "a"
    client = site.client(accepted=others.accepted())
    client.app.check_now()
    client.run(asyncio.sleep(0.3))
    assert cautions(caplog) == [] and not counted(client, "loaded")


def test_starts_with_the_folder_if_the_accepted_is_broken(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    others = Others(site)
    others.name = "broken"
    client = site.client(accepted=others.accepted())
    assert digest_of(client) == read_manifest(site.folder / "a").digest and not client.app.failure
    (line,) = cautions(caplog)
    assert line.startswith("started with the bundle in the folder: the accepted model cannot be loaded: bundle ")


def test_bundle_accepted_by_another_worker_is_loaded(site: Site) -> None:
    """This one could not load it: memory was short, say."""

    def load() -> Bundle:
        if site.link.resolve().name == "b":
            raise MemoryError
        return open_bundle(site.link)

    others = Others(site)
    client = site.client(load, accepted=others.accepted())
    others.name = "a"
    site.switch("b")
    client.run(reloaded(client, "refused", 1))
    others.name = "b"
    client.run(reloaded(client, "loaded", 1))
    digests = [read_manifest(site.folder / name).digest for name in "ab"]
    assert digest_of(client) == digests[1] and others.took == digests
    assert {labels["result"]: labels["asked_by"] for labels in reloads(client)} == {
        "refused": "SIGHUP",
        "loaded": "another worker",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_its_thread_alone_has_a_lower_priority() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    with background_thread() as thread:
        assert min(own + 1, 19) <= thread.submit(priority).result() <= 19
    assert priority() == own


def test_the_lock_is_handed_over_sooner_until_it_ends() -> None:
    usual = sys.getswitchinterval()
    with pytest.raises(ValueError, match="broken"), short_turns():
        assert sys.getswitchinterval() < usual / 5
        raise ValueError("broken")
    assert sys.getswitchinterval() == usual
