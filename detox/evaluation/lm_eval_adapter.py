"""A live, edited language model as lm-eval sees one. Only our two rulers touch the model.

lm-eval's own HFLM pads likelihoods on the right without a mask and generation on the left with one, so that an edit that goes by
positions acts on padding in one and not at all in the other. Here every pass announces which token is padding, context and
continuation; a likelihood is that of what the model would write. Nothing is cached, weights are never tied anew, and one process
computes everything, whatever LOCAL_RANK says.

On a model without edits the numbers are HFLM's, its windows and its habit of scoring a BOS after a BOS among them; and, in a chat, that a
BOS which the template writes is not doubled, and one that it does not write is put there by a tokenizer that has the habit. One difference
stays: a generated text keeps the blank that it begins with, which HFLM loses where a SentencePiece tokenizer drops it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from detox.errors import InputError
from detox.models import LanguageModel, Sampling, generate, greedy_logprobs, token_logprobs
from detox.models.architectures import context_length
from detox.models.tokenization import encode_pairs, encode_texts, render, start_token, through_template

MAX_NEW_TOKENS = 256  # where a task does not say, as in HFLM


class LiveModel(LM):  # type: ignore[misc]
    """`lm_eval.api.model.LM` around a handle, whatever edits it stands for.

    Args:
        lm: what is measured.
        chat: contexts are conversations that lm-eval rendered through `apply_chat_template`, with the handle's system turn; they
            are taken as they are. Otherwise they are plain text, preceded by the handle's prefix.
        batch_size: texts generated at once. Likelihoods are batched by tokens.

    Attributes:
        cut: contexts so far that were longer than the model's and lost their beginning. What is lost is behind the handle's prefix,
            which stays: without it another model would be measured.
        left_out: conversations so far whose system turn, which is the task's, the template does not write.
    """

    def __init__(self, lm: LanguageModel, *, chat: bool = False, batch_size: int = 128) -> None:
        super().__init__()
        self.lm, self.batch_size = replace(lm, prefix="") if chat else lm, batch_size
        self._limit = context_length(lm.model)
        prefix = self.lm.prefix.rstrip()  # blanks at its end belong to what follows, as in the ruler
        self._prefix = len(encode_texts(lm.tokenizer, [prefix])[0]) if prefix else 0  # tokens, a BOS among them
        self.cut = 0
        self.left_out = 0

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability in nats of each continuation, and whether greedy decoding would write it.

        As in HFLM, what is longer than the model's context loses its beginning, if not the handle's prefix.
        """
        contexts, continuations = zip(*(request.args for request in requests), strict=True)
        for number, continuation in enumerate(continuations):
            if not continuation:
                raise InputError(f"lm-eval request {number} has an empty continuation; expected text")
        pairs = encode_pairs(self.lm, contexts, continuations)
        shown: list[list[int]] = []
        for context, continuation in pairs:
            what = f"lm-eval request {len(shown)} has a continuation of {len(continuation)} tokens"
            shown.append(
                self._fitting(context, None if self._limit is None else self._limit + 1 - len(continuation), what)
            )
        # A text without a context is its own: the token that begins it says nothing to a gate.
        about = [ids if text else [*ids, *pair[1]] for text, ids, pair in zip(contexts, shown, pairs, strict=True)]
        scored = greedy_logprobs(self.lm, shown, [continuation for _, continuation in pairs], gated_on=about)
        return [(float(values.double().sum()), greedy) for values, greedy in scored]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of each whole text after the start token, in lm-eval's windows where it is longer than the context.

        The handle's prefix is read before the text and not scored: a task divides by the words or bytes of the text alone.
        """
        tokenizer = self.lm.tokenizer
        first = start_token(tokenizer)
        if first is None:
            raise InputError(
                "an lm-eval task scores whole texts, and this tokenizer has neither BOS nor EOS to start from"
            )
        wholes = encode_texts(tokenizer, [render(self.lm, request.args[0])[0] for request in requests])
        contexts: list[list[int]] = []
        continuations: list[list[int]] = []
        owners: list[int] = []
        for owner, ids in enumerate(wholes):
            limit = self._limit or len(ids)
            for window in get_rolling_token_windows(ids, prefix_token=first, max_seq_len=limit, context_len=1):
                before, after = make_disjoint_window(window)
                contexts.append(list(before))
                continuations.append(list(after))
                owners.append(owner)
        scored = token_logprobs(self.lm, contexts, continuations, gated_on=[wholes[owner] for owner in owners])
        sums, unscored = [0.0] * len(wholes), [self._prefix] * len(wholes)
        for owner, values in zip(owners, scored, strict=True):
            sums[owner] += float(values[unscored[owner] :].double().sum())
            unscored[owner] = max(0, unscored[owner] - len(values))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts up to the first stop string, the end of text, or `max_gen_toks`; drawn with the noise of `Sampling` where asked to.

        As in HFLM, a context that leaves no room loses its beginning, if not the handle's prefix.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[repr(request.args[1])].append(number)
        texts = [""] * len(requests)
        for members in groups.values():
            sampling, stop = self._asked(dict(requests[members[0]].args[1]))
            contexts = [render(self.lm, requests[number].args[0])[0] for number in members]
            prompts = encode_texts(self.lm.tokenizer, contexts)
            room = None if self._limit is None else self._limit - sampling.max_new_tokens
            what = f"an lm-eval task asks for {sampling.max_new_tokens} new tokens"
            prompts = [self._fitting(ids, room, what) for ids in prompts]
            for number, [completion] in zip(members, generate(self.lm, prompts, sampling, stop=stop), strict=True):
                texts[number] = completion.text
        return texts

    def _fitting(self, ids: list[int], room: int | None, what: str) -> list[int]:
        """The handle's prefix and as much of a context's end as there is room for; None is room for all."""
        if room is None or len(ids) <= room:
            return ids
        if room <= self._prefix:
            before = f" after {self._prefix} of the handle's prefix" if self._prefix else ""
            raise InputError(f"{what}{before}, but the model's context holds {self._limit}; leave the task out")
        self.cut += 1
        return [*ids[: self._prefix], *ids[len(ids) - room + self._prefix :]]

    def _asked(self, options: dict[str, Any]) -> tuple[Sampling, list[str]]:
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(options, MAX_NEW_TOKENS))
        until = kwargs.pop("until", None) or []
        stop = [string for string in ([until] if isinstance(until, str) else until) if string]
        sampled = kwargs.pop("do_sample", False)
        drawn = {"temperature": kwargs.pop("temperature", 1.0 if sampled else 0.0)}
        drawn |= {key: kwargs.pop(key) for key in ("top_p", "top_k") if key in kwargs}
        length = kwargs.pop("max_gen_toks")
        if kwargs:
            raise InputError(
                f"an lm-eval task asks for generation with {', '.join(sorted(kwargs))}; expected until, max_gen_toks, do_sample, "
                "temperature, top_p and top_k alone"
            )
        chosen = drawn if sampled else {"temperature": 0.0}
        return Sampling(max_new_tokens=length, batch_size=self.batch_size, **chosen), stop

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Refused: lm-eval's cache knows requests, not the model or its edits, and would answer for another one.

        Raises:
            InputError: always.
        """
        raise InputError("lm-eval's cache does not know which edits are on; leave use_cache out")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation through the tokenizer's template, with the handle's system turn.

        A handle without one is asked what HFLM asks: where the template refuses a system turn or says nothing of it, a task's own is
        left out, and counted in `left_out`. The handle's own never is, since another model would be measured.
        """
        from jinja2.exceptions import TemplateError

        continued = not add_generation_prompt  # the task begins the model's own turn
        if self.lm.system:
            return render(self.lm, chat_history, continued=continued)[0]
        own = [turn["content"].strip() for turn in chat_history if turn["role"] == "system"]
        try:
            text = through_template(self.lm.tokenizer, chat_history, continued=continued)
        except TemplateError:
            rest = [turn for turn in chat_history if turn["role"] != "system"]
            text = through_template(self.lm.tokenizer, rest, continued=continued)
        self.left_out += any(system not in text for system in own)
        return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The tokenizer's own template, for lm-eval's record."""
        return str(self.lm.tokenizer.chat_template or "")

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer; lm-eval keys its cache of requests by it, which is not used here."""
        return str(self.lm.tokenizer.name_or_path).replace("/", "__")
