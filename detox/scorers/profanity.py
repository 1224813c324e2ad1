"""alt-profanity-check behind the protocol of scorers: offline, fast, crude. The default.

A linear classifier on words (TF-IDF, no word order), trained by its authors on the Wikipedia comments of Jigsaw's
toxic comment challenge and on the tweets of Davidson et al. (2017). Whatever was trained on those two must not be
ranked by it alone.

The package keeps its model as pickles inside its wheel. They run code when loaded, so their digests are compared with
those of the published wheels before the package is imported.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detox.errors import InputError, MissingData
from detox.scorers.protocol import Score, ScorerCard
from detox.scorers.windows import score_by_windows

WINDOW = 50
"""Words read at once.

The classifier divides by the length of the text: of 400 short toxic comments put behind 600 clean words it finds none
when it reads the whole, a quarter in windows of 50 words. On 7,884 Wikipedia comments windows of 50 words cost .005
of ROC-AUC, and on long ones they raise the rank correlation with Perspective's scores (.60 to .65). Windows of 20
words find more and cost more.
"""

KNOWN_SHA256 = {
    # version: (model.joblib, vectorizer.joblib), from the wheels on PyPI
    "1.6.1": (
        "e7560dfe6b3c4e0128551a5faa15f2f70cb6d122c87d217aa20da7a015c48bfb",
        "9056651b85d2df9852216461f87ea90e22b54f9fbdd588ffeebb849f08ed240b",
    ),
    "1.7.0": (
        "c64088b9b09f1adbdb07d48858ab42f9cef16b8eb02c33c3c2c00d8ae27b77df",
        "5256980b81ba80bb011b507b93e181d57b364b2d344a46abf1d0e3e8ab9bc4ba",
    ),
    "1.7.1": (
        "4a00be6f562b7cb77ab6fdccfeda7c115f52ca2208eb2f7c2fe43f0e0050b437",
        "dd728891c4d7f55b4fd9c24122dfada0d8bb25121fb7cd02795eccb0f4ffa913",
    ),
    "1.7.2": (
        "18b79a861db1f3697178319cecc4e08a64f86c9e7bae8210d69f4fbdae595a4e",
        "f73a1a778189b236be22787d3e559d262d80659f031e55c147804d093e7764d8",
    ),
    "1.8.0": (
        "a42813c4d6069f7c1d1820f1cf7076e2c51fc87d762e692c2fdf1ac938a7b983",
        "6dace81c77cc2d4d863fe2007853173bac24e71877055c48188bdfa13f48ff7f",
    ),
    "1.9.0": (
        "1bf6dab21d246f8347e0ac74fd20b09138c7848454d646a188278cddb35c3e3e",
        "cbdd3755cff64214c95aa808dcc8b8ff787e0a9d401bf5dff1ef94f869f0283e",
    ),
    "1.9.1": (
        "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
        "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
    ),
}

_FILES = ("model.joblib", "vectorizer.joblib")


def digests(directory: Path, version: str, *, verify: bool = True) -> tuple[str, str]:
    """SHA-256 of the two pickles in `directory`, compared with those published as `version`.

    Args:
        directory: where model.joblib and vectorizer.joblib lie.
        version: of the installed package.
        verify: False accepts any content.

    Raises:
        MissingData: a file is not there.
        InputError: a digest is not the published one, or nobody has recorded those of this version.
    """
    found = []
    for name in _FILES:
        path = directory / name
        if not path.is_file():
            raise MissingData(f"alt-profanity-check {version} has no {name} at {directory}; install it again")
        found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    if verify:
        advice = "or pass verify=False if you trust the files: loading them runs what is in them"
        if version not in KNOWN_SHA256:
            raise InputError(
                f"alt-profanity-check {version}: its pickles are not known here "
                f"(known: {', '.join(KNOWN_SHA256)}); install a known version, {advice}"
            )
        for name, got, expected in zip(_FILES, found, KNOWN_SHA256[version], strict=True):
            if got != expected:
                raise InputError(
                    f"alt-profanity-check {version}: {name} has SHA-256 {got[:16]}..., the published one is "
                    f"{expected[:16]}...; install it again, {advice}"
                )
    return found[0], found[1]


def _installed() -> tuple[Path, str]:
    # A top-level package is located without running it.
    spec = importlib.util.find_spec("profanity_check")
    if spec is None or spec.origin is None:
        raise MissingData("alt-profanity-check is not installed; run: pip install alt-profanity-check")
    return Path(spec.origin).parent / "data", importlib.metadata.version("alt-profanity-check")


class ProfanityScorer:
    """alt-profanity-check's probability, as the maximum over windows of `WINDOW` words.

    Missing with reason "no known word" is a text none of whose words the classifier knows (another script, emoji
    alone): the constant that it returns then would say nothing about the text.
    """

    def __init__(self, *, verify: bool = True) -> None:
        """Load the classifier.

        Args:
            verify: compare the package's pickles with the published ones before they are loaded.

        Raises:
            MissingData: the package is not installed.
            InputError: its pickles are not the published ones.
        """
        directory, version = _installed()
        sums = digests(directory, version, verify=verify)
        module = importlib.import_module("profanity_check.profanity_check")
        self._vectorizer: Any = module.vectorizer
        self._model: Any = module.model
        self._split = self._vectorizer.build_tokenizer()
        self._stop_words = self._vectorizer.get_stop_words() or frozenset()
        self.card = ScorerCard(
            name="profanity",
            revision=f"alt-profanity-check {version}",
            trained_on=("jigsaw-toxic-comments", "davidson-tweets"),
            max_length=WINDOW,
            beyond=f"maximum over windows of {WINDOW} words, each half over the one before",
            sha256=hashlib.sha256("".join(sums).encode()).hexdigest(),
        )

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`."""
        return score_by_windows(texts, WINDOW, self._probabilities, what="scorer 'profanity'", unknown="no known word")

    def _probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
        features = self._vectorizer.transform(texts)
        values: npt.NDArray[np.float64] = self._model.predict_proba(features)[:, 1]
        for row in np.flatnonzero(np.diff(features.indptr) == 0):
            # Stop words are known too, though they carry no weight.
            if self._stop_words.isdisjoint(self._split(texts[row].lower())):
                values[row] = math.nan
        return values
