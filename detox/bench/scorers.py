"""Scorers of a grid: by name, the miniature's truth, or trained in the results directory on the catalogue's scored text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detox.bench.cells import digest
from detox.data import catalogue
from detox.data.records import LabelledText, Prompt
from detox.errors import InputError, require_known
from detox.scorers import Scorer, load_scorer

# Sets of the catalogue with Perspective's own scores. perspective_wiki_2k is left for testing.
PERSPECTIVE_SETS = ("rtp_prompts", "pol_perspective")

PANEL: tuple[str | Mapping[str, Any], ...] = ("profanity", {"trained": True, "name": "perspective"}, "wordlist")
"""The default panel, as a grid names it: no two of it learned from the same.

profanity: people's labels of Wikipedia comments (Jigsaw) and tweets (Davidson et al. 2017). perspective: a linear model of our own on
Perspective's scores of RealToxicityPrompts and /pol/ posts; Perspective in turn learned from people's ratings of forum comments, which
are not published as one set. wordlist: three published lexicons, trained on nothing.
"""


def scorer_maker(store: str | Path, *, train: bool = True) -> Callable[[Any, Sequence[Prompt]], Scorer]:
    """What a grid needs to make scorers; trained ones are kept in the store.

    Args:
        store: the results directory.
        train: without, one that would have to be trained is a stand-in that scores nothing: for a plan.
    """

    def make(spec: Any, prompts: Sequence[Prompt]) -> Scorer:
        if spec == "miniature-truth":
            from detox.miniature import TruthScorer

            return TruthScorer()
        if isinstance(spec, Mapping) and "trained" in spec:
            for key in spec:
                require_known("key of a trained scorer", key, ("trained", "name", "seed"))
            return _trained(Path(store), spec, prompts, train=train)
        return load_scorer(spec)

    return make


def _trained(store: Path, spec: Mapping[str, Any], prompts: Sequence[Prompt], *, train: bool) -> Scorer:
    """A scorer trained on the train splits of sets of scored text, without the prompts that it will be used on."""
    chosen, seed = spec["trained"], spec.get("seed", 0)
    if chosen is not True and not (isinstance(chosen, list) and chosen and all(isinstance(one, str) for one in chosen)):
        raise InputError(f"scorer: trained is {chosen!r}; expected true, or a list of sets of scored text")
    if not isinstance(seed, int):
        raise InputError(f"scorer: seed is {seed!r}; expected a whole number")
    sets = PERSPECTIVE_SETS if chosen is True else tuple(chosen)
    exclude = sorted({prompt.text for prompt in prompts})
    files = [getattr(catalogue.entry(name).file, "sha256", name) for name in sets]
    name = str(spec.get("name", "perspective"))
    folder = store / "scorers" / f"{name}-{digest([sets, files, exclude, seed])}"
    # Features and weights are not committed: a fresh clone of records has the card alone.
    if not all((folder / file).is_file() for file in ("scorer.json", "vocabulary.json", "weights.safetensors")):
        if not train:
            from detox.bench.plan import PlannedScorer

            return PlannedScorer(name)
        from detox.scorers import train_default

        sources = {one: scored_records(one, split="train") for one in sets}
        folder.parent.mkdir(parents=True, exist_ok=True)
        train_default(folder, sources, exclude=exclude, name=name, seed=seed)
    return load_scorer(str(folder))


def scored_records(name: str, *, split: str | None = None) -> list[LabelledText | Prompt]:
    """Texts of a set with a score, a label or a toxicity.

    Raises:
        InputError: the set holds other records.
    """
    records = catalogue.load(name, split=split)
    found = [record for record in records if isinstance(record, (LabelledText, Prompt))]
    if not found:
        raise InputError(
            f"the set {name!r} holds no scored or labelled text; expected one such as {', '.join(PERSPECTIVE_SETS)}"
        )
    return found
