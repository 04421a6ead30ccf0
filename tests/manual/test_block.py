"""Each block of code that can run runs, or is at least read by the program that it is for.

Blocks that only mean something beside real servers run in `tests/servers/`.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from bridge.config.loader import load
from tests.manual.page import BLOCKS, DOCUMENTS, Block, blocks_in
from tests.manual.test_reference import COMMANDS

CHECKED = {"sh", "python", "js", "php", "json", "toml", "yaml", "xml"}
ONLY_SHOWN = {"", "lua", "nginx"}
FOR_PROMETHEUS = [one for one in blocks_in("yaml") if not one.text.startswith("acl:")]
"""The other one is ejabberd's: see `tests/servers/test_files.py`."""
COMPONENT = """
[component."bot.example.com"]
component_secret_file = "its.secret"
component_post_url = "http://127.0.0.1:8000/"
"""


def every_block(*languages: str) -> pytest.MarkDecorator:
    blocks = [block for language in languages for block in blocks_in(language)]
    assert blocks
    return pytest.mark.parametrize("block", blocks, ids=str)


def check(*command: str, text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout


def test_each_language_is_known() -> None:
    assert {block.language for block in BLOCKS} <= CHECKED | ONLY_SHOWN


@every_block("sh")
def test_a_shell_reads_it(block: Block) -> None:
    check("bash", "-n", text=block.text)


@every_block("python")
def test_python_compiles_it(block: Block) -> None:
    compile(block.text, str(block), "exec")


@every_block("php")
def test_php_reads_it(block: Block) -> None:
    if shutil.which("php") is None:
        pytest.skip("php is not installed")
    check("php", "-l", text=block.text)


@pytest.mark.express
@every_block("js")
def test_node_reads_it(block: Block, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    program = tmp_path / "program.js"
    program.write_text(block.text)
    check("node", "--check", str(program), text="")


@every_block("json")
def test_it_is_json(block: Block) -> None:
    json.loads(block.text)


@every_block("xml")
def test_it_is_xml(block: Block) -> None:
    ElementTree.fromstring(block.text)


@pytest.mark.promtool
@pytest.mark.parametrize("block", FOR_PROMETHEUS, ids=str)
def test_prometheus_reads_it(block: Block, tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    file = tmp_path / "file.yml"
    file.write_text(block.text)
    kind = ["rules"] if block.text.startswith("groups:") else ["config", "--syntax-only"]
    check("promtool", "check", *kind, str(file), text="")


@every_block("toml")
def test_it_is_a_configuration(block: Block, tmp_path: Path) -> None:
    """A part of one is read beside a component; each file that it names is there."""
    text = block.text if "[component." in block.text else f"{block.text}{COMPONENT}"
    for key, name in secrets_in(tomllib.loads(text)):
        path = tmp_path / Path(name).name
        dummy = "postgresql:///" if key == "url_file" else f"{key}={name}_as_a_dummy"
        path.write_text(dummy)
        path.chmod(0o600)
    for name in re.findall(r'^avatar = "(.*)"$', text, re.M):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n...")
    file = tmp_path / "bridge.toml"
    file.write_text(re.sub(r'(_file = )"/[^"]*/', r'\1"', text))
    file.chmod(0o600)
    load(file)


def secrets_in(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys of a configuration that name files with secrets, and the names."""
    for key, value in table.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from secrets_in(one)
            elif key.endswith(("secret_file", "Authorization_file", "url_file")):
                yield key, one


# --- our own commands


def typed() -> Iterator[tuple[str, list[str]]]:
    """Yield each of our commands that a document has the reader type, with where that is."""
    for document in DOCUMENTS:
        for block in document.blocks:
            if block.language == "sh":
                for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                    for words in ours_in(line):
                        yield str(block), words
        for span in document.spans:
            if span.startswith("xmpp-bridge "):
                for words in ours_in(span):
                    yield document.path.name, words


def ours_in(line: str) -> Iterator[list[str]]:
    """Yield our commands in a line, each as its words, without the program's name."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] | None = None
    before = ";"
    for word in lexer:
        ends = (bool(word) and set(word) <= OPERATORS) or word == "--"
        if words and ends:
            yield words
        if word.rpartition("/")[2] == "xmpp-bridge" and (set(before) <= OPERATORS or before in RUN):
            words = []
        elif ends:
            words = None
        elif words is not None:
            words.append(word)
        before = word
    if words:
        yield words


OPERATORS = set("|&;()<>")
RUN = {"sudo", "xargs", "--"}
TYPED = list(typed())


def test_commands_are_found() -> None:
    line = "sudo x/xmpp-bridge queue b.toml list --dead | cut -f1 && xmpp-bridge demo"
    line += " -- xmpp-bridge run"
    assert list(ours_in(line)) == [["queue", "b.toml", "list", "--dead"], ["demo"], ["run"]]
    assert list(ours_in("journalctl -u xmpp-bridge --since today # xmpp-bridge")) == []
    assert len(TYPED) > 50


@pytest.mark.parametrize(("place", "words"), TYPED, ids=str)
def test_a_typed_command_exists_and_has_its_options(place: str, words: list[str]) -> None:
    if words[0].startswith("-"):
        assert words in (["--version"], ["--help"]), place
        return
    if words[0] in {"COMMAND", "NAME"}:
        return
    command = COMMANDS[words[0]]
    assert set(options_of(words)) <= {*known_options(command, words), "-h", "--help"}, place


def options_of(words: list[str]) -> Iterator[str]:
    for word in words:
        if re.match("--?[a-z]", word):
            yield word.partition("=")[0]


def known_options(command: click.Command, words: list[str]) -> Iterator[str]:
    """Yield the options of a command, and of those below it that the words name."""
    for parameter in command.params:
        yield from parameter.opts
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            if name in words:
                yield from known_options(below, words)
