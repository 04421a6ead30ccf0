"""nginx on loopback, plain and with TLS, on IPv4 and IPv6; the test says what it serves."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import trio
import trustme

from tests.bench.nginx import missing
from tests.servers.process import LOOPBACK, POLL_S, STOP_S, Server, accepts, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Nginx", "missing"]

CONFIG = """\
{global_lines}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
    access_log access.log;
    default_type text/plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    ssl_certificate server.pem;
    ssl_certificate_key server.key;
    ssl_client_certificate ca.pem;
    server {{
        listen {host}:{port};
        listen [::1]:{port} ipv6only=on;
        listen {host}:{tls_port} ssl;
        listen [::1]:{tls_port} ssl ipv6only=on;
{block}
    }}
}}
"""


class Nginx(Server):
    """An nginx with a certificate of `ca` for `localhost`, 127.0.0.1 and ::1.

    `block` is the text of its `server` section, but for what it listens on. See `Server` for its
    life.
    """

    name = "nginx"

    def __init__(self, directory: Path, ca: trustme.CA, block: str) -> None:
        super().__init__(directory, None, None, None)
        self.port, self.tls_port = self.component_port, self.c2s_port
        self.block = block
        self._ca = ca

    @property
    def access_log(self) -> str:
        """What was logged so far, a line for each request, some time after its answer."""
        path = self.directory / "access.log"
        return path.read_text() if path.exists() else ""

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end, also that of the workers, which hold the ports."""
        await super().kill()
        with trio.fail_after(STOP_S):
            while True:
                if not (await accepts(self.port) or await accepts(self.tls_port)):
                    return
                await trio.sleep(POLL_S)

    def _configure(self) -> None:
        certificate = self._ca.issue_cert("localhost", LOOPBACK, "::1")
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        write(self.directory / "server.pem", chain.decode())
        write(self.directory / "server.key", certificate.private_key_pem.bytes().decode())
        write(self.directory / "ca.pem", self._ca.cert_pem.bytes().decode())
        text = CONFIG.format(
            global_lines="user root;" if os.geteuid() == 0 else "",  # the directory is ours alone
            host=LOOPBACK,
            port=self.port,
            tls_port=self.tls_port,
            block=self.block,
        )
        write(self.directory / "nginx.conf", text)

    def _command(self) -> Sequence[str]:
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"  # not on everyone's in Debian
        binary = shutil.which("nginx", path=path) or "nginx"
        return [binary, "-p", str(self.directory), "-c", "nginx.conf"]
