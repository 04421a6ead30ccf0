"""A node that commits batches as fast as it can, and says so; see `tests.bench.batch`.

A process of its own, so that it can be killed and frozen. It prints a JSON line before and after
each commit. A batch that failed is sent again until it is kept; a node that was ended registers
again, and begins anew. `python -m tests.bench.writer URL CLUSTER LABEL SEED`
"""

import random
import sys
import time
from typing import Final

import msgspec

from bridge.config.value import parse_database_url
from bridge.journal.cluster import About, LeaseLost
from bridge.journal.delivery import Delivery, fresh_uid
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.store import Confirm, ImpossibleOperation, JournalError, Operation, Settle
from bridge.xmpp.outbox import Outgoing

COMPONENT: Final = "bot.localhost"
SIZE: Final = (1, 64)
LARGE_SHARE: Final = 0.02
LARGE: Final = 4000  # more than the socket's buffers take at once
AGAIN_S: Final = 0.1
XML: Final = (
    "<message to='bot@bot.localhost' from='u@load.localhost/x'><body>{}</body></message>".format(
        "x" * 500
    )
)


class Said(msgspec.Struct):
    """A line: what is going to be committed, or `kept`, or why not (`failed`, `lost`, `bug`)."""

    what: str
    incarnation: int
    accept: list[str] = []
    settle: list[str] = []
    confirm: list[str] = []
    why: str = ""


def say(said: Said) -> None:
    print(msgspec.json.encode(said).decode(), flush=True)


def main(url: str, cluster: str, label: str, seed: str) -> None:
    """Write until killed."""
    dice = random.Random(seed)
    store = connect(url, cluster, label)
    while True:
        try:
            write(store, dice)
        except LeaseLost as error:
            say(Said("lost", store.incarnation, why=str(error)))
            register(store, label)


def connect(url: str, cluster: str, label: str) -> PostgresStore:
    while True:
        try:
            return PostgresStore(parse_database_url(url), cluster, label)
        except JournalError as error:
            say(Said("failed", 0, why=str(error)))
            time.sleep(AGAIN_S)


def register(store: PostgresStore, label: str) -> None:
    while True:
        try:
            store.register(label, About())
        except JournalError as error:
            say(Said("failed", 0, why=str(error)))
            time.sleep(AGAIN_S)
        else:
            return


def write(store: PostgresStore, dice: random.Random) -> None:
    """Write under this incarnation. Raises: LeaseLost when it has ended."""
    incarnation = store.incarnation
    accepted: list[str] = []
    settled: list[str] = []
    while True:
        count = LARGE if dice.random() < LARGE_SHARE else dice.randint(*SIZE)
        fresh = [fresh_uid() for _ in range(count)]
        say(Said("send", incarnation, fresh, accepted, settled))
        keep(store, incarnation, operations(fresh, accepted, settled))
        say(Said("kept", incarnation))
        accepted, settled = fresh, accepted


def keep(store: PostgresStore, incarnation: int, batch: list[Operation]) -> None:
    """Commit, again and again. Raises: LeaseLost."""
    while True:
        try:
            store.commit(batch)
        except LeaseLost:
            raise
        except ImpossibleOperation as error:
            say(Said("bug", incarnation, why=str(error)))
            raise
        except JournalError as error:
            say(Said("failed", incarnation, why=str(error)))
            time.sleep(AGAIN_S)
        else:
            return


def operations(accept: list[str], settle: list[str], confirm: list[str]) -> list[Operation]:
    """What the daemon would commit for these."""
    now = time.time()
    batch: list[Operation] = [
        Delivery.stored(
            uid,
            COMPONENT,
            "message",
            "u@load.localhost/x",
            "bot@bot.localhost",
            uid,
            None,
            XML,
            now,
        )
        for uid in accept
    ]
    for uid in settle:
        batch.append(Settle(uid, (Outgoing(b"<message/>", now, COMPONENT, uid, 1),)))
    if confirm:
        batch.append(Confirm(tuple((uid, 1) for uid in confirm)))
    return batch


if __name__ == "__main__":
    main(*sys.argv[1:])
