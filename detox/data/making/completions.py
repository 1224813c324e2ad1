"""What comes back from OpenAI's API, read without trust: names of models, texts, what an error says."""

from __future__ import annotations

import hashlib
from typing import Any

from detox.data.making.cleaning import CONTENT_FILTER
from detox.data.making.writers import Text


def model_ids(answer: Any) -> list[str]:
    """Names of the models that are served.

    Raises:
        Garbage: this is no list of models.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    ids = [one.get("id") if isinstance(one, dict) else None for one in data] if isinstance(data, list) else [None]
    if not all(isinstance(one, str) for one in ids):
        raise Garbage(f"{_shape(answer)} when asked for its models")
    return [str(one) for one in ids]


def texts_of(answer: Any) -> list[Text]:
    """The texts of a completion or a chat completion, at least one.

    Raises:
        Garbage: this is neither.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Garbage(f"{_shape(answer)} without choices")
    return [_text(choice) for choice in choices]


def _text(choice: Any) -> Text:
    message = getattr(choice, "message", choice)
    content = getattr(message, "content", None) if message is not choice else getattr(choice, "text", None)
    refused = getattr(message, "refusal", None)
    finish = CONTENT_FILTER if refused else getattr(choice, "finish_reason", None)
    if content is None and (refused or finish in (CONTENT_FILTER, "length")):
        content = ""
    if not isinstance(content, str):
        raise Garbage(f"a choice whose content is {type(content).__name__}")
    return Text(content, finish if isinstance(finish, str) else "stop")


def _shape(answer: Any) -> str:
    return "plain text" if isinstance(answer, str | bytes) else f"a JSON {type(answer).__name__}"


def said(error: Any) -> str:
    """What the endpoint says of a status that is an error, in one line."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message") if isinstance(inner, dict) else inner
    return " ".join(str(message or error.message).split())[:200]


def seed_of(seed: int, already: int, asked: str) -> int:
    """A seed of a request's own: with one for all, an endpoint would draw alike for every sentence."""
    digest = hashlib.blake2b(f"{seed}\0{already}\0{asked}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


class Garbage(Exception):
    """An answer that is no completion."""


class NotServed(Exception):
    """Status 404."""
