"""The only generation: k completions a prompt, through transformers' own `generate`, with the noise of `detox.models.sampling`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from detox.errors import InputError
from detox.models.announcements import Announcement
from detox.models.architectures import context_length
from detox.models.edits import announced, gates_for, state_of, touching
from detox.models.output_head import headless, require_numbers
from detox.models.running import continued, evaluating, halving, reuses_cache
from detox.models.sampling import Sampling, choose, noise
from detox.models.stopping import StopStrings, cut
from detox.models.tokenization import (
    PromptLike,
    encode_texts,
    is_ids,
    pad_rows,
    pad_token,
    render,
    start_token,
)

if TYPE_CHECKING:
    from detox.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote after a prompt.

    Attributes:
        text: the new tokens alone, cut by token; special tokens are left out.
        token_ids: the new tokens, an end-of-text token included where the model wrote one.
        finish_reason: "eos" where the model ended its text, "stop" where a stop string did (the text ends before it, the ids with
            it), "length" where `max_new_tokens` did.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True)
class _Row:
    """One completion to be written."""

    prompt: int
    sample: int
    ids: list[int]
    uniforms: np.ndarray | None  # (max_new_tokens, attempts)
    gates: dict[str, bool]  # edit name -> whether it acts on this prompt


def generate(
    lm: LanguageModel,
    prompts: Sequence[PromptLike],
    sampling: Sampling | None = None,
    *,
    stop: Sequence[str] = (),
) -> list[list[Completion]]:
    """Continue every prompt `sampling.num_return_sequences` times.

    Args:
        lm: the handle; refused if its edits are not exactly those installed.
        prompts: text (preceded by `lm.prefix`), a conversation (list of messages, through the chat template, with `lm.system`),
            or token ids (taken as they are).
        sampling: how; `Sampling()` if None.
        stop: strings before which a text ends.

    Returns:
        Completions, prompt by prompt, in the order given. A completion depends on (seed, prompt, sample number) and the model
        alone: in float32 it is the same text in any batch.

    Raises:
        StaleHandle: see `LanguageModel`.
        InputError: no prompts, an empty prompt, a prompt that leaves no room in the model's context, an empty stop string, or logits
            that are NaN.
        HookNeverFired: an installed edit did not run.
    """
    lm.require_current()
    sampling = sampling or Sampling()
    if isinstance(stop, str) or not all(stop):
        raise InputError(f"stop is {stop!r}; expected a list of strings, none empty")
    rows = _rows(lm, prompts, sampling)
    model = lm.model
    incidents, ends = state_of(model).incidents, end_tokens(lm)
    results: list[list[Completion | None]] = [[None] * sampling.num_return_sequences for _ in prompts]
    with (
        torch.no_grad(),
        evaluating(model),
        touching(model),
        _own_defaults(model),
        tqdm(total=len(rows), desc="generate", unit="text", delay=3, disable=None, leave=False) as bar,
    ):
        for start in range(0, len(rows), sampling.batch_size):
            batch = rows[start : start + sampling.batch_size]
            for row, tokens in halving(lambda part: _run(lm, part, sampling, ends, stop), batch, incidents):
                reason = "eos" if tokens and tokens[-1] in ends else "length"
                whole = _text_after(lm.tokenizer, row.ids, tokens)
                text = cut(whole, stop)
                results[row.prompt][row.sample] = Completion(text, tuple(tokens), reason if text == whole else "stop")
                bar.update()
    return [[completion for completion in completions if completion is not None] for completions in results]


def _rows(lm: LanguageModel, prompts: Sequence[PromptLike], sampling: Sampling) -> list[_Row]:
    if isinstance(prompts, str):
        raise InputError("prompts must be a list, got a str; write [prompt]")
    if not len(prompts):
        raise InputError("no prompts: got an empty list, expected at least one")
    encoded = encode_prompts(lm, prompts)
    limit = context_length(lm.model)
    seen: Counter[str] = Counter()
    gates = gates_for(lm.model, encoded)
    rows = []
    for index, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
        room = None if limit is None else limit - len(ids)
        if room is not None and room < sampling.max_new_tokens:
            raise InputError(
                f"prompt {index} has {len(ids)} tokens and asks for {sampling.max_new_tokens} more, but the model's context holds "
                f"{limit}; shorten the prompt or lower max_new_tokens"
            )
        key = prompt if isinstance(prompt, str) else repr(prompt)
        acts = {name: bool(opened[index]) for name, opened in gates.items()}
        for sample in range(sampling.num_return_sequences):
            uniforms = None if sampling.greedy else noise(sampling, key, seen[key], sample)
            rows.append(_Row(index, sample, ids, uniforms, acts))
        seen[key] += 1
    return sorted(rows, key=lambda row: len(row.ids))  # like lengths together; a prompt's samples stay neighbours


def encode_prompts(lm: LanguageModel, prompts: Sequence[PromptLike]) -> list[list[int]]:
    """Token ids of each prompt as the model reads it: with the handle's prefix, or through the chat template with its system turn.

    Raises:
        InputError: an empty prompt.
    """
    encoded: list[list[int]] = [[]] * len(prompts)
    texts: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for index, prompt in enumerate(prompts):
        if isinstance(prompt, str) and not prompt:
            start = start_token(lm.tokenizer)
            hint = f"; pass {lm.tokenizer.decode([start])!r} to start from nothing" if start is not None else ""
            raise InputError(f"prompt {index} is an empty string; expected text{hint}")
        if is_ids(prompt):
            encoded[index] = [int(i) for i in prompt]  # type: ignore[arg-type]
        else:
            text, special = render(lm, prompt)  # type: ignore[arg-type]
            texts[special].append((index, text))
    for special, items in texts.items():
        for (index, _), ids in zip(
            items, encode_texts(lm.tokenizer, [t for _, t in items], special=special), strict=True
        ):
            encoded[index] = ids
    for index, ids in enumerate(encoded):
        if not ids:
            raise InputError(f"prompt {index} has no tokens; expected at least one")
    return encoded


def _run(
    lm: LanguageModel, rows: list[_Row], sampling: Sampling, ends: set[int], stop: Sequence[str]
) -> list[tuple[_Row, list[int]]]:
    """One batch: the new token ids of each row, up to an end-of-text token or the end of a stop string."""
    model, device = lm.model, lm.model.device
    fill = pad_token(lm.tokenizer)
    firsts = [i for i, row in enumerate(rows) if not i or rows[i - 1].prompt != row.prompt]  # each prompt once
    copies = torch.tensor(np.diff([*firsts, len(rows)]), device=device)
    ids, mask = pad_rows([rows[i].ids for i in firsts], side="left", fill=fill, device=device)
    length = ids.shape[1]
    prompt_ends = torch.full((len(rows),), length, device=device)
    gates = {name: torch.tensor([row.gates[name] for row in rows], device=device) for name in rows[0].gates}
    cache = None
    if len(firsts) < len(rows) and length > 1 and reuses_cache(model):
        opened = {name: gate[torch.tensor(firsts, device=device)] for name, gate in gates.items()}
        prefill = Announcement(mask[:, :-1], prompt_ends[: len(firsts)], gates=opened)
        with announced(model, prefill), headless(model):
            positions = (mask[:, :-1].long().cumsum(-1) - 1).clamp(min=0)
            output = model(
                input_ids=ids[:, :-1], attention_mask=mask[:, :-1].long(), position_ids=positions, use_cache=True
            )
        prefixes = torch.arange(len(firsts), device=device).repeat_interleave(copies)
        cache = continued(output.past_key_values, prefixes, sampling.max_new_tokens)
    mask = mask.repeat_interleave(copies, dim=0)
    announcement = Announcement(mask, prompt_ends, gates=gates)
    uniforms = None if sampling.greedy else torch.from_numpy(np.stack([row.uniforms for row in rows])).to(device)  # type: ignore[misc]
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=fill,
        use_cache=True,
    )
    stops = StopStrings(lm.tokenizer, stop, prompt=length) if stop else None
    with announced(model, announcement):
        output = model.generate(
            input_ids=ids.repeat_interleave(copies, dim=0),
            attention_mask=mask.long(),
            generation_config=config,
            logits_processor=LogitsProcessorList([_Draw(lm, sampling, announcement, length, uniforms)]),
            **({} if cache is None else {"past_key_values": cache}),
            **({} if stops is None else {"stopping_criteria": StoppingCriteriaList([stops])}),
        )
    written = output[:, length:].tolist()
    width = len(written[0])
    if stops is not None:
        written = [tokens[: stops.ended.get(row)] for row, tokens in enumerate(written)]
    done = [
        tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))] for tokens in written
    ]
    _forget_waiting(model, [width - 1 - min(len(own), width - 1) for own in done], gates)
    return list(zip(rows, done, strict=True))


def _forget_waiting(model: nn.Module, idle: list[int], gates: dict[str, Tensor]) -> None:
    """Steps in which a finished row waited for the others were padding; the last token drawn is never fed."""
    for edit in state_of(model).edits:
        if edit.sites and reuses_cache(model):
            edit.receipt.tokens["generated"] -= sum(idle)
            edit.receipt.tokens["pad"] += sum(idle)
            if edit.positions != "last":
                opened = gates[edit.name].tolist() if edit.name in gates else [True] * len(idle)
                edit.receipt.touched["generated"] -= sum(
                    steps for steps, acts in zip(idle, opened, strict=True) if acts
                )


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws the token itself and leaves generate's argmax nothing else to find; tells the edits where the next pass begins."""

    def __init__(
        self, lm: LanguageModel, sampling: Sampling, announcement: Announcement, length: int, uniforms: Tensor | None
    ) -> None:
        self.edits, self.sampling, self.announcement = lm.logits_edits, sampling, announcement
        self.length, self.uniforms = length, uniforms

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for edit in self.edits:
            scores = edit.step(input_ids, scores)
        require_numbers(scores[:, :1])  # one of the vocabulary: a state that is NaN makes every logit NaN
        step = input_ids.shape[1] - self.length
        self.announcement.columns = input_ids.shape[1] + 1
        if self.uniforms is None:
            return scores
        tokens = choose(scores, self.uniforms[:, step], self.sampling)
        return scores.scatter_(1, tokens[:, None], torch.inf)  # in place: `scores` is a copy made for us


@contextmanager
def _own_defaults(model: nn.Module) -> Iterator[None]:
    """Keep a checkpoint's generation defaults (penalties, temperatures) out: the protocol alone says how text is drawn."""
    theirs = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = theirs


def end_tokens(lm: LanguageModel) -> set[int]:
    """Ids that end a text: the generation configuration's, and the tokenizer's own."""
    ends: set[int] = set()
    for value in (getattr(lm.model.generation_config, "eos_token_id", None), lm.tokenizer.eos_token_id):
        if value is not None:
            ends |= {int(v) for v in (value if isinstance(value, (list, tuple)) else [value])}
    return ends


def _text_after(tokenizer: Any, prompt: list[int], tokens: list[int]) -> str:
    """Text of `tokens` as it stands after `prompt`: a SentencePiece tokenizer drops the blank of a text's first word."""
    options: dict[str, Any] = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    last = tokenizer.decode(prompt[-1:], **options)
    both = tokenizer.decode(prompt[-1:] + tokens, **options)
    if last and both.startswith(last):
        return str(both[len(last) :])
    return str(tokenizer.decode(tokens, **options))
