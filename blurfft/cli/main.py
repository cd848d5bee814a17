"""The command with ``blurfft[cli]``; each subcommand is in the file of its name."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer

import blurfft

from . import check, deblur, demo, info, train
from .output import written


class _Command(typer.Typer):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with written():
            return super().__call__(*args, **kwargs)


app = _Command(
    name="blurfft",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=check.EXAMPLES)(check.check)
app.command(epilog=deblur.EXAMPLES, no_args_is_help=True)(deblur.deblur)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=train.EXAMPLES)(train.train)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"blurfft {blurfft.__version__}")
        raise typer.Exit


@app.callback(epilog="Each command has its own help with examples: `blurfft deblur --help`.")
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Blur-error losses for image models, and Wiener deconvolution of photographs.

    The losses themselves are used from Python (`import blurfft`); here you can see what is installed, check
    that it computes the right thing, and try it on photographs.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
