"""How the documents of a source become labelled tokens: treatment, condition, tokenizer, in that order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from detox.data.records import Document, span_to_json
from detox.errors import InputError
from detox.pretraining.conditioning import Condition
from detox.pretraining.risk import TokenizedDocument, Treatment, batches, labelled, offset_encoder

_FORMAT = 1  # of what is derived from documents; raised when the same documents become other tokens


def documents_digest(name: str, documents: Iterable[Document]) -> str:
    """Which documents these are: their own `digest` where they have one, or SHA-256 of all ids, texts and spans.

    Args:
        name: of the source, for messages.
        documents: as in `checked`.

    Raises:
        InputError: what is there is no document.
    """
    own = getattr(documents, "digest", None)
    if isinstance(own, str) and own:
        return own
    sha = hashlib.sha256()
    for document in checked(name, documents):
        record = [document.id, document.text, [span_to_json(span) for span in document.spans]]
        sha.update(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return sha.hexdigest()


def require_rereadable(name: str, documents: Iterable[Document]) -> None:
    """Refuse what gives its documents only once.

    Raises:
        InputError: `documents` is an iterator, or cannot be iterated.
    """
    try:
        once = iter(documents) is documents
    except TypeError as error:
        raise InputError(
            f"source {name!r}: documents is {type(documents).__name__}; expected a list of documents, or anything that can "
            "be iterated"
        ) from error
    if once:
        raise InputError(
            f"source {name!r}: documents is a {type(documents).__name__}, which can be read only once; give a list, or "
            "something that starts anew each time it is iterated"
        )


def checked(name: str, documents: Iterable[Document]) -> Iterator[Document]:
    """The documents one by one.

    Raises:
        InputError: something in between is no `Document`.
    """
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            raise InputError(
                f"source {name!r}: entry {index} is {type(document).__name__}; expected detox.data.records.Document"
            )
        yield document


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How documents become tokens.

    Attributes:
        tokenizer: a fast transformers tokenizer.
        treatment: of the spans.
        condition: a prefix that says how toxic a document is, or None.
        seed: of the draw of documents that get a prefix.
        limit_tokens: stop after the document that reaches this many tokens, end tokens included; None for all.
    """

    tokenizer: Any
    treatment: Treatment = field(default_factory=Treatment)
    condition: Condition | None = None
    seed: int = 0
    limit_tokens: int | None = None

    def identity(self) -> dict[str, Any]:
        """Everything but the documents that makes other tokens, as JSON."""
        from detox.pretraining.workdir import tokenizer_digest

        return {
            "format": _FORMAT,
            "tokenizer": tokenizer_digest(self.tokenizer),
            "treatment": asdict(self.treatment),
            "condition": None if self.condition is None else {**self.condition.card(), "seed": self.seed},
            "limit_tokens": self.limit_tokens,
        }

    def read(self, documents: Iterable[Document], *, before: int = 0) -> Iterator[list[ReadDocument]]:
        """Documents in batches.

        Args:
            documents: text with spans.
            before: tokens that were read already, which count for the limit.
        """
        encode = offset_encoder(self.tokenizer)
        for batch in batches(documents):
            if self.limit_tokens is not None and before >= self.limit_tokens:
                return
            read = self._read_batch(batch, encode)
            for index, document in enumerate(read):
                before += document.whole_length + 1
                if self.limit_tokens is not None and before >= self.limit_tokens:
                    read = read[: index + 1]
                    break
            yield read

    def _read_batch(self, batch: list[Document], encode: Any) -> list[ReadDocument]:
        prefixes = [""] * len(batch)
        if self.condition is not None:
            prefixes = self.condition.prefixes(batch, self.treatment, seed=self.seed)
        whole = [self.treatment.dropped(document) for document in batch]
        left = [self.treatment.deleted(document) for document in whole]
        cut = [index for index in range(len(batch)) if left[index] is not whole[index]]
        full = encode([self._prefixed(whole[index], prefixes[index]) for index in cut])
        whole_lengths = {index: len(encoding.ids) for index, encoding in zip(cut, full, strict=True)}
        final = [self._prefixed(document, prefix) for document, prefix in zip(left, prefixes, strict=True)]
        read = []
        for index, (document, encoding) in enumerate(zip(final, encode(final), strict=True)):
            tokens = labelled(document, encoding, self.treatment)
            read.append(
                ReadDocument(
                    tokens=tokens,
                    whole_length=whole_lengths.get(index, len(tokens.tokens)),
                    is_conditioned=document is not left[index],
                )
            )
        return read

    def _prefixed(self, document: Document, prefix: str) -> Document:
        # Before an empty text a prefix would make a document that says nothing.
        return document if self.condition is None or not document.text else self.condition.prefixed(document, prefix)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadDocument:
    """A document as it goes into the data.

    Attributes:
        tokens: what is left of it.
        whole_length: tokens that it had before risky text was deleted.
        is_conditioned: a prefix says how toxic it is.
    """

    tokens: TokenizedDocument
    whole_length: int
    is_conditioned: bool
