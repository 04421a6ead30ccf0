"""Properties of redaction: nothing remains, and the same happens. The search here is a parser's,
not the redactor's own.
"""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bridge.capture.format import IN, Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.hidden import Hidden, is_telling
from bridge.capture.redact.search import Search, Survey, surveyor
from bridge.capture.redact.vocabulary import ADDRESSES, keeps_attribute, keeps_form_type, keeps_text
from tests.bridge.capture.conversation_maker import (
    Talk,
    events,
    joined,
    letter_runs,
    shape,
    talks,
    values,
)
from tests.xmppstream.test_properties import CHANGES, GARBAGE, mutated
from tests.xmppstream.wire import HANDSHAKE, HEADER

steady = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
KEYS = st.binary(min_size=16, max_size=16)


def hidden_of(records: list[Record]) -> Hidden:
    hidden = Hidden(64 * 1024)
    survey = surveyor(Survey(hidden))
    for record in records:
        survey.feed(record)
    survey.end()
    return hidden


def redacted(records: list[Record], key: bytes) -> list[Record]:
    redactor = Redactor(key, hidden_of(records).avoids)
    return [one for record in records for one in redactor.feed(record)] + redactor.end()


def remaining(talk: Talk, records: list[Record]) -> list[tuple[str, str]]:
    """Give what of a conversation is there, and where."""
    found = []
    for element, name, value in values(records):
        if is_left(element, name, value):
            continue
        text = value.casefold()
        if name in ADDRESSES or (name and "@" in value):
            local, at, rest = text.partition("@")
            telling = name in ADDRESSES or any(map(str.isalnum, local))
            found += [(local, name)] if at and telling and local in talk.locals else []
            text = f"{local} {rest.partition('/')[2]}"
        tokens = text.replace("<", " ").replace("&", " ").split()
        found += [(one, name) for one in tokens if one in talk.locals and is_telling(one)]
        found += [(one, name) for one in letter_runs(text) if one in talk.words]
    return found


def is_left(element: str, name: str, value: str) -> bool:
    """Tell whether this value is one that is documented to stay."""
    if name:
        return keeps_attribute(name, value) or value in ("application/json", "text/plain")
    return keeps_text(element, value) or (element == "value" and keeps_form_type(value))


@steady
@given(talks(), KEYS)
def test_no_word_and_no_local_part_remains(talk: Talk, key: bytes) -> None:
    records = list(talk.records)
    new = redacted(records, key)
    assert remaining(talk, new) == []
    search = Search(hidden_of(records))
    for record in new:
        search.feed(record)
    search.end()
    assert search.found == {}


@steady
@given(talks())
def test_the_search_finds_what_was_not_redacted(talk: Talk) -> None:
    records = list(talk.records)
    search = Search(hidden_of(records))
    for record in records:
        search.feed(record)
    search.end()
    assert set(talk.words) <= set(search.found)
    assert {f"@{local}" for local in talk.locals if f"\n{local}@" in senders(records)} <= set(
        search.found
    )


def senders(records: list[Record]) -> str:
    return "".join(f"\n{value.casefold()}" for _, name, value in values(records) if name == "from")


@steady
@given(talks(), KEYS)
def test_the_same_events_happen(talk: Talk, key: bytes) -> None:
    records = list(talk.records)
    new = redacted(records, key)
    assert [(one.at, one.channel) for one in new] == [(one.at, one.channel) for one in records]
    before, after = events(joined(records, IN)), events(joined(new, IN))
    assert list(map(shape, after)) == list(map(shape, before))


@steady
@given(GARBAGE, CHANGES, st.lists(st.integers(0, 1000), max_size=8), KEYS)
def test_what_is_broken_breaks_in_the_same_way(
    garbage: bytes, changes: list[tuple[int, int, bytes]], places: list[int], key: bytes
) -> None:
    message = b"<message from='juliet@x.test/a' to='b@bot.example'><body>Hi there</body></message>"
    data = HEADER + HANDSHAKE + mutated(message + garbage, changes) + b" < "
    ends = sorted({place * len(data) // 1000 for place in places} | {len(data)})
    chunks = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    new = redacted([Record(0.0, IN, one) for one in chunks], key)
    before, after = events(data), events(joined(new, IN))
    assert list(map(shape, after)) == list(map(shape, before))
