"""`print-man`: groff takes each page without a warning, and all of the text is there."""

import re
import shutil
import subprocess

import click
import pytest
from click.testing import CliRunner

from bridge.cli.help import pages
from bridge.cli.main import main

PAGES = pages()


def page_of(*topic: str) -> str:
    result = CliRunner().invoke(main, ["print-man", *topic])
    assert result.exit_code == 0, result.output
    return result.stdout


def shown(page: str) -> str:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    command = [groff, "-man", "-Tutf8", "-Kutf8", "-ww", "-rLL=100n", "-P-cbou"]
    done = subprocess.run(command, input=page.encode(), capture_output=True)
    told = [  # that a line of a table cannot be broken or adjusted says nothing of the page
        line
        for line in done.stderr.decode().splitlines()
        if "break" not in line and "adjust" not in line
    ]
    assert (done.returncode, told) == (0, [])
    return done.stdout.decode()


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_of_the_manual(topic: str) -> None:
    page = page_of(topic)
    assert page.startswith(f'.TH "XMPP-BRIDGE-{topic.upper()}" "7"')
    text = shown(page)
    assert f"xmpp-bridge-{topic} - " in text
    for heading in re.findall(r"^## ([\w ]+)$", PAGES[topic], re.M):
        assert heading in text


def test_each_block_of_code_is_there_as_it_is() -> None:
    text = shown(page_of("tutorial"))
    for block in re.findall(r"^```\w+\n(.*?)^```$", PAGES["tutorial"], re.M | re.S):
        for line in block.splitlines():
            assert line.strip() in text


def test_the_page_of_the_commands() -> None:
    text = shown(page_of())
    context = click.Context(main)
    for name in main.list_commands(context):
        assert re.search(rf"^ +{name}\b", text, re.M), name
    for option in ("--connect", "--state-dir DIRECTORY", "--log-format", "--output PATH"):
        assert option.split()[0] in text
    assert "Exit" not in text.partition("EXIT STATUS")[2].partition("SEE ALSO")[0]
    assert "130 Ctrl-C" in text
    assert "With your own server:  xmpp-bridge check bridge.toml\n" in text
    assert "queue list [OPTIONS]" in text
    for topic in PAGES:
        assert re.search(rf"^ +{topic}\b", text, re.M), topic


def test_a_line_that_begins_with_a_point_is_no_request() -> None:
    lines = page_of("operation").splitlines() + page_of().splitlines()
    requests = {line.split()[0] for line in lines if line.startswith(".")}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".IP", ".RS", ".RE", ".nf", ".fi"}


def test_a_topic_that_does_not_exist() -> None:
    result = CliRunner().invoke(main, ["print-man", "quue"])
    assert result.exit_code == 2
    assert "There is no topic 'quue'. Did you mean 'queue'?" in result.stderr
