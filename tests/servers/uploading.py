"""Prosody and ejabberd with their upload services, as the manual configures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trustme

from tests.servers.ejabberd import Ejabberd
from tests.servers.process import LOOPBACK, reserve_port, write
from tests.servers.prosody import Prosody, quoted

if TYPE_CHECKING:
    from pathlib import Path

SERVICE: Final = "upload.localhost"
LIMIT_BYTES: Final = 64 * 1024 * 1024


class UploadingProsody(Prosody):
    """With mod_http_file_share, and STARTTLS for clients that insist on it.

    `access` are lines for the section of the service.
    """

    def __init__(self, directory: Path, *, access: tuple[str, ...] = (), **settings: Any) -> None:
        self._http = reserve_port()
        self.http_port = self._http.getsockname()[1]
        component = [
            "http_host = " + quoted(LOOPBACK),
            f'Component "{SERVICE}" "http_file_share"',
            f"    http_file_share_size_limit = {LIMIT_BYTES}",
            f"    http_external_url = {quoted(f'http://{LOOPBACK}:{self.http_port}/')}",
            f"    http_host = {quoted(LOOPBACK)}",
            *access,
        ]
        extra = [
            f"http_ports = {{ {self.http_port} }}",
            f"http_interfaces = {{ {quoted(LOOPBACK)} }}",
            "https_ports = {}",
        ]
        super().__init__(
            directory,
            component_settings={"localhost": component},
            extra="\n".join(extra),
            **settings,
        )

    def _config(self) -> str:
        certificate = trustme.CA().issue_cert("localhost")
        key, chain = self.directory / "key.pem", self.directory / "chain.pem"
        certificate.private_key_pem.write_to_path(key)
        write(chain, b"".join(one.bytes() for one in certificate.cert_chain_pems).decode())
        ssl = f"ssl = {{ key = {quoted(str(key))}; certificate = {quoted(str(chain))} }}"
        return (
            super()
            ._config()
            .replace('{ "roster",', '{ "tls", "roster",')
            .replace('VirtualHost "localhost"', f'{ssl}\nVirtualHost "localhost"', 1)
        )

    def _release(self) -> None:
        super()._release()
        self._http.close()


class UploadingEjabberd(Ejabberd):
    """With mod_http_upload. `allowed` are the servers whose addresses may upload, beside users."""

    def __init__(
        self, directory: Path, *, allowed: tuple[str, ...] = ("bot.localhost",), **settings: Any
    ) -> None:
        self._http = reserve_port()
        self.http_port = self._http.getsockname()[1]
        self._allowed = allowed
        super().__init__(directory, **settings)

    def _config(self) -> dict[str, object]:
        config: dict[str, Any] = super()._config()
        config["listen"].append(
            {
                "port": self.http_port,
                "ip": LOOPBACK,
                "module": "ejabberd_http",
                "request_handlers": {"/upload": "mod_http_upload"},
            }
        )
        rules: list[dict[str, str]] = [{"allow": "local"}]
        if self._allowed:
            config["acl"] = {"local": {"user_regexp": ""}, "bots": {"server": list(self._allowed)}}
            rules.append({"allow": "bots"})
        config["access_rules"] = {"upload": rules}
        config["modules"]["mod_http_upload"] = {
            "access": "upload",
            "docroot": str(self.directory / "uploads"),
            "max_size": LIMIT_BYTES,
            "put_url": f"http://{LOOPBACK}:{self.http_port}/upload",
        }
        return config

    def _release(self) -> None:
        super()._release()
        self._http.close()
