"""A scorer of our own: words and character n-grams, a linear model, no pickle.

A directory holds scorer.json (card, settings), vocabulary.json (the features), weights.safetensors (idf, coefficients,
intercept; float64) and README.md (the card for people). The vocabulary is part of the training texts: offensive words.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detox.errors import DataError, InputError, MissingData
from detox.files import atomic_directory, write_bytes, write_json, write_text
from detox.scorers.protocol import Score, ScorerCard
from detox.scorers.windows import score_by_windows

WINDOW = 100
"""Words read at once. On 7,884 Wikipedia comments windows of 100 words cost .003 of ROC-AUC, windows of 50 .008."""

FORMAT = 1

# Single words and their letters: with word pairs, longer n-grams or all characters the cross-validated ROC-AUC on
# 5,994 + 1,083 texts with Perspective scores was lower (.951 against .954) or the same for more features.
FEATURES: dict[str, dict[str, Any]] = {
    "word": {"analyzer": "word", "ngram_range": [1, 1], "min_df": 2, "max_features": 20_000},
    "char": {"analyzer": "char_wb", "ngram_range": [2, 4], "min_df": 3, "max_features": 40_000},
}


def vectorizer(settings: Mapping[str, Any], vocabulary: Sequence[str] | None = None) -> Any:
    """scikit-learn's TF-IDF with sublinear counts; with a `vocabulary`, one whose idf remains to be set."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = dict(settings) | {"ngram_range": tuple(settings["ngram_range"]), "sublinear_tf": True}
    if vocabulary is not None:
        chosen = {key: value for key, value in chosen.items() if key not in ("min_df", "max_features")}
        chosen["vocabulary"] = list(vocabulary)
    return TfidfVectorizer(**chosen)


@dataclass(frozen=True, eq=False)
class Weights:
    """What training leaves behind.

    Attributes:
        vocabularies: the features of each part, in the order of their columns.
        idf: their inverse document frequencies, shape (features of the part,).
        coefficients: of the logit, shape (features of all parts,).
        intercept: of the logit.
    """

    vocabularies: Mapping[str, tuple[str, ...]]
    idf: Mapping[str, npt.NDArray[np.float64]]
    coefficients: npt.NDArray[np.float64]
    intercept: float

    def sha256(self) -> str:
        """Digest of everything that decides a score."""
        digest = hashlib.sha256(json.dumps({key: list(words) for key, words in self.vocabularies.items()}).encode())
        for array in (*self.idf.values(), self.coefficients, np.array([self.intercept])):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()


class TrainedScorer:
    """Probability of a linear model on TF-IDF of words and characters, as the maximum over windows of `WINDOW` words.

    `train_scorer` makes one, `from_directory` reads one. Missing with reason "no known feature" is a text that shares
    no word and no character n-gram with the training texts.
    """

    def __init__(
        self, weights: Weights, *, name: str, trained_on: Sequence[str], quality: Mapping[str, Any] | None = None
    ) -> None:
        """Wrap trained weights.

        Args:
            weights: vocabularies, idf, coefficients.
            name: as used in tables.
            trained_on: names of the data whose labels or scores it learned from; at least one.
            quality: the report of the training, kept in the card.

        Raises:
            InputError: no `trained_on`, or sizes that do not fit each other.
        """
        if not trained_on:
            raise InputError(f"scorer {name!r}: trained_on is empty; name the data it learned from")
        sizes = {key: len(words) for key, words in weights.vocabularies.items()}
        if sizes != {key: len(idf) for key, idf in weights.idf.items()} or sum(sizes.values()) != len(
            weights.coefficients
        ):
            raise InputError(f"scorer {name!r}: vocabulary, idf and coefficients have different sizes ({sizes})")
        self.weights = weights
        self._parts = []
        for key, words in weights.vocabularies.items():
            part = vectorizer(FEATURES[key], words)
            part.idf_ = weights.idf[key]
            self._parts.append(part)
        digest = weights.sha256()
        self.card = ScorerCard(
            name=name,
            revision=f"sha256:{digest[:16]}",
            trained_on=tuple(trained_on),
            max_length=WINDOW,
            beyond=f"maximum over windows of {WINDOW} words, each half over the one before",
            sha256=digest,
            quality=quality or {},
        )

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`."""
        what = f"scorer {self.card.name!r}"
        return score_by_windows(texts, WINDOW, self.probabilities, what=what, unknown="no known feature")

    def probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Probabilities of whole texts, without windows, shape (texts,); NaN without a known feature."""
        from scipy.special import expit

        values: npt.NDArray[np.float64] = expit(self.logits(texts))
        return values

    def logits(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Log-odds of whole texts, without windows, shape (texts,); NaN without a known feature."""
        import scipy.sparse

        features = scipy.sparse.hstack([part.transform(texts) for part in self._parts]).tocsr()
        values: npt.NDArray[np.float64] = features @ self.weights.coefficients + self.weights.intercept
        values[np.diff(features.indptr) == 0] = math.nan
        return values

    def save(self, directory: str | Path) -> Path:
        """Write the scorer; the directory appears whole or not at all.

        Raises:
            OutputError: nothing can be written there, or it holds something other than a scorer.
        """
        from safetensors.numpy import save

        with atomic_directory(directory, marker="scorer.json") as beside:
            arrays = {f"idf.{key}": np.ascontiguousarray(idf) for key, idf in self.weights.idf.items()}
            arrays |= {"coefficients": self.weights.coefficients, "intercept": np.array([self.weights.intercept])}
            write_bytes(beside / "weights.safetensors", save(arrays))
            words = {key: list(features) for key, features in self.weights.vocabularies.items()}
            write_json(beside / "vocabulary.json", words)
            write_json(beside / "scorer.json", {"format": FORMAT, "features": FEATURES, "card": self.card.to_dict()})
            write_text(beside / "README.md", _card_text(self.card))
        return Path(directory)

    @staticmethod
    def from_directory(directory: str | Path) -> TrainedScorer:
        """Read what `save` wrote.

        Raises:
            MissingData: no such directory.
            DataError: a file is missing, damaged, changed, or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        home = Path(directory).expanduser()
        if not home.is_dir():
            raise MissingData(f"no scorer at {home}; expected a directory that `detox scorers train` wrote")
        about = _json_object(home / "scorer.json")
        if about.get("format") != FORMAT or about.get("features") != FEATURES:
            raise DataError(f"{home / 'scorer.json'}: written by another version of detox; train the scorer again")
        words, file = _json_object(home / "vocabulary.json"), home / "weights.safetensors"
        try:
            arrays = load_file(file)
            card = about["card"]
            weights = Weights(
                vocabularies={key: tuple(words[key]) for key in FEATURES},
                idf={key: arrays[f"idf.{key}"] for key in FEATURES},
                coefficients=arrays["coefficients"],
                intercept=float(arrays["intercept"][0]),
            )
            expected = card["sha256"]
            scorer = TrainedScorer(
                weights, name=card["name"], trained_on=card["trained_on"], quality=card.get("quality", {})
            )
        except (OSError, SafetensorError, KeyError, TypeError, IndexError, InputError) as error:
            raise DataError(f"{file}: not the weights of a trained scorer ({error}); train it again") from error
        if scorer.card.sha256 != expected:
            raise DataError(f"{home}: weights or vocabulary are not those that scorer.json names; train it again")
        return scorer


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); expected a directory of a trained scorer") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: {type(value).__name__}; expected a JSON object")
    return value


def _card_text(card: ScorerCard) -> str:
    measured = card.quality.get("overall", {})
    interval = measured.get("roc_auc_interval")
    lines = [
        f"# Toxicity scorer: {card.name}",
        "",
        f"- Revision: {card.revision}",
        f"- Trained on: {', '.join(card.trained_on)}",
        f"- Texts: {card.quality.get('n_texts')}; held out on request: {card.quality.get('n_excluded')}",
        f"- Long text: {card.beyond}",
    ]
    if measured:
        within = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        lines += [
            f"- Measured by: {card.quality.get('method')}",
            f"- ROC-AUC: {_number(measured['roc_auc'])}{within}; Spearman: {_number(measured['spearman'])}; "
            f"expected calibration error: {_number(measured['ece'])}",
            "",
            "| score | texts | mean score | mean target |",
            "|---|---|---|---|",
            *(
                f"| {row['low']:.1f} to {row['high']:.1f} | {row['n']} | {row['mean_score']:.3f} | "
                f"{row['mean_target']:.3f} |"
                for row in measured["reliability"]
            ),
        ]
    return "\n".join([*lines, "", "The vocabulary holds offensive words from the training texts.", ""])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
