"""nginx as the endpoint: constant JSON at once, after 100 ms, or (one of a hundred) after 2 s."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.servers.process import LOOPBACK, accepts, reserve_port, tail

SLOW_S: Final = 0.1
LATE_S: Final = 2.0
LATE_SHARE: Final = "1%"
ENDPOINTS: Final = ("fast", "slow", "mixed")
ECHO_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
START_S: Final = 10.0
STOP_S: Final = 5.0
POLL_S: Final = 0.02

TEXT: Final = "answer " * 14
CONFIG: Final = """\
{global_lines}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    split_clients $request_id $is_late {{ {late_share} yes; * no; }}
    server {{
        listen {address} backlog=4096;
        location = /fast {{ return 200 '{{"body":"{text}"}}'; }}
{delayed}
    }}
}}
"""
# echo_exec: the answer is that of /fast, with its Content-Length; echo's own would be chunked
DELAYED: Final = """\
        location = /slow { echo_sleep %(slow_s)s; echo_exec /fast; }
        location = /mixed {
            if ($is_late = yes) { rewrite ^ /late last; }
            return 200 '{"body":"%(text)s"}';
        }
        location = /late { echo_sleep %(late_s)s; echo_exec /later; }
        location = /later { return 200 '{"body":"late %(text)s"}'; }
"""


def missing(endpoint: str = "fast") -> str | None:
    """Why nginx cannot be that endpoint here, or None."""
    if shutil.which("nginx", path=_path()) is None:
        return "nginx is not installed"
    if endpoint != "fast" and not ECHO_MODULE.exists():
        return f"{endpoint} endpoint: libnginx-mod-http-echo is not installed"
    return None


class Nginx:
    """A running nginx; see `run_nginx` for its life."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self._port = pid, port

    def url(self, endpoint: str) -> str:
        return f"http://{LOOPBACK}:{self._port}/{endpoint}"


@asynccontextmanager
async def run_nginx(directory: Path) -> AsyncIterator[Nginx]:
    """Start nginx with one worker, and stop it at the end. Raises: RuntimeError."""
    place = Path(tempfile.mkdtemp(prefix="nginx-", dir=directory))
    log = place / "log"
    with reserve_port() as held, log.open("wb") as stderr:
        port: int = held.getsockname()[1]
        (place / "nginx.conf").write_text(_config(port))
        process = await trio.lowlevel.open_process(
            [shutil.which("nginx", path=_path()) or "nginx", "-p", str(place), "-c", "nginx.conf"],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the benchmark alone
        )
        try:
            with trio.move_on_after(START_S):
                await _up(process, port)
            if process.poll() is not None or not await accepts(port):
                raise RuntimeError(f"nginx is not up; {tail(log)}")
            yield Nginx(process.pid, port)
        finally:
            with trio.CancelScope(shield=True):
                await _stop(process)


async def _up(process: trio.Process, port: int) -> None:
    """Wait until it accepts, or has ended."""
    while True:
        if process.poll() is not None or await accepts(port):
            return
        await trio.sleep(POLL_S)


async def _stop(process: trio.Process) -> None:
    with trio.move_on_after(STOP_S):
        if process.poll() is None:
            process.terminate()
        await process.wait()
        return
    os.killpg(process.pid, signal.SIGKILL)  # the workers too
    await process.wait()


def _config(port: int) -> str:
    lines = []
    if ECHO_MODULE.exists():
        lines.append(f"load_module {ECHO_MODULE};")
    if os.geteuid() == 0:
        lines.append("user root;")  # the directory is ours alone
    delayed = {"slow_s": SLOW_S, "late_s": LATE_S, "text": TEXT}
    return CONFIG.format(
        global_lines="\n".join(lines),
        address=f"{LOOPBACK}:{port}",
        text=TEXT,
        late_share=LATE_SHARE,
        delayed=DELAYED % delayed if ECHO_MODULE.exists() else "",
    )


def _path() -> str:
    """Where nginx may be: Debian's /usr/sbin is not on everyone's PATH."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin"
