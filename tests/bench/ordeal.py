"""What the daemon goes through in `kills`: the load, the endpoint, and the killing.

Both ends are tasks of this process, so that they share one clock; they cost a quarter of a core.
"""

import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from tests.bench.answerer import NOTHING, Request, answer_json, converse
from tests.bench.contestant import DOMAIN, SECRET
from tests.bench.evidence import Evidence, Snapshot, read_journal
from tests.bench.load import DOMAIN as SENDER_DOMAIN
from tests.bench.puller import Puller, free_port, listen_at
from tests.bench.sender import Sender
from tests.bench.verdict import Row, Verdict, Who
from tests.bench.victim import Victim
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody

ANSWER_S: Final = (0.0, 0.2)
LIFE_S: Final = (0.5, 2.0)
EARLY_SHARE: Final = 1 / 8
EARLY_S: Final = (0.0, 1.0)  # after its start
HUNG_SHARE: Final = 1 / 2
HUNG_S: Final = (0.0, 0.3)
STOP_S: Final = 0.01  # for the kernel, to stop it
SETTLE_S: Final = 0.05
LAST_LIFE_S: Final = 2.0
QUIET_S: Final = 2.5
QUIET_LIMIT_S: Final = 60.0
POLL_S: Final = 0.1
TOLD_EVERY: Final = 10
POLLERS: Final = 4
SPECIAL: Final[dict[Who, str]] = {
    "daemon": "while it started",
    "server": "after it had hung",
    "poller": "with events in hand",
}


class Ordeal:
    """One run, and what was seen of it."""

    def __init__(
        self,
        directory: Path,
        who: Who,
        window: int,
        durability: str,
        seed: int,
        *,
        pulled: bool = False,
    ) -> None:
        """With `pulled`, there are pollers in place of an endpoint."""
        self._directory, self._who, self._window = directory, who, window
        self._pulled = pulled or who == "poller"
        self._pullers: list[Puller] = []
        self._durability = durability
        self._dice = random.Random(seed)
        self._evidence = Evidence()
        self._special = 0  # kills of the daemon while it started, of the server after it hung
        self._attachments = 1  # of this life of the daemon, with the one that is to come
        self._prosody: Prosody
        self._victim: Victim
        self._sender: Sender

    async def run(self, kills: int) -> tuple[list[Row], list[str]]:
        """Kill so often, wait until all is quiet, and judge: the table, and what was violated."""
        async with self._stage():
            for number in range(1, kills + 1):
                await self._kill()
                if number % TOLD_EVERY == 0 or number == kills:
                    self._tell(f"{number}/{kills} kills")
            await self._wait_attached()
            await trio.sleep(LAST_LIFE_S)
            self._sender.stop()
            final = await self._quiet()
            if self._who == "server":
                self._evidence.read = await self._victim.received()
            code = await self._victim.stop()
        verdict = Verdict(self._who, self._evidence, final)
        violations = [*verdict.violations, *map(str, self._victim.complaints())]
        if code:
            violations.append(f"the daemon ended with {code}")
        label = SPECIAL[self._who]
        return [(f"  {label}", f"{self._special}", ""), *verdict.rows()], violations

    def _tell(self, what: str) -> None:
        sent, posts = len(self._evidence.stories), len(self._evidence.posted)
        print(f"  {what}, {sent} sent, {posts} POSTs", file=sys.stderr, flush=True)

    # --- the stage

    @asynccontextmanager
    async def _stage(self) -> AsyncIterator[None]:
        components = {SENDER_DOMAIN: SECRET, DOMAIN: SECRET}
        async with (
            Prosody(self._directory, components=components, log_level="error") as prosody,
            trio.open_nursery() as nursery,
        ):
            [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
            nursery.start_soon(trio.serve_listeners, self._converse, [listener])
            url = f"http://{LOOPBACK}:{listener.socket.getsockname()[1]}/"
            port = prosody.component_port
            self._prosody = prosody
            polled_at = free_port()
            more: dict[str, Any] = {}
            if self._pulled:
                url, more = "pull:", {"listen": listen_at(polled_at)}
            self._victim = Victim(self._directory, port, url, self._durability, **more)
            self._sender = Sender(
                SENDER_DOMAIN, SECRET, port, f"bot@{DOMAIN}", self._evidence, self._dice
            )
            try:
                await self._victim.start()
                nursery.start_soon(self._sender.run)
                await self._wait_attached()
                if self._pulled:
                    for _ in range(POLLERS):
                        nursery.start_soon(self._poll, polled_at)
                for user in range(self._window):
                    nursery.start_soon(self._sender.talk, user)
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._victim.kill()
            nursery.cancel_scope.cancel()

    async def _wait_attached(self) -> None:
        await self._victim.daemon.wait_logged("attached", self._attachments)
        await self._sender.wait_attached()

    async def _converse(self, stream: trio.SocketStream) -> None:
        """The endpoint: one connection of the daemon's."""
        await converse(stream, self._answer)

    async def _answer(self, request: Request) -> bytes:
        stanza: dict[str, Any] = msgspec.json.decode(request.body)
        uid, attempt = request.headers["webhook-id"], request.headers["webhook-attempt"]
        reply = await self._reply(stanza, uid, attempt)
        return NOTHING if reply is None else answer_json(reply)

    async def _poll(self, port: int) -> None:
        """A poller, again and again: it is killed now and then."""
        while True:
            puller = Puller(port, self._handle)
            self._pullers.append(puller)
            await puller.run()

    async def _handle(self, event: dict[str, Any]) -> bytes:
        return await self._reply(event["request"], event["uid"], str(event["attempt"])) or b""

    async def _reply(self, stanza: dict[str, Any], uid: str, attempt: str) -> bytes | None:
        """Note a stanza that came; give the reply after a while, None for none."""
        id = stanza.get("id", "")
        if stanza.get("type") == "error":  # a reply of ours that came back
            self._evidence.returned[id] += 1
            return None
        post = self._evidence.post(id, uid, attempt, trio.current_time())
        if post is None:
            return None
        await trio.sleep(self._dice.uniform(*ANSWER_S))
        post.answered_at = trio.current_time()
        return msgspec.json.encode({"body": f"{id} POST {post.serial}"})

    # --- the killing

    async def _kill(self) -> None:
        match self._who:
            case "daemon":
                await self._kill_daemon()
            case "server":
                await self._kill_server()
            case "poller":
                await self._kill_poller()

    async def _kill_poller(self) -> None:
        await trio.sleep(self._dice.uniform(*LIFE_S))
        puller = self._pullers.pop(self._dice.randrange(len(self._pullers)))
        self._special += puller.held > 0
        began_at = trio.current_time()
        puller.kill()
        self._note_journal(began_at)
        self._evidence.epoch += 1

    async def _kill_daemon(self) -> None:
        victim = self._victim
        if self._evidence.epoch and self._dice.random() < EARLY_SHARE:
            await trio.sleep(self._dice.uniform(*EARLY_S))
            self._special += not victim.daemon.logged("attached")
        else:
            await self._wait_attached()
            await trio.sleep(self._dice.uniform(*LIFE_S))
        if (code := victim.daemon.process.poll()) is not None:
            self._evidence.strange.append(f"the daemon ended by itself, with {code}")
        began_at = trio.current_time()
        await victim.kill()
        self._note_journal(began_at)
        await victim.start()
        await trio.sleep(SETTLE_S)  # it POSTs nothing yet; what is in the sockets is the dead one's
        self._evidence.epoch += 1

    async def _kill_server(self) -> None:
        await self._wait_attached()
        await trio.sleep(self._dice.uniform(*LIFE_S))
        daemon = self._victim.daemon
        if self._dice.random() < HUNG_SHARE:  # so that much is in its sockets
            os.kill(self._prosody.pid, signal.SIGSTOP)
            await trio.sleep(STOP_S)
            began_at = trio.current_time()
            await trio.sleep(self._dice.uniform(*HUNG_S))
            self._special += 1
        else:
            began_at = trio.current_time()
        await self._prosody.kill()
        # It still reads what is in the socket, and confirms what Prosody has confirmed.
        await daemon.wait_logged("detached", self._attachments)
        await trio.sleep(SETTLE_S)
        self._note_journal(began_at)
        self._evidence.epoch += 1
        self._attachments += 1
        await self._prosody.start()

    def _note_journal(self, began_at: float) -> None:
        self._evidence.snapshots.append(self._read(began_at))

    def _read(self, began_at: float) -> Snapshot:
        return read_journal(
            self._victim.journal, self._evidence.epoch, began_at, trio.current_time()
        )

    async def _quiet(self) -> Snapshot:
        """Wait until nothing happens any more; give the journal as it is then."""
        with trio.move_on_after(QUIET_LIMIT_S):
            while True:
                quiet_s = trio.current_time() - self._evidence.last_at
                if quiet_s > QUIET_S and self._read(0).is_empty:
                    break
                await trio.sleep(POLL_S)
        return self._read(0)
