"""Log as JSON: every line is one object, from any logger."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from made_asgi import Client, started
from made_bundles import other_bundle
from made_server import PATIENCE, ROOT, Server, wait_until

from dien_fuxictr.serving.bundle import WEIGHTS, Bundle
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.log import JSON, TEXT, configure, say, shows_progress, tell
from dien_fuxictr.serving.model_service import ModelService

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Log:
    """Log of this process, once it is started."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def start(self) -> None:
        logging.getLogger().handlers[:] = []  # `configure` closes what it replaces
        configure(JSON)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Log]:
    root, hook, show = logging.getLogger(), threading.excepthook, warnings.showwarning
    handlers, level = root.handlers[:], root.level
    yield Log(capsys)
    logging.captureWarnings(False)
    root.setLevel(level)
    root.handlers[:], threading.excepthook, warnings.showwarning = handlers, hook, show


def test_log_line_has_time_message_and_process(log: Log) -> None:
    log.start()
    before = datetime.now(timezone.utc)
    logging.getLogger("a.b").warning("first %d\nsecond \u2028 \ud800 %s", 5, "\x00")
    (line,) = log.lines()
    assert re.fullmatch(TIME, line["time"])
    assert abs((datetime.fromisoformat(line.pop("time").replace("Z", "+00:00")) - before).total_seconds()) < PATIENCE
    assert line == {
        "level": "WARNING",
        "message": "first 5\nsecond \u2028 \ud800 \x00",
        "logger": "a.b",
        "process": os.getpid(),
    }


def test_what_is_below_a_warning_is_not_logged(log: Log) -> None:
    log.start()
    logging.info("uvicorn says much")
    assert log.lines() == []


def test_warnings_and_dead_threads_are_lines(log: Log) -> None:
    log.start()
    warnings.warn("deprecated", stacklevel=1)

    def fail() -> None:
        raise ValueError("secret")

    thread = threading.Thread(target=fail, name="T")
    thread.start()
    thread.join()
    warning, end = log.lines()
    assert "UserWarning: deprecated" in warning["message"] and warning["logger"] == "py.warnings"
    assert end["message"] == "thread T has ended with an error" and end["traceback"].endswith("ValueError: secret")


def test_news_and_ends_have_the_form_of_the_log(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.start()
    say("serving b")
    assert json.loads(capsys.readouterr().out) | {"time": ""} == {
        "time": "",
        "level": "INFO",
        "message": "serving b",
        "logger": "root",
        "process": os.getpid(),
    }
    assert tell("x is\nwrong", 2) == 2
    (line,) = log.lines()
    assert (line["level"], line["message"]) == ("CRITICAL", "x is wrong")


def test_text_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TEXT)
    say("serving b")
    assert tell("x is wrong", 2) == 2
    assert capsys.readouterr() == ("serving b\n", "error: x is wrong\n")


def test_progress_is_shown_on_a_terminal_with_text(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shows_progress()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shows_progress()
    log.start()
    assert not shows_progress()


def test_an_error_of_the_server_is_one_line_with_its_request(
    log: Log, opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("secret\nsecond line")

    monkeypatch.setattr(ModelService, "answer_one", broken)
    log.start()
    client: Client = started(lambda: opened).loaded()
    reply = client.post("/v1/score", b"{}")
    (line,) = log.lines()
    assert line["request_id"] == reply.json["request_id"] == reply.headers["x-request-id"]
    assert line["level"] == "ERROR" and line["message"] == f"POST /v1/score, request {line['request_id']}"
    assert line["traceback"].startswith("Traceback (most recent call last):\n")
    assert line["traceback"].endswith("RuntimeError: secret\nsecond line") and "secret" not in reply.body.decode()
    client.close()
    logging.warning("later")
    (line,) = log.lines()
    assert "request_id" not in line


def test_all_lines_of_all_processes_are_objects(bundle_folder: Path, tmp_path: Path) -> None:
    """Check the log of a supervisor and two workers in every situation.

    These are invalid HTTP, reloads that succeed and fail, and a killed worker.
    """
    shutil.copytree(bundle_folder, tmp_path / "a")
    other_bundle(bundle_folder, tmp_path / "b", 1)
    server = Server(tmp_path, "--bundle", "a", "--workers", "2", "--log-format", "json")
    try:
        server.wait()
        workers = server.workers()
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        (tmp_path / "a").rename(tmp_path / "old")
        (tmp_path / "b").rename(tmp_path / "a")
        wait_until(lambda: server.metric('reloads_total{result="loaded"}') == 2)
        (tmp_path / "a" / WEIGHTS).write_bytes(b"broken")
        wait_until(lambda: server.metric('reloads_total{result="refused"}') == 2)
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == 1)
        wait_until(lambda: len(server.workers()) == 2)
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    finally:
        server.process.kill()
    first = json.loads(server.line)
    assert code == 0 and first["message"].startswith("serving a on http://127.0.0.1:") and first["level"] == "INFO"
    lines = [json.loads(line) for line in errors.splitlines()]
    assert all(re.fullmatch(TIME, line["time"]) and line["level"] == "WARNING" for line in lines)
    processes = {
        process: [line["message"] for line in lines if line["process"] == process]
        for process in (first["process"], *workers)
    }
    assert first["process"] not in workers and processes[first["process"]] == [
        f"worker process {workers[0]} has ended with SIGKILL; another one starts in 1 s"
    ]
    for worker in workers:
        assert sum(" replaces model " in message for message in processes[worker]) == 1
        assert sum(" is refused: " in message for message in processes[worker]) == 1


def test_bad_input_is_an_object_too(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run_serve.py"), "--bundle", "nowhere", "--log-format", "json", "--port", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    line = json.loads(ended.stderr)
    assert (ended.returncode, ended.stdout, line["level"]) == (2, "", "CRITICAL")
    assert (
        line["message"]
        == "nowhere is not a bundle: manifest.json is missing; run_serve.py --expid ID --publish writes a bundle"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--log-format", "xml"], "argument --log-format: invalid choice: 'xml' (choose from 'text', 'json')"),
        (["--log-format"], "argument --log-format: expected one argument"),
        (
            ["--log-format", "json", "--engine", "ray"],
            "--log-format json cannot be combined with --engine ray: Ray writes",
        ),
        (["--log-format", "json", "--publish"], "--log-format cannot be combined with --publish"),
        (["--log-format", "json", "--export", "onnx", "a.onnx"], "--log-format cannot be combined with --export"),
    ],
)
def test_a_wrong_log_format(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err
