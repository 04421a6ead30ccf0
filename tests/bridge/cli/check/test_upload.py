"""`check --connect` asks for a slot, and prints what the servers need for that."""

from collections.abc import Callable

import pytest
import trio

from bridge.cli.check import upload
from bridge.cli.check.command import check_settings
from bridge.daemon.daemon import ExitCode
from tests.bridge.cli.check.test_command import DOMAIN, endpoint, rows, settings_of
from tests.bridge.sample import stanza
from tests.bridge.upload_service import FakeUploads
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import Stanza

SERVER = "example.com"
SERVICE = "upload.example.com"


class Uploads(FakeUploads):
    """As `FakeUploads`, at the server of DOMAIN, whose parent is asked first."""

    async def take(self, session: Session, one: Stanza) -> None:
        if one.kind == "iq" and one.type == "get" and one.to not in self.silent:
            renamed = stanza(str(one).replace(".com'", "'"))
            answer = self.answer(renamed)
            for name in (SERVICE, SERVER, DOMAIN):
                answer = answer.replace(f"'{name.removesuffix('.com')}'", f"'{name}'")
            await session.send(stanza(answer))


async def printed(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    take: Callable[[Session, Stanza], object],
    **component: str,
) -> tuple[str, ExitCode]:
    """Run it with a server that takes stanzas like this; give what it prints, and its code."""
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.on_stanza = take  # type: ignore[assignment]  # a coroutine function
    table = {
        "component_secret": SECRET,
        "component_post_url": f"http://127.0.0.1:{http.port}/",
        **component,
    }
    settings = settings_of(server=f"127.0.0.1:{xmpp.port}", component={DOMAIN: table})
    code = await check_settings(settings, True)
    return capsys.readouterr().out, code


async def test_a_service_that_gives_slots(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    uploads = Uploads(put_url="https://files.example.com/1")
    out, code = await printed(nursery, capsys, uploads.take)
    told = f"{SERVICE} gives a slot, files of at most 1000000 bytes"
    assert rows(out, "upload a file") == [("ok", told)]
    assert code is ExitCode.OK
    assert "mod_http_upload" not in out


@pytest.mark.parametrize("key", [{}, {"upload": SERVICE}])
async def test_one_that_refuses(
    key: dict[str, str], nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    out, code = await printed(nursery, capsys, Uploads(refusal=error).take, **key)
    told = f"no slot from {SERVICE}: forbidden; allow this component to upload"
    assert rows(out, "upload a file") == [("warning", told)]
    assert code is ExitCode.OK
    for line in (
        '    Component "upload.example.com" "http_file_share"',
        '        http_file_share_access = { "example.com", "bot.example.com" }',
        "        server:\n          - bot.example.com",
        "        access: upload",
    ):
        assert line in out


async def test_an_insecure_slot(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = await printed(nursery, capsys, Uploads(put_url="http://files.example.com/1").take)
    ((result, details),) = rows(out, "upload a file")
    assert result == "warning"
    assert "begins with http://, not https://" in details


async def test_none_is_a_warning_only_if_it_is_configured(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = await printed(nursery, capsys, Uploads(items=[]).take)
    ((result, details),) = rows(out, "upload a file")
    assert result == "ok"
    assert details.startswith("not possible, if you need it: there is no upload service")
    assert "mod_http_upload" in out
    out, _ = await printed(nursery, capsys, Uploads(items=[]).take, upload="other.example.com")
    assert rows(out, "upload a file")[0][0] == "warning"


async def test_no_answer(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_WAIT_S", 0.02)
    out, code = await printed(nursery, capsys, Uploads(silent={SERVER}).take)
    ((result, details),) = rows(out, "upload a file")
    assert result == "ok"
    assert "no answer about an upload service from example.com" in details
    assert code is ExitCode.OK


async def test_a_stream_that_ends_meanwhile(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hang_up(session: Session, _: Stanza) -> None:
        await session.hang_up()

    with trio.fail_after(upload._WAIT_S):
        out, code = await printed(nursery, capsys, hang_up)
    assert rows(out, "upload a file") == []
    assert code is not ExitCode.OK
