"""A text, token by token, as a direction reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detox.models import LanguageModel
from detox.models.token_states import read_tokens
from detox.probing.measurement import SITES, BaseProbes
from detox.probing.texts import ProbeTexts


@dataclass(frozen=True)
class TokenReading:
    """How far each token lies towards the toxic side.

    Attributes:
        id: of the text.
        label: 1 toxic, 0 not, None where nobody said.
        pieces: what each token adds to the text.
        values: name of a site -> a number a token: (x . direction - middle) / sigma, in standard deviations of the training texts'
            last tokens from halfway between the classes; positive is toxic.
    """

    id: str
    label: int | None
    pieces: tuple[str, ...]
    values: dict[str, tuple[float, ...]]


def read_projections(lm: LanguageModel, base: BaseProbes, text: str, *, id: str, label: int | None) -> TokenReading:
    """Read a text along the directions of a base's best head and best layer.

    The directions are made at last tokens; what is read at others is an extrapolation.
    """
    states = read_tokens(lm, text)
    values = {}
    for kind, activations in zip(SITES, (states.heads, states.residual[:, :, None, :]), strict=True):
        site = getattr(base, kind)
        layer, head = site.best
        x = activations[:, layer, head].numpy().astype(np.float64)
        sigma = site.sigma[layer, head]
        z = (x @ site.directions[layer, head] - site.middle[layer, head]) / (sigma if sigma > 0 else 1.0)
        values[site_name(kind, layer, head)] = tuple(round(float(one), 3) for one in z)
    return TokenReading(id=id, label=label, pieces=states.pieces, values=values)


def site_name(kind: str, layer: int, head: int) -> str:
    """A site in words: "layer 2, head 3", or "residual stream after layer 3" (entry 0 is what enters the first layer)."""
    if kind == "heads":
        return f"layer {layer}, head {head}"
    return "embeddings" if layer == 0 else f"residual stream after layer {layer - 1}"


def shown_texts(texts: ProbeTexts, heldout: Sequence[int], count: int, *, seed: int = 0) -> list[int]:
    """Places of held-out texts to look at: as many toxic as other ones, drawn by the seed."""
    rng = np.random.default_rng([seed, len(heldout)])
    chosen: list[int] = []
    for number, label in enumerate((0, 1)):
        places = [int(i) for i in heldout if texts.labels[i] == label]
        wanted = (count + number) // 2
        chosen += [places[i] for i in rng.permutation(len(places))[:wanted]]
    return chosen
