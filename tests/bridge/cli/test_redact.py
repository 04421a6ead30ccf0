"""The command `redact`: files in, files out, what it refuses, and that it checks itself."""

import gzip
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.capture.file import open_capture
from bridge.capture.format import Header, Record, encode_header, encode_record
from bridge.capture.redact import Redactor
from bridge.capture.redact import copy as redaction
from bridge.capture.redact.keep import NO_WORDS, KeptWords
from bridge.capture.redact.pseudonym import Avoid
from bridge.cli.main import main
from tests.bridge.unprivileged import open_directory, unprivileged

HEADER = Header("Prosody 0.12.3", "bot.example", datetime(2026, 11, 22, tzinfo=UTC))
STANZA = (
    b"<message from='juliet@capulet.test/pda' to='bot.example'><body>Good night</body></message>"
)


def capture(*records: bytes, header: Header = HEADER) -> bytes:
    lines = [encode_record(Record(float(at), "in", data)) for at, data in enumerate(records)]
    return encode_header(header) + b"".join(lines)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["redact", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.xcap"
    path.write_bytes(capture(STANZA[:50], STANZA[50:]))
    return path


def read(path: Path) -> bytes:
    with open_capture(path) as reader:
        assert reader.header.get("redacted") == "yes"
        return b"".join(record.data for record in reader)


def test_a_capture_is_redacted(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.xcap"
    result = run(source, out)
    assert result.exit_code == 0, result.output
    assert result.output == "2 records, 2 words and numbers, 1 addresses replaced; 0 found again\n"
    assert len(read(out)) == len(STANZA)
    for word in (b"juliet", b"pda", b"Good", b"night"):
        assert word not in out.read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert {one.name for one in tmp_path.iterdir()} == {"in.xcap", "out.xcap"}


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_packed_captures(source: Path, tmp_path: Path, ending: str) -> None:
    packed, out = tmp_path / f"x.xcap.{ending}", tmp_path / "y.xcap"
    assert run(source, packed).exit_code == 0
    assert run(packed, out).exit_code == 0
    assert len(read(out)) == len(STANZA)


def test_a_key_makes_the_same_pseudonyms_in_all_files(source: Path, tmp_path: Path) -> None:
    key, one, other, third = (tmp_path / name for name in ("key", "1.xcap", "2.xcap", "3.xcap"))
    key.write_bytes(b"k" * 32)
    for out in (one, other):
        assert run("--key-file", key, source, out).exit_code == 0
    assert run(source, third).exit_code == 0
    assert read(one) == read(other) != read(third)


def test_several_files_are_one_story(source: Path, tmp_path: Path) -> None:
    second, out = tmp_path / "in2.xcap", tmp_path / "out"
    second.write_bytes(capture(STANZA))
    out.mkdir()
    result = run(source, second, out)
    assert result.exit_code == 0, result.output
    assert read(out / "in.xcap") == read(out / "in2.xcap")


def test_a_cut_capture_is_redacted_as_far_as_it_goes(source: Path, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes() + b"2.000000 in <mess")
    result = run(source, tmp_path / "out.xcap")
    assert result.exit_code == 0
    assert f"{source}: line 8 is incomplete" in result.output
    assert "2 records" in result.output
    packed = tmp_path / "in.xcap.gz"
    packed.write_bytes(gzip.compress(capture(*[STANZA] * 2000))[:-20])
    result = run(packed, tmp_path / "out2.xcap")
    assert result.exit_code == 0
    assert "cut" in result.output


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1: the file is empty"),
        (b"\x7fELF\x00\x01\x02", "line 1: this is not a capture"),
        (b"xcap 2\n\n", "line 1: this is version 2"),
        (b"xcap 1\norigin: x\n", "line 2: the header is incomplete"),
        (capture(STANZA) + b"rubbish\n" + capture(STANZA), "line 7: this is not a record"),
        (capture(STANZA) + b"1.000000 in \\q\n", "line 7: a backslash must begin one of"),
        (gzip.compress(b"x"), "it is compressed: its name must end in .gz"),
    ],
)
def test_what_is_no_capture(tmp_path: Path, content: bytes, problem: str) -> None:
    source, out = tmp_path / "in.xcap", tmp_path / "out.xcap"
    source.write_bytes(content)
    result = run(source, out)
    assert result.exit_code == 1
    assert f"Error: {source}: {problem}" in result.output
    assert [one.name for one in tmp_path.iterdir()] == ["in.xcap"]


def test_files_that_cannot_be_read(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.xcap"
    for path in (tmp_path / "none", tmp_path):
        result = run(path, out)
        assert result.exit_code == 1
        assert f"Error: {path}: it cannot be read (" in result.output
    assert not out.exists()


def test_a_file_that_must_not_be_read(source: Path, tmp_path: Path) -> None:
    with open_directory() as directory:
        mine = directory / "in.xcap"
        mine.write_bytes(source.read_bytes())
        mine.chmod(0)
        with unprivileged():
            results = [run(one, tmp_path / "out.xcap") for one in (mine, source)]
    for result in results:
        assert result.exit_code == 1
        assert "it cannot be read (Permission denied)" in result.output


def test_usage(source: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "out.xcap", tmp_path / "key"
    out.write_bytes(b"precious")
    key.write_bytes(b"short")
    os.link(source, tmp_path / "same.xcap")
    wrong: list[tuple[list[object], str]] = [
        ([source], "IN OUT"),
        (["-", out], "not '-'"),
        ([source, out], f"{out} already exists: use --force to overwrite it."),
        (["--force", source, source], "cannot be overwritten by its own copy"),
        (["--force", source, tmp_path / "same.xcap"], "cannot be overwritten by its own copy"),
        ([source, source, out], "is not a directory"),
        (["--key-file", key, source, tmp_path / "new"], "5 bytes; at least 16 are required"),
        (["--key-file", tmp_path, source, tmp_path / "new"], "the file cannot be read"),
    ]
    for arguments, problem in wrong:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert problem in " ".join(result.output.split())
    (tmp_path / "dir").mkdir()
    result = run(source, source, tmp_path / "dir")
    assert result.exit_code == 2
    assert "Two captures would be written to" in result.output
    assert out.read_bytes() == b"precious"
    assert run("--force", source, out).exit_code == 0
    assert len(read(out)) == len(STANZA)


def test_a_directory_that_is_not_there(source: Path, tmp_path: Path) -> None:
    result = run(source, tmp_path / "none" / "out.xcap")
    assert result.exit_code == 1
    assert f"{tmp_path}/none/out.xcap: it cannot be written (No such file" in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def open_full(path: os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        full = flags & os.O_EXCL and str(path).endswith("out.xcap")
        return really("/dev/full", os.O_WRONLY) if full else really(path, flags, mode)

    monkeypatch.setattr("bridge.capture.file.os.open", open_full)
    result = run(source, tmp_path / "out.xcap")
    assert result.exit_code == 1
    assert f"{tmp_path}/out.xcap: it cannot be written (No space left on device)" in result.output
    assert [one.name for one in tmp_path.iterdir()] == ["in.xcap"]


class Careless(Redactor):
    """Forgets the streams."""

    def __init__(self, key: bytes, avoid: Avoid | None = None, keep: KeptWords = NO_WORDS) -> None:
        super().__init__(key, avoid, keep)

    def feed(self, record: Record) -> list[Record]:
        return [record]


def test_what_is_found_again_is_not_given_away(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "Redactor", Careless)
    result = run(source, tmp_path / "out.xcap")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "3 words or local parts would remain:" in output
    assert "'night' in the record at 1.000000 (in) of" in output
    assert "Nothing was written." in output
    assert [one.name for one in tmp_path.iterdir()] == ["in.xcap"]


def test_what_a_pseudonym_could_be_by_chance_is_avoided(tmp_path: Path) -> None:
    source, out = tmp_path / "in.xcap", tmp_path / "out.xcap"
    stanza = "<presence from='{0:03}@x.test' to='b'/><message><body>{0:03} bcd{1}f</body></message>"
    letters = "bcdfghjklmnpqrstvwxz"
    source.write_bytes(
        capture(*(stanza.format(at, letters[at % 20]).encode() for at in range(1000)))
    )
    result = run(source, out)
    assert result.exit_code == 0, result.output
    new = read(out).decode()
    names = [part.partition("@")[0] for part in new.split("from='")[1:]]
    assert len(set(names)) == 1000
    assert not [name for name in names if len(name) == 3]


# --- words to be kept


def said(*bodies: str, sender: str = "juliet@capulet.test/pda") -> bytes:
    return b"".join(
        f"<message from='{sender}' to='bot.example'><body>{one}</body></message>".encode()
        for one in bodies
    )


def kept(tmp_path: Path, words: str, content: bytes) -> Result:
    (tmp_path / "words.txt").write_text(words, encoding="utf-8")
    (tmp_path / "in.xcap").write_bytes(content)
    (tmp_path / "out.xcap").unlink(missing_ok=True)
    return run("--keep-words", tmp_path / "words.txt", tmp_path / "in.xcap", tmp_path / "out.xcap")


KEPT = [
    "/order 42",
    "Order!",
    "  ORDER,  please",
    "(order)",
    "sign-out *now*",
    "&quot;order&quot; 42",
    "Übersicht",
    "é",
]
REPLACED = [
    "reorder",
    "orders",
    "order7",
    "order-list",
    "order.list",
    "order@capulet.test",
    "@order",
    "42@order",
    "http://order/42",
    "order_",
]


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_words_are_kept_where_they_stand_alone(tmp_path: Path, step: int) -> None:
    words = "# commands\n/order\nplease  # politely\n42\nsign-out\nnow\n\nübersicht\ne\u0301\n"
    stanzas = said(*KEPT, *REPLACED[:-1])
    chunks = [stanzas[at : at + step] for at in range(0, len(stanzas), step)]
    result = kept(tmp_path, words, capture(*chunks))
    assert result.exit_code == 0, result.output
    bodies = [one.partition("<")[0] for one in read(tmp_path / "out.xcap").decode().split("<body>")]
    assert bodies[1 : len(KEPT) + 1] == KEPT
    for old, new in zip(REPLACED, bodies[len(KEPT) + 1 :], strict=False):
        assert "order" not in new, old
        assert len(new) == len(old)


def test_words_are_kept_in_texts_only(tmp_path: Path) -> None:
    content = capture(
        b"<presence from='romeo@capulet.test/order' to='bot.example' id='order'/>"
        b"<iq id='1'><q xmlns='urn:x' name='order'>order</q></iq>"
    )
    assert kept(tmp_path, "order", content).exit_code == 0
    assert read(tmp_path / "out.xcap").decode().count("order") == 1


def test_no_word_is_kept_in_a_long_text(tmp_path: Path) -> None:
    result = kept(tmp_path, "order", capture(said("order " * 166, "order " * 200)))
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.xcap").decode().count("order") == 166


def test_a_word_that_is_a_name_is_refused(tmp_path: Path) -> None:
    result = kept(tmp_path, "order\njuliet", capture(said("order juliet")))
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert "'juliet' in --keep-words: also the local part of an address in the capture" in told
    assert "Take it out of the list. Nothing was written." in told
    assert not (tmp_path / "out.xcap").exists()


def test_no_pseudonym_is_a_kept_word(tmp_path: Path) -> None:
    words = {f"b{one}" for one in "cdfghjklmnpqrstvwxz"} | {
        f"{one}b" for one in "cdfghjklmnpqrstvwxz"
    }
    words |= {f"{one}{one}" for one in "cdfghjklmnpqrstvwxz"}
    content = capture(said(*(one + other for one in "aeiou" for other in "aeiou")))
    for _ in range(4):
        assert kept(tmp_path, "\n".join(words), content).exit_code == 0
        found = re.findall("<body>(..)</body>", read(tmp_path / "out.xcap").decode())
        assert len(found) == 25
        assert not set(found) & words


BAD_WORDS = [
    (b"", "there is no word in it: write one word per line."),
    (b"# only\n\n  \n", "there is no word in it"),
    (b"help\njuliet@capulet.test\n", "line 2: 'juliet@capulet.test' looks like an address"),
    (b"@juliet", "line 1: '@juliet' looks like an address"),
    (b"capulet.test", "line 1: 'capulet.test' looks like a domain or a URL; it is not kept."),
    (b"https://x/", "looks like a domain or a URL"),
    (b"see you", "line 1: 'see you' has several words: write one word per line."),
    (b"x" * 41, "has 41 characters, a word at most 40."),
    (b"4915112345678", "a number of more than 5 digits"),
    (b"a+b", "line 1: 'a+b' is not a word: use letters and digits, with - _ or ' within."),
    (b"/", "line 1: '/' is not a word"),
    (b"-x", "line 1: '-x' is not a word"),
    (b"\x1b[2J", "is not a word"),
    (b"caf\xe9", "the file is not UTF-8 (byte 4)."),
    (b"\n".join(b"w%d" % n for n in range(1001)), "1,001 words; at most 1,000 can be kept"),
    (b"word\n" * 60_000, "the file has more than 256 KiB: list only the words of commands."),
]


@pytest.mark.parametrize(("content", "problem"), BAD_WORDS, ids=[one for _, one in BAD_WORDS])
def test_a_bad_list_of_words(source: Path, tmp_path: Path, content: bytes, problem: str) -> None:
    words = tmp_path / "words.txt"
    words.write_bytes(content)
    result = run("--keep-words", words, source, tmp_path / "out.xcap")
    assert result.exit_code == 2
    assert f"--keep-words {words}: " in " ".join(result.stderr.split())
    assert problem in " ".join(result.stderr.split())
    assert "\x1b" not in result.stderr
    assert not (tmp_path / "out.xcap").exists()


def test_a_list_of_words_that_cannot_be_read(source: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "directory")):
        result = run("--keep-words", path, source, tmp_path / "out.xcap")
        assert result.exit_code == 2
        told = " ".join(result.stderr.split())
        assert f"--keep-words {path}: the file cannot be read (" in told
        assert why in told


def test_a_list_of_words_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert kept(tmp_path, "\ufefforder\r\nhelp\r\n", capture(said("order help"))).exit_code == 0
    assert b"<body>order help</body>" in read(tmp_path / "out.xcap")
