"""`import`: what is written, printed and told, and what a hostile file cannot do."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.cli.prosody.evaluation import NotProsody, evaluate
from bridge.cli.prosody.section import Section
from bridge.cli.prosody.translation import LISTEN, translate
from bridge.config.loader import load

ROOT = Path(__file__).parents[4]
MAIN = """
-- Prosody's file
modules_enabled = { "roster"; "saslauth"; "disco"; "http"; }
component_ports = { 5348 }
authentication = "internal_hashed"
VirtualHost "example.com"
  modules_enabled = { "post_msg" }
VirtualHost "localhost"
Component "bot.example.com" "component_http"
  name = "The bot"
  component_post_url = "https://example.com/your-api"
  component_post_stanzas = { "message", "iq" }
Component "rest.example.com" "rest"
  rest_callback_url = "http://127.0.0.1:9999/stanzas"
  rest_callback_content_type = "application/json"
Component "conference.example.com" "muc"
  restrict_room_creation = "admin"
Include "conf.d/*.cfg.lua"
"""
CLOCK = """
Component "clock.example.com" "component_http" {
  component_post_url = "http://127.0.0.1:8001/",
  post_stanza_types = { "message", "presence" },
  modules_enabled = { "vcard_muc" },
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "clock.cfg.lua").write_text(CLOCK)
    (tmp_path / "prosody.cfg.lua").write_text(MAIN)
    return tmp_path


def invoke(place: Path, *more: str) -> Result:
    arguments = ["import", str(place / "prosody.cfg.lua"), "--output", str(place / "bridge.toml")]
    result = CliRunner().invoke(main, [*arguments, *more])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def sections_of(place: Path, text: str) -> list[Section]:
    file = place / "some.cfg.lua"
    file.write_text(text)
    return evaluate(file)


# --- a move of three components


def test_three_components_move_in_one_command(place: Path) -> None:
    result = invoke(place)
    assert result.exit_code == 0
    written = tomllib.loads((place / "bridge.toml").read_text())
    assert written == {
        "server": "127.0.0.1:5348",
        "component": {
            "bot.example.com": {
                "component_secret_file": "bot.example.com.secret",
                "name": "The bot",
                "component_post_url": "https://example.com/your-api",
                "component_post_stanzas": ["message", "iq"],
            },
            "rest.example.com": {
                "component_secret_file": "rest.example.com.secret",
                "component_post_url": "http://127.0.0.1:9999/stanzas",
                "component_post_stanzas": ["message", "presence", "iq"],
                "component_post_events": "all",
            },
            "clock.example.com": {
                "component_secret_file": "clock.example.com.secret",
                "component_post_url": "http://127.0.0.1:8001/",
                "component_post_stanzas": ["message", "presence"],
            },
        },
        "listen": {
            "address": LISTEN,
            "default_host": "example.com",
            "token": [
                {
                    "name": "scripts",
                    "secret_file": "scripts.token",
                    "scopes": ["send", "query"],
                }
            ],
        },
    }
    assert len(load(place / "bridge.toml").components) == 3


def test_the_lines_for_prosody_have_the_secrets(place: Path) -> None:
    lines = invoke(place).stdout
    domains = ["bot.example.com", "rest.example.com", "clock.example.com"]
    for domain in domains:
        secret = (place / f"{domain}.secret").read_text().strip()
        assert f'Component "{domain}"\n    component_secret = "{secret}"\n' in lines
    assert "-- for example.com: remove rest and post_msg from modules_enabled" in lines
    file = place / "new.cfg.lua"
    file.write_text(lines)
    moved = [(one.name, one.module) for one in evaluate(file)[1:]]
    assert moved == [(domain, "component") for domain in domains]


NOTES = [
    "bot.example.com: mod_component_http ignores component_post_stanzas and reads "
    "post_stanza_types; the bridge obeys it",
    "rest.example.com: rest_callback_content_type is not carried over: "
    "the bridge always POSTs JSON",
    "clock.example.com: the module vcard_muc is not carried over",
    f"scripts find /rest and /msg on http://{LISTEN}, and log in with the token in scripts.token, "
    "no longer as an account",
]


def test_what_is_not_carried_over_is_told(place: Path) -> None:
    notes = [line for line in invoke(place).stderr.splitlines() if line.startswith("Note")]
    assert notes == [f"Note: {note}." for note in NOTES]


def test_secrets_are_for_their_owner_only(place: Path) -> None:
    invoke(place)
    files = [*place.glob("*.secret"), place / "scripts.token"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 4
    assert stat.S_IMODE((place / "bridge.toml").stat().st_mode) & 0o044 == 0o044


def test_a_url_with_credentials_makes_the_file_private(place: Path) -> None:
    (place / "conf.d" / "clock.cfg.lua").write_text(CLOCK.replace("http://", "http://u:hunter2@"))
    result = invoke(place)
    assert stat.S_IMODE((place / "bridge.toml").stat().st_mode) == 0o600
    assert "hunter2" not in result.output


def test_no_file_is_overwritten(place: Path) -> None:
    token = place / "scripts.token"
    token.write_text("mine")
    result = invoke(place)
    assert result.exit_code == 1
    told = f"{token} exists, and is not overwritten: move it away, or use --output."
    assert result.stderr.splitlines()[-1] == told
    assert (token.read_text(), (place / "bridge.toml").exists()) == ("mine", False)


def test_a_directory_that_is_not_there(place: Path) -> None:
    result = invoke(place, "--output", str(place / "nowhere" / "bridge.toml"))
    assert result.exit_code == 1
    assert "cannot be written (No such file or directory)." in result.stderr


def test_a_system_without_utf_8(place: Path) -> None:
    domain = "bücher.example"
    (place / "prosody.cfg.lua").write_text(MAIN.replace("bot.example.com", domain))
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "60"}
    command = [sys.executable, "-m", "bridge", "import"]
    done = subprocess.run(
        [*command, str(place / "prosody.cfg.lua"), "--output", str(place / "bridge.toml")],
        cwd=ROOT,
        env={**os.environ, **poor, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert len(load(place / "bridge.toml").components) == 3


def test_a_locale_without_a_letter_does_no_harm(place: Path) -> None:
    domain = "bücher.example"
    (place / "prosody.cfg.lua").write_text(MAIN.replace("bot.example.com", domain))
    arguments = ["import", str(place / "prosody.cfg.lua"), "--output", str(place / "bridge.toml")]
    result = CliRunner(charset="ascii").invoke(main, arguments)
    assert result.exit_code == 0
    assert "cher.example: mod_component_http ignores" in result.stderr
    file = place / "new.cfg.lua"
    file.write_text(result.stdout)
    assert [one.name for one in evaluate(file)][1] == domain
    assert domain in {one.domain for one in load(place / "bridge.toml").components}


# --- sections


def test_scripts_without_any_component_get_one(place: Path) -> None:
    plan = translate(sections_of(place, 'modules_enabled = { "rest" }\nVirtualHost "a.example"\n'))
    table = tomllib.loads(plan.toml)
    assert table["component"]["http.a.example"]["component_post_stanzas"] == []
    assert table["listen"]["default_host"] == "a.example"
    assert plan.lines[0] == "-- new, for scripts that sent as accounts of a.example"
    assert plan.notes[0].startswith("the bridge speaks as a component, so http.a.example is made")


LEFT_OUT = {
    "no URL": ("", "it has no component_post_url, so it is left out"),
    "a bad URL": (
        'component_post_url = "bot.example"',
        "component_post_url: the URL must begin with http:// or https://. "
        'Use a URL such as "https://example.com/your-api", so the section is left out',
    ),
    "a URL that is a table": (
        "component_post_url = { }",
        "component_post_url is not a text, so the section is left out",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_section_is_left_out(place: Path, name: str) -> None:
    option, note = LEFT_OUT[name]
    plan = translate(sections_of(place, f'Component "b.example" "component_http"\n{option}\n'))
    assert (plan.components, plan.secrets) == ([], {})
    assert plan.notes == [f"b.example: {note}"]


ELSEWHERE = {
    'FileLine("/etc/url")': "the file /etc/url",
    'Credential("url")': "the credential url",
    "ENV_BOT_URL": "the variable BOT_URL",
}


@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_value_from_elsewhere_is_not_read_but_named(place: Path, value: str) -> None:
    text = f'Component "b.example" "component_http"\ncomponent_post_url = {value}\n'
    plan = translate(sections_of(place, text))
    assert plan.notes[0].startswith(f"b.example: component_post_url comes from {ELSEWHERE[value]}:")
    assert len(plan.components) == 1


def test_kinds_that_do_not_exist_are_told(place: Path) -> None:
    text = 'Component "b.example" "component_http"\ncomponent_post_url = "http://h/"\n'
    plan = translate(sections_of(place, text + 'post_stanza_types = { "message", "chat" }\n'))
    assert plan.notes == ["b.example: 'chat' is not a kind of stanza, so it is left out"]
    assert 'component_post_stanzas = ["message"]' in plan.toml


def test_a_callback_of_accounts_cannot_be_carried_over(place: Path) -> None:
    text = (
        'VirtualHost "a.example"\nmodules_enabled = { "rest" }\nrest_callback_url = "http://h/"\n'
    )
    notes = translate(sections_of(place, text)).notes
    assert any(note.startswith("a.example: rest_callback_url of a VirtualHost") for note in notes)


SERVERS = [
    ("", "127.0.0.1:5347"),
    ("component_ports = { 5275, 5276 }", "127.0.0.1:5275"),
    ("component_ports = 5275", "127.0.0.1:5275"),
    ('component_interfaces = { "*" }', "127.0.0.1:5347"),
    ('component_interfaces = "192.0.2.1"', "192.0.2.1:5347"),
    ('component_interfaces = { "::1" }', "[::1]:5347"),
]


@pytest.mark.parametrize(("option", "server"), SERVERS)
def test_the_address_of_the_server(place: Path, option: str, server: str) -> None:
    assert translate(sections_of(place, option)).server == server


# --- what is not a configuration of Prosody, or is hostile

HOSTILE = {
    "not Lua": ("[component]", "unexpected symbol"),
    "bytecode": ("\x1bLua", "attempt to load a binary chunk"),
    "a process": ('os.execute("touch /tmp/owned")', "attempt to index a nil value (global 'os')"),
    "a file": ('io.open("/etc/passwd")', "attempt to index a nil value (global 'io')"),
    "a module": ('require "lfs"', "attempt to call a nil value (global 'require')"),
    "another program": ('RunScript "x.lua"', "RunScript runs another program"),
    "Python": ('python.eval("1")', "attempt to index a nil value (global 'python')"),
    "code from a text": ('load("x = 1")()', "attempt to call a nil value (global 'load')"),
    "another environment": ("getmetatable(_G)", "attempt to call a nil value"),
    "a huge text": ('("").rep("x", 1e9)', "attempt to call a nil value (field 'rep')"),
    "an endless loop": ("while true do end", "it runs for too long"),
    "an endless text": ('local x = "x" while true do x = x .. x end', "too much memory"),
    "an endless include": ('Include "some.cfg.lua"', "files include each other, more than 16 deep"),
    "too many files": ('for i = 1, 300 do Include "conf.d/clock.cfg.lua" end', "200 files"),
    "a file that is missing": (
        'Include "no.cfg.lua"',
        "cannot be read (No such file or directory)",
    ),
    "a table in itself": ("x = {} x = nil local t = {} t[1] = t y = t", "nested too deeply"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_can_reach_nothing(place: Path, name: str) -> None:
    text, told = HOSTILE[name]
    with pytest.raises(NotProsody) as caught:
        sections_of(place, text)
    assert told in str(caught.value)


def test_a_faulty_file_is_told_in_one_line(place: Path) -> None:
    file = place / "prosody.cfg.lua"
    file.write_text("[component]\n")
    result = invoke(place)
    told = f"{file}: this is not a configuration of Prosody that can be read: {file.name}:1: "
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert result.stderr.startswith(told)


@pytest.mark.parametrize("data", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read(place: Path, data: bytes | None) -> None:
    file = place / "prosody.cfg.lua"
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    result = invoke(place)
    assert result.exit_code == 2
    assert ("is not UTF-8 text." if data else "(No such file or directory).") in result.stderr


def test_a_file_without_a_section_for_the_bridge(place: Path) -> None:
    (place / "prosody.cfg.lua").write_text('VirtualHost "a.example"\n')
    result = invoke(place)
    assert result.exit_code == 1
    assert "there is no section with component_http, rest or post_msg" in result.stderr
    assert not (place / "bridge.toml").exists()


def test_without_lua_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lupa", None)
    result = invoke(place)
    assert result.exit_code == 1
    assert result.stderr == (
        "Reading Prosody's file needs Lua. Run: pip install 'xmpp-bridge[import]'.\n"
    )
