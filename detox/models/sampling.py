"""How the next token is drawn: greedy, temperature, top-k, top-p, with noise of our own.

One random stream per (seed, prompt, sample): what is drawn depends on neither the batch nor the method, so that two methods are
compared on the same noise. One uniform number decides a step, by inverse CDF in the order of the vocabulary.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from detox.errors import InputError

# Top-p by rejection: draw from the whole distribution, keep the token if it is in the nucleus. No sort of the vocabulary is
# needed; what is left after this many refusals (probability (1 - top_p) ** ATTEMPTS) is drawn from the sorted nucleus.
ATTEMPTS = 8

_CHUNK = 2**20  # probabilities at once on a CPU: what fits its cache is read five times without a trip to memory


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How prompts are continued.

    Attributes:
        max_new_tokens: tokens at most; fewer where the model ends its text.
        temperature: logits are divided by it; 0 is greedy decoding.
        top_k: only the k likeliest tokens, or None for all.
        top_p: only the likeliest tokens whose higher-ranked mass is below it (nucleus); 1.0 for all.
        num_return_sequences: completions a prompt.
        seed: with the prompt's own text and the sample's number, the only source of randomness.
        batch_size: completions computed at once; changes speed and memory, never the text (in float32).
    """

    max_new_tokens: int = 20
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    num_return_sequences: int = 1
    seed: int = 0
    batch_size: int = field(default=128, compare=False)

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "None or at least 1"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("num_return_sequences", self.num_return_sequences >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
        ):
            if not good:
                raise InputError(f"Sampling: {name} is {getattr(self, name)!r}; expected {expected}")
        if self.temperature == 0 and self.num_return_sequences > 1:
            raise InputError(
                f"Sampling: num_return_sequences={self.num_return_sequences} at temperature 0 would be copies of one greedy "
                "text; raise the temperature or ask for 1"
            )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, without noise."""
        return self.temperature == 0


def noise(sampling: Sampling, prompt: str, occurrence: int, sample: int) -> np.ndarray:
    """Uniform numbers (max_new_tokens, ATTEMPTS + 1) in [0, 1) of one completion.

    Args:
        sampling: its seed and length; a longer text has the same numbers where the shorter one has them.
        prompt: what the user asked for, without prefix or system turn, so that these leave the noise alone.
        occurrence: 0 for the first time that this prompt stands in the list, 1 for the second.
        sample: number of the completion of this prompt.
    """
    key = hashlib.blake2b(
        f"{sampling.seed}\0{occurrence}\0{sample}\0{prompt}".encode(errors="surrogatepass"), digest_size=16
    )
    stream = np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little")))
    return stream.random((sampling.max_new_tokens, ATTEMPTS + 1))


def choose(scores: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """The next token of each row.

    Args:
        scores: (rows, vocab) logits.
        uniforms: (rows, ATTEMPTS + 1) in [0, 1), float64.
        sampling: temperature, top-k, top-p.

    Returns:
        (rows,) long.
    """
    if sampling.greedy:
        return scores.argmax(-1)
    rows = max(1, _CHUNK // scores.shape[-1])
    if scores.device.type == "cpu" and len(scores) > rows:
        chunks = zip(torch.split(scores, rows), torch.split(uniforms, rows), strict=True)
        return torch.cat([choose(*chunk, sampling) for chunk in chunks])
    scores = scores.float()
    if sampling.temperature != 1:
        scores = scores / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        kept, ids = scores.topk(sampling.top_k, dim=-1)
        ids, order = ids.sort(dim=-1)  # the order of the vocabulary, which near-ties do not disturb
        return ids.gather(1, _nucleus(kept.gather(1, order), uniforms, sampling.top_p)[:, None]).squeeze(1)
    return _nucleus(scores, uniforms, sampling.top_p)


def _nucleus(scores: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    probabilities = scores.softmax(-1)
    cdf = probabilities.cumsum(-1)
    chosen = _inverse(cdf, uniforms[:, 0])
    if top_p >= 1:
        return chosen
    rows = _outside(probabilities, chosen, top_p).nonzero().squeeze(1)
    for attempt in range(1, ATTEMPTS):
        if not len(rows):
            return chosen
        again = _inverse(cdf[rows], uniforms[rows, attempt])
        chosen[rows] = again
        rows = rows[_outside(probabilities[rows], again, top_p)]
    if len(rows):
        chosen[rows] = _from_sorted(probabilities[rows], uniforms[rows, ATTEMPTS], top_p)
    return chosen


def _inverse(cdf: Tensor, uniforms: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds the uniform number; never one of probability 0."""
    total = cdf[:, -1]
    threshold = (uniforms.to(torch.float64) * total).to(cdf.dtype)
    # Rounding up to the total would point past the last token that can be drawn.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf, threshold[:, None], right=True).squeeze(1)


def _outside(probabilities: Tensor, tokens: Tensor, top_p: float) -> Tensor:
    """(rows,) bool: whether the tokens ranked above this one already hold `top_p` of the mass."""
    own = probabilities.gather(1, tokens[:, None])
    above = torch.gt(
        probabilities, own, out=torch.empty_like(probabilities)
    )  # 1.0 or 0.0; `where` takes five times as long
    return above.mul_(probabilities).sum(-1) >= top_p


def _from_sorted(probabilities: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    ranked, ids = probabilities.sort(dim=-1, descending=True)
    above = ranked.cumsum(-1) - ranked
    kept = torch.where(above < top_p, ranked, 0.0)
    order = ids.argsort(-1)
    return _inverse(kept.gather(1, order).cumsum(-1), uniforms)
