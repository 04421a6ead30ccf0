"""Turns `[http]` and `[retry]`, for all components or for one, into settings; collects faults."""

import importlib.util
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, fields

from bridge.config.settings import (
    Component,
    ComponentTable,
    HttpSettings,
    HttpTable,
    RetrySettings,
    RetryTable,
)
from bridge.config.value import BadValue, Secret, check_header, is_secret_header


class HttpValidation:
    """Validates how endpoints are called."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        secret_file: Callable[[str, str], Secret | None],
        certificates: Callable[[str, str | None], str | None],
        fault: Callable[[str, str, str], None],
        note_key_file: Callable[[Path], None],
    ) -> None:
        """`secret_file` and `certificates` read the file that a key names; `fault` takes key,
        problem and remedy; `note_key_file` is told of each private key that was read.
        """
        self._directory = directory
        self._environment = environment
        self._secret_file = secret_file
        self._certificates = certificates
        self._fault = fault
        self._note_key_file = note_key_file

    def http(self, table: HttpTable, key: str, base: HttpSettings) -> HttpSettings:
        """Return `base` with the keys that a table sets. Headers are merged: those of the table
        replace others of the same name. A client certificate replaces certificate and key.
        """
        given = _given(table)
        given["headers"] = _merged(base.headers, self._headers(table.headers, f"{key}.headers"))
        if table.ca_file is not None:
            given["ca_file"] = self._certificates(f"{key}.ca_file", table.ca_file)
        if table.client_cert_file is not None or table.client_key_file is not None:
            cert_file, key_file = self._client_certificate(table, key)
            given |= {"client_cert_file": cert_file, "client_key_file": key_file}
        if table.http2 and importlib.util.find_spec("h2") is None:
            problem = "HTTP/2 needs the package h2, which is not installed"
            remedy = "Run: pip install 'httpx[http2]', or set http2 = false"
            self._fault(f"{key}.http2", problem, remedy)
        return evolve(base, **given)

    def retry(self, table: RetryTable, key: str, base: RetrySettings) -> RetrySettings:
        """Return `base` with the keys that a table sets; `budget_s` sets both budgets."""
        given = _given(table)
        budget_s = given.pop("budget_s", None)
        if budget_s is not None:
            for name in ("message_budget_s", "iq_budget_s"):
                if name in given:
                    problem = f"budget_s and {name} are both set"
                    self._fault(f"{key}.{name}", problem, "Keep one of the two")
                given[name] = budget_s
        return evolve(base, **given)

    def of_component(
        self, table: ComponentTable, key: str, http: HttpSettings, retry: RetrySettings
    ) -> tuple[HttpSettings | None, RetrySettings | None]:
        """Return a component's own settings, based on those of all; None without a table."""
        return (
            None if table.http is None else self.http(table.http, f"{key}.http", http),
            None if table.retry is None else self.retry(table.retry, f"{key}.retry", retry),
        )

    def check_secrets(
        self,
        table: HttpTable,
        tables: Mapping[str, ComponentTable],
        components: Sequence[Component],
    ) -> None:
        """Refuse a header of all components that looks like a secret, if endpoints of different
        origins would get it: each of these services could then act as a client of the others.
        """
        for entry in table.headers:
            name = _header_name(entry)
            if not is_secret_header(name):
                continue
            receivers = [
                one
                for one in components
                if not one.post_url.is_pulled and not _has_own(one, tables[one.domain], name)
            ]
            origins = dict.fromkeys(one.post_url.origin for one in receivers)
            if len(origins) > 1:
                problem = f"the secret in {name} would be sent to {' and '.join(origins)}"
                place = f'[component."{receivers[0].domain}".http.headers]'
                remedy = f"Move it to the component that it is for: {place}"
                self._fault(f"http.headers.{entry}", problem, remedy)

    def _client_certificate(self, http: HttpTable, table: str) -> tuple[str | None, str | None]:
        """Check that certificate and key can be read and match; one file may hold both."""
        if http.client_cert_file is None:
            problem = "client_key_file is set without client_cert_file"
            self._fault(f"{table}.client_key_file", problem, "Set client_cert_file as well")
            return None, None
        cert = self._directory / http.client_cert_file
        key = cert if http.client_key_file is None else self._directory / http.client_key_file
        try:
            ssl.create_default_context().load_cert_chain(cert, key, _no_password)
        except ssl.SSLError:
            problem = f"{cert} and {key} do not hold a certificate and its key"
            remedy = "Use PEM files of a certificate and its key, without a passphrase"
            self._fault(f"{table}.client_cert_file", problem, remedy)
        except OSError as error:
            problem = f"{cert} or {key} cannot be read ({error.strerror})"
            self._fault(f"{table}.client_cert_file", problem, "Check the paths and permissions")
        else:
            self._note_key_file(key)
        return str(cert), str(key)

    def _headers(self, table: Mapping[str, str], table_key: str) -> dict[str, str]:
        """Return the headers by name. `NAME_file` and `NAME_env` say where the value is."""
        headers: dict[str, str] = {}
        for entry, given in table.items():
            key = f"{table_key}.{entry}"
            name, value = _header_name(entry), given
            if entry.endswith("_file"):
                secret = self._secret_file(key, given)
                if secret is None:
                    continue
                value = secret.value
            elif entry.endswith("_env"):
                if given not in self._environment:
                    problem = f"the environment variable {given} is not set"
                    self._fault(key, problem, "Set it, or name another variable")
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


def _given(table: HttpTable | RetryTable) -> dict[str, Any]:
    """Return the keys that are set."""
    return {
        one.name: value
        for one in fields(type(table))
        if (value := getattr(table, one.name)) is not None
    }


def _merged(base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    names = {name.lower() for name in own}
    kept = {name: value for name, value in base.items() if name.lower() not in names}
    return kept | dict(own)


def _header_name(entry: str) -> str:
    return entry.removesuffix("_file") if entry.endswith("_file") else entry.removesuffix("_env")


def _has_own(component: Component, table: ComponentTable, name: str) -> bool:
    """Whether a component does not use the common header of this name."""
    own = {_header_name(entry).lower() for entry in table.http.headers} if table.http else set()
    if component.post_url.authorization is not None:
        own.add("authorization")
    return name.lower() in own


def _no_password() -> str:
    """Return an empty passphrase: OpenSSL then fails instead of asking on the terminal."""
    return ""
