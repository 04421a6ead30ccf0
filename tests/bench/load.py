"""The load generator: a component with W users, each of whom writes again when the answer came.

A process of its own, so that what it costs is told apart. It prints JSON lines: `begin` and `end`
of what is measured, and then the `Result`. Latency runs from the moment that a message is handed
to the socket to that in which the chunk with its answer is read. A reply that never comes leaves
its user waiting, not the run: it is counted as lost in the end.
`python -m tests.bench.load PORT SECRET TO --window W --warm-s S --seconds S`
"""

import argparse
import asyncio
import re
import sys
import time
from typing import Final

import msgspec

from tests.bench.raw_component import RawComponent, run

DOMAIN: Final = "load.localhost"
DRAIN_S: Final = 15.0
REPLY: Final = re.compile(
    rb"<message(?=[^>]* to='u(\d+)@)(?=([^>]* type='error')?)[^>]*>(?:<body>(late))?"
)
BODY: Final = b"x" * 100
BEGIN: Final = '{"event":"begin"}'
END: Final = '{"event":"end"}'


class Result(msgspec.Struct):
    """What came between `begin` and `end`, in `seconds`; but `lost` and `stray` of the whole run.

    `replies` are answers that are no errors, `late` those among them that a mixed endpoint kept
    back, `median_ms` and `p99_ms` the latencies of the others. `stray` came to who waited for none.
    """

    seconds: float
    replies: int
    errors: int
    late: int
    lost: int
    stray: int
    first_ms: float
    median_ms: float
    p99_ms: float
    max_ms: float


class Load(RawComponent):
    """The users of one run."""

    def __init__(self, secret: str, to: str, window: int) -> None:
        super().__init__(DOMAIN, secret)
        self._heads = [
            f"<message to='{to}' from='u{user}@{DOMAIN}/x' type='chat' id='".encode()
            for user in range(window)
        ]
        self._tail = b"'><body>" + BODY + b"</body></message>"
        self._sent_at = [0.0] * window  # 0: waits for nothing
        self._count = 0
        self._sends = True
        self._began_at = 0.0
        self.ready = asyncio.Event()
        self.idle = asyncio.Event()
        self.forget()

    def forget(self) -> None:
        """Measure from here on."""
        self._latencies: list[float] = []
        self._late = self._errors = 0
        self._began_at = time.perf_counter()
        self._first_s = 0.0

    def attached(self) -> None:
        self.ready.set()

    def start(self) -> None:
        """Let all users write."""
        self._stray = 0
        self._write(list(range(len(self._heads))), time.perf_counter())

    def received(self, data: bytes) -> None:
        now = time.perf_counter()
        sent_at, latencies, users = self._sent_at, self._latencies, []
        for number, error, late in REPLY.findall(data):
            user = int(number)
            if not (at := sent_at[user]):
                self._stray += 1
                continue
            sent_at[user] = 0.0
            users.append(user)
            if error:
                self._errors += 1
            elif late:
                self._late += 1
            else:
                latencies.append(now - at)
        if not self._first_s:
            self._first_s = now - self._began_at
        if self._sends:
            self._write(users, now)
        elif not any(sent_at):
            self.idle.set()

    def _write(self, users: list[int], now: float) -> None:
        count, heads, tail, parts = self._count, self._heads, self._tail, []
        for user in users:
            count += 1
            self._sent_at[user] = now
            parts.append(b"%b%d%b" % (heads[user], count, tail))
        self._count = count
        self.transport.write(b"".join(parts))

    def result(self) -> Result:
        """What was measured until now, without `lost`."""
        ordered = sorted(self._latencies)
        last = len(ordered) - 1

        def at(share: float) -> float:
            return ordered[round(last * share)] * 1000 if ordered else 0.0

        return Result(
            seconds=time.perf_counter() - self._began_at,
            replies=len(ordered) + self._late,
            errors=self._errors,
            late=self._late,
            lost=0,
            stray=0,
            first_ms=self._first_s * 1000,
            median_ms=at(0.5),
            p99_ms=at(0.99),
            max_ms=at(1),
        )

    async def finish(self, result: Result) -> None:
        """Write no more; wait for what is under way, and count what was lost."""
        self._sends = False
        if any(self._sent_at):
            try:
                await asyncio.wait_for(self.idle.wait(), DRAIN_S)
            except TimeoutError:
                result.lost = sum(map(bool, self._sent_at))
        result.stray = self._stray


async def drive(load: Load, warm_s: float, seconds: float) -> None:
    """One run from the handshake to the result."""
    await load.ready.wait()
    if warm_s:
        load.start()
        await asyncio.sleep(warm_s)
    print(BEGIN, flush=True)
    load.forget()
    if not warm_s:
        load.start()
    await asyncio.sleep(seconds)
    result = load.result()
    print(END, flush=True)
    await load.finish(result)
    print(msgspec.json.encode(result).decode(), flush=True)


async def main(arguments: list[str]) -> None:
    """Attach and run; exits with the reason when the stream ends before."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("secret")
    parser.add_argument("to")
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--warm-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args(arguments)
    loop = asyncio.get_running_loop()
    _, load = await loop.create_connection(
        lambda: Load(given.secret, given.to, given.window), "127.0.0.1", given.port
    )
    driven = asyncio.ensure_future(drive(load, given.warm_s, given.seconds))
    await asyncio.wait([driven, load.ended], return_when=asyncio.FIRST_COMPLETED)
    if load.ended.done():
        driven.cancel()
        sys.exit(str(load.ended.exception()))
    await driven


if __name__ == "__main__":
    run(main(sys.argv[1:]))
