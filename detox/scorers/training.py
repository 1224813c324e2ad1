"""Training a scorer from labelled or scored text, and saying how good it is.

The default recipe learns from scores that Perspective gave to RealToxicityPrompts and to /pol/ posts, so it shares
neither texts nor labels with the classifiers trained on Jigsaw's comments. It does share an ancestor with them in one
sense: Perspective itself was built by Jigsaw from people's ratings of forum comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detox.data.records import LabelledText, Prompt
from detox.data.subsets import normalised
from detox.errors import InputError
from detox.scorers.protocol import is_empty, readable, require_texts, score_texts
from detox.scorers.reliability import scorer_quality
from detox.scorers.trained import FEATURES, TrainedScorer, Weights, vectorizer

PENALTY_C = 5.0
"""Inverse strength of the L2 penalty. Cross-validated ROC-AUC: .950 at 2, .954 at 5 and at 10, .950 at 20."""


def train_scorer(
    texts: Sequence[str],
    targets: Sequence[float],
    *,
    trained_on: Sequence[str],
    name: str = "trained",
    ids: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    exclude: Iterable[str] = (),
    n_folds: int = 5,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[TrainedScorer, dict[str, Any]]:
    """Train a linear model on TF-IDF of words and characters to predict `targets`.

    Each text counts as toxic with weight target and as not toxic with weight 1 - target (soft targets). Logits
    predicted by cross-validation, in which equal texts stay in one fold, calibrate the slope and intercept of the
    final model, which is fitted on all texts. The report's predictions are those of the folds, calibrated on the
    other folds: no text is scored by anything that saw it.

    Args:
        texts: the texts; those without a visible character are dropped and counted.
        targets: labels 0 and 1, or scores in [0, 1]: the share of people, or a probability, that finds it toxic.
        trained_on: names of the data sets, for the card; at least one.
        name: of the scorer, as used in tables.
        ids: one a text; what `exclude` may name.
        sources: one a text; the report then also says how good the scorer is on each.
        exclude: ids or texts not to learn from, such as the prompts of an evaluation. Texts are compared without
            case, punctuation and spacing.
        n_folds: of the cross-validation.
        n_bootstrap: resamples for the intervals of ROC-AUC.
        seed: of folds and resamples. Same input, same seed: same scorer.

    Returns:
        The scorer, and the report (JSON), which is also in its card: n_texts, n_excluded, n_empty,
        n_features, method, overall and by_source as in `scorer_quality`.

    Raises:
        InputError: lengths differ, a target outside [0, 1] or NaN, or too few texts on one side of 0.5.
    """
    _require_aligned(texts, targets, ids, sources)
    excluded = _excluded(texts, ids, exclude)
    empty = np.array([is_empty(text) for text in texts], dtype=bool)
    kept = np.flatnonzero(~excluded & ~empty).tolist()
    used = [readable(texts[index]) for index in kept]
    wanted = np.array([targets[index] for index in kept], dtype=np.float64)
    n_toxic = int((wanted >= 0.5).sum())
    if min(n_toxic, len(wanted) - n_toxic) < 2 * n_folds:
        raise InputError(
            f"{n_toxic} texts with a target of at least 0.5 and {len(wanted) - n_toxic} below; training with "
            f"{n_folds} folds needs {2 * n_folds} of each"
        )
    folds = _folds(used, n_folds, seed)
    logits = np.empty(len(used))
    for fold in range(n_folds):
        inside = folds == fold
        part = _fit([text for text, held in zip(used, inside, strict=True) if not held], wanted[~inside])
        logits[inside] = _logits(part, [text for text, held in zip(used, inside, strict=True) if held])
    held_out = np.empty(len(used))
    for fold in range(n_folds):
        slope, intercept = _calibration(logits[folds != fold], wanted[folds != fold])
        held_out[folds == fold] = _expit(slope * logits[folds == fold] + intercept)
    slope, intercept = _calibration(logits, wanted)
    raw = _fit(used, wanted)
    weights = Weights(raw.vocabularies, raw.idf, slope * raw.coefficients, float(slope * raw.intercept + intercept))
    options: dict[str, Any] = {"n_bootstrap": n_bootstrap, "seed": seed}
    where = np.array([sources[index] for index in kept]) if sources is not None else np.array([])
    report = {
        "n_texts": len(used),
        "n_excluded": int(excluded.sum()),
        "n_empty": int((empty & ~excluded).sum()),
        "n_features": len(weights.coefficients),
        "method": f"{n_folds}-fold cross-validation, calibrated on the other folds",
        "overall": scorer_quality(held_out, wanted, **options),
        "by_source": {
            str(source): scorer_quality(held_out[where == source], wanted[where == source], **options)
            for source in np.unique(where)
        },
    }
    return TrainedScorer(weights, name=name, trained_on=trained_on, quality=report), report


def train_default(
    output_dir: str | Path,
    sources: Mapping[str, Sequence[LabelledText | Prompt]],
    *,
    exclude: Iterable[str] = (),
    tests: Mapping[str, Sequence[LabelledText | Prompt]] | None = None,
    name: str = "perspective",
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[TrainedScorer, dict[str, Any]]:
    """Train the second opinion on named sets of scored text, test it on others, and save it.

    Args:
        output_dir: where the scorer is written.
        sources: by name of the set, texts with a score (or, lacking it, a label) or prompts with a toxicity; those
            with neither are left out.
        exclude: ids or texts not to learn from; see `train_scorer`.
        tests: by name, sets that it does not learn from. Texts of theirs that are among `sources` are excluded too.
        name: of the scorer.
        n_folds: see `train_scorer`.
        seed: see `train_scorer`.

    Returns:
        The scorer, and `train_scorer`'s report with a further entry "tests": `scorer_quality` by name of the set.

    Raises:
        OutputError: nothing can be written to `output_dir`, or it holds something other than a scorer; found before
            training.
        InputError: see `train_scorer`.
    """
    from detox.files import require_replaceable, require_writable

    require_writable(Path(output_dir).parent)
    require_replaceable(output_dir, "scorer.json")
    rows = [(source, text, _target(text)) for source, records in sources.items() for text in records]
    rows = [row for row in rows if row[2] is not None]
    judged = {test: [text for text in records if _target(text) is not None] for test, records in (tests or {}).items()}
    scorer, report = train_scorer(
        [text.text for _, text, _ in rows],
        [target for _, _, target in rows if target is not None],
        trained_on=tuple(sources),
        name=name,
        ids=[text.id for _, text, _ in rows],
        sources=[source for source, _, _ in rows],
        exclude=[*exclude, *(text.text for records in judged.values() for text in records)],
        n_folds=n_folds,
        seed=seed,
    )
    report["tests"] = {
        test: scorer_quality(
            score_texts(scorer, [text.text for text in records]), [_target(text) or 0.0 for text in records], seed=seed
        )
        for test, records in judged.items()
    }
    scorer.save(output_dir)
    return scorer, report


def _target(text: LabelledText | Prompt) -> float | None:
    if isinstance(text, Prompt):
        return text.toxicity
    return text.score if text.score is not None else text.label


def _require_aligned(
    texts: Sequence[str], targets: Sequence[float], ids: Sequence[str] | None, sources: Sequence[str] | None
) -> None:
    require_texts(texts, "training a scorer")
    for what, values in (("targets", targets), ("ids", ids), ("sources", sources)):
        if values is not None and len(values) != len(texts):
            raise InputError(f"{len(texts)} texts but {len(values)} {what}; expected one a text")
    for index, target in enumerate(targets):
        if not 0.0 <= target <= 1.0:
            raise InputError(f"text {index}: target {target}; expected a label 0 or 1, or a score in [0, 1]")


def _excluded(texts: Sequence[str], ids: Sequence[str] | None, exclude: Iterable[str]) -> npt.NDArray[np.bool_]:
    entries = set(exclude)
    forms = {normalised(entry) for entry in entries}
    named = ids if ids is not None else [None] * len(texts)
    return np.array(
        [key in entries or normalised(text) in forms for key, text in zip(named, texts, strict=True)], dtype=bool
    )


def _folds(texts: Sequence[str], n_folds: int, seed: int) -> npt.NDArray[np.intp]:
    groups: dict[str, int] = {}
    member: npt.NDArray[np.intp] = np.array([groups.setdefault(normalised(text), len(groups)) for text in texts])
    dealt = np.random.default_rng(seed).permutation(len(groups)) % n_folds
    folds: npt.NDArray[np.intp] = dealt[member]
    return folds


def _fit(texts: Sequence[str], targets: npt.NDArray[np.float64]) -> Weights:
    import scipy.sparse

    parts = {key: vectorizer(settings) for key, settings in FEATURES.items()}
    features = scipy.sparse.hstack([part.fit_transform(texts) for part in parts.values()]).tocsr()
    coefficients, intercept = _soft_regression(features, targets, PENALTY_C)
    return Weights(
        vocabularies={key: tuple(map(str, part.get_feature_names_out())) for key, part in parts.items()},
        idf={key: np.asarray(part.idf_) for key, part in parts.items()},
        coefficients=coefficients,
        intercept=intercept,
    )


def _soft_regression(
    features: Any, targets: npt.NDArray[np.float64], penalty_c: float
) -> tuple[npt.NDArray[np.float64], float]:
    import scipy.sparse
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    twice = scipy.sparse.vstack([features, features]).tocsr()
    weight = np.concatenate([targets, 1.0 - targets])
    label = np.repeat([1, 0], len(targets))
    some = weight > 0
    # One thread: the sums come out the same on any number of cores, and vectors this short gain nothing from more.
    with threadpool_limits(1):
        model = LogisticRegression(C=penalty_c, max_iter=1000).fit(twice[some], label[some], sample_weight=weight[some])
    return model.coef_[0], float(model.intercept_[0])


def _logits(weights: Weights, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    scorer = TrainedScorer(weights, name="fold", trained_on=("fold",))
    return scorer.logits(list(texts))


def _calibration(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> tuple[float, float]:
    import scipy.sparse

    known = ~np.isnan(logits)
    slope, intercept = _soft_regression(scipy.sparse.csr_matrix(logits[known, None]), targets[known], 1e6)
    return float(slope[0]), intercept


def _expit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.special import expit

    result: npt.NDArray[np.float64] = expit(values)
    return result
