"""Whatever the program has, the manual names: each configuration key with its default, each metric,
each event of the log, each exit code, command and option. And it names nothing else.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import attrs
import click
import pytest

from bridge.cli.help import pages
from bridge.cli.main import main
from bridge.config.profile import ProfileTable
from bridge.config.settings import (
    ComponentTable,
    ConfigFile,
    HttpSettings,
    JournalTable,
    ListenTable,
    LogSettings,
    NodeTable,
    RetrySettings,
    RetryTable,
    RoomTable,
    SenderLimits,
    StreamSettings,
    TokenTable,
    TracingSettings,
)
from bridge.daemon.daemon import ExitCode
from bridge.listener.monitor.collector import PREFIX, Scrape, ScrapeCollector
from tests.manual.page import ROOT, code_of, page

# --- configuration

TABLES: dict[str, Any] = {
    '[component."DOMAIN"]': ComponentTable,
    '[[component."DOMAIN".room]]': RoomTable,
    '[component."DOMAIN".profile."LOCAL"]': ProfileTable,
    "[http]": HttpSettings,
    "[stream]": StreamSettings,
    "[retry]": RetryTable,
    "[journal]": JournalTable,
    "[node]": NodeTable,
    "[limits]": SenderLimits,
    "[tracing]": TracingSettings,
    "[log]": LogSettings,
    "[listen]": ListenTable,
    "[[listen.token]]": TokenTable,
}
ELSEWHERE = {
    ("[http]", "headers"),
    ("[listen]", "token"),
    ('[component."DOMAIN"]', "room"),
}  # tables of their own
DECIDED_LATER = {  # by whoever reads the table; there, no value is a value of its own
    "component_post_stanzas": ["message"],
    "durability": "process",
    "level": "info",
    **attrs.asdict(RetrySettings()),
}


def fields(table: Any) -> dict[str, Any]:
    """Return the keys of a table with their defaults."""
    empty = table()
    names = [field.name for field in attrs.fields(table)]
    return {name.rstrip("_"): getattr(empty, name) for name in names}


def test_each_table_has_a_section() -> None:
    headings = {section.heading for section in page("configuration").sections}
    for name in fields(ConfigFile).keys() - set(top_level()):
        assert headings & {f"[{name}]", f'[{name}."DOMAIN"]'}, name
    assert TABLES.keys() <= headings
    assert "[http.headers]" in headings


def top_level() -> dict[str, list[str]]:
    return page("configuration").section("Where the server is").table("key")


def test_the_keys_of_the_top_level() -> None:
    tables = {re.match(r"\[+(\w+)", name)[1] for name in TABLES}  # type: ignore[index]  # all do
    assert top_level().keys() == fields(ConfigFile).keys() - tables


@pytest.mark.parametrize("heading", TABLES)
def test_the_keys_of_a_table(heading: str) -> None:
    documented = page("configuration").section(heading).table("key")
    known = {key for key in fields(TABLES[heading]) if (heading, key) not in ELSEWHERE}
    assert documented.keys() == known


@pytest.mark.parametrize("heading", [None, *TABLES])
def test_the_defaults_are_true(heading: str | None) -> None:
    if heading is None:
        documented, defaults = top_level(), fields(ConfigFile)
    else:
        documented = page("configuration").section(heading).table("key")
        defaults = fields(TABLES[heading])
    for key, (shown, *_) in documented.items():
        if shown.startswith("`"):
            default = DECIDED_LATER.get(key) if defaults[key] is None else defaults[key]
            assert tomllib.loads(f"value = {shown.strip('`')}") == {"value": default}, key
        else:
            assert defaults[key] in (None, [], {}), key


# --- metrics


def test_the_metrics() -> None:
    suffixes = {"counter": "_total", "info": "_info"}
    metrics = {
        f"{metric.name}{suffixes.get(metric.type, '')}"
        for metric in ScrapeCollector(Scrape(has_journal=True)).collect()
    }
    documented = page("monitoring").section("Reference").table("metric")
    assert {f"{PREFIX}_{name}" for name in documented} == metrics


# --- the log

LEVELS = {"debug", "info", "warning", "error", "exception"}


def logged() -> dict[str, set[str]]:
    """Return the events that the source of `bridge` logs, each with its levels."""
    events: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [one for one in ast.walk(tree) if isinstance(one, FUNCTIONS)]
        for function in functions:
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and (levels := levels_of(call.func)):
                    names = list(events_of(call.args[0], function))
                    assert names, f"{path}:{call.lineno}: the name of the event is not a constant"
                    for name in names:
                        events[name] |= levels
    return events


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def levels_of(called: ast.expr) -> set[str]:
    """Return the levels by which `log.info`, `(log.debug if … else log.info)` log; empty for
    anything else.
    """
    match called:
        case ast.IfExp(body=body, orelse=orelse):
            return levels_of(body) | levels_of(orelse)
        case ast.Attribute(value=ast.Call(func=logger) | logger, attr=level):
            is_log = re.search(r"\b_?log(ger)?$", ast.unparse(logger)) and level in LEVELS
            return {"error" if level == "exception" else level} if is_log else set()
    return set()


def events_of(argument: ast.expr, function: ast.AST) -> Iterator[str]:
    """Yield what an argument may be: a constant, or what is assigned to that variable."""
    match argument:
        case ast.Constant(value=str(event)):
            yield event
        case ast.IfExp(body=body, orelse=orelse):
            yield from events_of(body, function)
            yield from events_of(orelse, function)
        case ast.Name(id=name):
            for one in ast.walk(function):
                match one:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                        yield from events_of(value, function)


def test_the_events_of_the_log() -> None:
    documented = page("logging").section("Reference").table("event")
    events = logged()
    assert documented.keys() == events.keys()
    wrong = {
        event: (level, events[event])
        for event, (level, *_) in documented.items()
        if level not in events[event]
    }
    assert wrong == {}


# --- the command line


def commands() -> dict[str, click.Command]:
    """Return all commands, and those below them as `queue list`."""
    found: dict[str, click.Command] = {}
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {below}": one for below, one in command.commands.items()}
    return found


COMMANDS = commands()


def test_the_exit_codes() -> None:
    tables = page("operation").section("Reference").tables
    (codes,) = (table for table in tables if table[0][0].content == "code")
    interrupted = 130
    assert {int(row[0].content) for row in codes[1:]} == {*map(int, ExitCode), interrupted}


def test_the_exit_codes_of_each_command() -> None:
    tables = page("operation").section("Reference").tables
    (codes,) = (table for table in tables if table[0][1].content == "1")
    documented = [
        name for row in codes[1:] for cell in code_of(row[0]) for name in cell.split(", ")
    ]
    assert sorted(documented) == sorted(name for name in COMMANDS if " " not in name)


def test_each_command_is_in_the_table_of_commands() -> None:
    rows = page("tutorial").section("Reference: commands").table("command")
    documented = {row.split()[1] for row in rows if row.startswith("xmpp-bridge ")}
    assert documented == {name for name in COMMANDS if " " not in name}


PAGE_OF = {"journal": "cluster"}
"""The page of a group of commands, if its name is another."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if " " in name])
def test_a_command_below_another_is_on_its_page(name: str) -> None:
    group, below = name.split()
    text = page(PAGE_OF.get(group, group)).text
    assert re.search(rf"xmpp-bridge {group}( bridge\.toml)? {below}\b", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_in_the_manual_and_has_its_help(name: str) -> None:
    manual = "\n".join(pages().values())
    options = [one for one in COMMANDS[name].params if isinstance(one, click.Option)]
    names = [long for option in options for long in option.opts if long.startswith("--")]
    assert [one for one in names if not re.search(rf"(?<![\w-]){one}(?![\w-])", manual)] == []
    assert [option.name for option in options if not option.help] == []
