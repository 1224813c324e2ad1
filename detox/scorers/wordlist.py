"""A word list as a scorer: crude, transparent, trained on nothing. What it misses may be anything.

No list is shipped. Terms come from a file of yours, or from the lexicons in the data directory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from detox.data.records import LexiconTerm
from detox.errors import DataError, InputError, MissingData, require_known
from detox.scorers.protocol import EMPTY, Score, ScorerCard, is_empty, readable, require_texts

Match = Literal["any", "fraction"]

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_CHARACTER = re.compile(r"[\ud800-\udbff][\udc00-\udfff]|.", re.DOTALL)

# The most severe grade of each lexicon in the data directory. LDNOOBW lists without grades, surge grades from 1 to 3,
# Wiegand et al. say abusive (1) or not (0). Their expanded list holds distances from a margin, which are no grades.
_TOP_GRADE = {"ldnoobw": None, "surge": 3.0, "wiegand_base": 1.0}
LEXICONS = ("ldnoobw", "surge", "wiegand_base")
"""The lexicons taken by default: together they rank texts as Perspective does at ROC-AUC .80, each alone .70 to .75."""


class WordListScorer:
    """The severity of the worst listed term in a text, or the share of its words that are listed.

    Terms match whole words, without case; a term of several words matches them in a row, whatever stands between them
    but words. A term with other characters in it (signs for letters, emoji) matches literally, not inside a word.
    """

    def __init__(
        self,
        terms: Mapping[str, float] | Iterable[str],
        *,
        match: Match = "any",
        name: str = "wordlist",
    ) -> None:
        """Take a list of terms.

        Args:
            terms: terms, or severities in (0, 1] by term; without severities each counts 1.
            match: "any": the highest severity of a term found, 0 without one. "fraction": severities of the words
                covered by terms, summed, over the number of words; 1 for a text of listed signs alone.
            name: as used in tables.

        Raises:
            InputError: no term, a blank term, or a severity outside (0, 1].
            UnknownName: another `match`.
        """
        require_known("match", match, get_args(Match))
        given = dict(terms) if isinstance(terms, Mapping) else dict.fromkeys(terms, 1.0)
        self._words: dict[tuple[str, ...], float] = {}
        self._signs: dict[str, float] = {}
        for term, severity in given.items():
            if not term.strip() or not 0.0 < severity <= 1.0:
                raise InputError(f"word list: term of {len(term)} characters with severity {severity}; expected (0, 1]")
            folded = " ".join(readable(term).casefold().split())
            words = tuple(_WORD.findall(folded))
            # Hyphens and spaces stand between words; anything else belongs to the term.
            if words and re.sub(r"[\s-]+", " ", folded) == " ".join(words):
                self._words[words] = max(severity, self._words.get(words, 0.0))
            else:
                self._signs[folded] = max(severity, self._signs.get(folded, 0.0))
        if not self._words and not self._signs:
            raise InputError("word list: no term; expected one or more")
        self._longest = max(map(len, self._words), default=0)
        self._match = match
        content = json.dumps(
            [sorted((" ".join(words), s) for words, s in self._words.items()), sorted(self._signs.items())]
        )
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.card = ScorerCard(
            name=name,
            revision=f"sha256:{digest[:16]}",
            trained_on=(),
            max_length=None,
            beyond="the whole text is read",
            sha256=digest,
            settings={"match": match, "terms": len(self._words) + len(self._signs)},
        )

    @staticmethod
    def from_file(path: str | Path, *, match: Match = "any", name: str = "wordlist") -> WordListScorer:
        """Read terms from a text file: one a line, severity behind a tab where there is one; blank lines are skipped.

        Raises:
            MissingData: no such file.
            DataError: a severity that is no number in (0, 1]; names file and line.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise MissingData(f"no word list at {file}; expected a text file with one term a line")
        terms: dict[str, float] = {}
        for number, line in enumerate(_text_lines(file), 1):
            term, _, severity = line.partition("\t")
            if not term.strip():
                continue
            try:
                terms[term] = float(severity or 1.0)
            except ValueError:
                raise DataError(f"{file}:{number}: severity {severity!r}; expected a number in (0, 1]") from None
            if not 0.0 < terms[term] <= 1.0:
                raise DataError(f"{file}:{number}: severity {severity}; expected a number in (0, 1]")
        return WordListScorer(terms, match=match, name=name)

    @staticmethod
    def from_lexicons(
        lexicons: Iterable[LexiconTerm] | None = None,
        *,
        sources: Sequence[str] = LEXICONS,
        match: Match = "any",
        name: str = "wordlist",
    ) -> WordListScorer:
        """Take the data directory's lexicons, grades scaled to (0, 1].

        Args:
            lexicons: their terms; None reads the data set "lexicons" of the catalogue.
            sources: which lexicons; "ldnoobw", "surge", "wiegand_base".
            match: see `WordListScorer`.
            name: as used in tables.

        Raises:
            MissingData: no data directory, or no such file in it.
            UnknownName: no such lexicon.
        """
        for source in sources:
            require_known("lexicon", source, _TOP_GRADE)
        if lexicons is None:
            from detox.data.catalogue import load_as

            lexicons = load_as(LexiconTerm, "lexicons")
        terms: dict[str, float] = {}
        for term in lexicons:
            if term.source in sources:
                top = _TOP_GRADE[term.source]
                severity = 1.0 if top is None else (term.severity or 0.0) / top
                if severity > 0.0:
                    terms[term.text] = max(severity, terms.get(term.text, 0.0))
        return WordListScorer(terms, match=match, name=name)

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`."""
        require_texts(texts, f"scorer {self.card.name!r}")
        return [Score.missing(EMPTY) if is_empty(text) else Score(self._value(readable(text))) for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the terms of the list stand in `text`.

        Args:
            text: any text; the same terms are found as by `score`.

        Returns:
            Characters [start, end) of `text` of each term found, in order of `start`; what stands between the words of
            one term is inside. A term of words and one of signs may overlap.
        """
        folded, origin = _folded(text)
        words = list(_WORD.finditer(folded))
        found = [
            (words[first].start(), words[first + length - 1].end())
            for first, length in self._runs([word.group() for word in words])
        ]
        found += [match.span() for match in self._literals(folded)]
        if origin is not None:
            found = [(origin[start][0], origin[end - 1][1]) for start, end in found]
        return sorted(found)

    def _value(self, text: str) -> float:
        folded = text.casefold()
        words = _WORD.findall(folded)
        found = [(self._words[tuple(words[first : first + length])], length) for first, length in self._runs(words)]
        found += [
            (self._signs[match.group()], len(_WORD.findall(match.group())) or 1) for match in self._literals(folded)
        ]
        if self._match == "any":
            return max((severity for severity, _ in found), default=0.0)
        covered = sum(severity * length for severity, length in found)
        return min(1.0, covered / max(1, len(words)))

    def _runs(self, words: list[str]) -> Iterator[tuple[int, int]]:
        """First word and number of words of each term, the longest at every place."""
        start = 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                if tuple(words[start : start + length]) in self._words:
                    yield start, length
                    break
            else:
                length = 1
            start += length

    def _literals(self, folded: str) -> Iterator[re.Match[str]]:
        # Looking for each as a plain string first is ten times faster than one pattern with all of them.
        there = sorted((sign for sign in self._signs if sign in folded), key=len, reverse=True)
        if there:
            yield from re.finditer("|".join(rf"(?<!\w){re.escape(sign)}(?!\w)" for sign in there), folded)


def _folded(text: str) -> tuple[str, list[tuple[int, int]] | None]:
    """`text` as terms are looked for in it, and of each character there the characters [start, end) that it comes from.

    None instead where each character comes from the one in its place.
    """
    whole = readable(text)
    folded = whole.casefold()
    if len(folded) == len(whole) == len(text):
        return folded, None
    # Folding makes several characters of some, and two halves of a surrogate pair are one character.
    origin: list[tuple[int, int]] = []
    for match in _CHARACTER.finditer(text):
        origin += [match.span()] * len(readable(match.group()).casefold())
    return folded, origin


def _text_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as UTF-8 text ({error})") from error
