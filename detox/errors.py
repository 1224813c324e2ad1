"""Everything that detox raises on purpose.

DetoxError
├── InputError            what was passed in is wrong (also a ValueError)
│   ├── UnknownName       no detoxifier, scorer, data set, column or grid key of that name; names the nearest
│   └── DataError         a data file is wrong; names file and line
├── MissingData           a data set or directory that is not there; names where it was looked for
├── OutputError           the place to write to cannot be written; found before any work
├── UnsupportedModel      the model lacks what the method needs, or its family is not known
├── NotFitted             `applied` or `save_pretrained` before `fit`
├── BaseMismatch          fitted on one base model, applied to another
├── StaleHandle           a LanguageModel whose edits are not exactly those installed on its model
├── HookNeverFired        an edit was installed and never ran: a base model in disguise
├── NotAnnounced          an edit that must know where the prompt ends, and a raw call of the model that does not say
├── NotExportable         the change has no exact place in a plain checkpoint
├── ConformanceError      a detoxifier breaks a point of the contract
├── ScoringFailed         what a scorer raises where it cannot score a text: that text is missing, with the reason
├── EndpointFailed        a model behind an address is down, too slow, refuses, or answers what is no completion
└── CellFailed            a cell of a grid could not be computed

Every message is one line: what was seen, what was expected, what to do. The command line prints that line and exits
with 2; a traceback there is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class DetoxError(Exception):
    """Root of the errors that detox raises on purpose."""


class InputError(DetoxError, ValueError):
    """What was passed in is wrong."""


class UnknownName(InputError):
    """A name that is not known here, with the nearest that is."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.what, self.name, self.known = what, name, sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {what} {name!r}{hint} (known: {', '.join(self.known) or 'none'})")


def require_known(what: str, name: object, known: Collection[object]) -> None:
    """Refuse a name that is not among those known.

    Raises:
        UnknownName: says what the name is of.
    """
    if name not in known:
        raise UnknownName(what, str(name), map(str, known))


class DataError(InputError):
    """A data file is wrong; the message starts with `file:line`."""


class MissingData(DetoxError, FileNotFoundError):
    """A data set or directory that is not there."""


class OutputError(DetoxError, OSError):
    """The place to write to cannot be written."""


class UnsupportedModel(DetoxError):
    """The model lacks what is needed, or its family is not known."""


class NotFitted(DetoxError):
    """The detoxifier has not learned anything yet."""


class BaseMismatch(DetoxError):
    """Fitted on one base model, applied to another."""


class StaleHandle(DetoxError):
    """A LanguageModel whose edits are not exactly those installed on its model."""


class HookNeverFired(DetoxError):
    """An installed edit never ran."""


class NotAnnounced(DetoxError):
    """An edit had to know where the prompt ends, and nobody said it."""


class NotExportable(DetoxError):
    """The change has no exact place in a plain checkpoint."""


class ConformanceError(DetoxError, AssertionError):
    """A detoxifier breaks a point of the contract."""


class ScoringFailed(DetoxError):
    """A scorer cannot score a text, and the others have nothing to do with it: the text is missing, with this as the reason."""


class EndpointFailed(DetoxError):
    """A model behind an address did not answer as it should."""


class CellFailed(DetoxError):
    """A cell of a grid could not be computed."""
