"""Perspective: its scores replayed from a cache, and a client for as long as the service is there.

Google closes the Perspective API on 31 December 2026. The service has no versions: its models were replaced without notice, so that a
score is that of a day. Scores that are to be compared must come from one cache; the card of the replaying scorer says from which days.
"""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from detox.errors import EndpointFailed, InputError, MissingData, require_known
from detox.scorers.protocol import EMPTY, Score, ScorerCard, is_empty, readable, require_texts
from detox.scorers.score_cache import Answer, ScoreCache, content_sha256, opened, read_scores, text_key

SERVICE = "Perspective API"
URL = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
KEY_VARIABLE = "PERSPECTIVE_API_KEY"
ATTRIBUTES = ("toxicity", "severe_toxicity", "identity_attack", "insult", "profanity", "threat")
MAX_BYTES = 20_480
"""Of a request's text, by the service's documentation; of that, TOXICITY reads about 1,500 tokens (its maintainers' word of 2019)."""
GIVE_UP_AFTER = 5
"""Texts that in a row get no answer before the service is taken to be gone."""
CLOSES = "the service closes on 31 December 2026"

_LONGEST_WAIT = 60.0
_CARD: dict[str, Any] = {
    "trained_on": ("perspective-api",),
    "max_length": MAX_BYTES,
    "beyond": f"longer than {MAX_BYTES} bytes is missing; of the rest the service reads about 1,500 tokens",
}


class ReplayScorer:
    """Scores out of a cache. A text that is not in it is missing, reason "not in the cache"; nothing is asked."""

    def __init__(self, cache: str | Path, *, attribute: str = "toxicity", name: str = "perspective-api") -> None:
        """Read a cache of scores.

        Args:
            cache: NAME.jsonl.gz; see `detox.scorers.score_cache`.
            attribute: the one that is the score; all that are there are in `Score.attributes`.
            name: as used in tables.

        Raises:
            MissingData, DataError: see `read_scores`.
            UnknownName: no text of the cache has this attribute.
        """
        service, self._answers = read_scores(cache)
        known = {key for answer in self._answers.values() for key in answer.scores}
        require_known(f"attribute of {Path(cache).name}", attribute, known)
        self._attribute = attribute
        days = sorted(answer.date for answer in self._answers.values())
        digest = content_sha256(service, self._answers)
        trained = (
            _CARD
            if service.partition(",")[0] == SERVICE
            else {**_CARD, "trained_on": (service,), "max_length": None, "beyond": "as cached"}
        )
        self.card = ScorerCard(
            name=name,
            revision=f"replay:{digest[:16]}",
            sha256=digest,
            settings={"service": f"{service}, which has no versions", "asked": [days[0], days[-1]], "attribute": attribute},
            **trained,
        )  # fmt: skip

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`."""
        require_texts(texts, f"scorer {self.card.name!r}")
        return [_score(text, self._answers.get(text_key(text)), self._attribute) for text in texts]


class PerspectiveScorer:
    """The service itself: asked at a bounded rate, text by text; every answer goes to a cache and is never asked for again.

    A text that the service refuses is missing, with its reason, and so is one that got no answer after all attempts; the latter
    is asked for again next time. A wrong key, or several texts in a row without an answer, end the work; what was answered is kept.
    """

    def __init__(
        self,
        cache: str | Path,
        *,
        attribute: str = "toxicity",
        attributes: Sequence[str] = ATTRIBUTES,
        language: str = "en",
        per_second: float = 1.0,
        retries: int = 4,
        pause: float = 1.0,
        timeout: float = 30.0,
        url: str = URL,
        name: str = "perspective-api",
    ) -> None:
        """Prepare to ask. The key is read from the environment variable PERSPECTIVE_API_KEY and is written nowhere.

        Args:
            cache: NAME.jsonl.gz, where the answers go; `ReplayScorer` reads it.
            attribute: the one that is the score.
            attributes: all that are asked for.
            language: of the texts, ISO 639-1; a cache holds answers for one.
            per_second: requests a second at most, attempts that are made again among them.
            retries: further attempts a text, after status 429 and 5xx, no connection, or no answer in time.
            pause: seconds before the second attempt; doubled before each further one, or as long as the service asks for.
            timeout: seconds that an answer may take.
            url: address of the service.
            name: as used in tables.

        Raises:
            MissingData: no key in the environment.
            InputError: a number or an address that cannot be meant, or `attribute` is not among `attributes`.
        """
        if attribute not in attributes:
            raise InputError(f"attribute {attribute!r} is not asked for; expected one of {', '.join(attributes)}")
        if not (per_second > 0 and pause > 0 and timeout > 0 and retries >= 0):
            raise InputError("per_second, pause and timeout must be above 0, and retries 0 or more")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InputError(f"address {url!r}; expected one such as {URL}")
        self._key = os.environ.get(KEY_VARIABLE, "")
        if not self._key:
            raise MissingData(
                f"no key for the {SERVICE}: set {KEY_VARIABLE} ({CLOSES}); a cache is replayed without one"
            )
        self._cache, self._attribute, self._attributes = Path(cache), attribute, tuple(attributes)
        self._language, self._url = language, url
        self._interval, self._retries, self._pause, self._timeout = 1 / per_second, retries, pause, timeout
        self._next = 0.0
        self.card = ScorerCard(
            name=name,
            revision=f"no version; asked {_today()}",
            settings={"service": f"{SERVICE}, which has no versions", "attribute": attribute, "language": language},
            **_CARD,
        )

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`.

        Raises:
            EndpointFailed: the key is refused, or the service answers no more.
            InputError, DataError, OutputError: see `detox.scorers.score_cache.opened`.
        """
        require_texts(texts, f"scorer {self.card.name!r}")
        scores, in_vain = [], 0
        # Asked in another language, it gives the same text other scores.
        asked = SERVICE if self._language == "en" else f"{SERVICE}, asked in {self._language}"
        with opened(self._cache, asked) as cache:
            for text in tqdm(texts, desc=self.card.name, unit="text", disable=None):
                answer, failure = self._answer(text, cache)
                in_vain = in_vain + 1 if failure is not None else 0
                if in_vain >= GIVE_UP_AFTER:
                    raise EndpointFailed(
                        f"{SERVICE}: {in_vain} texts in a row got no answer, the last: {failure}; what was answered is kept ({CLOSES})"
                    )
                scores.append(Score.missing(failure) if failure is not None else _score(text, answer, self._attribute))
        return scores

    def _answer(self, text: str, cache: ScoreCache) -> tuple[Answer | None, str | None]:
        """What the service says of a text, from the cache or anew, or why it said nothing."""
        if is_empty(text):
            return None, None
        known = cache.get(text)
        if known is not None and (known.reason is not None or set(self._attributes) <= set(known.scores)):
            return known, None
        if len(readable(text).encode()) > MAX_BYTES:
            answer = Answer(date=_today(), reason=f"longer than {MAX_BYTES} bytes")
        else:
            found = self._attempts(text)
            if isinstance(found, str):
                return None, found
            answer = found
        cache.add(text, answer)
        return answer, None

    def _attempts(self, text: str) -> Answer | str:
        failure, pause = "", self._pause
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(pause * random.uniform(0.75, 1.25))
                pause = min(2 * pause, _LONGEST_WAIT)
            try:
                return self._asked(text)
            except urllib.error.HTTPError as error:
                refusal = _refusal(error)
                if refusal is not None:
                    return Answer(date=_today(), reason=refusal)
                failure = f"no answer (status {error.code})"
                pause = max(pause, min(_seconds(error.headers.get("Retry-After")), 10 * _LONGEST_WAIT))
            except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
                failure = f"no answer ({type(getattr(error, 'reason', error)).__name__})"
            except (ValueError, KeyError, TypeError) as error:
                failure = f"an answer without scores ({type(error).__name__})"
        return f"{failure}, asked {self._retries + 1} times"

    def _asked(self, text: str) -> Answer:
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._interval
        body = {
            "comment": {"text": readable(text)},
            "languages": [self._language],
            "requestedAttributes": {name.upper(): {} for name in self._attributes},
            "doNotStore": True,
        }
        request = urllib.request.Request(
            self._url,
            data=json.dumps(body).encode(),
            # Not in the address, which servers and errors write down.
            headers={"Content-Type": "application/json", "X-Goog-Api-Key": self._key},
        )
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            found = json.loads(response.read())["attributeScores"]
        scores = {name: float(found[name.upper()]["summaryScore"]["value"]) for name in self._attributes}
        if not all(0 <= value <= 1 for value in scores.values()):
            raise ValueError("a score outside [0, 1]")
        return Answer(date=_today(), scores=scores)


def _refusal(error: urllib.error.HTTPError) -> str | None:
    """Why the service will never score this text; None for what may pass.

    Raises:
        EndpointFailed: it will score no text: the key, the address or the service itself.
    """
    if error.code in (408, 429) or error.code >= 500:
        return None
    said = _details(error)
    # A key that is not valid comes with status 400, as a text that cannot be scored does.
    if error.code in (401, 403) or "API_KEY_INVALID" in said or "API key" in said:
        raise EndpointFailed(
            f"{SERVICE} refuses the key (status {error.code}); set {KEY_VARIABLE} to one that it takes ({CLOSES})"
        )
    if error.code != 400:
        raise EndpointFailed(f"{SERVICE} is not there (status {error.code}; {CLOSES}); replay a cache instead")
    kinds = [kind for kind in said.split() if kind.isupper() and "_" in kind and kind != "INVALID_ARGUMENT"]
    return f"refused: {kinds[0]}" if kinds else "refused (status 400)"


def _details(error: urllib.error.HTTPError) -> str:
    """The names in an error's body, not its message, which may quote the text; of a key's error the message too."""
    try:
        about = json.loads(error.read())["error"]
        kinds = [str(one.get("errorType") or one.get("reason") or "") for one in about.get("details", [])]
        key = "API key" if "API key" in str(about.get("message", "")) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return " ".join([*kinds, key])


def _score(text: str, answer: Answer | None, attribute: str) -> Score:
    if is_empty(text):
        return Score.missing(EMPTY)
    if answer is None:
        return Score.missing("not in the cache")
    if answer.reason is not None:
        return Score.missing(answer.reason)
    if attribute not in answer.scores:
        return Score(float("nan"), f"no {attribute} in the cache", dict(answer.scores))
    return Score(answer.scores[attribute], None, dict(answer.scores))


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0.0)
    except ValueError:
        return 0.0


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
