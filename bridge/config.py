"""The configuration: what a file (or the command line) may say, and the frozen settings made of it.

Two steps. cattrs structures the TOML strictly: nothing is converted, unknown keys are refused. Then
files and the environment are read for secrets, and what depends on two keys is checked. Both steps
collect every fault, each with its key and a remedy, before `ConfigError` is raised.
"""

import os
import ssl
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NewType, TypeVar

import cattrs
from attrs import evolve, field, fields, frozen
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationNote

from bridge.address import (
    BadValue,
    PostUrl,
    Secret,
    check_domain,
    check_header,
    parse_post_url,
    parse_server,
)
from xmppstream import InvalidJid, Server, split
from xmppstream.stanza import KINDS

SECRET_VARIABLE: Final = "XMPP_BRIDGE_SECRET"
_KIB: Final = 1024

Seconds = NewType("Seconds", float)
Count = NewType("Count", int)
PostMessages = Literal["all", "body"]
Order = Literal["bare", "full", "none"]
T = TypeVar("T")


@frozen
class Fault:
    """One thing that is wrong: where, what, and what to do about it."""

    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.key}: " if self.key else ""
        return f"{place}{self.problem}. {self.remedy}."


class ConfigError(Exception):
    """The configuration has faults; all of them."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.source = source
        self.faults = faults


@frozen
class Http:
    """`[http]`: how the endpoint is asked."""

    timeout_s: Seconds = Seconds(30.0)
    max_in_flight: Count = Count(256)
    max_reply_bytes: Count = Count(1024 * _KIB)
    ca_file: str | None = None
    headers: dict[str, str] = field(factory=dict, repr=False)


@frozen
class Stream:
    """`[stream]`: limits and patience towards the XMPP server."""

    max_stanza_bytes: Count = Count(512 * _KIB)
    max_send_bytes: Count = Count(500 * _KIB)
    keepalive_s: Seconds = Seconds(60.0)
    handshake_timeout_s: Seconds = Seconds(20.0)
    grace_s: Seconds = Seconds(5.0)


@frozen
class Retry:
    """`[retry]`: known already, not built yet."""

    budget_s: float = 0


@frozen
class Journal:
    """`[journal]`: known already, not built yet."""

    durability: str = "off"


@frozen
class ComponentTable:
    """`[component."DOMAIN"]`, as it stands in the file."""

    component_secret: str | None = field(default=None, repr=False)
    component_secret_file: str | None = None
    component_post_url: str | None = field(default=None, repr=False)
    component_post_stanzas: list[str] | None = None
    post_stanza_types: list[str] | None = None
    component_post_messages: PostMessages = "all"
    component_post_own: bool = False
    component_order: Order = "bare"
    allow_from: list[str] = field(factory=list)
    name: str | None = None
    server: str | None = None
    tls: bool | None = None
    ca_file: str | None = None
    tls_name: str | None = None


@frozen
class File:
    """The whole file, as it stands."""

    server: str = "127.0.0.1:5347"
    tls: bool = False
    ca_file: str | None = None
    tls_name: str | None = None
    component: dict[str, ComponentTable] = field(factory=dict)
    http: Http = field(factory=Http)
    stream: Stream = field(factory=Stream)
    retry: Retry = field(factory=Retry)
    journal: Journal = field(factory=Journal)


@frozen
class Component:
    """One component, ready to run."""

    domain: str
    secret: Secret
    post_url: PostUrl
    server: Server
    post_stanzas: frozenset[str] = frozenset({"message"})
    post_messages: PostMessages = "all"
    post_own: bool = False
    order: Order = "bare"
    allow_from: frozenset[str] = frozenset()
    name: str = ""


@frozen
class Settings:
    """All that a daemon needs; `warnings` are sentences for the operator."""

    components: tuple[Component, ...]
    http: Http = field(factory=Http)
    stream: Stream = field(factory=Stream)
    warnings: tuple[str, ...] = ()


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: with every fault found.
    """
    source = str(path)
    try:
        text = path.read_bytes().decode()
        table = tomllib.loads(text)
    except FileNotFoundError:
        fault = Fault("", "there is no such file", "Name an existing configuration file")
        raise ConfigError(source, [fault]) from None
    except OSError as error:
        fault = Fault("", f"cannot be read ({error.strerror})", "Check its path and permissions")
        raise ConfigError(source, [fault]) from None
    except UnicodeDecodeError:
        fault = Fault("", "it is not UTF-8 text", "Save it as UTF-8")
        raise ConfigError(source, [fault]) from None
    except tomllib.TOMLDecodeError as error:
        fault = Fault("", f"it is not TOML: {error}", "Mend the syntax there (https://toml.io)")
        raise ConfigError(source, [fault]) from None
    settings = from_table(table, source, directory=path.parent)
    if any("component_secret" in one for one in table["component"].values()):
        note = _readable_by_all(path, "the configuration file with a secret in it")
        settings = evolve(settings, warnings=(*note, *settings.warnings))
    return settings


def from_table(
    table: Mapping[str, Any],
    source: str,
    *,
    directory: Path,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Make settings of a parsed file; relative paths in it start at `directory`.

    Raises:
        ConfigError: with every fault found.
    """
    reading = _Reading(directory, environment)
    try:
        file = _converter().structure(table, File)
    except cattrs.ClassValidationError as error:
        # Go on with what can be read, so that all faults are told at once.
        reading.faults += _faults_of(error, "")
        file = _structure_what_is_good(table, reading.faults)
    settings = reading.settings(file)
    if reading.faults:
        raise ConfigError(source, reading.faults)
    return settings


class _Reading:
    """The second step: from the file's words to settings, collecting faults and warnings."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self._directory = directory
        self._environment = environment

    def settings(self, file: File) -> Settings:
        if not file.component and not any(f.key.startswith("component") for f in self.faults):
            example = '[component."bot.example.com"]'
            self._fault("component", "there is no component", f"Add a table {example}")
        if file.retry.budget_s != 0:
            self._fault("retry.budget_s", "retries are not built yet", "Set it to 0, or leave it")
        if file.journal.durability != "off":
            remedy = 'Set it to "off", or leave it'
            self._fault("journal.durability", "the journal is not built yet", remedy)
        components = [self._component(file, domain) for domain in file.component]
        http = evolve(
            file.http,
            headers=self._headers(file.http.headers),
            ca_file=self._certificates("http.ca_file", file.http.ca_file),
        )
        return Settings(
            tuple(one for one in components if one is not None),
            http,
            file.stream,
            tuple(self.warnings),
        )

    def _component(self, file: File, domain: str) -> Component | None:
        table, key = file.component[domain], f'component."{domain}"'
        known = len(self.faults)
        self._try(key, check_domain, domain)
        secret = self._secret(table, key, single=len(file.component) == 1)
        url = None
        if table.component_post_url is None:
            if not any(f.key == f"{key}.component_post_url" for f in self.faults):
                problem = "the endpoint's address is missing"
                remedy = 'Set it, such as "https://example.com/your-api"'
                self._fault(f"{key}.component_post_url", problem, remedy)
        else:
            url = self._try(f"{key}.component_post_url", parse_post_url, table.component_post_url)
        server = self._server(file, table, key)
        stanzas = self._post_stanzas(table, key)
        for address in table.allow_from:
            try:
                split(address)
            except InvalidJid as error:
                remedy = "Use JIDs (user@example.com) or domains (example.com)"
                self._fault(f"{key}.allow_from", f"{address!r} is no address: {error}", remedy)
        if len(self.faults) > known or secret is None or url is None or server is None:
            return None
        return Component(
            domain,
            secret,
            url,
            server,
            stanzas,
            table.component_post_messages,
            table.component_post_own,
            table.component_order,
            frozenset(address.casefold() for address in table.allow_from),
            table.name or domain,
        )

    def _server(self, file: File, table: ComponentTable, key: str) -> Server | None:
        own = f"{key}.server" if table.server is not None else "server"
        address = self._try(own, parse_server, table.server or file.server)
        if address is None:
            return None
        tls = file.tls if table.tls is None else table.tls
        ca_file = table.ca_file or file.ca_file
        ca_key = f"{key}.ca_file" if table.ca_file else "ca_file"
        name = table.tls_name or file.tls_name
        if not tls and (table.ca_file or table.tls_name):
            remedy = "Set tls = true, or take ca_file and tls_name away"
            self._fault(f"{key}.tls", "ca_file and tls_name mean nothing without TLS", remedy)
        host, port = address
        return Server(host, port, tls, self._certificates(ca_key, ca_file), name)

    def _post_stanzas(self, table: ComponentTable, key: str) -> frozenset[str]:
        name = "component_post_stanzas"
        kinds = table.component_post_stanzas
        if table.post_stanza_types is not None:
            if kinds is not None:
                problem = "post_stanza_types is another name of component_post_stanzas"
                self._fault(f"{key}.post_stanza_types", problem, "Keep one of the two")
            name, kinds = "post_stanza_types", table.post_stanza_types
        if kinds is None:
            return frozenset({"message"})
        for kind in kinds:
            if kind not in KINDS:
                remedy = f"Use some of {', '.join(KINDS)}"
                close = get_close_matches(kind, KINDS, 1)
                if close:
                    remedy = f'Did you mean "{close[0]}"'
                self._fault(f"{key}.{name}", f"{kind!r} is no kind of stanza", remedy)
        return frozenset(kinds)

    def _secret(self, table: ComponentTable, key: str, *, single: bool) -> Secret | None:
        inline, path = table.component_secret, table.component_secret_file
        if inline is not None and path is not None:
            problem = "component_secret and component_secret_file are both set"
            self._fault(f"{key}.component_secret", problem, "Keep one of the two")
            return None
        if path is not None:
            return self._secret_file(f"{key}.component_secret_file", path)
        if inline is None and single:
            inline = self._environment.get(SECRET_VARIABLE)
        if inline is None:
            if any(f.key.startswith(f"{key}.component_secret") for f in self.faults):
                return None
            remedy = f"Set component_secret_file, component_secret, or {SECRET_VARIABLE}"
            if not single:
                remedy = "Set component_secret_file or component_secret"
            self._fault(f"{key}.component_secret", "the secret is missing", remedy)
            return None
        if not inline:
            remedy = "Use the secret that the server's configuration has for this component"
            self._fault(f"{key}.component_secret", "the secret is empty", remedy)
            return None
        return Secret(inline)

    def _secret_file(self, key: str, name: str) -> Secret | None:
        path = self._directory / name
        try:
            value = path.read_bytes().decode()
        except OSError as error:
            problem = f"{path} cannot be read ({error.strerror})"
            self._fault(key, problem, "Check its path and permissions")
            return None
        except UnicodeDecodeError:
            self._fault(key, f"{path} is not UTF-8 text", "Save it as UTF-8")
            return None
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            self._fault(key, f"{path} is empty", "Put the value into it")
            return None
        self.warnings += _readable_by_all(path, "the secret in it")
        return Secret(value)

    def _headers(self, table: dict[str, str]) -> dict[str, str]:
        """`NAME`, `NAME_file` (a file holds the value), `NAME_env` (a variable holds it)."""
        headers: dict[str, str] = {}
        for entry, given in table.items():
            key = f"http.headers.{entry}"
            name, value = entry, given
            if entry.endswith("_file"):
                name = entry.removesuffix("_file")
                secret = self._secret_file(key, given)
                if secret is None:
                    continue
                value = secret.value
            elif entry.endswith("_env"):
                name = entry.removesuffix("_env")
                if given not in self._environment:
                    problem = f"there is no variable {given} in the environment"
                    self._fault(key, problem, "Set it, or name another one")
                    continue
                value = self._environment[given]
            if name.lower() in (known.lower() for known in headers):
                self._fault(key, f"{name} is set twice", "Keep one")
            try:
                check_header(name, value)
            except BadValue as error:
                self._fault(key, error.problem, error.remedy)
            headers[name] = value
        return headers

    def _certificates(self, key: str, name: str | None) -> str | None:
        if name is None:
            return None
        path = self._directory / name
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            self._fault(key, f"{path} holds no certificates", "Name a file of them in PEM")
        except OSError as error:
            problem = f"{path} cannot be read ({error.strerror})"
            self._fault(key, problem, "Name a file of certificates in PEM")
        return str(path)

    def _try(self, key: str, check: Callable[[str], T], value: str) -> T | None:
        try:
            return check(value)
        except BadValue as error:
            self._fault(key, error.problem, error.remedy)
            return None

    def _fault(self, key: str, problem: str, remedy: str) -> None:
        fault = Fault(key, problem, remedy)
        if fault not in self.faults:
            self.faults.append(fault)


def _readable_by_all(path: Path, what: str) -> list[str]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        return [f"{path}: everyone on this machine can read {what}; chmod 640 {path}"]
    return []


# --- the first step: strict structuring


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, _exactly(str, "a string", "Put it in quotes"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false", "Take the quotes away"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Seconds, _seconds)
    converter.register_structure_hook(Count, _count)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(lambda kind: kind == list[str], _strings)
    converter.register_structure_hook_func(_is_optional, _optional(converter))
    converter.register_structure_hook(ComponentTable, _component_table(converter))
    return converter


def _exactly(kind: type[T], noun: str, remedy: str) -> Callable[[Any, Any], T]:
    def structure(value: Any, _: Any) -> T:
        if type(value) is not kind:
            raise BadValue(f"must be {noun}, not {_noun(value)}", remedy)
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float) or value != value:
        raise BadValue(f"must be a number, not {_noun(value)}", "Write it without quotes")
    return float(value)


def _seconds(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if not 0 < number <= 86_400:
        raise BadValue(f"must be above 0 and at most 86400 seconds, not {value}", "Change it")
    return number


def _count(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise BadValue(f"must be a whole number, not {_noun(value)}", "Write digits only")
    if not 0 < value <= 2**31:
        raise BadValue(f"must be above 0 and at most {2**31}, not {value}", "Change it")
    return value


def _is_choice(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is Literal


def _choice(value: Any, kind: Any) -> Any:
    if value not in kind.__args__ or not isinstance(value, str):
        choices = ", ".join(f'"{one}"' for one in kind.__args__)
        raise BadValue(f"{value!r} is not known here", f"Use one of {choices}")
    return value


def _strings(value: Any, _: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        example = 'Write it like ["message"]'
        raise BadValue(f"must be a list of strings, not {_noun(value)}", example)
    return value


def _is_optional(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


def _optional(converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        (inner,) = (one for one in kind.__args__ if one is not type(None))
        return converter.structure(value, inner)

    return structure


def _component_table(converter: cattrs.Converter) -> Callable[[Any, Any], ComponentTable]:
    structure = cattrs.gen.make_dict_structure_fn(
        ComponentTable, converter, _cattrs_forbid_extra_keys=True
    )

    def checked(value: Any, kind: Any) -> ComponentTable:
        known = {attribute.name for attribute in fields(ComponentTable)}
        if isinstance(value, dict) and any(
            isinstance(inner, dict) and name not in known for name, inner in value.items()
        ):
            raise BadValue(
                "a table inside a component's table",
                'Put the domain in quotes: [component."bot.example.com"]',
            )
        return structure(value, kind)

    return checked


def _noun(value: Any) -> str:
    nouns = {str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    nouns |= {list: "a list", dict: "a table"}
    return nouns.get(type(value), "a date or time")


def _faults_of(error: BaseException, key: str, model: type = File) -> Iterator[Fault]:
    """Walk cattrs' tree of errors and give each leaf with its full key."""
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            yield from _faults_of(inner, _key_of(inner, key), getattr(error, "cl", model))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in fields(error.cl or model)]
        for name in sorted(error.extra_fields):
            close = get_close_matches(name, known, 1)
            remedy = f"Did you mean {close[0]}" if close else f"Known here: {', '.join(known)}"
            yield Fault(f"{key}.{name}".lstrip("."), "this key is not known", remedy)
    elif isinstance(error, BadValue):
        yield Fault(key, error.problem, error.remedy)
    else:
        yield Fault(key, "must be a table", f"Write it as [{key}]")


def _key_of(error: BaseException, key: str) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return f'{key}."{note.index}"'
        name = getattr(note, "name", None)
        if name is not None:
            return f"{key}.{name}".lstrip(".")
    return key


def _structure_what_is_good(table: Mapping[str, Any], faults: list[Fault]) -> File:
    """Structure again without the keys at fault, so that the second step finds its faults too."""
    bad = {fault.key for fault in faults}

    def prune(value: Any, key: str) -> Any:
        if not isinstance(value, Mapping):
            return value
        names = (
            (n, f'{key}."{n}"' if key == "component" else f"{key}.{n}".lstrip(".")) for n in value
        )
        return {name: prune(value[name], full) for name, full in names if full not in bad}

    return _converter().structure(prune(table, ""), File)
