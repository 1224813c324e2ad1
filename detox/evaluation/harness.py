"""evaluate: one protocol, one language model, one scorecard. The harness knows nothing of detoxifiers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from detox.errors import InputError
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Scorecard, Table
from detox.evaluation.stage_table import STAGES
from detox.evaluation.stages import (
    Completions,
    Measured,
    Stage,
    StageStore,
    Summary,
    joined_tables,
    receipts_between,
    receipts_together,
)
from detox.models import LanguageModel
from detox.scorers import ScorerCard


def scorer_card(card: ScorerCard) -> dict[str, Any]:
    """What a record says of a scorer: its card without the report of its training."""
    return {key: value for key, value in card.to_dict().items() if key != "quality"}


def evaluate(lm: LanguageModel, protocol: Protocol, *, kept: StageStore | None = None) -> Scorecard:
    """Measure what the protocol asks.

    Args:
        lm: what is measured; inside `with detoxifier.applied(lm) as safe`, that is `safe`.
        protocol: what is asked.
        kept: what stages have measured before on the same language model; what is missing there is measured and kept. A stage
            that was measured on weights or edits with another fingerprint is measured again.

    Returns:
        The scorecard. Texts are in it; whoever writes a record decides whether they are kept.

    Raises:
        StaleHandle: the handle's edits are not exactly those installed.
        MissingData: a task whose data is not there; found before any work.
        InputError: a protocol that the model cannot serve (a prompt longer than its context, say). One that asks for nothing
            cannot be made.
    """
    if not isinstance(protocol, Protocol):
        raise InputError(
            f"evaluate takes a Protocol, got {protocol!r}; one with a name or in a file is read first: "
            "evaluate(lm, detox.load_protocol('quick'))"
        )
    if not isinstance(lm, LanguageModel):
        raise InputError(
            f"evaluate takes a LanguageModel, got {type(lm).__name__}; give LanguageModel.from_pretrained(ID_OR_PATH), or "
            "LanguageModel(model, tokenizer) of one that is loaded"
        )
    lm.require_current()
    fingerprint = lm.fingerprint()

    def measured(stage: Stage, unit: Protocol) -> Measured:
        assert stage.measure is not None
        receipts, incidents = lm.receipts(), len(lm.incidents())
        before = [replace(receipt, sites=dict(receipt.sites), tokens=dict(receipt.tokens), touched=dict(receipt.touched),
                          gate=dict(receipt.gate)) for receipt in receipts]  # fmt: skip
        found = stage.measure(lm, unit)
        return replace(
            found,
            fingerprint=fingerprint,
            receipts=receipts_between(before, [asdict(receipt) for receipt in lm.receipts()]),
            incidents=lm.incidents()[incidents:],
        )

    card = _assembled(protocol, kept, measured, fingerprint)
    assert card is not None  # whatever is missing has been measured
    return card


def evaluate_kept(protocol: Protocol, kept: StageStore) -> Scorecard | None:
    """The scorecard without a language model: all that one has to be asked is kept; texts are scored where that is all that lacks.

    Returns:
        None where a model has to be asked, or where stages were measured on models with different fingerprints.
    """
    return _assembled(protocol, kept, None, None)


def _assembled(
    protocol: Protocol,
    kept: StageStore | None,
    measure: Callable[[Stage, Protocol], Measured] | None,
    fingerprint: str | None,
) -> Scorecard | None:
    tables: dict[str, Table] = {}
    written: dict[str, Completions] = {}
    anew: set[str] = set()  # stages whose texts were written just now
    summaries: list[Summary] = []
    parts: list[Measured] = []
    asked: list[Measured] = []  # of the language model
    seconds: dict[str, float] = {}
    asked_for = [stage for stage in STAGES if stage.asked(protocol)]
    if measure is not None:
        for stage in asked_for:
            units = stage.units(protocol) if stage.ready is not None else ()
            absent = [one for one in units if kept is None or kept.get(stage.name, stage.part(one.identity())) is None]
            if stage.ready is not None and absent:
                stage.ready(absent)
    for stage in asked_for:
        found = []
        for unit in stage.units(protocol):
            part = stage.part(unit.identity())
            one = None if kept is None else kept.get(stage.name, part)
            if one is not None and fingerprint is not None and one.fingerprint != fingerprint:
                one = None  # kept under the same key, of a fit that came out otherwise: its texts and its scores are others
            if stage.reads in anew:
                one = None  # judged on texts that are gone; those of now may differ (another batch size in half precision)
            if one is None:
                if stage.measure is not None and measure is None:
                    return None
                start = time.perf_counter()
                if stage.judge is not None:
                    one = replace(stage.judge(unit, written[stage.reads]), fingerprint=fingerprint or "")
                else:
                    assert measure is not None
                    one = measure(stage, unit)
                    anew.add(stage.name)
                one = replace(one, seconds=time.perf_counter() - start)
                if kept is not None:
                    kept.put(stage.name, part, one)
            fingerprint = fingerprint or one.fingerprint
            found.append(one)
        tables |= joined_tables([one.tables for one in found])
        if found[0].completions is not None:
            written[stage.name] = found[0].completions
        summaries += [stage.together([one.summary for one in found]), stage.summarise(protocol, tables)]
        tables |= summaries[-1].tables
        seconds[stage.name] = sum(one.seconds for one in found)
        parts += found
        asked += [] if stage.measure is None else found
    return Scorecard(
        protocol={
            "name": protocol.name,
            "digest": protocol.digest(),
            "identity": protocol.identity(),
            "scorer_cards": [scorer_card(scorer.card) for scorer in protocol.scorers],
            **({"notes": list(protocol.notes)} if protocol.notes else {}),
        },
        fingerprint=fingerprint or "",
        metrics={name: value for summary in summaries for name, value in summary.metrics.items()},
        counts={name: value for summary in summaries for name, value in summary.counts.items()},
        tables=tables,
        texts=[[one.text for one in row] for row in written["generate"]] if "generate" in written else None,
        receipts=receipts_together(one.receipts for one in asked),
        incidents=[*(line for one in parts for line in one.incidents), *(n for s in summaries for n in s.notes)],
        seconds=seconds,
    )
