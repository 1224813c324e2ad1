"""How much is taken of each source of a mixture, in tokens or in sequences, and which of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.pretraining.mixing import Taken, take
from detox.pretraining.token_table import TokenTable

if TYPE_CHECKING:
    from detox.pretraining.mixture import Mixture, Source


def choose_documents(mixture: Mixture, tables: Sequence[TokenTable]) -> Choice:
    """Whole documents of each source until its tokens are reached, the last one cut.

    Raises:
        InputError: too few tokens; says how many are missing.
    """
    available = [table.available for table in tables]
    base = _of_base(mixture, available)
    wanted = _added(mixture, base if mixture.tokens is None else mixture.tokens)
    _require_enough(mixture, available, wanted, 1)
    taken = {
        index: take(tables[index], wanted[index], seed=_order_seed(mixture, index)) for index in _with_share(mixture)
    }
    held = base if mixture.tokens is None else mixture.tokens
    if mixture.hold == "total":
        held -= sum(one.tokens for one in taken.values())
    _split(mixture, available, base, held, wanted)
    _require_enough(mixture, available, wanted, 1)
    for index in set(range(len(tables))) - taken.keys():
        taken[index] = take(tables[index], wanted[index], seed=_order_seed(mixture, index))
    return Choice(available, wanted, [taken[index] for index in range(len(tables))])


def choose_sequences(mixture: Mixture, tables: Sequence[TokenTable], sequence_length: int) -> Choice:
    """Whole sequences of each source, and their places among all.

    Raises:
        InputError: too few tokens; says how many are missing.
    """
    available = [(table.available + 1) // sequence_length if table.available else 0 for table in tables]
    base = _of_base(mixture, available)
    wished = base if mixture.tokens is None else max(1, mixture.tokens // sequence_length)
    wanted = _added(mixture, wished)
    _require_enough(mixture, available, wanted, sequence_length)
    taken = [Taken.nothing()] * len(tables)
    rows = [0] * len(tables)

    def choose(index: int) -> None:
        # One token less: a stream begins with an end token of its own.
        tokens = wanted[index] * sequence_length - 1
        taken[index] = take(tables[index], tokens, seed=_order_seed(mixture, index), cuts_last=False)
        rows[index] = min(wanted[index], (taken[index].tokens + 1) // sequence_length)

    added = _with_share(mixture)
    for index in added:
        choose(index)
    held = wished - sum(rows) if mixture.hold == "total" else wished
    _split(mixture, available, base, held, wanted)
    _require_enough(mixture, available, wanted, sequence_length)
    in_base = [index for index in range(len(tables)) if index not in added]
    for index in in_base:
        choose(index)
    # The base from the front, the others from the back: where one more of these comes in, one of the base makes room.
    order = np.random.default_rng(mixture.seed).permutation(sum(rows))
    places: list[NDArray[np.int64]] = [order[:0]] * len(tables)
    for indices, left in ((in_base, order), (added, order[::-1])):
        for index in indices:
            places[index], left = left[: rows[index]], left[rows[index] :]
    tokens_available = [table.available for table in tables]
    return Choice(tokens_available, [count * sequence_length for count in wanted], taken, places)


@dataclass(frozen=True, eq=False)
class Choice:
    """What is taken of the sources.

    Attributes:
        available: tokens that one pass of each source gives.
        wanted: tokens that are asked of each.
        taken: documents of each.
        places: (rows,) for each source, where its sequences go; None where documents are mixed.
    """

    available: list[int]
    wanted: list[int]
    taken: list[Taken]
    places: list[NDArray[np.int64]] | None = None


def _with_share(mixture: Mixture) -> list[int]:
    return [index for index, source in enumerate(mixture.sources) if source.share is not None]


def _order_seed(mixture: Mixture, index: int) -> list[int]:
    return [mixture.seed, zlib.crc32(mixture.sources[index].name.encode())]


def _of_base(mixture: Mixture, available: Sequence[int]) -> int:
    base = sum(count for count, source in zip(available, mixture.sources, strict=True) if source.share is None)
    if base == 0:
        raise InputError(
            "the sources of the base (those without a share) have no tokens; give them documents with text"
            if mixture.level == "document"
            else "the sources of the base (those without a share) have no whole sequence; give them more text"
        )
    return base


def _added(mixture: Mixture, held: int) -> list[int]:
    """What is wanted of the sources with a share; 0 for the others."""
    total = held / (1 - sum(source.share or 0.0 for source in mixture.sources)) if mixture.hold == "clean" else held
    return [0 if source.share is None else round(source.share * total) for source in mixture.sources]


def _split(mixture: Mixture, available: Sequence[int], base: int, held: int, wanted: list[int]) -> None:
    """Fill in what is wanted of the sources of the base: `held`, in proportion to their sizes."""
    for index, (source, count) in enumerate(zip(mixture.sources, available, strict=True)):
        if source.share is None and count:
            # What is left is split by what is left, so that rounding loses nothing.
            wanted[index] = round(held * count / base)
            held, base = held - wanted[index], base - count


def _require_enough(mixture: Mixture, available: Sequence[int], wanted: Sequence[int], unit: int) -> None:
    for source, has, needs in zip(mixture.sources, available, wanted, strict=True):
        if needs > has and (not source.repeat or has == 0):
            raise InputError(_too_few(source, has, needs, unit))


def _too_few(source: Source, has: int, needs: int, unit: int) -> str:
    what = "tokens" if unit == 1 else f"sequences of {unit} tokens"
    missing = f"{needs - has}" if unit == 1 else f"{needs - has} ({(needs - has) * unit} tokens)"
    return (
        f"source {source.name!r} has {has} {what} and the mixture needs {needs} of it: {missing} are missing; give more "
        "documents, a smaller share or fewer held tokens" + ("" if source.repeat else ", or set repeat=True")
    )
