"""Text to ids, without touching the tokenizer.

Nothing here calls `tokenizer.pad` or sets its padding side, pad token or template: rows are padded by hand, and a tokenizer that
was given to us is given back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from detox.errors import InputError

if TYPE_CHECKING:
    from detox.models.language_model import LanguageModel

Message = dict[str, str]
PromptLike = str | Sequence[Message] | Sequence[int]


def prompts_for(texts: Iterable[str], *, chat: bool, template: str = "{text}") -> list[PromptLike]:
    """Each text as the one turn of a user, for the chat template; or put in place of "{text}" in `template`, to be continued."""
    return [[{"role": "user", "content": text}] if chat else template.replace("{text}", text) for text in texts]


def special_prefix(tokenizer: Any) -> list[int]:
    """Ids that the tokenizer puts before a text by itself: [bos] or nothing. What it puts behind (an eos) is never wanted."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return list(full[:start])
    return []


def start_token(tokenizer: Any) -> int | None:
    """The token from which a text may begin: BOS, else EOS (as lm-eval's prefix token), else None."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return None


def pad_token(tokenizer: Any) -> int:
    """An id to fill padding with; it is masked everywhere, so any id is right."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def encode_texts(tokenizer: Any, texts: Sequence[str], *, special: bool = True, first: int = 0) -> list[list[int]]:
    """Ids of each text, begun with the tokenizer's own BOS if it has that habit; never doubled, never closed with an EOS.

    `first` is the number of the first text, for errors, where these are part of many.
    """
    if not texts:
        return []
    for index, text in enumerate(texts, start=first):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"text {index} holds a lone surrogate, which no tokenizer can encode; expected valid Unicode"
            )
    head = special_prefix(tokenizer) if special else []
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [list(row) if list(row[: len(head)]) == head else head + list(row) for row in rows]


def render(lm: LanguageModel, prompt: str | Sequence[Message], *, continued: bool = False) -> tuple[str, bool]:
    """The text that the model reads before its turn, and whether the tokenizer may add its special tokens to it.

    Plain text is preceded by `lm.prefix`. A conversation goes through the chat template, with `lm.system` as its system turn
    (joined in front of one that is there; put before the first user turn where the template knows no system turn). With `continued` its
    last turn is the beginning of the model's own, which stays open.

    Raises:
        InputError: no conversation, no chat template, or one that leaves the system turn out wherever it is put.
    """
    if isinstance(prompt, str):
        return lm.prefix + prompt, True
    messages = [dict(message) for message in prompt]
    if not messages or any(set(m) < {"role", "content"} for m in messages):
        raise InputError(f"a conversation must be a list of {{'role': ..., 'content': ...}}, got {list(prompt)[:1]!r}")
    tokenizer = lm.tokenizer
    if not tokenizer.chat_template:
        raise InputError(
            "a conversation was given, but the tokenizer has no chat template; pass plain text for a base model"
        )
    if lm.system:
        if messages[0]["role"] == "system":
            messages[0]["content"] = f"{lm.system}\n\n{messages[0]['content']}"
        else:
            messages.insert(0, {"role": "system", "content": lm.system})
    return _apply_template(tokenizer, messages, continued=continued), False


def through_template(tokenizer: Any, messages: Sequence[Message], *, continued: bool = False) -> str:
    """A conversation through the tokenizer's own template, up to where the model goes on."""
    return str(
        tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=not continued, continue_final_message=continued
        )
    )


def _apply_template(tokenizer: Any, messages: list[Message], *, continued: bool) -> str:
    from jinja2.exceptions import TemplateError

    def rendered(turns: list[Message]) -> str:
        return through_template(tokenizer, turns, continued=continued)

    if messages[0]["role"] != "system":
        return rendered(messages)
    system = messages[0]["content"].strip()
    refusal: TemplateError | None = None
    try:
        text = rendered(messages)
        if system in text:  # some templates refuse a system turn, others leave it out and say nothing
            return text
    except TemplateError as error:
        refusal = error
    if len(messages) > 1:
        merged = [dict(message) for message in messages[1:]]
        merged[0]["content"] = f"{messages[0]['content']}\n\n{merged[0]['content']}"
        text = rendered(merged)
        if system in text:
            return text
    raise InputError(
        "the chat template leaves out the system text, as a system turn and in front of the first user turn; give the "
        "tokenizer a chat template that writes one of them"
    ) from refusal


def is_ids(value: object) -> bool:
    """Whether `value` is a sequence of token ids rather than text or a conversation."""
    return not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(item, int) for item in value)


def pad_rows(rows: Sequence[Sequence[int]], *, side: str, fill: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(batch, longest) ids and bool attention mask, padded on the named side."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for index, row in enumerate(rows):
        where = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        ids[index, where] = torch.tensor(row, dtype=torch.long)
        mask[index, where] = True
    return ids.to(device), mask.to(device)


def encode_pairs(
    lm: LanguageModel, contexts: Sequence[PromptLike], continuations: Sequence[str | Sequence[int]]
) -> list[tuple[list[int], list[int]]]:
    """(context ids, continuation ids) of each request; see `token_logprobs` for the rule.

    Raises:
        InputError: a continuation that is not empty but has no token of its own; its sum would be 0, and beat every other.
    """
    tokenizer = lm.tokenizer
    wholes: dict[bool, list[str]] = {True: [], False: []}
    starts: dict[bool, list[str]] = {True: [], False: []}
    where: list[tuple[bool, int] | None] = []
    pairs: list[tuple[list[int], list[int]]] = [([], [])] * len(contexts)
    for index, (context, continuation) in enumerate(zip(contexts, continuations, strict=True)):
        if is_ids(context) and context != "":
            context_ids = [int(i) for i in context]  # type: ignore[arg-type]
            if isinstance(continuation, str):
                continuation_ids = encode_texts(tokenizer, [continuation], special=False)[0]
            else:
                continuation_ids = [int(i) for i in continuation]
            pairs[index] = (_begun(tokenizer, context_ids), continuation_ids)
            where.append(None)
            continue
        text, special = render(lm, context)  # type: ignore[arg-type]
        if not isinstance(continuation, str):
            ids = encode_texts(tokenizer, [text], special=special)[0]
            pairs[index] = (_begun(tokenizer, ids), [int(i) for i in continuation])
            where.append(None)
            continue
        blanks = len(text) - len(text.rstrip())
        if blanks:
            continuation, text = text[-blanks:] + continuation, text[:-blanks]
        where.append((special, len(starts[special])))
        wholes[special].append(text + continuation)
        starts[special].append(text)
    encoded = {
        special: list(
            zip(
                encode_texts(tokenizer, starts[special], special=special),
                encode_texts(tokenizer, wholes[special], special=special),
                strict=True,
            )
        )
        for special in (True, False)
    }
    for index, place in enumerate(where):
        if place is None:
            continue
        start, whole = encoded[place[0]][place[1]]
        if not start:
            pairs[index] = (_begun(tokenizer, []), whole)
            continue
        pairs[index] = (start, whole[len(start) :])
        if continuations[index] and not pairs[index][1] and starts[place[0]][place[1]]:
            raise InputError(
                f"the continuation of request {index} merges with its context and has no token of its own; begin it with a "
                "blank, or give token ids"
            )
    return pairs


def _begun(tokenizer: Any, ids: list[int]) -> list[int]:
    if ids:
        return ids
    first = start_token(tokenizer)
    if first is None:
        raise InputError(
            "an empty context needs a token to start from, and this tokenizer has neither BOS nor EOS; give a context"
        )
    return [first]
