"""Development and held-out parts of a protocol: chosen by a seed, told apart by id and by text, kept with their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from detox.data.records import Document, Prompt
from detox.errors import InputError
from detox.evaluation import Protocol

DEVELOPMENT, HELD_OUT = "development", "held-out"
_Record = TypeVar("_Record", Prompt, Document)


@dataclass(frozen=True)
class Split:
    """A protocol in two parts that share no prompt and no document.

    Attributes:
        development, held_out: the protocol with the prompts and documents of one part each.
        seed, share: by which it was split; the share is that of the development part.
    """

    development: Protocol
    held_out: Protocol
    seed: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Sizes and hashes of both parts, as JSON."""
        parts = {DEVELOPMENT: self.development, HELD_OUT: self.held_out}
        return {
            "seed": self.seed,
            "share": self.share,
            **{
                name: {
                    "prompts": len(part.prompts),
                    "documents": len(part.documents),
                    "prompt_ids_sha256": ids_hash(prompt.id for prompt in part.prompts),
                    "document_ids_sha256": ids_hash(document.id for document in part.documents),
                }
                for name, part in parts.items()
            },
        }


def split_protocol(protocol: Protocol, *, share: float, seed: int) -> Split:
    """Deal prompts and documents by a hash of seed and text: equal texts go to one part, and other prompts change nobody's part.

    Args:
        protocol: with prompts, scorers and documents.
        share: of the development part, in (0, 1).
        seed: of the split.

    Raises:
        InputError: no prompts or documents to split, or a part with fewer than two of either.
    """
    if not 0 < share < 1:
        raise InputError(f"the development share is {share!r}; expected a number between 0 and 1")
    if not protocol.prompts or not protocol.documents:
        raise InputError(
            f"protocol {protocol.name!r} has no {'documents' if protocol.prompts else 'prompts'}; tuning needs prompts for toxicity "
            "and documents for its price"
        )
    prompts, documents = _dealt(protocol.prompts, share, seed), _dealt(protocol.documents, share, seed)
    for what, sizes in (("prompts", [len(part) for part in prompts]), ("documents", [len(part) for part in documents])):
        if min(sizes) < 2:
            raise InputError(f"a part of the split has fewer than two {what}; expected more, or another share")
    development, held_out = (
        replace(protocol, name=name, prompts=prompts[place], documents=documents[place])
        for place, name in enumerate((DEVELOPMENT, HELD_OUT))
    )
    require_disjoint((prompt.id for prompt in development.prompts), held_out, "the development part")
    return Split(development, held_out, seed, share)


def _dealt(records: Sequence[_Record], share: float, seed: int) -> tuple[tuple[_Record, ...], tuple[_Record, ...]]:
    def place(text: str) -> float:
        found = hashlib.sha256(f"{seed}\n{' '.join(text.split())}".encode("utf-8", errors="replace")).digest()
        return int.from_bytes(found[:8], "big") / 2**64

    first = tuple(one for one in records if place(one.text) < share)
    return first, tuple(one for one in records if place(one.text) >= share)


def text_hash(text: str) -> str:
    """Hash of a text without regard to white space (16 hexadecimal digits), by which texts are known again under other ids."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", errors="replace")).hexdigest()[:16]


def ids_hash(ids: Iterable[str]) -> str:
    """Hash of ids in order of the alphabet (16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()[:16]


def require_disjoint(chosen_on: Iterable[str], measured: Protocol, what: str) -> None:
    """Refuse prompts that something was chosen on among those that it is to be measured on.

    Raises:
        InputError: says how many.
    """
    shared = set(chosen_on) & {prompt.id for prompt in measured.prompts}
    if shared:
        raise InputError(
            f"{len(shared)} of the {len(measured.prompts)} prompts of protocol {measured.name!r} are among those that {what} was "
            "chosen on; expected prompts that no choice has seen"
        )
