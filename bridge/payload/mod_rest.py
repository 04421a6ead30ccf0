"""The shapes that Prosody's mod_rest gives to some keys, both ways.

Most names of its `res/schema-xmpp.json` are ours, and where an object of its says more than our
text, `content` takes either. `from_mod_rest` replaces its other keys, in replies and sends; it
takes any value, and leaves what fits neither shape to the checks of `content`. `to_mod_rest`
describes a stanza as mod_rest does, for the alias `/rest`.
"""

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from bridge.payload import namespace as ns
from bridge.payload.content import WRITERS
from bridge.payload.field import of_stanza
from bridge.payload.request import body_of
from xmppstream import Stanza, make
from xmppstream.names import expanded
from xmppstream.stanza import language_of

Table = dict[str, Any]

_FIELD: Final = expanded(ns.DATA, "field")
_VALUE: Final = expanded(ns.DATA, "value")
_RESULT: Final = expanded(ns.MAM, "result")
_FORWARDED: Final = expanded(ns.FORWARD, "forwarded")


def from_mod_rest(one: Table) -> Table:
    """Return an object with mod_rest's shapes replaced by ours; a key of ours has precedence."""
    changed: Table = {}
    for key, value in one.items():
        if key in _OURS:
            changed |= _OURS[key](value)
    given = {key: value for key, value in one.items() if key not in _OURS}
    return {
        key: True if value == {} and key in _ASKING else value
        for key, value in (changed | given).items()
    }


def to_mod_rest(stanza: Stanza) -> Table:
    """Return the JSON that mod_rest has for a stanza. Keys that it lacks are ours."""
    head: Table = {"kind": stanza.kind, "type": stanza.type, "lang": language_of(stanza.element)}
    head |= {"from": stanza.from_, "to": stanza.to, "id": stanza.id}
    if stanza.kind == "presence" and stanza.type is None:
        head["type"] = "available"
    if stanza.kind == "message":
        head["body"] = body_of(stanza)
    fields = _theirs(msgspec.to_builtins(of_stanza(stanza)))
    if stanza.kind == "message":
        fields |= _their_result(stanza)
    if stanza.type == "error":
        fields.setdefault("error", {})
    if isinstance(fields.get("disco"), dict) and "extensions" in fields["disco"]:
        fields["disco"]["extensions"] = _extensions(stanza)
    return {key: value for key, value in head.items() if value is not None} | fields


def _theirs(fields: Table) -> Table:
    """Return fields in mod_rest's shapes."""
    changed: Table = {}
    for key, value in fields.items():
        changed |= _THEIRS[key](value) if key in _THEIRS else {key: value}
    if "thread_parent" in changed:
        parent = changed.pop("thread_parent")
        changed["thread"] = {**changed.get("thread", {}), "parent": parent}
    return changed


# --- ours


def _items(value: Any) -> Table:
    if isinstance(value, dict):
        value = value.get("node") or True
    return {"items": value}


def _archive(value: Any) -> Table:
    """The ids of messages are one text in a query."""
    if isinstance(value, dict) and isinstance(value.get("ids"), str):
        value = {**value, "ids": value["ids"].split(",")}
    return {"archive": value}


_OURS: Final[dict[str, Callable[[Any], Table]]] = {
    "reference": lambda value: {"references": [value] if isinstance(value, dict) else value},
    "oob_url": lambda value: {"oob": {"url": value} if value else None},
    "join": lambda value: {"muc": True if value is True else None},
    "items": _items,
    "archive": _archive,
}
"""Returns our keys and values for a value that mod_rest has under a key."""
MOD_REST_KEYS: Final = frozenset(_OURS)
"""The keys that `from_mod_rest` replaces."""
_ASKING: Final = frozenset(
    key for key, row in WRITERS.items() if bool in get_args(row.shape) and "iq" in row.kinds
)
"""Keys of which an empty object asks, as `true` does."""

# --- theirs


def _their_form(value: Table) -> Table:
    fields = [_their_field(one) for one in value.get("fields", ())]
    return {**_without(value, "data"), "fields": fields}


def _their_field(one: Table) -> Table:
    """Several values are a list, but for lines of text; a list without options has none."""
    values, changed = one.get("values"), _without(one, "values")
    if values is not None:
        changed["value"] = "\n".join(values) if one.get("type") == "text-multi" else values
    if one.get("type") in ("list-single", "list-multi"):
        changed.setdefault("options", [])
    return changed


def _their_archive(value: Table) -> Table:
    """Here mod_rest has a list of values for each field."""
    if "form" not in value:
        return value
    fields = []
    for one in value["form"].get("fields", ()):
        values = [one["value"]] if "value" in one else one.get("values")
        fields.append(_without(one, "value", "values") | ({"values": values} if values else {}))
    return {**value, "form": {**_without(value["form"], "data"), "fields": fields}}


def _their_command(value: Table) -> Table:
    changed = _without(value, "data")
    if "form" in value:
        changed["form"] = _their_form(value["form"])
    return changed


def _their_forwarded(value: Table) -> Table:
    changed = {"delay": value.get("delay", {}).get("stamp")}
    if "message" in value:
        changed["message"] = _theirs(value["message"])
    return {key: one for key, one in changed.items() if one is not None}


def _their_result(message: Stanza) -> Table:
    """The answer of an archive (XEP-0313) is a key of messages there."""
    result = message.element.find(_RESULT)
    if result is None:
        return {}
    inner = make("message", None, None, children=tuple(result.find_all(_FORWARDED)))
    forwarded = _theirs(msgspec.to_builtins(of_stanza(inner))).get("forwarded")
    found = {"id": result.get("id"), "queryid": result.get("queryid"), "forward": forwarded}
    return {"archive": {key: value for key, value in found.items() if value is not None}}


def _their_disco(value: Any) -> Any:
    return {"identities": [], "features": [], **value} if isinstance(value, dict) else value


def _extensions(stanza: Stanza) -> Table:
    """Return the values of forms by FORM_TYPE: those of fields without a type are lists."""
    assert stanza.payload is not None
    found: Table = {}
    for form in stanza.payload.find_all(expanded(ns.DATA, "x")):
        values = {
            one.get("var"): (one.get("type"), [v.text for v in one.find_all(_VALUE)])
            for one in form.find_all(_FIELD)
        }
        _, name = values.pop("FORM_TYPE", (None, []))
        found[next(iter(name), "")] = {
            var: _extension_value(type, texts) for var, (type, texts) in values.items() if var
        }
    return found


def _extension_value(type: str | None, texts: list[str]) -> Any:
    match type:
        case None | "list-single" | "list-multi":
            return texts
        case "text-multi":
            return "\n".join(texts)
        case "boolean":
            return texts[:1] in (["1"], ["true"])
        case _:
            return next(iter(texts), None)


def _object(value: Any) -> Table:
    """An object, where ours is `true`."""
    return value if isinstance(value, dict) else {}


def _without(value: Table, *keys: str) -> Table:
    return {key: one for key, one in value.items() if key not in keys}


_THEIRS: Final[dict[str, Callable[[Any], Table]]] = {
    "thread": lambda value: {"thread": {"id": value}},
    "fallback": lambda _: {"fallback": True},
    "delay": lambda value: {"delay": value["stamp"]} if "stamp" in value else {},
    "references": lambda value: {"reference": value[0]},
    "invite": lambda value: {"invite": _without(value, "from", "direct")},
    "html": lambda value: {"html": f"<body>{value}</body>"},
    "oob": lambda value: {"oob": value, "oob_url": value["url"]},
    "error": lambda value: {"error": {"condition": "undefined-condition", **value}},
    "dataform": lambda value: {"dataform": _their_form(value)},
    "forwarded": lambda value: {"forwarded": _their_forwarded(value)},
    "vcard_update": lambda value: {"vcard_update": {"photo": value or ""}},
    "disco": lambda value: {"disco": _their_disco(value)},
    "command": lambda value: {"command": _their_command(value)},
    "archive": lambda value: {"archive": _their_archive(value)},
    "lastactivity": lambda value: {"lastactivity": {"status": "", **_object(value)}},
    **{
        key: lambda value, key=key: {key: _object(value)}  # type: ignore[misc]
        for key in ("muc", "version", "register", "extdisco", "gateway")
    },
}
"""Returns mod_rest's keys and values for a value of ours."""
