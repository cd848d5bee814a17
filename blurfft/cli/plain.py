"""The command without ``blurfft[cli]``: ``info`` and ``check`` in plain text, with Python's standard library."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import blurfft

from .. import info, selfcheck
from .._table import plain
from .output import written

INSTALL = "blurfft {} needs packages that are not installed: pip install 'blurfft[cli]'"
_NEED_THE_EXTRA = ("deblur", "demo", "train")


def app(arguments: Sequence[str] | None = None, prog_name: str = "blurfft") -> None:
    """Runs the command and ends the process with its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _NEED_THE_EXTRA:
        sys.exit(INSTALL.format(arguments[0]))
    given = _parser(prog_name).parse_args(arguments)
    with written():
        status = _info(given.json) if given.command == "info" else _check(given.backend, given.all)
    sys.exit(status)


def _parser(prog_name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog_name,
        description="What is installed, and whether it computes the right thing. "
        "pip install 'blurfft[cli]' adds the commands deblur, demo and train.",
    )
    parser.add_argument("--version", action="version", version=f"blurfft {blurfft.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = commands.add_parser("info", help="show what is built, and which backend serves what")
    command.add_argument("--json", action="store_true", help="as JSON, for bug reports")
    command = commands.add_parser("check", help="compare every backend on this machine with the formulas in float64")
    command.add_argument("--backend", metavar="NAME", action="append", default=[], help="only this; may be repeated")
    command.add_argument("--all", "-a", action="store_true", help="a row for each size, not only the worst")
    return parser


def _info(as_json: bool) -> int:
    facts = info.gather()
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    print("\n\n".join([*map(plain, info.tables(facts)), *facts["problems"]]))
    return 0


def _check(names: Sequence[str], every_size: bool) -> int:
    try:
        backends = selfcheck.chosen(names)
    except (ValueError, RuntimeError) as error:
        print(f"--backend: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    if problems := info.problems():
        print(problems[0], file=sys.stderr)
        return 1
    results = [selfcheck.check_one(*case) for case in selfcheck.plan(backends)]
    for backend in backends:
        print(plain(selfcheck.table(backend, results, every_size)), end="\n\n")
    for failure in selfcheck.failures(results):
        print(failure, file=sys.stderr)
    print(selfcheck.summary(backends, results).text)
    return 0 if all(result.passed for result in results) else 1
