"""`completion`: the scripts, and what a shell gets from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli.main import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_the_command(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_XMPP_BRIDGE_COMPLETE={shell}_complete" in result.stdout


def test_a_shell_that_is_not_known() -> None:
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'fish', 'zsh'" in result.stderr


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A directory with the program under its name, as an installation has it."""
    file = tmp_path / "bin" / "xmpp-bridge"
    file.parent.mkdir()
    file.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from bridge.cli import main\nmain()\n"
    )
    file.chmod(0o755)
    return file.parent


WORDS = [
    (["xmpp-bridge", "print-a"], ["print-alerts"]),
    (["xmpp-bridge", "print"], ["print-dashboard", "print-man", "print-schema", "print-unit"]),
    (["xmpp-bridge", "help", "mig"], ["migration"]),
    (["xmpp-bridge", "check", "--c"], ["--connect"]),
    (["xmpp-bridge", "completion", "z"], ["zsh"]),
    (["xmpp-bridge", "nonsense", ""], []),
]


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_bash_completes(program: Path, words: list[str], expected: list[str]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    asking = (
        f"{script}\nCOMP_WORDS=({' '.join(words[:-1])} '{words[-1]}')\n"
        f"COMP_CWORD={len(words) - 1}\n"
        "_xmpp_bridge_completion xmpp-bridge; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    path = f"{program}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", asking], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    found = [word for word in done.stdout.splitlines() if word]
    assert set(expected) <= set(found)
    assert bool(found) is bool(expected)


@pytest.mark.parametrize(
    "name", ["check", "redact", "replay", "show", "conformance", "import", "queue", "print-alerts"]
)
def test_the_exit_codes_are_told_in_one_form(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"], terminal_width=60)
    told = "Exit codes: 0 success, 2 usage or configuration error,"
    assert result.stdout.count("Exit codes") == result.stdout.count(told) == 1
    assert result.stdout.endswith("xmpp-bridge help operation\n")


def test_the_list_of_commands_has_whole_sentences() -> None:
    for columns in (60, 80):
        result = CliRunner().invoke(main, ["--help"], terminal_width=columns)
        listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
        assert "..." not in listed
        told = " ".join(listed.split())
        assert "Show the manual: the list of its topics, or the page of one TOPIC." in told
        assert max(map(len, listed.splitlines())) <= columns
