"""What `run --capture` has recorded of a real server under load, replayed: nothing is different.

Twice, and with the same output to the byte (issue 4).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
import trio

import bridge
from bridge.capture.exchange import decode
from bridge.capture.file import open_capture
from bridge.capture.format import Record
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Answer, Endpoint, Posted, Reaction, open_endpoint, reply, xml
from tests.servers.peer import Peer, connect_component
from tests.servers.scene import ALL_KINDS, BOT, ECHO, PEER, bot_table

if TYPE_CHECKING:
    from tests.servers.prosody import Prosody

COMPONENTS: Final = {BOT: "s3cret", PEER: "s1"}
STANZAS: Final = 2000
USERS: Final = 40
QUIET_S: Final = 3.0  # a retry waits for at most one
LOAD_S: Final = 90.0


def stanzas(dice: Random) -> list[str]:
    """What PEER sends in the name of many: all kinds, all sizes, and all that goes wrong."""
    found = []
    for number in range(STANZAS):
        user = f"user{dice.randrange(USERS)}@{PEER}/x"
        start = f"from='{user}' to='{ECHO}' id='n{number}'"
        body = f"{number} " + "Grüße 🙂 &lt;&amp;&gt; \\ " * dice.choice([0, 1, 1, 3, 60])
        found.append(
            dice.choice(
                [
                    *[f"<message {start} type='chat'><body>{body}</body></message>"] * 12,
                    f"<message {start} type='groupchat'><body>{body}</body></message>",
                    f"<message {start} type='error'><body>{body}</body></message>",
                    f"<iq {start} type='get'><query xmlns='jabber:iq:version'/></iq>",
                    f"<iq {start} type='set'><do xmlns='urn:example:do'>{body}</do></iq>",
                    f"<iq {start} type='get'><ask xmlns='urn:example:ask'/></iq>",
                    f"<presence {start} type='subscribe'/>",
                    f"<presence {start}><show>away</show></presence>",
                ]
            )
        )
    return found


class Moody:
    """An endpoint that answers in each way that there is; a second attempt always well."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._seen: set[str] = set()

    def __call__(self, posted: Posted) -> Reaction:
        body = posted.get("body", "")
        delay_s = self._dice.choice([0, 0, 0, 0.001, 0.02, 0.1])
        if posted.get("id") in self._seen:
            return reply({"body": f"again: {body}"}, delay_s=delay_s)
        mood = self._dice.randrange(100)
        if mood < 3:
            self._seen.add(str(posted.get("id")))
            return Answer(503, b"not now", media="text/plain", delay_s=delay_s)
        if mood < 5:
            return Answer(404, b"", media=None, delay_s=delay_s)
        if mood < 7:
            return Answer(200, b"{not JSON", delay_s=delay_s)
        if mood < 10:
            return Answer(204, media=None, delay_s=delay_s)
        if mood < 14:
            return reply({"body": "one"}, {"body": "two"}, delay_s=delay_s)
        if mood < 17 and "body" in posted:
            return xml("<message><body>as XML</body></message>")
        return reply({"body": f"you said: {body}"}, delay_s=delay_s)


async def wait_quiet(endpoint: Endpoint) -> None:
    """Wait until nothing is POSTed any more, also not again."""
    with trio.fail_after(LOAD_S):
        while True:
            before = len(endpoint.requests)
            await trio.sleep(QUIET_S)
            if endpoint.in_flight == 0 and len(endpoint.requests) == before >= STANZAS:
                return


async def load(peer: Peer) -> None:
    """Send it all, in bursts and one by one."""
    dice = Random(4)
    rest = stanzas(dice)
    while rest:
        count = dice.choice([1, 5, 100, 300])
        await peer.send("".join(rest[:count]))
        del rest[:count]
        await trio.sleep(dice.choice([0, 0.005, 0.05]))


async def record(prosody: Prosody, directory: Path, *arguments: str) -> list[Path]:
    """Give the captures of a daemon that has been under load."""
    captures = directory / "captures"
    async with (
        open_endpoint(Moody(Random(5))) as endpoint,
        connect_component(prosody.component_port, PEER, COMPONENTS[PEER]) as peer,
        run_daemon(
            directory,
            settings_for(
                prosody.component_port,
                {
                    BOT: bot_table(
                        endpoint, component_post_stanzas=ALL_KINDS, component_post_events="all"
                    )
                },
                retry={"message_budget_s": 30, "iq_budget_s": 30},
            ),
            arguments=["--capture", str(captures), *arguments],
        ) as daemon,
    ):
        await load(peer)
        await wait_quiet(endpoint)
        await daemon.terminate()
        check(daemon)
        posted = [request.headers["webhook-id"] for request in endpoint.requests]
    found = sorted(captures.iterdir())
    assert sorted(one.uid for one in map(decode, of(found, "http"))) == sorted(posted)
    return found


def check(daemon: Daemon) -> None:
    """Fail where a capture was not as it should be."""
    events = [line["event"] for line in daemon.lines if "captur" in line["event"]]
    assert events == ["capturing"]


def records(files: list[Path]) -> list[Record]:
    """Give what the files tell together."""
    found = []
    for number, path in enumerate(files):
        with open_capture(path) as reader:
            repeated = int(reader.header.get("repeated", "0")) if number else 0
            found += list(reader)[repeated:]
            assert reader.cut is None
    return found


def of(files: list[Path], channel: str) -> list[bytes]:
    return [record.data for record in records(files) if record.channel == channel]


def replay(files: list[Path]) -> tuple[int, bytes, bytes]:
    """Replay offline; give the exit code, and what was said on stdout and stderr."""
    done = subprocess.run(
        [
            *[sys.executable, "-m", "bridge", "replay", *map(str, files)],
            *["--answers", "captured", "--expect"],
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd=files[0].parent,
        env={**os.environ, "PYTHONPATH": str(Path(bridge.__file__).parents[1])},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plain"),
        pytest.param(["--capture-format", "zst"], id="zst"),
        pytest.param(["--capture-rotate-bytes", "300K"], id="rotation"),
        pytest.param(["--redact"], id="redacted"),
    ],
)
async def test_what_was_recorded_under_load_replays_without_a_difference(
    prosody: Prosody, tmp_path: Path, options: list[str]
) -> None:
    captured = await record(prosody, tmp_path, *options)
    assert (len(captured) > 3) == ("300K" in options)
    code, output, errors = await trio.to_thread.run_sync(replay, captured)
    assert code == 0, output.decode() + errors.decode()
    assert b"no difference" in output
    again = await trio.to_thread.run_sync(replay, captured)
    assert again == (code, output, errors)
