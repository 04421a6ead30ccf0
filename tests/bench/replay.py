"""Replaying a long capture: how fast, and in how much memory, also on the way: where 10 %, 50 % and
100 % of the file have been read. The capture is made up: users write, a millisecond apart; each is
answered after five.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bridge.capture.exchange import CHANNEL, HttpExchange, encode
from bridge.capture.format import IN, LINK, OUT, Header, Record, encode_header, encode_record
from bridge.webhook.observer import PostAnswer

DOMAIN: Final = "bot.localhost"
_USERS: Final = 1000
_STEP_S: Final = 0.001
_TAKES_S: Final = 0.005
_POLL_S: Final = 0.1
_MARKS: Final = (10, 50, 100)
_DATE: Final = datetime(2026, 11, 22, 17, 20, tzinfo=UTC)
_NAMESPACES: Final = (
    "xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
)


def records(count: int) -> Iterator[Record]:
    """Give the records of a capture of so many messages."""
    yield Record(0.0, LINK, b"open 127.0.0.1:5347")
    header = f"<?xml version='1.0'?><stream:stream {_NAMESPACES}"
    yield Record(0.0, OUT, f"{header} to='{DOMAIN}'>".encode())
    yield Record(0.0, IN, f"{header} from='{DOMAIN}' id='3BF96D32'>".encode())
    yield Record(0.0, OUT, b"<handshake>redacted</handshake>")
    yield Record(0.0, IN, b"<handshake/>")
    lag = round(_TAKES_S / _STEP_S)
    for number in range(1, count + lag + 1):
        at = number * _STEP_S
        if number > lag:
            yield from _answered(number - lag, at)
        if number <= count:
            yield Record(at, IN, _message(number).encode())
    end = (count + lag + 1) * _STEP_S
    yield Record(end, OUT, b"</stream:stream>")
    yield Record(end, IN, b"</stream:stream>")
    yield Record(end, LINK, b"end the peer ended the stream")


def _message(number: int) -> str:
    user = f"user{number % _USERS}@localhost/phone"
    body = f"This is message {number}; it is about as long as people write."
    head = f"to='echo@{DOMAIN}' from='{user}' type='chat' id='m{number}'"
    return f"<message {head}><body>{body}</body></message>"


def _answered(number: int, at: float) -> Iterator[Record]:
    user = f"user{number % _USERS}@localhost/phone"
    body = f"This is message {number}; it is about as long as people write."
    received = datetime.fromtimestamp(_DATE.timestamp() + at - _TAKES_S, UTC)
    request = (
        f'{{"to":"echo@{DOMAIN}","from":"{user}","kind":"message","id":"m{number}","type":"chat",'
        f'"body":"{body}","stanza":"{_message(number)}",'
        f'"received":"{received:%Y-%m-%dT%H:%M:%S}.{received.microsecond // 1000:03}Z"}}'
    ).encode()
    uid = f"msg_{number:x}"
    answer = PostAnswer(
        200, {"content-type": "application/json"}, f'{{"body": "Yes, {number}"}}'.encode()
    )
    exchange = HttpExchange(uid, 1, at - _TAKES_S, _TAKES_S, request, answer)
    yield Record(at, CHANNEL, encode(exchange))
    head = f"to='{user}' from='echo@{DOMAIN}' type='chat' id='{uid}-1'"
    yield Record(at, OUT, f"<message {head}><body>Yes, {number}</body></message>".encode())


def write(path: Path, count: int) -> None:
    """Write such a capture."""
    header = Header("tests.bench", DOMAIN, _DATE, (("endpoint", "http://127.0.0.1:8000/"),))
    with path.open("wb") as file:
        file.write(encode_header(header))
        file.writelines(map(encode_record, records(count)))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stanzas", type=int, default=1_000_000)
    parser.add_argument("--expect", action="store_true", help="compare, too")
    parser.add_argument("--keep", type=Path, help="write the capture here, and leave it")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Replay captures of a tenth of that length and of all of it; print rate and memory."""
    with tempfile.TemporaryDirectory() as directory:
        for count in (given.stanzas // 10, given.stanzas):
            path = given.keep or Path(directory) / f"{count}.xcap"
            write(path, count)
            measure(path, count, ["--expect"] if given.expect else [])


def measure(path: Path, count: int, options: list[str]) -> None:
    """Replay one capture in a process of its own."""
    command = [sys.executable, "-m", "bridge", "replay", str(path), "--answers", "captured"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    samples: list[tuple[float, int]] = []
    watcher = threading.Thread(target=_watch, args=(process, path, samples))
    watcher.start()
    told, _ = process.communicate()
    watcher.join()
    seconds = time.monotonic() - began
    size_mib = path.stat().st_size / 2**20
    print(
        f"{count} stanzas ({size_mib:.0f} MiB): {seconds:.1f} s, {count / seconds:.0f} stanzas/s,"
        f" memory {_by_progress(samples)}, exit code {process.returncode}"
    )
    if process.returncode:
        print(told)


def _watch(process: "subprocess.Popen[str]", path: Path, samples: list[tuple[float, int]]) -> None:
    """Note the position in the file, from 0 to 1, and the memory in KiB, while a replay runs."""
    status = Path(f"/proc/{process.pid}/status")
    size = path.stat().st_size
    while process.poll() is None:
        try:
            lines = status.read_text().splitlines()
            read = _position(process.pid, path) / size
        except OSError:
            return
        samples += ((read, int(line.split()[1])) for line in lines if line.startswith("VmRSS:"))
        time.sleep(_POLL_S)


def _position(pid: int, path: Path) -> int:
    """Return how far a process has read a file; 0 if it is not open."""
    directory = Path(f"/proc/{pid}")
    for one in (directory / "fd").iterdir():
        if one.resolve() == path.resolve():
            found = (directory / "fdinfo" / one.name).read_text()
            return int(found.partition("pos:")[2].split()[0])
    return 0


def _by_progress(samples: list[tuple[float, int]]) -> str:
    """Return the memory at each mark. Before a replay its file is searched once from end to end, so
    marks are looked for backwards: the last sample that is below the mark is the one before it.
    """
    told = []
    for mark in _MARKS:
        found = [kib for read, kib in samples if 0 < read <= mark / 100]
        told.append(f"{found[-1] / 1024:.0f} MiB at {mark} %" if found else f"? at {mark} %")
    return f"{', '.join(told)}, at most {max(kib for _, kib in samples) / 1024:.0f} MiB"
