"""The kinds of curves that a grid may ask for: what is claimed, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detox.bench.claims import Claim, slung_claims, toxic_mix_claims
from detox.bench.curve_plots import draw_slung, draw_toxic_mix
from detox.bench.curves import Curves
from detox.bench.rewriting_curves import draw_rewriting, rewriting_claims

KINDS: dict[str, tuple[Callable[[Curves], list[Claim]], Callable[[Curves, Path], None]]] = {
    "slung": (slung_claims, draw_slung),
    "toxic-mix": (toxic_mix_claims, draw_toxic_mix),
    "rewriting": (rewriting_claims, draw_rewriting),
}
"""By the name in a grid's `curves:`."""
