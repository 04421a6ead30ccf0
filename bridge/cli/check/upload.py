"""Asking for a slot of the server's upload service, and what a server needs to give one."""

import math
from contextlib import suppress
from typing import Final

import trio
from rich.console import Console

from bridge.cli.check.report import Report
from bridge.config.settings import Component
from bridge.xmpp.iq import PendingIqs
from bridge.xmpp.upload import (
    NewFile,
    NoUploadService,
    SlotUnanswered,
    UploadError,
    UploadSlots,
    hosts_of,
)
from xmppstream import ComponentStream, Event, Stanza, StanzaReceived, StreamFailed

_WAIT_S: Final = 5.0
_TICK_S: Final = 0.05
_WHAT: Final = "upload a file"
_FILE: Final = NewFile("check.txt", "text/plain", 1)


class SlotTrial:
    """Asks for a slot for one component, and does not use it."""

    def __init__(self, component: Component) -> None:
        self._component = component
        self._pending = PendingIqs()
        self._found: UploadError | str = ""

    @property
    def is_given(self) -> bool:
        """Whether there is a slot, or none was asked for."""
        return isinstance(self._found, str)

    def receive(self, event: Event) -> None:
        """Learn from what the server sends."""
        if isinstance(event, StanzaReceived):
            self._pending.take(event.stanza)

    async def run(self, stream: ComponentStream) -> None:
        """Find the service, and ask it.

        Raises:
            StreamFailed: if the stream ends.
        """

        async def ask(request: Stanza, wait_s: float) -> Stanza | None:
            pending = self._pending.open(request, math.inf)
            # If the stream ends, this says so below: here it would end up in a group.
            with trio.move_on_after(min(wait_s, _WAIT_S)), suppress(StreamFailed):
                stream.send(request)
                while not pending.over.is_set():
                    stream.raise_if_over()
                    with trio.move_on_after(_TICK_S):
                        await pending.over.wait()
            self._pending.close(pending)
            return pending.answer

        component = self._component
        hosts = hosts_of(component.domain, component.server.tls_name or component.server.host)
        slots = UploadSlots(ask, component.domain, hosts, component.upload)
        try:
            with trio.fail_after(2 * _WAIT_S):
                service = await slots.service(component.domain)
                await slots.slot(service, _FILE, component.domain)
        except UploadError as error:
            self._found = error
        except trio.TooSlowError:
            why = f"no answer about an upload service from {' or '.join(hosts)}"
            self._found = SlotUnanswered(why)
        else:
            limit = service.max_bytes
            most = "" if limit is None else f", files of at most {limit} bytes"
            self._found = f"{service.jid} gives a slot{most}"
        stream.raise_if_over()

    def report(self, domain: str, report: Report) -> None:
        """Report it. Most components send no files, so that there is no service is a warning only
        if one is configured.
        """
        found = self._found
        if isinstance(found, str):
            if found:
                report.good(domain, _WHAT, found)
        elif self._component.upload is None and isinstance(found, NoUploadService | SlotUnanswered):
            report.good(domain, _WHAT, f"not possible, if you need it: {found.why}")
        else:
            report.warn(domain, _WHAT, found.why)


def print_upload_lines(component: Component, console: Console) -> None:
    """Print what the servers need in order to give the component slots."""
    domain = component.domain
    host = hosts_of(domain, component.server.host)[0]
    service = component.upload or f"upload.{host}"
    prosody = [
        f'Component "{service}" "http_file_share"',
        "    -- Only if this line is there, it must name the component:",
        f'    http_file_share_access = {{ "{host}", "{domain}" }}',
    ]
    ejabberd = [
        "acl:",
        "  bots:",
        "    server:",
        f"      - {domain}",
        "access_rules:",
        "  upload:",
        "    - allow: local",
        "    - allow: bots",
        "modules:",
        "  mod_http_upload:",
        "    access: upload",
        "    put_url: https://@HOST@:5443/upload",
        "listen:",
        "  - port: 5443",
        '    ip: "::"',
        "    module: ejabberd_http",
        "    tls: true",
        "    request_handlers:",
        "      /upload: mod_http_upload",
    ]
    for name, lines in (
        ("Prosody (prosody.cfg.lua)", prosody),
        ("ejabberd (ejabberd.yml)", ejabberd),
    ):
        console.print(f"[bold]To upload files[/], for {name}, for {domain}:\n", soft_wrap=True)
        text = "".join(f"    {line}\n" for line in lines)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
