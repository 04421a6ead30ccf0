"""The page of `demo --chat`: a person writes to the bot in a browser on this machine.

One page, and two paths that it asks: `POST /say` takes a text, `GET /entries` returns what was said
since. The server of the standard library runs in threads of its own, as the endpoint of the demo
does. It listens on loopback only. So that no other page in the browser can use it, the `Host` must
be loopback (DNS rebinding), and a text must come as JSON, which other origins may not send.
"""

import http.server
import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from bridge.config.value import BadValue, check_text
from bridge.payload.field import of_stanza
from xmppstream import Stanza, write
from xmppstream.names import COMPONENT, expanded

MAX_TEXT_BYTES: Final = 64 * 1024
_BODY: Final = expanded(COMPONENT, "body")
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>xmpp-bridge: chat with your bot</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
  body { max-width: 44rem; margin: 0 auto; padding: 1rem }
  #entries { list-style: none; padding: 0 }
  li { margin: .5rem 0; padding: .5rem .8rem; border: 1px solid #8886; border-radius: .5rem;
       white-space: pre-wrap; overflow-wrap: anywhere }
  li.you { margin-left: 15% } li.bot { margin-right: 15% }
  li.xml { font: .85rem/1.4 monospace }
  #typing { opacity: .7; min-height: 1.4em; margin: .5rem 0 }
  form { display: flex; gap: .5rem } input { flex: 1; font: inherit; padding: .4rem }
  button { font: inherit }
</style>
<h1>Chat with your bot</h1>
<p>You are a person on XMPP. What you write is POSTed to the service; its replies appear here.</p>
<ul id="entries" aria-live="polite"></ul>
<p id="typing" aria-live="polite"></p>
<form id="form"><input id="text" aria-label="Message" autocomplete="off" autofocus>
<button>Send</button></form>
<script>
  let next = 0
  const list = document.getElementById("entries"), text = document.getElementById("text")
  const typing = document.getElementById("typing"), items = new Map()
  function show(one) {
    if (one.who == "bot") typing.textContent = one.state == "composing" ? "The bot is typing …" : ""
    if (!one.text) return
    const item = items.get(one.replaces) || document.createElement("li")
    item.className = one.who + (one.xml ? " xml" : "")
    item.textContent = one.text
    if (one.replaces) item.title = "corrected"
    if (one.id && !one.replaces) items.set(one.id, item)
    if (!item.isConnected) list.append(item)
    typing.scrollIntoView()
  }
  async function refresh() {
    try {
      const found = await (await fetch("/entries?from=" + next)).json()
      found.forEach(show)
      next += found.length
    } catch { document.title = "xmpp-bridge: the demo has ended" }
    setTimeout(refresh, 500)
  }
  document.getElementById("form").addEventListener("submit", event => {
    event.preventDefault()
    if (!text.value) return
    fetch("/say", { method: "POST", headers: { "Content-Type": "application/json" },
                    body: JSON.stringify({ text: text.value }) })
    text.value = ""
  })
  refresh()
</script>
"""


class ChatPage:
    """Serves the page; `say` is called in a thread with each text. A context manager."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._entries: list[dict[str, Any]] = []
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = urlsplit(self.path)
                if not page._is_ours(self.headers.get("Host")):
                    self._answer(HTTPStatus.FORBIDDEN, "text/plain", "Use the address as printed.")
                elif path.path == "/":
                    self._answer(HTTPStatus.OK, "text/html; charset=utf-8", _PAGE)
                elif path.path == "/entries":
                    start = parse_qs(path.query).get("from", ["0"])[0]
                    begin = int(start) if start.isascii() and start.isdigit() else 0
                    entries = page._entries[begin:]
                    self._answer(HTTPStatus.OK, "application/json", json.dumps(entries))
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", "There is only the page /.")

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                size = int(length) if length.isascii() and length.isdigit() else -1
                if not 0 <= size <= MAX_TEXT_BYTES:
                    self.close_connection = True
                    self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", "Too long.")
                    return
                text = _text_of(self.rfile.read(size))
                is_json = self.headers.get_content_type() == "application/json"
                if not page._is_ours(self.headers.get("Host")) or not is_json:
                    self._answer(HTTPStatus.FORBIDDEN, "text/plain", "Use the page.")
                elif self.path != "/say" or text is None:
                    self._answer(HTTPStatus.BAD_REQUEST, "text/plain", 'POST {"text": …} to /say.')
                else:
                    page._entries.append({"who": "you", "text": text, "xml": False})
                    say(text)
                    self._answer(HTTPStatus.ACCEPTED, "application/json", "{}")

            def _answer(self, status: HTTPStatus, media: str, text: str) -> None:
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Frame-Options", "DENY")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Log nothing: the conversation is printed elsewhere."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def hear(self, stanza: Stanza) -> None:
        """Show a stanza that came for the person, as a client would: its body, in the place of the
        message that it corrects, and whether the bot is typing; or else its XML.
        """
        body = stanza.element.find(_BODY) if stanza.type != "error" else None
        fields = of_stanza(stanza)
        entry: dict[str, Any] = {"who": "bot", "text": "" if body is None else body.text}
        entry["xml"] = not entry["text"] and not _is_state(fields)
        if entry["xml"]:
            entry["text"] = write(stanza.element, COMPONENT)
        more = {"id": stanza.id, "state": fields.get("state"), "replaces": fields.get("replace")}
        self._entries.append(entry | {key: value for key, value in more.items() if value})

    def __enter__(self) -> "ChatPage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _is_ours(self, host: str | None) -> bool:
        port = self._server.server_port
        return host in (f"127.0.0.1:{port}", f"localhost:{port}")


def _is_state(fields: Mapping[str, Any]) -> bool:
    """Return whether a message without a body says only what the bot is doing."""
    return "state" in fields and not fields.keys() - {"state", "hints", "thread"}


def _text_of(content: bytes) -> str | None:
    """Return the text of a request, if it is one that XML can carry; None otherwise."""
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        return None
    text = table.get("text") if isinstance(table, dict) else None
    if not isinstance(text, str) or not text:
        return None
    try:
        check_text(text)
    except BadValue:
        return None
    return text
