"""evaluate: one protocol, one language model, one scorecard. The harness knows nothing of detoxifiers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from detox.errors import InputError
from detox.evaluation import (
    calibration,
    heads,
    replies,
    rewriting,
    safety,
    toxicity,
    understanding,
    unprompted,
    utility,
)
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Scorecard, Table
from detox.models import LanguageModel
from detox.statistics import Estimate


def evaluate(lm: LanguageModel, protocol: Protocol) -> Scorecard:
    """Measure what the protocol asks.

    Args:
        lm: what is measured; inside `with detoxifier.applied(lm) as safe`, that is `safe`.
        protocol: what is asked.

    Returns:
        The scorecard. Texts are in it; whoever writes a record decides whether they are kept.

    Raises:
        StaleHandle: the handle's edits are not exactly those installed.
        InputError: a protocol that the model cannot serve (a prompt longer than its context, say). One that asks for nothing
            cannot be made.
    """
    if not isinstance(protocol, Protocol):
        raise InputError(
            f"evaluate takes a Protocol, got {protocol!r}; one with a name or in a file is read first: "
            "evaluate(lm, detox.load_protocol('quick'))"
        )
    lm.require_current()
    tables: dict[str, Table] = {}
    metrics: dict[str, Estimate] = {}
    counts: dict[str, object] = {}
    seconds: dict[str, float] = {}
    incidents_before = len(lm.incidents())
    texts: list[list[str]] | None = None
    notes: list[str] = []

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage] = time.perf_counter() - start

    if protocol.prompts:
        with timed("generate"):
            completions = toxicity.write_completions(lm, protocol)
        texts = [[completion.text for completion in row] for row in completions]
        tables["completions"] = toxicity.completion_table(protocol, completions)
        if protocol.refusals is not None:
            with timed("refusals"):
                tables["refusals"] = toxicity.refusal_table(protocol, texts)
            metrics |= toxicity.refusal_metrics(protocol, tables["refusals"])
        with timed("score"):
            tables["scores"] = toxicity.score_table(protocol, texts)
        refusals = tables.get("refusals")
        out = toxicity.left_out(protocol, tables["completions"], refusals)
        metrics |= toxicity.toxicity_metrics(protocol, tables["scores"], left_out=out)
        counts |= toxicity.accounting(protocol, tables["completions"], tables["scores"], refusals)
        if protocol.scored == "both":
            with timed("score_with_prompt"):
                tables["scores_with_prompt"] = toxicity.score_table(protocol, texts, with_prompt=True)
            metrics |= toxicity.toxicity_metrics(
                protocol, tables["scores_with_prompt"], family="toxicity+prompt", left_out=out
            )
            counts["scorers_with_prompt"] = toxicity.scored_counts(protocol, tables["scores_with_prompt"])
        if protocol.calibration:
            with timed("calibration"):
                tables["calibration"] = calibration.calibration_table(protocol)
            metrics |= calibration.corrected_metrics(protocol, tables["scores"], tables["calibration"], left_out=out)
            counts["calibration"] = calibration.error_counts(protocol, tables["calibration"])
    if protocol.documents:
        with timed("documents"):
            tables["documents"] = utility.document_table(lm, protocol.documents)
        metrics |= utility.document_metrics(tables["documents"])
    if protocol.toxic_documents:
        with timed("toxic_documents"):
            tables["toxic_documents"] = utility.risky_document_table(lm, protocol.toxic_documents)
        metrics |= utility.risky_document_metrics(tables["toxic_documents"])
    if protocol.multiple_choice:
        with timed("multiple_choice"):
            tables["multiple_choice"] = utility.choice_table(lm, protocol.multiple_choice)
        metrics |= utility.choice_metrics(tables["multiple_choice"])
    if protocol.minimal_pairs:
        with timed("minimal_pairs"):
            tables["minimal_pairs"] = utility.pair_table(lm, protocol.minimal_pairs)
        metrics |= utility.pair_metrics(tables["minimal_pairs"])
    if protocol.recognition is not None:
        with timed("recognition"):
            tables["recognition"] = understanding.recognition_table(lm, protocol.recognition)
        metrics |= understanding.recognition_metrics(tables["recognition"])
    if protocol.probe is not None:
        with timed("probe"):
            splits = understanding.probe_splits(protocol.probe)
            tables["probe"] = understanding.probe_table(lm, protocol.probe, splits)
        metrics |= understanding.probe_metrics(tables["probe"])
        counts["probe"] = splits.counts
        notes += [splits.shortage] if splits.shortage else []
    if protocol.head_probes is not None:
        with timed("head_probes"):
            probes, counts["head_probes"] = heads.fit(lm, protocol.head_probes)
        tables["head_probes"], tables["head_probe_texts"] = heads.head_table(probes), heads.text_table(probes)
        metrics |= heads.head_metrics(probes)
    if protocol.replies is not None:
        with timed("replies"):
            answers = replies.write_replies(lm, protocol, protocol.replies)
            tables["replies"] = replies.reply_table(protocol, protocol.replies, answers)
        metrics |= replies.reply_metrics(tables["replies"])
        counts["replies"] = replies.reply_counts(tables["replies"])
    if protocol.rewriting is not None:
        with timed("rewriting"):
            answers = rewriting.rewrite(lm, protocol.rewriting, protocol.sampling)
            tables["rewriting"] = rewriting.rewrite_table(protocol, protocol.rewriting, answers)
        metrics |= rewriting.rewrite_metrics(protocol, protocol.rewriting, tables["rewriting"])
        counts["rewriting"] = rewriting.rewrite_counts(tables["rewriting"])
    if protocol.contrasts:
        with timed("margins"):
            tables["margins"] = utility.margin_table(lm, protocol.contrasts)
        metrics |= utility.margin_metrics(tables["margins"])
    if protocol.safety_score is not None:
        with timed("safety_score"):
            tables["safety_score"] = safety.statement_table(lm, protocol.safety_score)
            groups = safety.group_scores(tables["safety_score"], significance=protocol.safety_score.significance)
        metrics |= safety.safety_metrics(tables["safety_score"], groups)
        counts["safety_score"] = safety.safety_counts(groups)
        notes += safety.skipped_note(groups)
    if protocol.unprompted:
        with timed("unprompted"):
            begun = [completion.text for completion in unprompted.write_unprompted(lm, protocol)]
            tables["unprompted"] = unprompted.unprompted_table(protocol, begun)
        metrics |= unprompted.unprompted_metrics(protocol, tables["unprompted"])
        counts["unprompted"] = unprompted.unprompted_counts(tables["unprompted"])
    named = {"name": protocol.name, "digest": protocol.digest(), "identity": protocol.identity()}
    return Scorecard(
        protocol=named | ({"notes": list(protocol.notes)} if protocol.notes else {}),
        fingerprint=lm.fingerprint(),
        metrics=metrics,
        counts=counts,
        tables=tables,
        texts=texts,
        receipts=[asdict(receipt) for receipt in lm.receipts()],
        incidents=[*lm.incidents()[incidents_before:], *notes],
        seconds=seconds,
    )
