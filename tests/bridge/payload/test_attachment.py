"""Names and media types of files to upload."""

import pytest

from bridge.payload.attachment import NAME_LIMIT_BYTES, clean_name, media_type_of


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
