"""Each capture in `fixtures/`, redacted: nothing is found again, and the stream has its shape."""

from pathlib import Path

import pytest

from bridge.capture.file import open_capture
from bridge.capture.format import IN, LINK, OUT, Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.hidden import Hidden
from bridge.capture.redact.search import Search, Survey, surveyor
from tests.bridge.capture.conversation_maker import events, joined, shape

FIXTURES = Path(__file__).parents[4] / "fixtures"
CAPTURES = sorted(one for one in FIXTURES.glob("*/*.xcap*") if one.is_file())


def connections(records: list[Record]) -> list[bytes]:
    """Give what the server sent, connection by connection."""
    parts: list[list[Record]] = [[]]
    for record in records:
        if record.channel == LINK and record.data.startswith(b"open"):
            parts.append([])
        parts[-1].append(record)
    return [joined(part, IN) for part in parts]


@pytest.mark.parametrize("path", [pytest.param(one, id=one.stem) for one in CAPTURES])
def test_a_fixture_is_the_same_redacted(path: Path) -> None:
    with open_capture(path) as capture:
        records, header = list(capture), capture.header
    hidden = Hidden(1024 * 1024)
    survey = surveyor(Survey(hidden))
    redactor, search = Redactor(b"k" * 16, hidden.avoids), Search(hidden)
    survey.header(header)
    for record in records:
        survey.feed(record)
    survey.end()
    search.header(redactor.header(header))
    new = [one for record in records for one in redactor.feed(record)] + redactor.end()
    for record in new:
        search.feed(record)
    search.end()
    assert search.found == {}
    assert [(one.at, one.channel) for one in new] == [(one.at, one.channel) for one in records]
    for channel in (IN, OUT):
        lengths = [len(one.data) for one in records if one.channel == channel]
        assert [len(one.data) for one in new if one.channel == channel] == lengths
    for before, after in zip(connections(records), connections(new), strict=True):
        assert list(map(shape, events(after))) == list(map(shape, events(before)))


def test_there_are_fixtures() -> None:
    assert len(CAPTURES) > 100
