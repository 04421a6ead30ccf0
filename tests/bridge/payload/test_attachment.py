"""Names and media types of files to upload."""

import json
from typing import Any

import pytest

from bridge.payload.attachment import (
    FILES_LIMIT,
    NAME_LIMIT_BYTES,
    Attachment,
    clean_name,
    has_data,
    media_type_of,
    with_urls,
)
from bridge.payload.body import ReplyBody, RichObject, read_reply
from bridge.payload.content import write_fields
from bridge.payload.error import UnusableReply
from bridge.payload.field import of_stanza
from bridge.payload.shape import File
from tests.bridge.sample import stanza


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.png", "a.png"),
        ("Grüße 2026.pdf", "Grüße 2026.pdf"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\autoexec.bat", "autoexec.bat"),
        ("../../x/../a.txt", "a.txt"),
        (".htaccess", "htaccess"),
        ("...", "file.bin"),
        ("", "file.bin"),
        ("dir/", "file.bin"),
        ("a\r\nX-Evil: 1.png", "aX-Evil: 1.png"),
        ("a\0b\x7f\x9b.png", "ab.png"),
        ("harmless\u202egnp.exe", "harmlessgnp.exe"),
        ("a\u2028b\ud800.png", "ab.png"),
        ("  a.png  ", "a.png"),
    ],
)
def test_a_name_is_cleaned(given: str, name: str) -> None:
    assert clean_name(given) == name


def test_a_name_without_anything_gets_the_extension_of_its_type() -> None:
    assert clean_name("", "image/png") == "file.png"


@pytest.mark.parametrize("letter", ["a", "ü", "👍"])
def test_a_long_name_keeps_its_extension(letter: str) -> None:
    name = clean_name(letter * 1000 + ".jpeg")
    assert name.endswith(letter + ".jpeg")
    assert NAME_LIMIT_BYTES - 4 < len(name.encode()) <= NAME_LIMIT_BYTES


@pytest.mark.parametrize(
    ("given", "name", "media"),
    [
        ("image/PNG", "x", "image/png"),
        ("text/plain; charset=utf-8", "x", "text/plain"),
        ("", "a.png", "image/png"),
        ("", "a.unknown", "application/octet-stream"),
        ("application/octet-stream", "a.png", "image/png"),
        ("application/octet-stream", "a", "application/octet-stream"),
        (" ; x", "a.jpg", "image/jpeg"),
        ("image", "a.png", None),
        ("image/png\r\nX: y", "a.png", None),
        ("image/*", "a.png", None),
        ("a/b/c", "a.png", None),
        ("a/" + 100 * "b", "a.png", None),
    ],
)
def test_a_media_type_is_checked_or_guessed(given: str, name: str, media: str | None) -> None:
    assert media_type_of(given, name) == media


# --- files within replies


async def uploaded(*given: Any) -> tuple[list[Any], list[tuple[Attachment, str | None]]]:
    """The files of objects once they are uploaded, and what was uploaded for whom."""
    objects = read_reply(ReplyBody("json", json.dumps(list(given)).encode())).objects
    uploads: list[tuple[Attachment, str | None]] = []

    async def upload(one: Attachment, from_: str | None) -> File:
        uploads.append((one, from_))
        url = f"https://files.example/{len(uploads)}"
        return File(url, one.name, one.media_type, len(one.content))

    assert has_data(objects) == any("data_base64" in json.dumps(one) for one in given)
    changed = await with_urls(objects, upload)
    assert [one.body for one in changed] == [one.body for one in objects]
    files = [one.fields.get("files") for one in changed if isinstance(one, RichObject)]
    return files, uploads


async def test_content_becomes_a_url_and_the_rest_stays() -> None:
    files, uploads = await uploaded(
        {"body": "hi"},
        {
            "body": "two",
            "from": "echo@bot.example",
            "files": [
                {"url": "https://a.example/b", "desc": "as it is"},
                {"name": "a.png", "data_base64": "AAEC\nAw==", "desc": "d", "size": 99},
            ],
        },
        {"files": [{"name": "x", "media_type": "Text/Plain", "data_base64": "aGk="}]},
    )
    assert files == [
        [
            {"url": "https://a.example/b", "desc": "as it is"},
            {
                "url": "https://files.example/1",
                "name": "a.png",
                "media_type": "image/png",
                "size": 4,
                "desc": "d",
            },
        ],
        [{"url": "https://files.example/2", "name": "x", "media_type": "text/plain", "size": 2}],
    ]
    assert uploads == [
        (Attachment("a.png", "image/png", b"\0\1\2\3"), "echo@bot.example"),
        (Attachment("x", "text/plain", b"hi"), None),
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"body": "hi"},
        {"body": "hi", "files": [{"url": "https://a.example/b"}]},
        {"files": [{"url": "https://a.example/b", "data_base64": ""}]},
        {"files": [{"url": "https://a.example/b", "data_base64": None}]},
        {"files": "data_base64"},
        {"stanza": "<message/>", "files": [{"data_base64": "AA=="}]},
    ],
)
async def test_objects_without_content_stay_as_they_are(given: Any) -> None:
    objects = read_reply(ReplyBody("json", json.dumps(given).encode())).objects
    assert not has_data(objects)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ({"data_base64": "%%%"}, "files.data_base64 is not base64"),
        ({"data_base64": "AAE"}, "files.data_base64 is not base64"),
        ({"data_base64": "caf\u00e9"}, "files.data_base64 is not base64"),
        ({"data_base64": "data:image/png;base64,AAEC"}, "is a data: URL"),
        ({"data_base64": " \n"}, "files.data_base64 is empty"),
        ({"data_base64": 5}, "files[0].data_base64 is not a string"),
        ({"data_base64": "AAEC", "name": 5}, "files[0].name is not a string"),
        ({"data_base64": "AAEC", "url": "https://a.example/b"}, "exclude each other"),
        ({"data_base64": "AAEC", "media_type": "png"}, "'png' is not a media type"),
    ],
)
async def test_files_that_are_not_uploaded(file: Any, why: str) -> None:
    good = {"files": [{"name": "a.png", "data_base64": "AAEC"}]}
    with pytest.raises(UnusableReply) as caught:
        await uploaded(good, {"files": [file]})
    assert str(caught.value).startswith("object 2: ")
    assert why in str(caught.value)


async def test_too_many_files() -> None:
    with pytest.raises(UnusableReply, match="files: more than 100 entries"):
        await uploaded({"files": [{"data_base64": "AAEC"}] * (FILES_LIMIT + 1)})


def test_content_elsewhere_is_refused() -> None:
    fields = {"files": [{"name": "a", "data_base64": "AAEC"}]}
    with pytest.raises(UnusableReply, match="is not uploaded here; give the url"):
        write_fields(fields, None, "message", stanza("<message from='a@b'/>"))


def test_an_encrypted_link_is_told_apart_by_its_scheme() -> None:
    """As it came, key and all (XEP-0454): the bridge neither fetches nor rewrites it."""
    url = "aesgcm://upload.example.com/a.jpg#8c3d"
    oob = f"<x xmlns='jabber:x:oob'><url>{url}</url></x>"
    one = stanza(f"<message from='a@b' to='c@d'><body>{url}</body>{oob}</message>")
    assert [file.url for file in of_stanza(one)["files"]] == [url]
