"""Files within replies: uploaded before anything is sent, or a bad reply."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.dispatch.attachment import REPLY_UPLOAD_S, REPLY_UPLOADS
from tests.bridge.dispatch.life import BOT, Life, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from tests.bridge.upload_service import UPLOAD, FakeUploads
from xmppstream import Stanza

FILE = {"name": "../a.png", "data_base64": "AAECAw=="}
URL = "https://files.example/1/a.png"


def message(id: str, from_: str = "alice@example.org/x") -> Stanza:
    return stanza(
        f"<message from='{from_}' to='{BOT}' id='{id}' type='chat'><body>x</body></message>"
    )


class Watched(FakeUploads):
    """As `FakeUploads`, and keeps the messages that were sent, too."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.messages: list[Stanza] = []

    def hear(self, one: Stanza) -> None:
        if one.kind == "message":
            self.messages.append(one)

    async def wait_messages(self, count: int) -> list[Stanza]:
        while len(self.messages) < count:
            await wait_all_tasks_blocked(0.01)
        return self.messages

    async def wait_put(self, count: int) -> None:
        while len(self.heads) < count:
            await wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def world(uploads: Watched, life: Life | None = None) -> AsyncIterator[Life]:
    life = life or Life()
    async with trio.open_nursery() as nursery:
        await nursery.start(life.run)
        await uploads.serve(life, nursery)
        yield life
        nursery.cancel_scope.cancel()


async def test_a_file_is_uploaded_and_its_url_sent() -> None:
    uploads = Watched()
    async with world(uploads) as life:
        await life.give(message("m1"))
        await life.answer("m1", said({"body": "Look:", "files": [FILE]}))
        text, picture = await uploads.wait_messages(2)
    assert uploads.files == [b"\0\1\2\3"]
    assert uploads.asked[-1].from_ == BOT
    body = text.child("body")
    assert body is not None
    assert body.text == "Look:"
    assert f"<body>{URL}</body>" in str(picture)
    for part in ("<name>a.png</name>", "<media-type>image/png</media-type>", "<size>4</size>"):
        assert part in str(picture)
    assert life.counts.replied == 2


async def test_the_journal_has_the_url_and_not_the_content() -> None:
    journal, uploads = MemoryJournal(), Watched()
    async with world(uploads, Life(journal)) as life:
        await life.give(message("m1"))
        await life.answer("m1", said({"files": [FILE]}))
        await uploads.wait_messages(1)
        await life.kill()
    assert URL in str(vars(journal))
    assert "AAECAw" not in str(vars(journal))


async def test_a_reply_without_content_asks_nothing() -> None:
    uploads = Watched()
    async with world(uploads) as life:
        await life.give(message("m1"))
        await life.answer("m1", said({"files": [{"url": "https://a.example/b.png"}]}))
        await uploads.wait_messages(1)
    assert uploads.asked == []


@pytest.mark.parametrize(
    ("reply", "keys", "why"),
    [
        (
            {"files": [FILE]},
            {"items": []},
            "files: there is no upload service (XEP-0363) at example",
        ),
        ({"files": [FILE]}, {"max_bytes": "3"}, "files: the file has 4 bytes"),
        (
            {"files": [FILE]},
            {"behaviour": "refuses"},
            "files: the upload to upload.example got the status 413",
        ),
        ({"files": [{"data_base64": "%"}]}, {}, "files.data_base64 is not base64"),
        (
            {"files": [FILE], "from": "a@evil.example"},
            {},
            "from: 'evil.example' is not bot.example",
        ),
        ([{"body": "hi"}, {"files": [FILE], "replace": "m0"}], {}, "object 2: replace and files"),
    ],
)
async def test_a_failed_upload_is_a_bad_reply(reply: Any, keys: Any, why: str) -> None:
    uploads = Watched(**keys)
    async with world(uploads) as life:
        await life.give(message("m1"))
        await life.answer("m1", said(reply))
        [error] = await uploads.wait_messages(1)
    assert error.type == "error"
    assert "internal-server-error" in str(error)
    [line] = life.log.of("bad reply")
    assert line["why"].startswith(why)
    assert life.meter.posts["bad_reply"] == 1
    assert "evil" not in str(uploads.asked)


async def test_an_upload_that_takes_too_long(mock_clock: MockClock) -> None:
    uploads = Watched(hold=trio.Event())
    async with world(uploads) as life:
        await life.give(message("m1"))
        await life.answer("m1", said({"files": [FILE]}))
        await uploads.wait_put(1)
        mock_clock.jump(REPLY_UPLOAD_S + 0.1)
        [error] = await uploads.wait_messages(1)
        assert error.type == "error"
        [line] = life.log.of("bad reply")
        assert line["why"] == "files: the upload took longer than 30 s"


async def test_uploads_are_bounded_in_number() -> None:
    uploads = Watched(hold=trio.Event())
    async with world(uploads) as life:
        senders = [f"u{n}@example.org/x" for n in range(REPLY_UPLOADS + 2)]
        for n, sender in enumerate(senders):
            await life.give(message(f"m{n}", sender))
            await life.answer(f"m{n}", said({"files": [FILE]}))
        await uploads.wait_put(REPLY_UPLOADS)
        await wait_all_tasks_blocked(0.01)
        assert len(uploads.asked_for(UPLOAD)) == REPLY_UPLOADS
        await life.give(message("plain", "other@example.org/x"))
        await life.answer("plain", said({"body": "at once"}))
        assert len(await uploads.wait_messages(1)) == 1
        assert uploads.hold is not None
        uploads.hold.set()
        await uploads.wait_messages(1 + REPLY_UPLOADS + 2)
    assert len(uploads.files) == REPLY_UPLOADS + 2


async def test_the_next_of_a_conversation_waits_for_the_upload() -> None:
    uploads = Watched(hold=trio.Event())
    async with world(uploads) as life:
        await life.give(message("m1"), message("m2"))
        await life.answer("m1", said({"files": [FILE]}))
        await uploads.wait_put(1)
        assert life.running == []
        assert uploads.hold is not None
        uploads.hold.set()
        await uploads.wait_messages(1)
        await wait_all_tasks_blocked()
        assert life.running == ["m2"]
        await life.answer("m2")
