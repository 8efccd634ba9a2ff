"""``forkful completion``."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes forkful's commands and options in SHELL.

    \b
    Examples:
      echo 'eval "$(forkful completion bash)"' >> ~/.bashrc
      echo 'eval "$(forkful completion zsh)"' >> ~/.zshrc
      forkful completion fish > ~/.config/fish/completions/forkful.fish
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are
    root = ctx.find_root()
    made: Any = get_completion_class(shell)
    click.echo(made(root.command, {}, "forkful", "_FORKFUL_COMPLETE").source())
