"""Rooms of the configuration: what they become, and each fault with its key and remedy."""

from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.loader import load
from bridge.config.settings import Component, ConfigError, RoomSettings
from bridge.config.value import Secret

ROOM: Final = "hall@muc.example"
KEY: Final = 'component."bot.example"'


def config(rooms: str, more: str = "") -> str:
    return (
        f'[component."bot.example"]\ncomponent_secret = "x"\n'
        f'component_post_url = "http://127.0.0.1/"\n{more}\n{rooms}'
    )


def room(**keys: Any) -> str:
    given = {"jid": ROOM, "as": "bot", "nick": "robot", **keys}
    lines = [f'"{key}" = {_toml(value)}' for key, value in given.items() if value is not None]
    return "\n".join(['[[component."bot.example".room]]', *lines, ""])


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def read(tmp_path: Path, text: str) -> tuple[Component, tuple[str, ...]]:
    file = tmp_path / "bridge.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    settings = load(file)
    [component] = settings.components
    return component, settings.warnings


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [str(fault) for fault in caught.value.faults]


def test_a_room(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    text = config(room(jid="Hall@MUC.example", password_file="password", create=True))
    component, warnings = read(tmp_path, text)
    assert component.rooms == (RoomSettings(ROOM, "bot", "robot", Secret("s3cret"), True),)
    assert (component.max_rooms, component.invitations, warnings) == (100, None, ())


def test_the_nick_is_the_local_part_unless_it_is_set(tmp_path: Path) -> None:
    component, _ = read(tmp_path, config(room(nick=None)))
    assert component.rooms[0].nick == "bot"


def test_the_only_local_part_need_not_be_repeated(tmp_path: Path) -> None:
    rooms = room() + room(jid="attic@muc.example", **{"as": None})
    component, _ = read(tmp_path, config(rooms))
    assert [one.local for one in component.rooms] == ["bot", "bot"]


FAULTS: Final = [
    (room(jid=None), "jid: the address of the room is missing. Set jid."),
    (room(**{"as": None}), "as: the local part to join as is missing. Set as."),
    (
        room(jid="muc.example"),
        "jid: 'muc.example' is not the address of a room: it has no local part. Use an address"
        ' such as "room@conference.example.com".',
    ),
    (
        room(jid=f"{ROOM}/robot"),
        f"jid: '{ROOM}/robot' is not the address of a room: it has a resource. Remove the slash"
        " and what follows; set nick instead.",
    ),
    (
        room(jid="@@bad"),
        "jid: '@@bad' is not a valid address: its local part is empty. Use an address such as"
        ' "room@conference.example.com".',
    ),
    (
        room(jid="hall@bot.example"),
        "jid: bot.example is the component itself, which has no rooms. Use an address such as"
        ' "room@conference.example.com".',
    ),
    (
        room(**{"as": "a b"}),
        "as: 'a b' is not a valid local part. Use a name such as \"bot\".",
    ),
    (
        room(nick="\\u0007bell"),
        "nick: '\\x07bell' is not a valid nick: character U+0007 cannot be written as XML. Use"
        " visible characters, at most 1023 bytes.",
    ),
    (
        room(nick="a\\tb"),
        "nick: 'a\\tb' is not a valid nick: its resource contains a forbidden character. Use"
        " visible characters, at most 1023 bytes.",
    ),
    (
        room(nick="a" * 1024),
        f"nick: '{'a' * 1024}' is not a valid nick: its resource is longer than 1023 bytes. Use"
        " visible characters, at most 1023 bytes.",
    ),
    (
        room(nick=" robot"),
        "nick: ' robot' is not a valid nick: it begins or ends with a space. Remove it.",
    ),
    (
        room(password="x", password_file="y"),
        "password: password and password_file are both set. Keep one of the two.",
    ),
    (
        room(password="\\u0001"),
        "password: character U+0001 cannot be written as XML. Remove it.",
    ),
    (room(create="yes"), "create: must be true or false, not a string. Write true or false"),
    (room(nik="x"), "nik: this key is unknown. Perhaps you meant nick."),
    (room(ass="x"), "ass: this key is unknown. Perhaps you meant"),
]


@pytest.mark.parametrize(("text", "fault"), FAULTS, ids=range(len(FAULTS)))
def test_faults(tmp_path: Path, text: str, fault: str) -> None:
    found = faults(tmp_path, config(text))
    assert any(one.startswith(f"{KEY}.room[0].{fault}") for one in found), found


def test_a_room_is_joined_once_by_each_address(tmp_path: Path) -> None:
    found = faults(tmp_path, config(room() + room(jid="HALL@muc.example")))
    assert found == [f"{KEY}.room[1].jid: bot is in {ROOM} already. Keep one of the two."]
    component, _ = read(tmp_path, config(room() + room(**{"as": "other"})))
    assert len(component.rooms) == 2


def test_no_more_rooms_than_allowed(tmp_path: Path) -> None:
    text = config(room() + room(**{"as": "other"}), "max_rooms = 1")
    [found] = faults(tmp_path, text)
    assert found == f"{KEY}.max_rooms: there are 2 rooms. Raise max_rooms, or remove some."


def test_a_single_table_is_not_a_list(tmp_path: Path) -> None:
    text = config(room()).replace("[[", "[").replace("]]", "]")
    assert faults(tmp_path, text) == [
        f'{KEY}.room: must be an array of tables. Begin each with [[component."DOMAIN".room]].'
    ]


def test_a_room_that_allow_from_shuts_out_is_warned_of(tmp_path: Path) -> None:
    _, [warning] = read(tmp_path, config(room(), 'allow_from = ["example.com"]'))
    assert f"does not name {ROOM} or muc.example" in warning
    for address in (ROOM, "MUC.example"):
        _, warnings = read(tmp_path, config(room(), f'allow_from = ["{address}"]'))
        assert warnings == ()


def test_invitations_of_anybody_are_not_accepted(tmp_path: Path) -> None:
    [found] = faults(tmp_path, config("", 'component_invitations = "accept"'))
    assert found.startswith(f"{KEY}.component_invitations: anybody could take the bot into any")
    text = config("", 'component_invitations = "accept"\nallow_from = ["example.com"]')
    component, _ = read(tmp_path, text)
    assert component.invitations == "accept"


def test_another_word_for_invitations(tmp_path: Path) -> None:
    [found] = faults(tmp_path, config("", 'component_invitations = "maybe"'))
    assert '"accept", "post", "ignore"' in found


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    component, _ = read(tmp_path, config(room(password="s3cret")))
    assert "s3cret" not in repr(component)


def test_only_an_address_that_exists_joins(tmp_path: Path) -> None:
    [found] = faults(tmp_path, config(room(), 'local_parts = ["news"]'))
    assert found == (
        f"{KEY}.room[0].as: 'bot' is not among local_parts. Add it there, or join as one of them."
    )
    component, _ = read(tmp_path, config(room(), 'local_parts = ["Bot"]'))
    assert [one.local for one in component.rooms] == ["bot"]


def test_the_only_address_that_exists_joins_by_default(tmp_path: Path) -> None:
    without = room(**{"as": None})
    component, _ = read(tmp_path, config(without, 'local_parts = ["Bot"]'))
    assert [one.local for one in component.rooms] == ["bot"]
    [found] = faults(tmp_path, config(without, 'local_parts = ["bot", "news"]'))
    assert found.startswith(f"{KEY}.room[0].as: ")
