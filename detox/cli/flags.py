"""Flags of recipes: dataclasses as in TRL's scripts, `--config FILE.yaml` with overrides, mistakes as one line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detox.errors import DetoxError, InputError, MissingData, UnknownName


def parse(
    types: Sequence[type], argv: Sequence[str] | None = None, *, description: str | None = None
) -> tuple[Any, ...]:
    """Parse command-line flags into dataclasses, by TRL's own parser.

    Args:
        types: dataclasses; their init fields are the flags.
        argv: without the program's name; None takes the command line's.
        description: for `--help`.

    Raises:
        UnknownName: a flag or a key of the configuration file that is not known; names the nearest.
        MissingData: no such configuration file.
        InputError: a value that cannot be read.
    """
    from dataclasses import fields

    import yaml
    from trl import TrlParser

    argv = list(sys.argv[1:] if argv is None else argv)
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    known = [f.name for one in types for f in fields(one) if f.init]
    for flag in (word[2:].split("=")[0] for word in argv if word.startswith("--")):
        if flag.removeprefix("no_") not in known and flag not in ("config", "help"):
            raise UnknownName("flag", flag, known)
    if "--config" in argv:
        path = Path(argv[argv.index("--config") + 1]) if argv[-1] != "--config" else None
        if path is None or not path.is_file():
            raise MissingData(f"--config: no file {path or 'given'}; expected YAML with flags as keys")
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not YAML ({getattr(error, 'problem', error)})") from error
        if not isinstance(config, dict):
            raise InputError(f"{path}: expected YAML with flags as keys")
        for key in config:
            if key not in known and key != "env":
                raise UnknownName(f"key of {path}", str(key), known)
    parser = TrlParser(list(types), description=description)
    objects = {f.name for one in types for f in fields(one) if f.init and "dict" in str(f.type)}
    for action in parser._actions:
        if action.dest in objects:
            action.type = _json_object
    try:
        return tuple(parser.parse_args_and_config(argv))
    except DetoxError:
        raise
    except ValueError as error:
        raise InputError(str(error).splitlines()[0]) from error


def _json_object(text: str) -> dict[str, Any]:
    expected = "expected a JSON object such as '{\"logging_steps\": 5}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error}); {expected}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is a {type(value).__name__}; {expected}")
    return value


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command; what was wrong is one line on stderr.

    Returns:
        The command's own code; 2 for wrong input, 130 after Ctrl-C.
    """
    try:
        return run() or 0
    except DetoxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "what was finished is kept; the same command goes on from there"
        print(f"\ninterrupted: {reason}", file=sys.stderr)
        return 130
