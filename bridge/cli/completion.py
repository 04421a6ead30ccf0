"""`xmpp-bridge completion`: a script by which a shell completes commands, options and files."""

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from bridge.cli.exit import EXIT_CODES

PROGRAM: Final = "xmpp-bridge"
_VARIABLE: Final = "_XMPP_BRIDGE_COMPLETE"


_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "fish": FishComplete,
    "zsh": ZshComplete,
}


@click.command(epilog=EXIT_CODES)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete commands, options and files.

    \b
    bash:  xmpp-bridge completion bash > ~/.local/share/bash-completion/completions/xmpp-bridge
    zsh:   xmpp-bridge completion zsh > ~/.zfunc/_xmpp-bridge
    fish:  xmpp-bridge completion fish > ~/.config/fish/completions/xmpp-bridge.fish

    zsh reads that directory if `fpath+=~/.zfunc` stands before `compinit` in ~/.zshrc. A new shell
    completes.
    """
    made = _SHELLS[shell](ctx.find_root().command, {}, PROGRAM, _VARIABLE)
    click.echo(made.source())
