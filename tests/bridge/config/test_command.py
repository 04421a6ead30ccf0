"""The tables of commands and of registration in a configuration."""

import builtins
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.command import CommandSet, CommandSettings, RegisterSettings
from bridge.config.form import Choice, CommandField, Rule, compiled
from bridge.config.loader import from_table
from bridge.config.settings import ConfigError
from bridge.config.value import BadValue

DOMAIN: Final = "bot.example.com"


def commands_of(**keys: Any) -> CommandSet:
    component = {"component_secret": "s", "component_post_url": "http://127.0.0.1/", **keys}
    table = {"component": {DOMAIN: component}}
    [one] = from_table(table, "bridge.toml", directory=Path(), environment={}).components
    return one.commands


def test_the_tables() -> None:
    fields = [
        {"var": "id", "label": "Number", "required": True, "validate": "integer"},
        {"var": "size", "options": ["s", {"value": "l", "label": "large"}], "value": "l"},
        {"var": "gift", "type": "boolean", "value": True},
        {"var": "many", "value": 5, "validate": {"min": 1, "max": 9}},
        {"var": "code", "validate": {"regex": "[A-Z]{3}"}},
        {"var": "day", "validate": "date"},
    ]
    order = {"node": "order", "for": ["Anna@Example.com/Phone", "Example.org"], "fields": fields}
    found = commands_of(
        command=[order, {"node": "open", "name": "Open", "more": True}],
        register={"fields": [{"var": "username"}], "instructions": "Two\nlines."},
        component_text_prefix="!",
        component_text_commands=False,
    )
    assert found == CommandSet(
        (
            CommandSettings(
                "order",
                "order",
                (
                    CommandField("id", "text-single", "Number", "", True, rule=Rule("integer")),
                    CommandField(
                        "size",
                        "list-single",
                        options=(Choice("s"), Choice("l", "large")),
                        values=("l",),
                    ),
                    CommandField("gift", "boolean", values=("true",)),
                    CommandField("many", values=("5",), rule=Rule("integer", 1, 9)),
                    CommandField("code", rule=Rule("regex", regex="[A-Z]{3}")),
                    CommandField("day", rule=Rule("date")),
                ),
                ("anna@example.com/Phone", "example.org"),
            ),
            CommandSettings("open", "Open", more=True),
        ),
        RegisterSettings((CommandField("username"),), "Two\nlines."),
        text=False,
        prefix="!",
    )
    assert commands_of() == CommandSet()


def test_who_may_use_a_command() -> None:
    [one] = commands_of(
        command=[{"node": "a", "for": ["anna@example.com/phone", "bob@example.com", "x.org"]}]
    ).commands
    for address in ("Anna@example.com/phone", "bob@EXAMPLE.com/any", "bob@example.com", "c@X.org"):
        assert one.allows(address), address
    for address in ("anna@example.com/Phone", "anna@example.com", "c@y.x.org", "example.com"):
        assert not one.allows(address), address


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"command": {"node": "a"}}, "command", "must be an array of tables"),
        ({"command": ["a"]}, "command", "must be an array of tables"),
        ({"command": [{}]}, "command[0].node", "is missing. Set node."),
        ({"command": [{"node": "a b"}]}, "command[0].node", "'a b' is not one word"),
        ({"command": [{"node": "a/b"}]}, "command[0].node", "'a/b' is not one word"),
        (
            {"command": [{"node": "a"}, {"node": "A"}]},
            "command[1].node",
            "there is another command 'A'. Use a name once, in whatever letter case.",
        ),
        (
            {"command": [{"node": "a", "filds": []}]},
            "command[0].filds",
            "this key is unknown. Perhaps you meant fields.",
        ),
        (
            {"command": [{"node": f"n{n}"} for n in range(101)]},
            "command",
            "there are 101 commands, more than 100. Remove some.",
        ),
        (
            {"command": [{"node": "a", "fields": [{"var": "v", "type": "text-singel"}]}]},
            "command[0].fields[0].type",
            "'text-singel' is not a type of a field. Perhaps you meant \"text-single\".",
        ),
        (
            {"command": [{"node": "a", "fields": [{"var": "v", "value": [1, 2]}]}]},
            "command[0].fields[0].value",
            "a field of type text-single has one value. Write a single value.",
        ),
        (
            {"command": [{"node": "a", "fields": [{"var": "v", "value": 1.5}]}]},
            "command[0].fields[0].value",
            "must be a text, a whole number, true or false",
        ),
        (
            {"command": [{"node": "a", "fields": [{"var": "v", "validate": {"min": "1"}}]}]},
            "command[0].fields[0].validate.min",
            "must be a whole number of at most 18 digits",
        ),
        (
            {
                "command": [
                    {"node": "a", "fields": [{"var": "v", "type": "boolean", "validate": "date"}]}
                ]
            },
            "command[0].fields[0].validate",
            "a field of type boolean has its own rule. Remove it.",
        ),
        ({"register": {}}, "register.fields", "there are no fields. List what people fill in."),
        ({"register": []}, "register", "must be a table, not a list."),
        ({"component_text_prefix": ""}, "component_text_prefix", "'' is not 1 to 10 visible"),
        ({"component_text_prefix": "a b"}, "component_text_prefix", "'a b' is not 1 to 10"),
    ],
)
def test_a_fault_names_its_key(keys: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        commands_of(**keys)
    [fault] = caught.value.faults
    assert fault.key == f'component."{DOMAIN}".{key}'
    assert f"{fault.problem}. {fault.remedy}.".startswith(words)


def test_a_pattern_is_matched_in_linear_time() -> None:
    """Python's own `re` would need 2^4000 steps."""
    assert compiled("(a+)+$").fullmatch("a" * 4_000 + "b") is None


def test_without_its_library_a_pattern_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadValue, match=r'Install it: pip install "xmpp-bridge\[regex\]"'):
        compiled("never compiled before")
