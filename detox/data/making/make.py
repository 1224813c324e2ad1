"""Contrasts out of sentences: asked for, filtered, written. What was answered once is never asked again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from detox.data.contrasts import Contrast, digest, write_contrasts
from detox.data.making import seeds as seed_texts
from detox.data.making.cleaning import PROBLEMS, REFUSED, paraphrase_in
from detox.data.making.filters import MEANINGS, REPEATS, Candidate, Filters, Verdict, repeats
from detox.data.making.prompts import SIDES
from detox.data.making.seeds import Seed
from detox.data.making.state import Answers, opened
from detox.data.making.writers import Answered, Request, Unanswered, Writer
from detox.errors import InputError, OutputError
from detox.files import write_json

BEYOND = "more than asked for"
KEPT = "kept"

_SUFFIXES = (".jsonl", ".jsonl.gz")


def make_contrasts(
    seeds: Sequence[Seed],
    writer: Writer,
    output_file: str | os.PathLike[str],
    *,
    filters: Filters,
    min_safe: int = 1,
    min_toxic: int = 1,
    at_most: int | None = None,
    notes: Mapping[str, Any] | None = None,
    headline: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Made:
    """Have every seed paraphrased on both sides, filter, and write what is left.

    Beside `pairs.jsonl` appear `pairs.answers.jsonl`, to which each answer is added as it comes and from which a call that was
    killed goes on, and `pairs.record.json`. A call with other filters or further seeds asks for what is not there yet.

    Args:
        seeds: sentences; one that repeats another is left out and counted.
        writer: who paraphrases.
        output_file: ends in .jsonl or .jsonl.gz; read it with `detox.data.read_contrasts`. A seed is a contrast without a prompt, and
            a group of its own.
        filters: what is kept; a text is kept once, also where several seeds led to it, and never on both sides.
        min_safe: a seed with fewer safe paraphrases gives no contrast, and is counted.
        min_toxic: the same of toxic ones.
        at_most: on each side, the likest to the seed first; None keeps all.
        notes: further entries of the record's `seeds`: where they are from.
        headline: of the record: the scorer that results will be reported by; see `require_other_than`.
        progress: a bar.

    Raises:
        InputError: a name or number that cannot be; answers of another writer; not one contrast came out.
        EndpointFailed: the endpoint answers no further request; what was answered is kept.
        DataError: the file of answers holds something else.
        OutputError: a file cannot be written.
    """
    output = Path(output_file)
    stem = next((output.name[: -len(end)] for end in reversed(_SUFFIXES) if output.name.endswith(end)), "")
    if not stem:
        raise InputError(f"output file {output.name!r}; expected a name that ends in {' or '.join(_SUFFIXES)}")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; give the name of a file")
    if not seeds:
        raise InputError("no seeds; expected at least one sentence")
    for name, value in (("min_safe", min_safe), ("min_toxic", min_toxic)):
        if value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    if at_most is not None and at_most < max(min_safe, min_toxic):
        raise InputError(f"at_most is {at_most}; expected no fewer than min_safe {min_safe} and min_toxic {min_toxic}")
    kept, repeated = seed_texts.without_repeats(seeds)
    requests = [Request(one.id, one.text, side) for one in kept for side in SIDES]
    with opened(output.with_name(f"{stem}.answers.jsonl"), writer.identity()) as answers:
        unanswered = _ask(writer, requests, answers, progress=progress)
    sides, counts, verdicts = _filtered(requests, answers, filters, at_most)
    contrasts, too_few = [], []
    silent = {one.request.seed for one in unanswered}
    for one in kept:
        safe, toxic = (tuple(sides[one.id, side]) for side in SIDES)
        if one.id in silent:
            continue
        if len(safe) < min_safe or len(toxic) < min_toxic:
            too_few.append(TooFew(one.id, len(safe), len(toxic), _why(one.id, verdicts)))
        else:
            contrasts.append(Contrast(id=one.id, prompt="", safe=safe, toxic=toxic, group=one.id))
    record: dict[str, Any] = {
        "format": 1,
        "packages": _packages(),
        "writer": writer.describe(),
        "seeds": {
            **(notes or {}),
            "given": len(seeds),
            "repeated": repeated,
            "unanswered": len(silent),
            "sha256": seed_texts.digest(kept),
        },
        "answers": {"sha256": answers.digest(requests)},
        "filters": filters.describe(),
        "headline": headline,
        "counts": counts,
        "contrasts": {
            "least": {"safe": min_safe, "toxic": min_toxic},
            "at_most": at_most,
            "too_few": len(too_few),
            "written": len(contrasts),
            "sha256": digest(contrasts),
        },
    }
    if not contrasts:
        raise InputError(_nothing(counts, unanswered, answers.path))
    write_contrasts(output, contrasts)
    write_json(output.with_name(f"{stem}.record.json"), record)
    return Made(contrasts, record, too_few, unanswered)


def _ask(writer: Writer, requests: Sequence[Request], answers: Answers, *, progress: bool) -> list[Unanswered]:
    open_ones = [request for request in requests if answers.get(request) is None]
    unanswered: list[Unanswered] = []
    if not open_ones:
        return unanswered
    with tqdm(
        total=len(requests),
        initial=len(requests) - len(open_ones),
        desc="paraphrase",
        unit="request",
        disable=not progress,
    ) as bar:
        for result in writer.write(open_ones):
            if isinstance(result, Answered):
                answers.add(result)
            else:
                unanswered.append(result)
            bar.update()
    place = {request: index for index, request in enumerate(requests)}
    return sorted(unanswered, key=lambda one: place[one.request])


def _filtered(
    requests: Sequence[Request], answers: Answers, filters: Filters, at_most: int | None
) -> tuple[dict[tuple[str, str], list[str]], dict[str, Any], dict[tuple[str, str], Counter[str]]]:
    """The texts of each (seed, side), counts for the record, and what became of the answers to each (seed, side)."""
    fates: dict[tuple[str, str], Counter[str]] = {(one.seed, one.side): Counter() for one in requests}
    candidates: list[Candidate] = []
    for request in requests:
        for answer in answers.get(request) or ():
            text, problem = paraphrase_in(*answer)
            if problem is not None:
                fates[request.seed, request.side][problem] += 1
            else:
                candidates.append(Candidate(request.seed, request.side, request.text, text))
    fresh: list[Candidate] = []
    for one, again in zip(candidates, repeats(candidates, across_groups=True), strict=True):
        if again is None:
            fresh.append(one)
        else:
            fates[one.group, one.side][again] += 1
    found: dict[tuple[str, str], list[tuple[Candidate, Verdict]]] = {key: [] for key in fates}
    failed: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    called: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for one, verdict in zip(fresh, filters.judge(fresh), strict=True):
        failed[one.side].update(verdict.failed)
        called[one.side].update(verdict.called_toxic_by)
        if verdict.failed:
            fates[one.group, one.side][verdict.failed[0]] += 1
        else:
            found[one.group, one.side].append((one, verdict))
    sides: dict[tuple[str, str], list[str]] = {}
    for key, passed in found.items():
        if any(verdict.similarity is not None for _, verdict in passed):
            passed.sort(key=lambda pair: -(pair[1].similarity or 0.0))
        sides[key] = [one.text for one, _ in passed[:at_most]]
        fates[key].update({KEPT: len(sides[key]), BEYOND: len(passed) - len(sides[key])})
    return sides, _counts(fates, failed, called, filters), fates


def _counts(
    fates: Mapping[tuple[str, str], Counter[str]],
    failed: Mapping[str, Counter[str]],
    called: Mapping[str, Counter[str]],
    filters: Filters,
) -> dict[str, Any]:
    """`dropped` adds up with `kept` to `answers`: the first filter that an answer fails has it. `failed` counts each filter alone."""
    counts: dict[str, Any] = {}
    for side in SIDES:
        total: Counter[str] = Counter()
        for (_, of_side), fate in fates.items():
            if of_side == side:
                total.update(fate)
        counts[side] = {
            "answers": sum(total.values()),
            "dropped": {name: total[name] for name in (*PROBLEMS, *REPEATS, *MEANINGS, BEYOND)},
            "kept": total[KEPT],
            "failed": {name: failed[side][name] for name in MEANINGS},
            "called_toxic": {scorer.card.name: called[side][scorer.card.name] for scorer in filters.scorers},
        }
    return counts


def _why(seed: str, fates: Mapping[tuple[str, str], Counter[str]]) -> str:
    return "; ".join(_fate(side, fates[seed, side]) for side in SIDES)


def _fate(side: str, fate: Counter[str]) -> str:
    lost = ", ".join(f"{count} {name}" for name, count in fate.most_common() if count and name != KEPT)
    return f"{side}: {fate[KEPT]} of {sum(fate.values())}{f' ({lost})' if lost else ''}"


def _nothing(counts: Mapping[str, Any], unanswered: Sequence[Unanswered], path: Path) -> str:
    if unanswered and not any(counts[side]["answers"] for side in SIDES):
        return f"not one of {len(unanswered)} requests was answered, the first: {unanswered[0].reason}"
    fates = "; ".join(
        _fate(side, Counter(counts[side]["dropped"]) + Counter({KEPT: counts[side]["kept"]})) for side in SIDES
    )
    return f"no seed has enough paraphrases ({fates}); relax the filters (the answers in {path} are used again), or take another writer"


def _packages() -> dict[str, str]:
    from detox import __version__

    names = ("torch", "transformers")
    return {"detox": __version__, **{name: version(name) for name in names}}


class TooFew(NamedTuple):
    """A seed that gives no contrast: how many paraphrases it has on each side, and what became of the others."""

    seed: str
    safe: int
    toxic: int
    why: str


@dataclass(frozen=True)
class Made:
    """What came out.

    Attributes:
        contrasts: as written.
        record: as written.
        too_few: seeds without enough paraphrases.
        unanswered: requests that the writer could not answer; the next call makes them again.
    """

    contrasts: list[Contrast]
    record: dict[str, Any]
    too_few: list[TooFew]
    unanswered: list[Unanswered]

    @property
    def refused(self) -> dict[str, float]:
        """Share of the answers that refuse, by side."""
        counts = self.record["counts"]
        return {side: counts[side]["dropped"][REFUSED] / max(1, counts[side]["answers"]) for side in SIDES}
