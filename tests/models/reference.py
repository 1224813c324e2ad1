"""References written from the formulas, in numpy float64."""

from __future__ import annotations

import numpy as np
import torch


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def logprobs_one_by_one(model, context: list[int], continuation: list[int]) -> np.ndarray:
    """Token log-probabilities by one plain forward pass a text: no padding, no cache, no selection of rows."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].double().numpy()
    rows = log_softmax(logits)
    return np.array([rows[len(context) - 1 + i, token] for i, token in enumerate(continuation)])


def nucleus(probabilities: np.ndarray, top_p: float) -> set[int]:
    """Tokens that transformers' TopPLogitsWarper keeps: sorted, those above which less than top_p has been gathered."""
    order = np.argsort(-probabilities, kind="stable")
    above = np.cumsum(probabilities[order]) - probabilities[order]
    return {int(token) for token, mass in zip(order, above, strict=True) if mass < top_p}
