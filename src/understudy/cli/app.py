"""``understudy``: the table of commands, and the way from a command line to an exit code."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from understudy import __version__
from understudy.cli import generating, inspecting, making, stages, targeting
from understudy.cli.boundary import report, say
from understudy.errors import choices


def run(argv: Sequence[str]) -> int:
    """One command line, without the program's name.

    Returns:
        The exit code: 0 done; 2 usage or recipe; 3 data, labels, store; 4 teacher; 5 a gate; 6 non-finite;
        75 interrupted or disk full; 130 Ctrl-C; 1 a bug.
    """
    command: Any = typer.main.get_command(build())
    try:
        # not typer's own main: it would print errors its own way, and boxes need rich
        with command.make_context("understudy", list(argv) or ["--help"]) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return report(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:
        if not hasattr(error, "format_message"):
            return report(error)
        say(_usage(error))  # typer's own usage errors, whichever package a version of it keeps them in
        return 2
    return code if isinstance(code, int) else 0


def build() -> typer.Typer:
    """The command line as a Typer application, built anew on each call."""
    app = typer.Typer(
        name="understudy",
        cls=targeting.Last,
        help="Distil a large model into a small, deployable one, with proof of what was kept.",
        epilog="Start with: understudy demo. Examples of a command: understudy distill --help.",
        # plain help: a fraction of the start-up time of rich's, and the docs can quote it
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )
    app.callback()(_program)
    for room in (making, stages, generating, inspecting):
        for name, command in room.COMMANDS.items():
            app.command(name, short_help=(command.__doc__ or "").partition("\n")[0])(command)
    for name, (about, commands) in targeting.GROUPS.items():
        group = typer.Typer(help=about, rich_markup_mode=None, no_args_is_help=False)
        for word, command in commands.items():
            group.command(word, short_help=(command.__doc__ or "").partition("\n")[0])(command)
        app.add_typer(group, name=name)
    return app


def _version(asked: bool) -> None:
    if asked:
        print(f"understudy {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def _usage(error: Any) -> str:
    """A usage error in one line, with the nearest option or command."""
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    path = context.command_path if context else "understudy"
    if wrong and type(error).__name__ == "NoSuchOption":
        known = [option for parameter in context.command.params for option in parameter.opts] if context else []
        near = difflib.get_close_matches(wrong, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"{path} --help lists them"
        return f"no such option {wrong} for {path}: {hint}"
    text = " ".join(error.format_message().split())
    unknown = re.match(r"No such command '(.*?)'", text)
    if unknown and context:
        return f"no such command {unknown[1]}: {choices(unknown[1], context.command.commands)}"
    return f"{text[:1].lower()}{text[1:]} ({path} --help shows how)"
