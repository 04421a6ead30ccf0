"""Every form in which mod_rest and mod_post_msg document that they take a stanza.

A row is a request, as a client of theirs sends it, and the stanza that the bridge makes of it,
which is theirs where `differs` is empty. `where` is
the place that documents it: `readme` and `openapi` are mod_rest's, `post_msg` is mod_post_msg's
README; `code` is what neither says, but clients use. `alice@localhost` is whom they write to.
"""

import json
from typing import Any, Final
from urllib.parse import urlencode

from attrs import evolve, frozen

JSON: Final = "application/json"
XML: Final = "application/xmpp+xml"
FORM: Final = "application/x-www-form-urlencoded"
TEXT: Final = "text/plain"
TO: Final = "alice@localhost"
_HI: Final = "<body>hi</body>"
_DATA: Final = "jabber:x:data"


@frozen
class ProsodyForm:
    """One row. `expected` has neither a sender nor, for an iq, an id."""

    where: str
    method: str
    path: str
    content: str
    media: str | None
    expected: str
    differs: str = ""
    """Why the bridge does something else: refuses it, or leaves the key out."""
    improves: str = ""
    """What the bridge writes better than the modules, with the same meaning."""

    @property
    def name(self) -> str:
        what = self.content if len(self.content) <= 60 else f"{self.content[:57]}..."
        return f"{self.method} {self.path} {(self.media or '').rpartition('/')[2]} {what}".strip()


def _post(where: str, path: str, content: Any, media: str | None, expected: str) -> ProsodyForm:
    if isinstance(content, dict):
        content = urlencode(content) if media == FORM else json.dumps({"to": TO, **content})
    return ProsodyForm(where, "POST", path, content, media, expected)


def _get(where: str, query: str, payload: str, *, type: str = "get") -> ProsodyForm:
    """`query`: its name, and perhaps its parameters."""
    name, _, parameters = query.partition("?")
    path = f"/rest/{name}/{TO}{'?' if parameters else ''}{parameters}"
    return ProsodyForm(where, "GET", path, "", None, _iq(payload, type))


def _message(children: str, type: str = "normal") -> str:
    return f"<message to='{TO}' type='{type}'>{children}</message>"


def _presence(children: str = "", type: str = "") -> str:
    return f"<presence to='{TO}'{type and f' type={type!r}'}>{children}</presence>"


def _iq(payload: str, type: str = "get") -> str:
    return f"<iq to='{TO}' type='{type}'>{payload}</iq>"


def _key(content: dict[str, Any], children: str, where: str = "openapi") -> ProsodyForm:
    """A key of a message in JSON."""
    content = {"kind": "message", **content}
    return _post(where, "/rest", content, JSON, _message(children))


def _left_out(content: dict[str, Any], why: str) -> ProsodyForm:
    """A key of a message that is ignored."""
    return evolve(_key({"body": "hi", **content}, _HI), differs=why)


def _presence_key(content: dict[str, Any], children: str, where: str = "openapi") -> ProsodyForm:
    return _post(where, "/rest", {"kind": "presence", **content}, JSON, _presence(children))


def _iq_key(
    content: dict[str, Any], payload: str, where: str = "openapi", type: str = "get"
) -> ProsodyForm:
    return _post(where, "/rest", {"kind": "iq", "type": type, **content}, JSON, _iq(payload, type))


_FORM_XML: Final = (
    f"<x xmlns='{_DATA}' type='submit'><field var='a' type='list-multi'>"
    "<value>1</value><value>2</value></field></x>"
)
_FORM_JSON: Final = {
    "type": "submit",
    "fields": [{"var": "a", "type": "list-multi", "value": ["1", "2"]}],
}
_INFO: Final = "http://jabber.org/protocol/disco#info"
_ITEMS: Final = "http://jabber.org/protocol/disco#items"
_COMMANDS: Final = "http://jabber.org/protocol/commands"

FORMS: Final = (
    # --- how it is sent
    _post("readme", "/rest", f"<message to='{TO}' type='chat'>{_HI}</message>", XML,
          _message(_HI, "chat")),
    _post("readme", "/rest", {"body": "hi", "kind": "message", "type": "chat"}, JSON,
          _message(_HI, "chat")),
    _post("readme", f"/rest/message/chat/{TO}", "hi", TEXT, _message(_HI, "chat")),
    _post("readme", "/rest", f"<iq to='{TO}' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", XML,
          _iq("<ping xmlns='urn:xmpp:ping'/>")),
    _post("openapi", "/rest", {"body": "hi", "to": TO}, FORM, _message(_HI)),
    _post("openapi", "/rest", {"body": "hi", "to": TO, "state": "active"}, FORM,
          _message(f"{_HI}<active xmlns='http://jabber.org/protocol/chatstates'/>")),
    _post("openapi", "/rest", {"to": TO, "body": "http://a/b", "oob_url": "http://a/b"}, FORM,
          _message("<body>http://a/b</body><x xmlns='jabber:x:oob'><url>http://a/b</url></x>")),
    _post("openapi", f"/rest/message/chat/{TO}", {"body": "hi"}, JSON, _message(_HI, "chat")),
    _post("openapi", f"/rest/message/headline/{TO}", {"body": "hi"}, FORM,
          _message(_HI, "headline")),
    _post("openapi", f"/rest/message/chat/{TO}", f"<message to='{TO}'>{_HI}</message>", XML,
          f"<message to='{TO}'>{_HI}</message>"),
    _post("openapi", f"/rest/iq/get/{TO}", {"ping": True}, JSON,
          _iq("<ping xmlns='urn:xmpp:ping'/>")),
    _post("openapi", f"/rest/presence/unavailable/{TO}", {"status": "bye"}, JSON,
          _presence("<status>bye</status>", "unavailable")),
    _post("code", f"/rest/presence/available/{TO}", "dnd", TEXT, _presence("<show>dnd</show>")),
    _post("code", f"/rest/message/chat/{TO}", {"body": "hi", "to": "x", "kind": "iq"}, JSON,
          _message(_HI, "chat")),
    _post("code", f"/rest/iq/version/{TO}", "", None, _iq("<query xmlns='jabber:iq:version'/>")),
    _post("code", f"/rest/iq/command/{TO}", {"node": "uptime"}, JSON,
          _iq(f"<command xmlns='{_COMMANDS}' node='uptime'/>", "set")),
    # --- short queries
    _get("readme", "archive", "<query xmlns='urn:xmpp:mam:2'/>", type="set"),
    _get("readme", "disco", f"<query xmlns='{_INFO}'/>"),
    _get("readme", "extdisco", "<services xmlns='urn:xmpp:extdisco:2'/>"),
    _get("readme", "items", f"<query xmlns='{_ITEMS}'/>"),
    _get("readme", "lastactivity", "<query xmlns='jabber:iq:last'/>"),
    _get("readme", "oob?url=http%3A%2F%2Fa%2Fb",
         "<query xmlns='jabber:iq:oob'><url>http://a/b</url></query>"),
    evolve(_get("readme", "payload?datatype=urn:example:a&data=x",
         "<payload xmlns='urn:xmpp:json-msg:0' datatype='urn:example:a'>"
         "<json xmlns='urn:xmpp:json:0'>\"x\"</json></payload>"),
           improves='in `<json/>`, as XEP-0432 asks'),
    _get("readme", "ping", "<ping xmlns='urn:xmpp:ping'/>"),
    _get("readme", "stats", "<query xmlns='http://jabber.org/protocol/stats'/>"),
    _get("readme", "version", "<query xmlns='jabber:iq:version'/>"),
    _get("code", f"items?node={_COMMANDS.replace(':', '%3A')}",
         f"<query xmlns='{_ITEMS}' node='{_COMMANDS}'/>"),
    _get("openapi", "extdisco?type=stun", "<services xmlns='urn:xmpp:extdisco:2' type='stun'/>"),
    evolve(_get("openapi", "archive?with=bob@localhost&max=10",
         f"<query xmlns='urn:xmpp:mam:2'><x xmlns='{_DATA}' type='submit'>"
         "<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"
         "<field var='with'><value>bob@localhost</value></field></x>"
         "<set xmlns='http://jabber.org/protocol/rsm'><max>10</max></set></query>", type="set"),
           improves='without fields that are empty'),
    evolve(_get("openapi", "upload_request?filename=a.png&size=3",
         "<request xmlns='urn:xmpp:http:upload:0' filename='a.png' size='3'/>"),
           improves='mod_rest refuses a path with an underscore'),
    # --- keys of a message
    _key({"body": "hi", "subject": "s"}, f"{_HI}<subject>s</subject>", "readme"),
    _key({"body": "hi", "html": "<body><em>hi</em></body>"},
         f"{_HI}<html xmlns='http://jabber.org/protocol/xhtml-im'>"
         "<body xmlns='http://www.w3.org/1999/xhtml'><em>hi</em></body></html>", "readme"),
    _key({"body": "http://a/b", "oob_url": "http://a/b"},
         "<body>http://a/b</body><x xmlns='jabber:x:oob'><url>http://a/b</url></x>", "readme"),
    _key({"state": "composing"}, "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
         "readme"),
    _key({"body": "hi", "thread": {"id": "t", "parent": "p"}},
         f"{_HI}<thread parent='p'>t</thread>"),
    evolve(_key({"invite": {"jid": "r@b", "reason": "come", "password": "s", "continue": True,
                     "thread": "t"}},
         "<x xmlns='jabber:x:conference' jid='r@b' reason='come' password='s' continue='true'"
         " thread='t'/>"),
           improves='`continue` is `true`, as XEP-0249 has it'),
    _post("openapi", "/rest", {"kind": "message", "body": "hi", "lang": "de"}, JSON,
          f"<message to='{TO}' type='normal' xml:lang='de'>{_HI}</message>"),
    _key({"body": "hi", "nick": "n"},
         f"{_HI}<nick xmlns='http://jabber.org/protocol/nick'>n</nick>"),
    _key({"body": "hi", "delay": "2020-01-02T03:04:05Z"},
         f"{_HI}<delay xmlns='urn:xmpp:delay' stamp='2020-01-02T03:04:05Z'/>"),
    _key({"body": "hi", "replace": "m1"},
         f"{_HI}<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>"),
    _key({"body": "hi", "oob": {"url": "http://a/b", "desc": "d"}},
         f"{_HI}<x xmlns='jabber:x:oob'><url>http://a/b</url><desc>d</desc></x>"),
    evolve(_key({"reactions": {"id": "m1", "reactions": ["+"]}},
         "<reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>+</reaction></reactions>"
         "<store xmlns='urn:xmpp:hints'/>"),
           improves='archives are asked to keep it (XEP-0444)'),
    _left_out({"occupant_id": "o"}, "only a room may say it (XEP-0421)"),
    _key({"body": "hi", "attach_to": "m1"},
         f"{_HI}<attach-to xmlns='urn:xmpp:message-attaching:1' id='m1'/>"),
    _key({"body": "hi", "fallback": True}, f"{_HI}<fallback xmlns='urn:xmpp:fallback:0'/>"),
    _left_out({"stanza_ids": [{"by": "r@b", "id": "1"}]}, "only an archive may (XEP-0359)"),
    _key({"body": "hi", "reference": {"type": "mention", "uri": "xmpp:a@b", "begin": 0, "end": 2}},
         f"{_HI}<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:a@b' begin='0'"
         " end='2'/>"),
    _key({"body": "hi", "reply": {"id": "m1", "to": "a@b"}},
         f"{_HI}<reply xmlns='urn:xmpp:reply:0' id='m1' to='a@b'/>"),
    _key({"body": "hi", "markable": True}, f"{_HI}<markable xmlns='urn:xmpp:chat-markers:0'/>"),
    _key({"displayed": "m1"}, "<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>"),
    _left_out({"encryption": "urn:xmpp:omemo:2"}, "JSON cannot carry what is encrypted"),
    evolve(_key({"payload": {"datatype": "urn:example:a", "data": {"b": 1.5}}},
         "<payload xmlns='urn:xmpp:json-msg:0' datatype='urn:example:a'>"
         "<json xmlns='urn:xmpp:json:0'>{\"b\":1.5}</json></payload>"),
           improves='in `<json/>`, as XEP-0432 asks'),
    _key({"dataform": _FORM_JSON}, _FORM_XML),
    _key({"forwarded": {"delay": "2020-01-02T03:04:05Z", "message": {"body": "hi"}}},
         "<forwarded xmlns='urn:xmpp:forward:0'>"
         "<delay xmlns='urn:xmpp:delay' stamp='2020-01-02T03:04:05Z'/>"
         f"<message xmlns='jabber:client'>{_HI}</message></forwarded>"),
    _post("openapi", "/rest",
          {"kind": "message", "error": {"type": "cancel", "condition": "gone", "text": "x"}}, JSON,
          _message("<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
                   "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>x</text></error>", "error")),
    # --- keys of a presence
    _presence_key({"show": "away", "status": "back soon"},
                  "<show>away</show><status>back soon</status>", "readme"),
    _presence_key({"muc": {"history": {"maxstanzas": 3}}},
                  "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='3'/></x>",
                  "readme"),
    _presence_key({"join": True}, "<x xmlns='http://jabber.org/protocol/muc'/>", "code"),
    _presence_key({"priority": -1}, "<priority>-1</priority>"),
    _presence_key({"caps": {"node": "n", "ver": "v", "hash": "sha-1"}},
                  "<c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='sha-1'/>"),
    _presence_key({"nick": "n"}, "<nick xmlns='http://jabber.org/protocol/nick'>n</nick>"),
    _presence_key({"vcard_update": {"photo": "f0" * 20}},
                  f"<x xmlns='vcard-temp:x:update'><photo>{'f0' * 20}</photo></x>"),
    _presence_key({"idle_since": "2020-01-02T03:04:05Z"},
                  "<idle xmlns='urn:xmpp:idle:1' since='2020-01-02T03:04:05Z'/>"),
    # --- keys of an iq
    _iq_key({"ping": True}, "<ping xmlns='urn:xmpp:ping'/>", "readme"),
    _iq_key({"version": True}, "<query xmlns='jabber:iq:version'/>", "readme"),
    _iq_key({"disco": True}, f"<query xmlns='{_INFO}'/>", "readme"),
    _iq_key({"items": {"node": _COMMANDS}}, f"<query xmlns='{_ITEMS}' node='{_COMMANDS}'/>",
            "readme"),
    _iq_key({"command": {"node": "uptime"}}, f"<command xmlns='{_COMMANDS}' node='uptime'/>",
            "readme", "set"),
    _iq_key({"command": "uptime"}, f"<command xmlns='{_COMMANDS}' node='uptime'/>", "readme",
            "set"),
    _iq_key({"command": {"node": "n", "sessionid": "s", "action": "next", "form": _FORM_JSON}},
            f"<command xmlns='{_COMMANDS}' node='n' sessionid='s' action='next'>{_FORM_XML}"
            "</command>", "readme", "set"),
    evolve(_iq_key(
            {"command": {"node": "n", "sessionid": "s", "data": {"a": ["1", "2"], "b": "3"}}},
            f"<command xmlns='{_COMMANDS}' node='n' sessionid='s'><x xmlns='{_DATA}' type='submit'>"
            "<field var='a'><value>1</value><value>2</value></field>"
            "<field var='b'><value>3</value></field></x></command>", "readme", "set"),
           improves='the form has a type (XEP-0004)'),
    evolve(_iq_key({"payload": {"datatype": "urn:example:a", "data": {"b": 1.5}}},
         "<payload xmlns='urn:xmpp:json-msg:0' datatype='urn:example:a'>"
         "<json xmlns='urn:xmpp:json:0'>{\"b\":1.5}</json></payload>"),
           improves='in `<json/>`, as XEP-0432 asks'),
    _iq_key({"register": {"username": "u", "password": "p"}},
            "<query xmlns='jabber:iq:register'><username>u</username><password>p</password>"
            "</query>",
            type="set"),
    # --- mod_post_msg
    _post("post_msg", f"/msg/{TO}", "hi", TEXT, _message(_HI, "chat")),
    _post("post_msg", f"/msg/{TO}", {"body": "hi"}, FORM, _message(_HI, "chat")),
    _post("post_msg", "/msg/", {"body": "hi", "to": TO, "type": "headline"}, FORM,
          _message(_HI, "headline")),
    _post("post_msg", "/msg/", {"body": "hi"}, JSON, _message(_HI, "chat")),
    _post("code", f"/msg/{TO}", {"body": "hi", "html": "<em>hi</em>"}, FORM,
          _message(f"{_HI}<html xmlns='http://jabber.org/protocol/xhtml-im'>"
                   "<body xmlns='http://www.w3.org/1999/xhtml'><em>hi</em></body></html>",
                   "chat")),
)  # fmt: skip
