"""Prosody's sections as files of the bridge, lines for Prosody, and notes.

A note is told for each option and module of a section that the bridge does not take over, so that
nothing is lost silently.
"""

import json
from collections.abc import Iterator
from secrets import token_hex
from typing import Final

from attrs import define, field

from bridge.cli.prosody.section import UNREAD, Section
from bridge.config.value import BadValue, check_domain, check_text, parse_post_url
from xmppstream.jid import to_ascii
from xmppstream.stanza import KINDS

LISTEN: Final = "127.0.0.1:5285"
"""Not 5280 nor 5281, where Prosody may still listen."""
_SENDING: Final = ("rest", "post_msg")
_NOWHERE: Final = "http://127.0.0.1:8000/"
_COMMON: Final = {"name", "modules_enabled", "component_secret"}
_OPTIONS: Final = {
    "component_http": {"component_post_url", "component_post_stanzas", "post_stanza_types"},
    "rest": {"rest_callback_url", "rest_callback_stanzas"},
    "post_msg": set[str](),
}
_WHY: Final = {
    "rest_callback_content_type": "the bridge always POSTs JSON",
    "rest_callback_events": "see component_post_events",
    "rest_auth_mechanisms": "scripts use a token, by Basic or Bearer",
    "rest_iq_timeout": "scripts can send Prosody-Rest-Timeout or Prefer",
    "rest_stanza_size_limit": "see max_body_bytes of [listen]",
    "http_paths": "the paths are /rest and /msg",
    "http_host": f"the address is {LISTEN}",
    "http_external_url": f"the address is {LISTEN}",
}


@define
class Plan:
    """What is to be written and told; `secrets` are files beside the configuration."""

    components: list[str] = field(factory=list)
    secrets: dict[str, str] = field(factory=dict)
    lines: list[str] = field(factory=list)
    notes: list[str] = field(factory=list)
    server: str = ""
    listen: str = ""
    holds_secret: bool = False

    @property
    def toml(self) -> str:
        """The bridge's configuration file."""
        head = f"server = {_quoted(self.server)}\n"
        return "\n".join([head, *self.components, *([self.listen] if self.listen else [])])


def translate(sections: list[Section]) -> Plan:
    """Return the plan for all sections; without a section for the bridge, it has no component."""
    plan = Plan()
    everywhere = sections[0]
    plan.server = _server_of(everywhere)
    hosts = [one for one in sections[1:] if one.module is None]
    for section in sections[1:]:
        if section.module in _OPTIONS:
            _translate_component(section, plan)
    senders = [one for one in sections[1:] if _sends(one, everywhere)]
    if senders:
        _add_listener(senders, hosts, plan)
    return plan


def _translate_component(section: Section, plan: Plan) -> None:
    domain, module = section.name, section.module or ""
    try:
        check_domain(domain)
    except BadValue as error:
        plan.notes.append(f"{domain}: {error}")
        return
    file = f"{to_ascii(domain)}.secret"  # a locale without UTF-8 may know no other names of files
    rows = [f"component_secret_file = {_quoted(file)}"]
    if (name := section.options.get("name")) is not None:
        rows += _name_row(name, domain, plan)
    url_key = "component_post_url" if module == "component_http" else "rest_callback_url"
    url = section.options.get(url_key)
    if url is None and module == "component_http":
        plan.notes.append(f"{domain}: it has no component_post_url, so it is left out")
        return
    if url is None:
        rows += [f'component_post_url = "{_NOWHERE}"  # not used: nothing is POSTed']
        rows += ["component_post_stanzas = []"]
    elif (good := _url(url, f"{domain}: {url_key}", plan)) is None:
        return
    else:
        rows += [f"component_post_url = {_quoted(good)}", *_stanza_rows(section, plan)]
    known = _OPTIONS[module] | _COMMON
    for key in sorted(section.options.keys() - known):
        why = f": {_WHY[key]}" if key in _WHY else ""
        plan.notes.append(f"{domain}: {key} is not carried over{why}")
    for enabled in section.texts("modules_enabled"):
        if enabled not in _OPTIONS:
            plan.notes.append(f"{domain}: the module {enabled} is not carried over")
    secret = token_hex(16)
    plan.secrets[file] = secret
    plan.components.append("\n".join([f"[component.{_quoted(domain)}]", *rows, ""]))
    plan.lines += [
        f"-- in place of: Component {_lua(domain)} {_lua(module)}",
        f"Component {_lua(domain)}",
        f"    component_secret = {_lua(secret)}",
        "",
    ]


def _name_row(name: object, domain: str, plan: Plan) -> Iterator[str]:
    if isinstance(name, str) and not name.startswith(UNREAD):
        try:
            check_text(name)
            yield f"name = {_quoted(name)}"
        except BadValue as error:
            plan.notes.append(f"{domain}: name: {error}")
    else:
        plan.notes.append(f"{domain}: name is not carried over: it is not a plain text")


def _url(value: object, what: str, plan: Plan) -> str | None:
    if not isinstance(value, str):
        plan.notes.append(f"{what} is not a text, so the section is left out")
        return None
    if value.startswith(UNREAD):
        plan.notes.append(
            f"{what} comes from {value[1:]}: put it into the file in place of {_NOWHERE}"
        )
        return _NOWHERE
    try:
        plan.holds_secret |= parse_post_url(value).authorization is not None
    except BadValue as error:
        plan.notes.append(f"{what}: {error}, so the section is left out")
        return None
    return value


def _stanza_rows(section: Section, plan: Plan) -> Iterator[str]:
    domain = section.name
    if section.module == "rest":
        given = section.texts("rest_callback_stanzas") or list(KINDS)
        yield f"component_post_stanzas = {_kinds(given, domain, plan)}"
        yield 'component_post_events = "all"'
        return
    obeyed, documented = (
        section.texts(key) for key in ("post_stanza_types", "component_post_stanzas")
    )
    if documented and not obeyed:
        plan.notes.append(
            f"{domain}: mod_component_http ignores component_post_stanzas and reads "
            "post_stanza_types; the bridge obeys it"
        )
    kinds = _kinds(obeyed or documented or ["message"], domain, plan)
    yield f"component_post_stanzas = {kinds}"
    yield '# component_post_events = "all"  # to get typing notices, receipts and errors, too'


def _kinds(given: list[str], domain: str, plan: Plan) -> str:
    for one in sorted(set(given) - set(KINDS)):
        plan.notes.append(f"{domain}: {one!r} is not a kind of stanza, so it is left out")
    return json.dumps([kind for kind in KINDS if kind in given])


def _server_of(everywhere: Section) -> str:
    ports = everywhere.texts("component_ports") or ["5347"]
    place = next(iter(everywhere.texts("component_interfaces")), "127.0.0.1")
    if place in ("*", "0.0.0.0", "::"):
        place = "127.0.0.1"
    return f"[{place}]:{ports[0]}" if ":" in place else f"{place}:{ports[0]}"


def _sends(section: Section, everywhere: Section) -> bool:
    """Whether scripts send by mod_rest or mod_post_msg; components do not load global modules."""
    own = section.texts("modules_enabled")
    inherited = everywhere.texts("modules_enabled") if section.module is None else []
    disabled = section.texts("modules_disabled") + everywhere.texts("modules_disabled")
    loaded = (*own, *inherited, section.module)
    return any(module in loaded and module not in disabled for module in _SENDING)


def _add_listener(senders: list[Section], hosts: list[Section], plan: Plan) -> None:
    accounts = [one for one in senders if one.module is None]
    host = next(iter([*accounts, *hosts]), None)
    if not plan.components and host is not None:
        domain = f"http.{host.name}"
        plan.notes.append(f"the bridge speaks as a component, so {domain} is made for your scripts")
        _translate_component(Section(domain, "rest"), plan)
        if plan.components:
            plan.lines[-4] = f"-- new, for scripts that sent as accounts of {host.name}"
    rows = ["[listen]", f'address = "{LISTEN}"']
    if host is not None:
        rows.append(f"default_host = {_quoted(host.name)}")
    rows += ["", "[[listen.token]]", 'name = "scripts"', 'secret_file = "scripts.token"']
    rows += ['scopes = ["send", "query"]', ""]
    plan.listen = "\n".join(rows)
    plan.secrets["scripts.token"] = token_hex(32)
    for section in accounts:
        plan.lines.append(f"-- for {section.name}: remove rest and post_msg from modules_enabled")
        if section.options.get("rest_callback_url") is not None:
            plan.notes.append(
                f"{section.name}: rest_callback_url of a VirtualHost is not carried over: "
                "a component does not get the stanzas of accounts"
            )
    plan.notes.append(
        f"scripts find /rest and /msg on http://{LISTEN}, and log in with the token in "
        "scripts.token, no longer as an account"
    )


def _lua(text: str) -> str:
    """Return a string of Lua in ASCII, so that no locale harms it."""
    return f'"{"".join(map(_lua_byte, text.encode()))}"'


def _lua_byte(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
