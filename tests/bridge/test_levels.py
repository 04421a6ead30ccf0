"""Who may import whom: two packages, one direction, and levels that only look down."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LEVELS: Final = (
    {"address", "admitted", "answer", "config", "delay", "envelope", "incident", "journal"}
    | {"log", "meter", "outcome", "quantity", "request", "retry", "token", "webhook"}
    | {"capture_file", "compression", "exchange", "size"},
    {"auto", "conversation", "health", "ledger", "loader", "outbox", "reconnect", "rooms"}
    | {"claim", "redact", "waiter"}
    | {"listen", "notify", "rate", "structure", "teller", "tracing"}
    | {"departure", "endpoint", "pool", "transport", "watch", "wire"}
    | {"capture_dir", "recorder", "recording", "series", "spool"}
    | {"committer", "control", "desk", "keeper", "sqlite", "sqlite_journal", "state_dir"},
    {"admission", "courier", "dispatch", "link", "responder", "status", "storage"}
    | {"asker", "errand", "sender", "voice"},
    {"service"},
    {"roster"},
    {"listener"},
    {"daemon"},
    {"__main__", "capture_flag", "check", "cli", "conformance", "demo", "queue", "redaction"}
    | {"replay", "unit"},
)
LEVEL_OF: Final = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES: Final = {
    package: {
        ".".join(path.relative_to(ROOT / package).with_suffix("").parts): ast.parse(
            path.read_text()
        )
        for path in (ROOT / package).rglob("*.py")
    }
    for package in ("bridge", "xmppstream")
}
"""Each module's tree, by its name inside of the package."""
PAIRS: Final = [
    pytest.param(tree, name, id=f"{package}.{name}")
    for package, modules in MODULES.items()
    for name, tree in modules.items()
]


def imports(tree: ast.AST) -> Iterator[str]:
    """Give the full names of all modules (and what is taken of them) that are imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str, imported: str) -> set[str]:
    """Give the modules of a package that import another package."""
    return {
        name
        for name, tree in MODULES[package].items()
        if any(one.partition(".")[0] == imported for one in imports(tree))
    }


def test_the_stream_does_not_know_the_bridge() -> None:
    assert importers("xmppstream", "bridge") == set()


def test_only_the_parser_imports_lxml() -> None:
    assert importers("xmppstream", "lxml") == {"parser"}
    assert importers("bridge", "lxml") == set()


def test_only_the_driver_and_its_threads_import_trio() -> None:
    assert importers("xmppstream", "trio") == {"thread", "trio_stream"}


@pytest.mark.parametrize("package", ["json", "httpx", "structlog"])
def test_the_stream_knows_no_http_no_json_and_no_log(package: str) -> None:
    assert importers("xmppstream", package) == set()


def test_the_stream_has_only_values_of_msgspec() -> None:
    names = {name for tree in MODULES["xmppstream"].values() for name in imports(tree)}
    assert {name for name in names if name.startswith("msgspec")} == {
        "msgspec.Struct",
        "msgspec.structs.force_setattr",
    }


def test_httpx_stays_with_the_endpoint_and_its_transport() -> None:
    users = {"answer", "check", "endpoint", "pool", "replay.answers", "transport"}
    assert importers("bridge", "httpx") == users


def test_only_metrics_know_prometheus() -> None:
    found = importers("bridge", "prometheus_client")
    assert found == {"listener.collector", "listener.metrics"}


def test_sqlite_stays_with_the_store() -> None:
    modules = importers("bridge", "sqlite3")
    assert modules
    assert {name for name in modules if name.split(".")[0] not in ("sqlite", "sqlite_journal")} == (
        set()
    )


def test_every_module_has_a_level() -> None:
    assert set(LEVEL_OF) == {name.split(".")[0] for name in MODULES["bridge"]} - {"__init__"}


@pytest.mark.parametrize("name", sorted(MODULES["bridge"]))
def test_imports_only_look_down_or_sideways(name: str) -> None:
    seen = {one.split(".")[1] for one in imports(MODULES["bridge"][name]) if "bridge." in one}
    level = LEVEL_OF.get(name.split(".")[0], 0)
    assert {one for one in seen if LEVEL_OF.get(one, 0) > level} == set()


def test_dispatch_does_not_know_the_link_nor_the_link_dispatch() -> None:
    trees = MODULES["bridge"]
    assert "bridge.link.Link" not in set(imports(trees["dispatch"]))
    assert not {one for one in imports(trees["link"]) if one.startswith("bridge.dispatch")}


def test_who_uses_the_journal_does_not_know_which_store_it_is() -> None:
    stores = {"bridge.sqlite", "bridge.sqlite_journal", "bridge.storage"}
    for name in ("committer", "dispatch", "keeper"):
        seen = set(imports(MODULES["bridge"][name]))
        assert not {one for one in seen if any(one.startswith(store) for store in stores)}


def caught_broadly(tree: ast.AST) -> Iterator[str]:
    """Give what the handlers catch that is too much, `bare` for one that names nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield "bare"
            else:
                names = {
                    ast.unparse(one) for one in ast.walk(node.type) if isinstance(one, ast.expr)
                }
                yield from names & {"Exception", "BaseException", "trio.Cancelled", "Cancelled"}


def test_two_exception_handlers_catch_everything() -> None:
    """That of a stanza's task, and that of a connection to the listener: foreign code is there."""
    found = [
        (f"{package}.{name}", caught)
        for package, modules in MODULES.items()
        for name, tree in modules.items()
        for caught in caught_broadly(tree)
    ]
    assert found == [("bridge.dispatch", "Exception"), ("bridge.listener.server", "Exception")]


@pytest.mark.parametrize(("tree", "name"), PAIRS)
def test_groups_are_caught_in_daemon_and_commands_only(tree: ast.AST, name: str) -> None:
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.TryStar)]
    assert not stars or name in ("daemon", "cli", "conformance.command", "replay.command")
