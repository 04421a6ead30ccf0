"""The second step of loading: turns the tables of the file into settings."""

import ssl
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

from bridge.config.command import (
    COMMANDS_LIMIT,
    CommandSet,
    CommandSettings,
    check_prefix,
    read_command,
    read_register,
)
from bridge.config.event import DEFAULT_EVENTS, EVENTS
from bridge.config.http import HttpValidation
from bridge.config.journal import JournalValidation
from bridge.config.listener import ListenerValidation
from bridge.config.profile import (
    AVATAR_LIMIT_BYTES,
    DOMAIN,
    EVERYBODY,
    Avatar,
    Profile,
    parse_avatar,
    profile_of,
)
from bridge.config.pull import PullValidation, budgets_of_pulled
from bridge.config.room import RoomValidation
from bridge.config.settings import (
    ENCRYPTED_NOTICE,
    Component,
    ComponentTable,
    ConfigFault,
    ConfigFile,
    HttpSettings,
    JournalSettings,
    ListenSettings,
    NodeSettings,
    RetrySettings,
    Settings,
    TracingSettings,
)
from bridge.config.tracing import resolve
from bridge.config.value import (
    BadValue,
    Secret,
    check_domain,
    check_host,
    check_text,
    is_local_part,
    parse_endpoint,
    parse_key,
    parse_server,
)
from xmppstream import InvalidJid, Server, split
from xmppstream.jid import fold, fold_domain, fold_local
from xmppstream.stanza import KINDS

SECRET_VARIABLE: Final = "XMPP_BRIDGE_SECRET"
T = TypeVar("T")


class Validation:
    """Turns the tables of the file into settings; collects faults and warnings."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.faults: list[ConfigFault] = []
        self.warnings: list[str] = []
        self._directory = directory
        self._environment = environment
        self._http = HttpValidation(
            directory,
            environment,
            self._secret_file,
            self._certificates,
            self._fault,
            self._note_key_file,
        )

    def settings(self, file: ConfigFile) -> Settings:
        if not file.component and not any(f.key.startswith("component") for f in self.faults):
            example = '[component."bot.example.com"]'
            self._fault("component", "no component is configured", f"Add a table {example}")
        self._check_twins(file)
        http = self._http.http(file.http, "http", HttpSettings())
        retry = self._http.retry(file.retry, "retry", RetrySettings())
        components = tuple(
            component
            for domain in file.component
            if (component := self._component(file, domain, http, retry)) is not None
        )
        self._http.check_secrets(file.http, file.component, components)
        listen = self._listen(file)
        PullValidation(self._fault, self.warnings.append).check(file, components, listen)
        journal, node = self.journal(file)
        return Settings(
            components,
            http,
            file.stream,
            retry,
            journal,
            listen=listen,
            warnings=tuple(self.warnings),
            limits=file.limits,
            tracing=self._tracing(file.tracing),
            log=file.log,
            node=node,
        )

    def journal(self, file: ConfigFile) -> tuple[JournalSettings, NodeSettings]:
        """Return the settings of `[journal]` and `[node]`."""
        reading = JournalValidation(self._secret_file, self._fault, self.warnings.append)
        return reading.journal(file.journal), reading.node(file.node, file.journal)

    def _tracing(self, table: TracingSettings | None) -> TracingSettings | None:
        if any(fault.key.startswith("tracing.") for fault in self.faults):
            return None
        try:
            return resolve(table, self._environment)
        except BadValue as error:
            self._fault("tracing.endpoint", error.problem, error.remedy)
            return None

    def _listen(self, file: ConfigFile) -> ListenSettings | None:
        if file.listen is None:
            return None
        reading = ListenerValidation(
            tuple(file.component),
            self._environment,
            self._secret_file,
            self._fault,
            self.warnings.append,
        )
        return reading.listen(file.listen, {fault.key for fault in self.faults})

    def _check_twins(self, file: ConfigFile) -> None:
        seen: dict[str, str] = {}
        for domain in file.component:
            other = seen.setdefault(fold_domain(domain), domain)
            if other != domain:
                problem = f"this is the same domain as {other}"
                self._fault(f'component."{domain}"', problem, "Keep one of the two")

    def _component(
        self, file: ConfigFile, domain: str, http: HttpSettings, retry: RetrySettings
    ) -> Component | None:
        """Return a component's settings, or None if they have faults; `http` and `retry` are those
        of all components.
        """
        table, key = file.component[domain], f'component."{domain}"'
        known = len(self.faults)
        self._try(key, check_domain, domain)
        secret = self._secret(table, key, single=len(file.component) == 1)
        url = None
        if table.component_post_url is None:
            if not any(f.key == f"{key}.component_post_url" for f in self.faults):
                problem = "the URL of the endpoint is missing"
                remedy = 'Set it to a URL such as "https://example.com/your-api"'
                self._fault(f"{key}.component_post_url", problem, remedy)
        else:
            url = self._try(f"{key}.component_post_url", parse_endpoint, table.component_post_url)
        server = self._server(file, table, key)
        self._try(f"{key}.name", check_text, table.name or "")
        stanzas = self._post_stanzas(table, key)
        events = self._post_events(table, key)
        notice = table.component_encrypted_notice
        if notice is None:
            notice = ENCRYPTED_NOTICE
        self._try(f"{key}.component_encrypted_notice", check_text, notice)
        for address in table.allow_from:
            try:
                split(address)
            except InvalidJid as error:
                remedy = "Use JIDs (user@example.com) or domains (example.com)"
                self._fault(
                    f"{key}.allow_from", f"{address!r} is not a valid address: {error}", remedy
                )
        if table.upload is not None:
            self._try(f"{key}.upload", check_domain, table.upload)
        local_parts = self._local_parts(table, key)
        profiles = self._profiles(table, key, local_parts)
        reading = RoomValidation(self._secret_file, self._fault, self.warnings.append)
        rooms = reading.rooms(table, domain, key, {fault.key for fault in self.faults}, local_parts)
        invitations = reading.invitations(table, key)
        commands = self._commands(table, key)
        webhook_secrets = self._webhook_secrets(table, key)
        own_http, own_retry = self._http.of_component(table, key, http, retry)
        if url is not None and url.is_pulled:
            own_retry = budgets_of_pulled(file.retry, table.retry, own_retry or retry)
        if len(self.faults) > known or secret is None or url is None or server is None:
            return None
        return Component(
            domain,
            secret,
            url,
            server,
            post_stanzas=stanzas,
            post_events=events,
            post_own=table.component_post_own,
            order=table.component_order,
            allow_from=frozenset(fold(address).lower() for address in table.allow_from),
            name=table.name or domain,
            webhook_secrets=webhook_secrets,
            http=own_http,
            retry=own_retry,
            text_replies=table.component_text_replies,
            encrypted_notice=notice,
            invitations=invitations,
            max_rooms=table.max_rooms,
            rooms=rooms,
            profiles=profiles,
            local_parts=local_parts,
            receipts=table.component_receipts,
            markers=table.component_markers,
            typing_after_s=table.component_typing_after_s,
            stream=table.component_stream,
            stream_broken=table.component_stream_broken,
            presence=table.component_presence,
            subscribe=table.component_subscribe,
            upload=table.upload,
            commands=commands,
        )

    def _commands(self, table: ComponentTable, key: str) -> CommandSet:
        """Return the commands of a component, and its form for registration."""
        found: dict[str, CommandSettings] = {}
        for index, one in enumerate(table.command):
            place = f"{key}.command[{index}]"
            command = read_command(one, self._faults_under(place))
            if command is None:
                continue
            if command.node.casefold() in found:
                problem = f"there is another command {command.node!r}"
                self._fault(f"{place}.node", problem, "Use a name once, in whatever letter case")
            found[command.node.casefold()] = command
        if len(table.command) > COMMANDS_LIMIT:
            problem = f"there are {len(table.command)} commands, more than {COMMANDS_LIMIT}"
            self._fault(f"{key}.command", problem, "Remove some")
        register = None
        if table.register is not None:
            register = read_register(table.register, self._faults_under(f"{key}.register"))
        prefix = table.component_text_prefix
        try:
            check_prefix(prefix)
        except BadValue as error:
            self._fault(f"{key}.component_text_prefix", error.problem, error.remedy)
        return CommandSet(tuple(found.values()), register, table.component_text_commands, prefix)

    def _faults_under(self, place: str) -> Callable[[str, BadValue], None]:
        def fault(key: str, error: BadValue) -> None:
            self._fault(f"{place}.{key}".rstrip("."), error.problem, error.remedy)

        return fault

    def _local_parts(self, table: ComponentTable, key: str) -> frozenset[str] | None:
        if table.local_parts is None:
            return None
        name = f"{key}.local_parts"
        if not table.local_parts:
            self._fault(
                name, "the list is empty", "List a local part, or remove the key to allow any"
            )
        for local in table.local_parts:
            if not is_local_part(local):
                problem = f"{local!r} is not a valid local part"
                self._fault(name, problem, "Use the part before the @; the domain always exists")
        return frozenset(map(fold_local, table.local_parts))

    def _profiles(
        self, table: ComponentTable, key: str, known: frozenset[str] | None
    ) -> dict[str, Profile]:
        """Return the profiles by folded local part; `known` are those that exist."""
        profiles: dict[str, Profile] = {}
        for local, one in table.profile.items():
            name = f'{key}.profile."{local}"'

            def fault(inner: str, error: BadValue, name: str = name) -> None:
                self._fault(f"{name}.{inner}", error.problem, error.remedy)

            folded = fold_local(local)
            if local not in (EVERYBODY, DOMAIN):
                if not is_local_part(local):
                    remedy = 'Use the part before the @, "*" for all others, or "" for the domain'
                    self._fault(name, f"{local!r} is not a valid local part", remedy)
                elif known is not None and folded not in known:
                    remedy = "Add it there, or remove the profile"
                    self._fault(name, f"{local!r} is not among local_parts", remedy)
            if folded in profiles:
                self._fault(name, f"{local!r} has another profile, too", "Keep one of the two")
            profile = profiles[folded] = profile_of(one, self._avatar, fault)
            if profile.avatar is not None and profile.avatar.warning:
                self.warnings.append(f"{name}.avatar: {profile.avatar.warning}")
        return profiles

    def _avatar(self, name: str) -> Avatar:
        """Return the picture in a file.

        Raises:
            BadValue: if there is none that can be used.
        """
        path = self._directory / name
        try:
            with path.open("rb") as file:
                data = file.read(AVATAR_LIMIT_BYTES + 1)
                size = path.stat().st_size
        except OSError as error:
            problem = f"{path} cannot be read ({error.strerror})"
            raise BadValue(problem, "Check its path and permissions") from None
        return parse_avatar(data, max(size, len(data)))

    def _webhook_secrets(self, table: ComponentTable, key: str) -> tuple[Secret, ...]:
        """Return the secrets that POSTs are signed with: a list, or a file with one per line."""
        name, texts = f"{key}.webhook_secrets", table.webhook_secrets or []
        if table.webhook_secrets_file is not None:
            if table.webhook_secrets is not None:
                problem = "webhook_secrets and webhook_secrets_file are both set"
                self._fault(name, problem, "Keep one of the two")
            name = f"{key}.webhook_secrets_file"
            file = self._secret_file(name, table.webhook_secrets_file)
            texts = [] if file is None else file.value.split()
        keys = (self._try(name, parse_key, text) for text in texts)
        return tuple(one for one in keys if one is not None)

    def _server(self, file: ConfigFile, table: ComponentTable, key: str) -> Server | None:
        own = f"{key}.server" if table.server is not None else "server"
        text = file.server if table.server is None else table.server
        address = self._try(own, parse_server, text)
        tls = file.tls if table.tls is None else table.tls
        ca_file = file.ca_file if table.ca_file is None else table.ca_file
        ca_key = "ca_file" if table.ca_file is None else f"{key}.ca_file"
        name = file.tls_name if table.tls_name is None else table.tls_name
        name_key = "tls_name" if table.tls_name is None else f"{key}.tls_name"
        if name is not None:
            self._try(name_key, check_host, name)
        if not tls and (table.ca_file is not None or table.tls_name is not None):
            remedy = "Set tls = true, or remove ca_file and tls_name"
            self._fault(f"{key}.tls", "ca_file and tls_name have no effect without TLS", remedy)
        ca_file = self._certificates(ca_key, ca_file)
        return None if address is None else Server(*address, tls, ca_file, name)

    def _post_stanzas(self, table: ComponentTable, key: str) -> frozenset[str]:
        name = "component_post_stanzas"
        kinds = table.component_post_stanzas
        if table.post_stanza_types is not None:
            if kinds is not None:
                problem = (
                    "post_stanza_types is an alias of component_post_stanzas, which is also set"
                )
                self._fault(f"{key}.post_stanza_types", problem, "Keep one of the two")
            name, kinds = "post_stanza_types", table.post_stanza_types
        if kinds is None:
            return frozenset({"message"})
        self._known(f"{key}.{name}", kinds, KINDS, "a kind of stanza")
        return frozenset(kinds)

    def _post_events(self, table: ComponentTable, key: str) -> frozenset[str]:
        events = table.component_post_events
        if events is None:
            return DEFAULT_EVENTS
        self._known(f"{key}.component_post_events", events, EVENTS, "an event")
        return frozenset(events)

    def _known(self, key: str, given: Iterable[str], known: Sequence[str], noun: str) -> None:
        """Add a fault for each name that is not known."""
        for one in given:
            if one not in known:
                close = get_close_matches(one, known, 1)
                remedy = (
                    f'Perhaps you meant "{close[0]}"' if close else f"Use any of {', '.join(known)}"
                )
                self._fault(key, f"{one!r} is not {noun}", remedy)

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
            remedy = "Use the secret that the server is configured with for this component"
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
            self._fault(key, f"{path} is empty", "Write the value into it")
            return None
        self.warnings += readable_by_all(path, "the secret in it")
        return Secret(value)

    def _note_key_file(self, path: Path) -> None:
        self.warnings += readable_by_all(path, "the key in it")

    def _certificates(self, key: str, name: str | None) -> str | None:
        if name is None:
            return None
        path = self._directory / name
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            self._fault(
                key, f"{path} contains no certificates", "Use a PEM file of CA certificates"
            )
        except OSError as error:
            problem = f"{path} cannot be read ({error.strerror})"
            self._fault(key, problem, "Use a readable PEM file of CA certificates")
        return str(path)

    def _try(self, key: str, check: Callable[[str], T], value: str) -> T | None:
        try:
            return check(value)
        except BadValue as error:
            self._fault(key, error.problem, error.remedy)
            return None

    def _fault(self, key: str, problem: str, remedy: str) -> None:
        fault = ConfigFault(key, problem, remedy)
        if fault not in self.faults:
            self.faults.append(fault)


def readable_by_all(path: Path, what: str) -> list[str]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        return [f"{path}: everyone on this machine can read {what}; run: chmod 640 {path}"]
    return []
