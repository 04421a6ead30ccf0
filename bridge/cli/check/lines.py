"""The lines that the server's own configuration needs for a component."""

from rich.console import Console

from bridge.config.settings import Component
from bridge.config.value import is_loopback


def print_server_lines(component: Component, console: Console, *, is_shared: bool) -> None:
    """Print what the server needs for a component. If nodes share it (`is_shared`), a new
    connection must replace that of a node which is dead, or cut off.
    """
    server, domain = component.server, component.domain
    ip = "127.0.0.1" if is_loopback(server.host) else "::"
    prosody = [
        f"component_ports = {{ {server.port} }}",
        f'component_interfaces = {{ "{ip}" }}',
        f'Component "{domain}"',
        '    component_secret = "THE SECRET"',
        *(['    component_conflict_resolve = "kick_old"'] if is_shared else []),
    ]
    if server.tls:
        prosody.insert(0, "-- Prosody has no direct TLS for components: put stunnel in front of it")
    ejabberd = [
        "listen:",
        f"  - port: {server.port}",
        f'    ip: "{ip}"',
        "    module: ejabberd_service",
        "    access: all",
        "    global_routes: false",
        *(["    tls: true"] if server.tls else []),
        "    hosts:",
        f"      {domain}:",
        '        password: "THE SECRET"',
    ]
    for name, lines in (
        ("Prosody (prosody.cfg.lua)", prosody),
        ("ejabberd (ejabberd.yml)", ejabberd),
    ):
        console.print(f"[bold]For {name}[/], for {domain}:\n", soft_wrap=True)
        text = "".join(f"    {line}\n" for line in lines)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
