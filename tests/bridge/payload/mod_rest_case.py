"""The JSON that mod_rest has for a stanza, as its `/rest/echo` gives it, and where ours differs.

`tests/servers/test_mod_rest.py` asks the module itself. `theirs` is without the head (kind, type,
to, from, id), which never differs; `ours` has the keys that differ; None is one that is absent.
"""

from typing import Any, Final

from attrs import field, frozen


@frozen
class ModRestCase:
    """One row. A difference has a reason."""

    stanza: str
    theirs: dict[str, Any]
    ours: dict[str, Any] = field(factory=dict)
    why: str = ""


def _case(
    head: str, children: str, theirs: dict[str, Any], ours: Any = None, why: str = ""
) -> ModRestCase:
    kind = head.partition(" ")[0]
    xml = f"<{head} id='1' to='a@b' from='bob@localhost'>{children}</{kind}>"
    return ModRestCase(xml, theirs, ours or {}, why)


CASES: Final = (
    _case(
        "message",
        "<body>hi</body><subject>s</subject><thread parent='p'>t</thread>",
        {"thread": {"id": "t", "parent": "p"}, "subject": "s", "body": "hi"},
    ),
    _case(
        "message",
        "<body>hi</body><body xml:lang='de'>hallo</body>",
        {"body": "hi"},
        {"bodies": {"de": "hallo", "": "hi"}},
        "mod_rest has one language only",
    ),
    _case(
        "message",
        "<nick xmlns='http://jabber.org/protocol/nick'>n</nick><body>hi</body>",
        {"body": "hi", "nick": "n"},
    ),
    _case(
        "message",
        (
            "<body>hi</body>"
            "<delay xmlns='urn:xmpp:delay' stamp='2020-01-02T03:04:05Z' from='a@b'>late</delay>"
        ),
        {"delay": "2020-01-02T03:04:05Z", "body": "hi"},
    ),
    _case(
        "message",
        "<body>hi</body><x xmlns='jabber:x:delay' stamp='20200102T03:04:05'/>",
        {"body": "hi"},
        {"delay": "2020-01-02T03:04:05Z"},
        "mod_rest does not read the older form (XEP-0091)",
    ),
    _case(
        "message",
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        {"state": "composing"},
    ),
    _case(
        "message",
        "<body>hi</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/>",
        {"body": "hi", "replace": "m1"},
    ),
    _case(
        "message",
        "<body>hi</body><reply xmlns='urn:xmpp:reply:0' id='m1' to='a@b'/>",
        {"reply": {"id": "m1", "to": "a@b"}, "body": "hi"},
    ),
    _case(
        "message",
        "<reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>+</reaction></reactions>",
        {"reactions": {"id": "m1", "reactions": ["+"]}},
    ),
    _case(
        "message",
        "<reactions xmlns='urn:xmpp:reactions:0' id='m1'/>",
        {"reactions": {"id": "m1"}},
        {"reactions": {"id": "m1", "reactions": []}},
        "an empty list takes reactions back",
    ),
    _case(
        "message",
        ("<body>http://a/b</body><x xmlns='jabber:x:oob'><url>http://a/b</url><desc>d</desc></x>"),
        {"body": "http://a/b", "oob": {"desc": "d", "url": "http://a/b"}, "oob_url": "http://a/b"},
        {"files": [{"url": "http://a/b", "desc": "d"}]},
        "a key of the bridge",
    ),
    _case(
        "message",
        "<body>x</body><encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/>",
        {"encryption": "urn:xmpp:omemo:2", "body": "x"},
    ),
    _case(
        "message",
        "<body>x</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'/>",
        {"fallback": True, "body": "x"},
    ),
    _case(
        "message",
        (
            "<body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='r@b' id='1'/>"
            "<stanza-id xmlns='urn:xmpp:sid:0' by='c@b' id='2'/>"
        ),
        {"stanza_ids": [{"by": "r@b", "id": "1"}, {"by": "c@b", "id": "2"}], "body": "x"},
    ),
    _case(
        "message",
        "<body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='1'/>",
        {"body": "x"},
        {"origin_id": "1"},
        "a key of the bridge",
    ),
    _case(
        "message",
        "<body>x</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/>",
        {"occupant_id": "o", "body": "x"},
    ),
    _case(
        "message",
        "<body>x</body><attach-to xmlns='urn:xmpp:message-attaching:1' id='m1'/>",
        {"attach_to": "m1", "body": "x"},
    ),
    _case(
        "message",
        "<body>x</body><markable xmlns='urn:xmpp:chat-markers:0'/>",
        {"markable": True, "body": "x"},
    ),
    _case("message", "<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>", {"displayed": "m1"}),
    _case(
        "message",
        "<body>x</body><request xmlns='urn:xmpp:receipts'/>",
        {"body": "x"},
        {"receipt_requested": True},
        "a key of the bridge",
    ),
    _case(
        "message",
        (
            "<x xmlns='jabber:x:conference' jid='r@b' reason='come' password='s' continue='1'"
            " thread='t'/>"
        ),
        {
            "invite": {
                "thread": "t",
                "jid": "r@b",
                "password": "s",
                "reason": "come",
                "continue": True,
            }
        },
    ),
    _case(
        "message",
        (
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'><reason>"
            "come</reason></invite></x>"
        ),
        {},
        {"invite": {"jid": "bob@localhost", "reason": "come"}},
        "mod_rest reads direct invitations only",
    ),
    _case(
        "message",
        (
            "<body>x</body><html xmlns='http://jabber.org/protocol/xhtml-im'>"
            "<body xmlns='http://www.w3.org/1999/xhtml'><em>x</em></body></html>"
        ),
        {"html": "<body><em>x</em></body>", "body": "x"},
    ),
    _case(
        "message",
        (
            "<body>x</body><html xmlns='http://jabber.org/protocol/xhtml-im'>"
            "<body xmlns='http://www.w3.org/1999/xhtml'><em style='color:red'>x</em></body>"
            "</html>"
        ),
        {"html": "<body><em style='color:red'>x</em></body>", "body": "x"},
        {"html": "<body><em>x</em></body>"},
        "reduced to what is safe to show; stanza has the original",
    ),
    _case(
        "message",
        (
            "<body>x</body>"
            "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:a@b' begin='0'"
            " end='1'/>"
        ),
        {"reference": {"end": 1, "begin": 0, "type": "mention", "uri": "xmpp:a@b"}, "body": "x"},
    ),
    _case(
        "message",
        "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
        {"body": "x"},
        {"hints": ["no-store"]},
        "a key of the bridge",
    ),
    _case(
        "message",
        (
            "<payload xmlns='urn:xmpp:json-msg:0' datatype='urn:example:a'>"
            "<json xmlns='urn:xmpp:json:0'>{\"b\":1}</json></payload>"
        ),
        {},
        {"payload": {"datatype": "urn:example:a", "data": {"b": 1}}},
        "mod_rest fails with 500 at XEP-0432's element",
    ),
    _case(
        "message",
        (
            "<x xmlns='jabber:x:data' type='form'><title>t</title><instructions>i</instructions>"
            "<field var='a' type='list-single' label='l'><desc>d</desc><required/><value>"
            "1</value><option label='o'><value>1</value></option></field>"
            "<field var='b' type='text-multi'><value>1</value><value>2</value></field>"
            "<field var='c' type='jid-multi'><value>a@b</value></field></x>"
        ),
        {
            "dataform": {
                "fields": [
                    {
                        "label": "l",
                        "desc": "d",
                        "value": "1",
                        "options": [{"label": "o", "value": "1"}],
                        "type": "list-single",
                        "var": "a",
                        "required": True,
                    },
                    {"type": "text-multi", "var": "b", "value": "1\n2"},
                    {"type": "jid-multi", "var": "c", "value": ["a@b"]},
                ],
                "type": "form",
                "title": "t",
                "instructions": "i",
            }
        },
    ),
    _case(
        "message",
        (
            "<x xmlns='jabber:x:data' type='submit'><field var='a'><value>1</value><value>"
            "2</value></field></x>"
        ),
        {"dataform": {"fields": [{"var": "a", "value": "1"}], "type": "submit"}},
        {"dataform": {"type": "submit", "fields": [{"var": "a", "value": ["1", "2"]}]}},
        "mod_rest drops further values of a field without a type, and items",
    ),
    _case(
        "message",
        (
            "<x xmlns='jabber:x:data' type='result'><reported><field var='a'/></reported><item>"
            "<field var='a'><value>1</value></field></item></x>"
        ),
        {"dataform": {"fields": [], "type": "result"}},
        {
            "dataform": {
                "type": "result",
                "items": [[{"var": "a", "value": "1"}]],
                "reported": [{"var": "a"}],
                "fields": [],
            }
        },
        "mod_rest drops further values of a field without a type, and items",
    ),
    _case(
        "message",
        (
            "<forwarded xmlns='urn:xmpp:forward:0'>"
            "<delay xmlns='urn:xmpp:delay' stamp='2020-01-02T03:04:05Z'/>"
            "<message xmlns='jabber:client' from='a@b' to='c@b' type='chat' id='1'><body>x</body>"
            "<thread>t</thread></message></forwarded>"
        ),
        {
            "forwarded": {
                "message": {
                    "thread": {"id": "t"},
                    "id": "1",
                    "from": "a@b",
                    "type": "chat",
                    "body": "x",
                    "to": "c@b",
                },
                "delay": "2020-01-02T03:04:05Z",
            }
        },
    ),
    _case(
        "message type='error'",
        (
            "<body>x</body><error type='wait' by='a.b'>"
            "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>t</text></error>"
        ),
        {"error": {"condition": "gone", "type": "wait", "by": "a.b", "text": "t"}, "body": "x"},
    ),
    _case(
        "message type='error'",
        (
            "<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            "<own xmlns='urn:example:a'/></error>"
        ),
        {"error": {"condition": "conflict", "type": "cancel"}},
        {"error": {"condition": "conflict", "type": "cancel", "application": "{urn:example:a}own"}},
        "the condition of an application",
    ),
    _case(
        "message type='error'",
        "<error type='cancel'/>",
        {"error": {"condition": "undefined-condition", "type": "cancel"}},
    ),
    _case(
        "presence",
        "<show>away</show><status>s</status><priority>5</priority>",
        {"priority": 5, "show": "away", "status": "s"},
    ),
    _case("presence type='unavailable'", "", {}),
    _case(
        "presence",
        "<c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='sha-1'/>",
        {"caps": {"hash": "sha-1", "node": "n", "ver": "v"}},
    ),
    _case(
        "presence",
        (
            "<x xmlns='vcard-temp:x:update'><photo>"
            "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0</photo></x>"
        ),
        {"vcard_update": {"photo": "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0"}},
    ),
    _case(
        "presence",
        "<x xmlns='vcard-temp:x:update'><photo/></x>",
        {"vcard_update": {"photo": ""}},
    ),
    _case(
        "presence",
        "<idle xmlns='urn:xmpp:idle:1' since='2020-01-02T03:04:05Z'/>",
        {"idle_since": "2020-01-02T03:04:05Z"},
    ),
    _case("presence", "<x xmlns='http://jabber.org/protocol/muc'/>", {"muc": {}}),
    _case(
        "presence",
        "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='3'/></x>",
        {"muc": {"history": {"maxstanzas": 3}}},
    ),
    _case(
        "presence",
        "<x xmlns='http://jabber.org/protocol/muc'><password>p</password></x>",
        {"muc": {}},
        {"muc": {"password": "p"}},
        "mod_rest drops the password",
    ),
    _case(
        "presence",
        (
            "<x xmlns='http://jabber.org/protocol/muc#user'>"
            "<item affiliation='none' role='visitor'/></x>"
        ),
        {},
        {"occupant": {"affiliation": "none", "role": "visitor"}},
        "a key of the bridge",
    ),
    _case("iq type='get'", "<ping xmlns='urn:xmpp:ping'/>", {"ping": True}),
    _case("iq type='get'", "<query xmlns='jabber:iq:version'/>", {"version": {}}),
    _case(
        "iq type='result'",
        ("<query xmlns='jabber:iq:version'><name>n</name><version>1</version><os>o</os></query>"),
        {"version": {"os": "o", "version": "1", "name": "n"}},
    ),
    _case(
        "iq type='get'", "<query xmlns='http://jabber.org/protocol/disco#info'/>", {"disco": True}
    ),
    _case(
        "iq type='get'",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>",
        {"disco": "n"},
    ),
    _case(
        "iq type='result'",
        (
            "<query xmlns='http://jabber.org/protocol/disco#info' node='n'>"
            "<identity category='client' type='bot' name='b'/><feature var='f'/>"
            "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>"
            "urn:example:a</value></field><field var='a'><value>1</value></field>"
            "<field var='b' type='text-single'><value>2</value></field>"
            "<field var='c' type='text-multi'><value>3</value><value>4</value></field>"
            "<field var='d' type='boolean'><value>1</value></field></x></query>"
        ),
        {
            "disco": {
                "extensions": {"urn:example:a": {"c": "3\n4", "d": True, "a": ["1"], "b": "2"}},
                "identities": [{"name": "b", "type": "bot", "category": "client"}],
                "node": "n",
                "features": ["f"],
            }
        },
    ),
    _case(
        "iq type='result'",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='f'/></query>",
        {"disco": {"features": ["f"], "identities": []}},
    ),
    _case(
        "iq type='get'",
        "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>",
        {"items": "n"},
    ),
    _case(
        "iq type='result'",
        (
            "<query xmlns='http://jabber.org/protocol/disco#items'>"
            "<item jid='a.b' name='n' node='o'/><item jid='c.b'/></query>"
        ),
        {"items": [{"name": "n", "node": "o", "jid": "a.b"}, {"jid": "c.b"}]},
    ),
    _case(
        "iq type='result'",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        {"items": True},
        {"items": []},
        "an answer without items is not a question",
    ),
    _case(
        "iq type='set'",
        "<command xmlns='http://jabber.org/protocol/commands' node='n' action='execute'/>",
        {"command": {"action": "execute", "node": "n"}},
    ),
    _case(
        "iq type='result'",
        (
            "<command xmlns='http://jabber.org/protocol/commands' node='n' sessionid='s'"
            " status='executing'><actions execute='next'><next/></actions>"
            "<x xmlns='jabber:x:data' type='form'><field var='a' type='text-single'/></x>"
            "</command>"
        ),
        {
            "command": {
                "form": {"fields": [{"var": "a", "type": "text-single"}], "type": "form"},
                "actions": {"execute": "next", "next": True},
                "sessionid": "s",
                "status": "executing",
                "node": "n",
            }
        },
    ),
    _case(
        "iq type='result'",
        (
            "<command xmlns='http://jabber.org/protocol/commands' node='n' sessionid='s'"
            " status='completed'><note type='info'>done</note></command>"
        ),
        {
            "command": {
                "sessionid": "s",
                "status": "completed",
                "node": "n",
                "note": {"type": "info", "text": "done"},
            }
        },
    ),
    _case("iq type='get'", "<query xmlns='jabber:iq:register'/>", {"register": {}}),
    _case(
        "iq type='result'",
        (
            "<query xmlns='jabber:iq:register'><instructions>i</instructions><username/>"
            "<password/></query>"
        ),
        {"register": {"username": "", "instructions": "i", "password": ""}},
    ),
    _case(
        "iq type='set'",
        ("<query xmlns='jabber:iq:register'><username>u</username><password>p</password></query>"),
        {"register": {"username": "u", "password": "p"}},
    ),
    _case(
        "iq type='set'",
        "<query xmlns='jabber:iq:register'><remove/></query>",
        {"register": {"remove": True}},
    ),
    _case("iq type='get'", "<query xmlns='jabber:iq:last'/>", {"lastactivity": {"status": ""}}),
    _case(
        "iq type='result'",
        "<query xmlns='jabber:iq:last' seconds='5'>gone</query>",
        {"lastactivity": {"status": "gone", "seconds": 5}},
    ),
    _case(
        "iq type='get'", "<time xmlns='urn:xmpp:time'/>", {}, {"time": True}, "a key of the bridge"
    ),
    _case(
        "iq type='get'", "<vCard xmlns='vcard-temp'/>", {}, {"vcard": True}, "a key of the bridge"
    ),
    _case(
        "iq type='set'",
        "<query xmlns='jabber:iq:oob'><url>http://a/b</url></query>",
        {"oob": {"url": "http://a/b"}},
        {"oob_url": "http://a/b"},
        "mod_rest has the short key in messages only",
    ),
    _case(
        "iq type='get'",
        (
            "<request xmlns='urn:xmpp:http:upload:0' filename='a.png' size='3'"
            " content-type='image/png'/>"
        ),
        {"upload_request": {"content-type": "image/png", "size": 3, "filename": "a.png"}},
    ),
    _case(
        "iq type='result'",
        (
            "<slot xmlns='urn:xmpp:http:upload:0'><put url='https://a/p'>"
            "<header name='Authorization'>x</header></put><get url='https://a/g'/></slot>"
        ),
        {
            "upload_slot": {
                "get": {"url": "https://a/g"},
                "put": {"url": "https://a/p", "headers": [{"value": "x", "name": "Authorization"}]},
            }
        },
    ),
    _case("iq type='get'", "<services xmlns='urn:xmpp:extdisco:2'/>", {"extdisco": {}}),
    _case(
        "iq type='result'",
        (
            "<services xmlns='urn:xmpp:extdisco:2'>"
            "<service type='stun' host='a.b' port='3478' transport='udp'/></services>"
        ),
        {
            "extdisco": {
                "services": [{"transport": "udp", "type": "stun", "host": "a.b", "port": 3478}]
            }
        },
    ),
    _case("iq type='get'", "<query xmlns='jabber:iq:gateway'/>", {"gateway": {}}),
    _case(
        "iq type='set'",
        "<query xmlns='jabber:iq:gateway'><prompt>p</prompt></query>",
        {"gateway": {"prompt": "p"}},
    ),
    _case(
        "iq type='set'",
        (
            "<query xmlns='urn:xmpp:mam:2' queryid='q'><x xmlns='jabber:x:data' type='submit'>"
            "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>"
            "<field var='with'><value>a@b</value></field></x>"
            "<set xmlns='http://jabber.org/protocol/rsm'><max>10</max></set></query>"
        ),
        {
            "archive": {
                "form": {
                    "fields": [
                        {"type": "hidden", "var": "FORM_TYPE", "values": ["urn:xmpp:mam:2"]},
                        {"var": "with", "values": ["a@b"]},
                    ],
                    "type": "submit",
                },
                "queryid": "q",
                "page": {"max": 10},
            }
        },
    ),
    _case(
        "iq type='result'",
        (
            "<fin xmlns='urn:xmpp:mam:2' complete='true'>"
            "<set xmlns='http://jabber.org/protocol/rsm'><first index='0'>1</first><last>2</last>"
            "<count>2</count></set></fin>"
        ),
        {"result": {"page": {"count": 2, "last": "2", "first": "1"}}},
        {"result": {"page": {"first": "1", "last": "2", "index": 0, "count": 2}, "complete": True}},
        "mod_rest drops whether it is complete, and the index",
    ),
    _case(
        "iq type='result'",
        (
            "<query xmlns='http://jabber.org/protocol/stats'>"
            "<stat name='users' units='people' value='3'/></query>"
        ),
        {"stats": [{"name": "users", "value": 3}]},
        {"stats": [{"name": "users", "value": 3, "unit": "people"}]},
        "mod_rest reads an attribute `unit`; XEP-0039 has `units`",
    ),
    _case("iq type='get'", "<query xmlns='urn:example:none'/>", {}),
    _case(
        "presence",
        "<c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' ext='e'/>",
        {"caps": {"ext": "e", "node": "n", "ver": "v"}},
    ),
    _case(
        "presence",
        "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/>",
        {},
        {"occupant_id": "o"},
        "also in presence",
    ),
    _case(
        "iq type='result'",
        (
            "<command xmlns='http://jabber.org/protocol/commands' node='n' status='completed'>"
            "<x xmlns='jabber:x:data' type='result'><item><field var='a'><value>1</value></field>"
            "</item></x></command>"
        ),
        {"command": {"form": {"fields": [], "type": "result"}, "status": "completed", "node": "n"}},
        {
            "command": {
                "node": "n",
                "status": "completed",
                "form": {"type": "result", "items": [[{"var": "a", "value": "1"}]], "fields": []},
            }
        },
        "mod_rest drops items",
    ),
    _case(
        "iq type='error'",
        (
            "<query xmlns='http://jabber.org/protocol/disco#info'/><error type='cancel'>"
            "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        ),
        {"error": {"condition": "gone", "type": "cancel"}},
        {"disco": True},
        "the question in an error",
    ),
    _case(
        "iq type='error'",
        (
            "<command xmlns='http://jabber.org/protocol/commands' node='n'/><error type='cancel'>"
            "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        ),
        {"error": {"condition": "gone", "type": "cancel"}},
        {"command": {"node": "n"}},
        "the question in an error",
    ),
    _case("iq type='error'", "", {"error": {}}),
    _case(
        "iq type='result'",
        (
            "<query xmlns='http://jabber.org/protocol/disco#info'><other xmlns='urn:example:a'/>"
            "</query>"
        ),
        {"disco": {"features": [], "identities": []}},
    ),
    _case(
        "iq type='result'",
        "<query xmlns='jabber:iq:gateway'><desc>d</desc><prompt>p</prompt></query>",
        {"gateway": {"prompt": "p"}},
        {"gateway": {"desc": "d", "prompt": "p"}},
        "mod_rest drops desc",
    ),
    _case(
        "iq type='set'",
        "<query xmlns='urn:xmpp:mam:2' node='n'/>",
        {"archive": {}},
        {"archive": {"node": "n"}},
        "mod_rest drops the node",
    ),
    _case(
        "iq type='result'",
        (
            "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='form'>"
            "<field var='ids' type='list-multi'/></x></query>"
        ),
        {"archive": {"form": {"fields": [{"var": "ids", "type": "list-multi"}], "type": "form"}}},
    ),
    _case(
        "iq type='result'",
        "<query xmlns='jabber:iq:register'><instructions>\n i\n</instructions></query>",
        {"register": {"instructions": "\n i\n"}},
        {"register": {"instructions": "i"}},
        "without white space around it",
    ),
    _case(
        "iq type='result'",
        (
            "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='form'>"
            "<field var='a'/></x></query>"
        ),
        {"register": {}},
        {"register": {"form": {"type": "form", "fields": [{"var": "a"}]}}},
        "mod_rest drops the form",
    ),
    _case(
        "message",
        (
            "<body>x</body><encrypted xmlns='eu.siacs.conversations.axolotl'><payload>x</payload>"
            "</encrypted>"
        ),
        {"body": "x"},
        {"encryption": "eu.siacs.conversations.axolotl"},
        "also of an element that XEP-0380 does not announce",
    ),
    _case(
        "message",
        "<retract xmlns='urn:xmpp:message-retract:1' id='m1'/>",
        {},
        {"retract": "m1"},
        "a key of the bridge",
    ),
    _case(
        "message",
        "<received xmlns='urn:xmpp:receipts' id='m1'/>",
        {},
        {"receipt": "m1"},
        "a key of the bridge",
    ),
    _case(
        "message",
        (
            "<body>x</body><reference xmlns='urn:xmpp:reference:0' type='data'>"
            "<media-sharing xmlns='urn:xmpp:sims:1'/></reference>"
        ),
        {"reference": {"type": "data"}, "body": "x"},
        {"reference": None},
        "a file, of XEP-0385",
    ),
    _case(
        "message",
        "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event>",
        {},
    ),
)
