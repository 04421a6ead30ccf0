"""The bridge's own answers: to kinds that are not POSTed, and to requests that the endpoint leaves
unanswered (contract H3, H6).
"""

from typing import Final

from attrs import frozen

from bridge import __version__
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError, make
from xmppstream.jid import bare
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, PING, VERSION, expanded

UNAVAILABLE: Final = StanzaError(StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
"""The error that Prosody returns for an address that does not accept the stanza."""
_NO_NODE: Final = StanzaError(StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL)
_DEFAULT_RESOURCE: Final = "default"


@frozen
class Autoresponder:
    """Answers on behalf of one component. `name` is shown in disco and version."""

    name: str

    def answer(self, stanza: Stanza) -> list[Stanza]:
        """Return the answers to a presence or iq that is not POSTed (H6) and has both addresses."""
        if stanza.kind == "presence":
            return _answer_presence(stanza)
        return [self.answer_request(stanza)] if stanza.is_request else []

    def answer_request(self, stanza: Stanza) -> Stanza:
        """Return the answer to an iq get or set: ping, disco, version; else an error."""
        payload = stanza.payload
        if payload is None or stanza.type != "get":
            return stanza.error_reply(UNAVAILABLE)
        match payload.name:
            case _Names.PING:
                return stanza.reply()
            case _Names.DISCO_INFO | _Names.DISCO_ITEMS if payload.get("node"):
                return stanza.error_reply(_NO_NODE)
            case _Names.DISCO_INFO:
                return stanza.reply(self._disco_info(stanza.to or ""))
            case _Names.DISCO_ITEMS:
                return stanza.reply(Element(_Names.DISCO_ITEMS))
            case _Names.VERSION:
                return stanza.reply(
                    Element(
                        _Names.VERSION,
                        (),
                        (
                            Element(expanded(VERSION, "name"), (), (self.name,)),
                            Element(expanded(VERSION, "version"), (), (__version__,)),
                        ),
                    )
                )
            case _:
                return stanza.error_reply(UNAVAILABLE)

    def _disco_info(self, address: str) -> Element:
        category, type = ("client", "bot") if "@" in bare(address) else ("component", "generic")
        identity = (("category", category), ("type", type), ("name", self.name))
        features = (DISCO_INFO, DISCO_ITEMS, PING, VERSION)
        return Element(
            _Names.DISCO_INFO,
            (),
            (
                Element(expanded(DISCO_INFO, "identity"), identity),
                *(Element(expanded(DISCO_INFO, "feature"), (("var", var),)) for var in features),
            ),
        )


class _Names:
    PING: Final = expanded(PING, "ping")
    DISCO_INFO: Final = expanded(DISCO_INFO, "query")
    DISCO_ITEMS: Final = expanded(DISCO_ITEMS, "query")
    VERSION: Final = expanded(VERSION, "query")


def _answer_presence(stanza: Stanza) -> list[Stanza]:
    """Return the answers of a contact that is always online and accepts all subscriptions."""
    sender, address = stanza.from_, stanza.to or ""
    resource = address
    if "@" in address and "/" not in address:
        resource = f"{address}/{_DEFAULT_RESOURCE}"
    match stanza.type:
        case "subscribe":
            accepted = make("presence", sender, bare(address), type="subscribed")
            return [accepted, make("presence", sender, resource)]
        case "probe":
            return [make("presence", sender, resource)]
        case "unsubscribe":
            return [make("presence", sender, resource, type="unavailable")]
        case _:
            return []
