"""What a model has computed at every token of a text: for looking at a few texts, not for fitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detox.errors import HookNeverFired, InputError, UnsupportedModel
from detox.models.announcements import Announcement
from detox.models.architectures import attention_outputs, context_length
from detox.models.edits import announced, gates_for
from detox.models.language_model import LanguageModel
from detox.models.reading import Site, own_hooks
from detox.models.running import evaluating
from detox.models.states import residual_sites
from detox.models.tokenization import encode_texts


@dataclass(frozen=True)
class TokenStates:
    """A text, token by token.

    Attributes:
        pieces: what each token adds to the text; "" where a token adds nothing that can be shown (a mark of the beginning, a part of
            a character that another token ends). Together they are the text, or what of it the model's context holds.
        heads: (tokens, layers, heads, head_dim) float32, at the input of the attention output projection.
        residual: (tokens, layers + 1, hidden) float32; entry 0 enters the first layer, entry k is what the k-th leaves.
    """

    pieces: tuple[str, ...]
    heads: Tensor
    residual: Tensor


def read_tokens(lm: LanguageModel, text: str) -> TokenStates:
    """Every head's output and the residual stream at every token of a text.

    At the last token it is what `read_heads` and `residual_states` give.

    Args:
        lm: the handle; its prefix is read before the text and not shown, its edits act.
        text: one longer than the model's context loses its beginning.

    Raises:
        StaleHandle: see `LanguageModel`.
        UnsupportedModel: a family without known attention, or with layers of different widths.
        InputError: a text without tokens.
        HookNeverFired: a module did not run.
    """
    lm.require_current()
    outputs = attention_outputs(lm.model)
    if len({(o.heads, o.head_dim) for o in outputs}) > 1:
        raise UnsupportedModel("layers have heads of different number or width, which one array cannot hold")
    ids = encode_texts(lm.tokenizer, [lm.prefix + text])[0]
    pieces = _without_prefix(token_pieces(lm.tokenizer, ids, lm.prefix + text), len(lm.prefix))
    if not pieces:
        raise InputError("the text has no tokens; expected at least one")
    limit = context_length(lm.model)
    if limit:
        ids, pieces = ids[-limit:], pieces[-limit:]
    sites = [Site(o.name, "input", f"layer {o.layer}") for o in outputs] + residual_sites(lm.model)
    kept: dict[int, Tensor] = {}

    def keep(number: int, hidden: Tensor) -> None:
        # A copy: some families add to the residual stream in place.
        kept[number] = hidden[0].detach().to("cpu", torch.float32, copy=True)

    rows = torch.tensor([ids], device=lm.model.device)
    mask = torch.ones_like(rows, dtype=torch.bool)
    gates = {name: gate.to(rows.device) for name, gate in gates_for(lm.model, [ids]).items()}
    with (
        torch.no_grad(),
        evaluating(lm.model),
        announced(lm.model, Announcement(mask, mask.sum(-1), gates=gates)),
        own_hooks(lm.model, sites, keep),
    ):
        lm.model.base_model(input_ids=rows, attention_mask=mask.long(), use_cache=False)
    absent = next((site.name for number, site in enumerate(sites) if number not in kept), None)
    if absent is not None:
        raise HookNeverFired(f"{absent} did not run, so it could not be read")
    heads = torch.stack([kept[i].reshape(-1, o.heads, o.head_dim) for i, o in enumerate(outputs)], dim=1)
    residual = torch.stack([kept[i] for i in range(len(outputs), len(sites))], dim=1)
    return TokenStates(tuple(pieces), heads[-len(pieces) :], residual[-len(pieces) :])


def token_pieces(tokenizer: Any, ids: list[int], text: str) -> list[str]:
    """What of the text each token adds; joined they are the text.

    Tokenizers that know where their tokens lie are asked. A character that several tokens make up belongs to the first of them, and
    what lies between two tokens to the second. Where tokens cannot be placed, they are given as the tokenizer writes them.

    Args:
        tokenizer: a transformers tokenizer.
        ids: as `encode_texts` gives them.
        text: what they were made of.
    """
    offsets: list[tuple[int, int]] | None = None
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if list(encoded["input_ids"]) == ids[len(ids) - len(encoded["input_ids"]) :]:
            offsets = list(encoded["offset_mapping"])
    if offsets is None:
        return [str(tokenizer.convert_tokens_to_string([token])) for token in tokenizer.convert_ids_to_tokens(ids)]
    pieces, shown = [""] * (len(ids) - len(offsets)), 0
    for _, end in offsets:
        pieces.append(text[shown : max(shown, end)])
        shown = max(shown, end)
    if pieces:
        pieces[-1] += text[shown:]
    return pieces


def _without_prefix(pieces: list[str], length: int) -> list[str]:
    """Pieces of the text alone; a token that lies on the border keeps its part of the text."""
    if not length:
        return pieces
    own = list(pieces)
    while own and length >= len(own[0]):
        length -= len(own.pop(0))
    if own:
        own[0] = own[0][length:]
    return own
