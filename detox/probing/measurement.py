"""Everything that probes say of one base model: all heads and the residual stream at every layer, on one held-out split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.models import LanguageModel
from detox.models.activations import read_heads
from detox.models.states import residual_states
from detox.probing.explained import covariates_auc
from detox.probing.linear import grouped_split
from detox.probing.sites import ProbeSettings, SiteProbes, measure_sites
from detox.probing.texts import ProbeTexts, group_numbers, quantile_strata
from detox.statistics import Estimate

Integers = NDArray[np.int64]
Say = Callable[[str], None]
SITES = ("heads", "layers")


@dataclass(frozen=True, kw_only=True)
class BaseProbes:
    """What probes say of one base.

    Attributes:
        name: of the base.
        fingerprint: of the model; see `LanguageModel.fingerprint`.
        settings: how it was measured.
        data: digest of the texts, counts, features and their numbers, covariates.
        heads, layers: the sites.
        heldout: places of the held-out texts, among those of `ProbeTexts`.
        labels, groups: (held-out texts,) 0 or 1; whole numbers.
        covariates_auc: covariate, or "all" -> held-out AUC of a regression on it alone.
    """

    name: str
    fingerprint: str
    settings: ProbeSettings
    data: dict[str, Any]
    heads: SiteProbes
    layers: SiteProbes
    heldout: Integers
    labels: Integers
    groups: Integers
    covariates_auc: dict[str, Estimate]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(held-out texts, heads) whether a head's probe judges a text right."""
        flat = self.heads.margins.reshape(len(self.labels), -1)
        return np.asarray((flat > 0) == (self.labels == 1)[:, None])


def describe_data(texts: ProbeTexts) -> dict[str, Any]:
    """What a measurement says of its texts: numbers and a digest, no text."""
    return {
        "digest": texts.digest,
        "texts": len(texts.texts),
        "toxic": int(texts.labels.sum()),
        "groups": len(set(texts.groups)),
        "left out": texts.left_out,
        "features": {name: int(has.sum()) for name, has in texts.features.items()},
        "omitted features": dict(texts.omitted),
        "covariates": list(texts.covariates),
    }


def measure_base(
    lm: LanguageModel,
    texts: ProbeTexts,
    settings: ProbeSettings | None = None,
    *,
    name: str = "base",
    batch_size: int | None = None,
    say: Say | None = None,
) -> BaseProbes:
    """Probe all heads and the residual stream of a base.

    Args:
        lm: the model.
        texts: labelled texts; they are read at their last token.
        settings: how probes are fitted and judged.
        name: of the base.
        batch_size: texts at once; None takes as many as make up a fixed number of tokens.
        say: told what is being done.

    Raises:
        InputError: a class is missing on one side of the split, or activations are not finite.
        UnsupportedModel: a family without known attention.
    """
    settings, say = settings or ProbeSettings(), say or (lambda line: None)
    train, heldout = grouped_split(texts.groups, heldout=settings.heldout, seed=settings.seed)
    groups = group_numbers(texts.groups)
    strata = {key: quantile_strata(values[:, 0]) for key, values in texts.covariates.items() if key != "topic"}
    if "topic" in texts.covariates:
        strata["topic"] = np.unique(texts.covariates["topic"], axis=0, return_inverse=True)[1]
    covariates = dict(texts.covariates)
    if len(covariates) > 1:
        covariates["all"] = np.concatenate(list(covariates.values()), axis=1)
    measured = {}
    for kind in SITES:
        say(f"{name}: reading {len(texts.texts)} texts at all {kind}")
        if kind == "heads":
            x = read_heads(lm, texts.texts, batch_size=batch_size).numpy()
        else:
            x = residual_states(lm, texts.texts, batch_size=batch_size).numpy()[:, :, None, :]
        say(f"{name}: probes of {x.shape[1] * x.shape[2]} {kind}")
        measured[kind] = measure_sites(x, texts, train, heldout, groups, strata, covariates, settings)
    labels = texts.labels[heldout]
    return BaseProbes(
        name=name,
        fingerprint=lm.fingerprint(),
        settings=settings,
        data=describe_data(texts),
        heads=measured["heads"],
        layers=measured["layers"],
        heldout=heldout,
        labels=labels,
        groups=group_numbers(groups[heldout]),
        covariates_auc={
            key: covariates_auc(z, texts.labels, train, heldout, groups, draws=min(1000, settings.draws))
            for key, z in covariates.items()
        },
    )
