"""Captures made up for tests: a few words for what happened, in the order in which it did."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import define, field

from bridge.capture.exchange import CHANNEL, HttpExchange, encode
from bridge.capture.format import IN, LINK, OUT, Header, Record, encode_header, encode_record
from bridge.webhook.observer import PostAnswer, PostFailure

DOMAIN = "bot.localhost"
DATE = datetime(2026, 11, 22, 17, 20, tzinfo=UTC)
_NAMESPACES = "xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
HEADER = f"<?xml version='1.0'?><stream:stream {_NAMESPACES} from='{DOMAIN}' id='i'>"
OURS = f"<?xml version='1.0'?><stream:stream {_NAMESPACES} to='{DOMAIN}'>"
CLOSE = "</stream:stream>"


def message(id: str, body: str = "hi", sender: str = "juliet@localhost/balcony") -> str:
    head = f"to='echo@{DOMAIN}' from='{sender}' type='chat' id='{id}'"
    return f"<message {head}><body>{body}</body></message>"


def reply(uid: str, body: str, to: str = "juliet@localhost/balcony") -> str:
    head = f"to='{to}' from='echo@{DOMAIN}' type='chat' id='{uid}-1'"
    return f"<message {head}><body>{body}</body></message>"


@define
class Script:
    """What happened, 10 ms apart."""

    records: list[Record] = field(factory=list)
    at: float = 0.0
    step_s: float = 0.01

    def put(self, channel: str, data: str | bytes) -> Script:
        self.at = round(self.at + self.step_s, 6)
        self.records.append(
            Record(self.at, channel, data.encode() if isinstance(data, str) else data)
        )
        return self

    def wait(self, seconds: float) -> Script:
        self.at += seconds
        return self

    def open(self) -> Script:
        self.put(LINK, "open 127.0.0.1:5347").put(OUT, OURS).put(IN, HEADER)
        return self.put(OUT, "<handshake>redacted</handshake>").put(IN, "<handshake/>")

    def came(self, xml: str) -> Script:
        return self.put(IN, xml)

    def sent(self, xml: str) -> Script:
        return self.put(OUT, xml)

    def posted(
        self,
        uid: str,
        id: str,
        answer: Any = None,
        *,
        body: str = "hi",
        status: int | None = None,
        failure: PostFailure | None = None,
        attempt: int = 1,
        sender: str = "juliet@localhost/balcony",
        received: float | None = None,
        **changed: Any,
    ) -> Script:
        """An exchange of `message(id, body)` that took 5 ms and is over now."""
        came = DATE + timedelta(seconds=self.at if received is None else received)
        request = {
            "to": f"echo@{DOMAIN}",
            "from": sender,
            "kind": "message",
            "id": id,
            "type": "chat",
            "body": body,
            "stanza": message(id, body, sender),
            "received": came.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        } | changed
        headers = {"content-type": "application/json"} if answer is not None else {}
        said = json.dumps(answer).encode() if answer is not None else b""
        code = status or (200 if answer is not None else 204)
        result = failure or PostAnswer(code, headers, said)
        began = round(self.at + 0.005, 6)
        text = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        return self.put(CHANNEL, encode(HttpExchange(uid, attempt, began, 0.005, text, result)))

    def stop(self) -> Script:
        return self.put(OUT, CLOSE).put(IN, CLOSE).put(LINK, "end the peer ended the stream")

    def write(self, path: Path, *, date: datetime = DATE, **fields: str) -> Path:
        more = {"endpoint": "http://127.0.0.1:8000/"} | fields
        header = Header("a test", DOMAIN, date, tuple(more.items()))
        path.write_bytes(encode_header(header) + b"".join(map(encode_record, self.records)))
        return path


def conversation() -> Script:
    """A message with its reply, one that the endpoint cannot digest, one that has no answer."""
    script = Script().open()
    script.came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    script.sent(reply("msg_a1", "yes"))
    script.came(message("m2")).posted("msg_a2", "m2", status=501)
    script.sent(error("m2", "feature-not-implemented", "cancel", "The service has failed."))
    return script.came(message("m3")).posted("msg_a3", "m3").stop()


def error(id: str, condition: str, type: str, text: str) -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-stanzas"
    head = f"to='juliet@localhost/balcony' from='echo@{DOMAIN}' type='error' id='{id}'"
    inside = f"<{condition} xmlns='{namespace}'/><text xmlns='{namespace}'>{text}</text>"
    return f"<message {head}><error type='{type}'>{inside}</error></message>"
