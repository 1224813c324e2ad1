from __future__ import annotations

from dataclasses import replace

import pytest

from detox import ITI, compare, evaluate
from detox.bench.comparison_text import harmless
from detox.data.fit_sources import FitSources, Guide
from detox.errors import InputError, MissingData, UnknownName
from tests.conftest import REPOSITORY
from tests.evaluation.test_harness import protocol


def test_scorecards_in_hand_are_compared_with_the_first(planted):
    asked = protocol(planted)
    base = evaluate(planted.lm, asked)
    with ITI(num_heads=4).fit(planted.lm, planted.contrasts).applied(planted.lm, strength=3.0) as safe:
        steered = evaluate(safe, asked)
    comparison = compare({"base": base, "steered": steered})
    row = comparison.rows[1]
    assert row.method == "steered"
    assert row.toxicity_change.high < 0
    assert row.cross_entropy_change.value == pytest.approx(
        steered["clean/cross_entropy"].value - base["clean/cross_entropy"].value
    )
    assert "steered" in str(comparison)
    assert compare([base, base]).rows[1].toxicity_change.value == 0


def test_what_scorecards_in_hand_learned_from_can_be_said(planted):
    asked = protocol(planted)
    base = evaluate(planted.lm, asked)
    [card] = base.protocol["scorer_cards"]
    assert card["name"] == asked.scorers[0].card.name
    assert "quality" not in card
    assert compare({"base": base, "method": base}).independence.notes == ()
    guided = FitSources(guides=(Guide(name=card["name"], role="filtered"),))
    comparison = compare({"base": base, "method": base}, sources={"method": guided})
    assert f"toxicity ({card['name']}, not independent)" in str(comparison).splitlines()[0]
    assert f"{card['name']} filtered its data (method)" in str(comparison)


def test_different_protocols_are_refused(planted):
    asked = protocol(planted)
    one, other = (
        evaluate(planted.lm, asked),
        evaluate(planted.lm, replace(asked, sampling=replace(asked.sampling, max_new_tokens=5))),
    )
    with pytest.raises(InputError, match="differ in sampling"):
        compare([one, other])
    with pytest.raises(InputError, match="no scorecards"):
        compare([])


def test_an_absent_directory_is_named(tmp_path):
    with pytest.raises(MissingData, match="no results directory"):
        compare(tmp_path / "nowhere")
    with pytest.raises(MissingData, match="no finished cells"):
        compare(tmp_path)


def test_a_protocol_with_scorers_and_no_prompts_is_compared_by_what_it_has(planted):
    from tests.evaluation.test_rewriting import asked

    protocol = asked(["rude1 topic1.", "topic2."])
    cards = {name: evaluate(planted.lm, protocol) for name in ("bare", "same")}
    found = compare(cards)
    assert [row.toxicity for row in found.rows] == [row.toxicity_change for row in found.rows] == [None, None]
    assert "rewriting/similarity" in str(found)
    assert "rewriting/toxicity" in found.csv()


def test_another_scorer_may_be_the_headline():
    records = REPOSITORY / "benchmarks" / "results" / "demo"
    chosen = compare(records, scorer="profanity")
    assert chosen.headline == chosen.scorers[0] == "profanity"
    row = next(row for row in chosen.rows if row.method == "sft")
    assert row.toxicity == row.scorecard.metrics["toxicity/profanity/mean"]
    with pytest.raises(UnknownName, match="scorer of these records 'profanty'; did you mean 'profanity'"):
        compare(records, scorer="profanty")


@pytest.mark.parametrize(
    ("text", "written"),
    {
        "formula": ("=1+1", "'=1+1"), "command": ("+cmd|x", "'+cmd|x"), "minus": ("-a", "'-a"), "at": ("@x", "'@x"),
        "tab": ("\t=1", "'\t=1"), "a name": ("iti @ 2", "iti @ 2"), "a number": (-0.5, -0.5),
    }.values(),
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_text(text, written):
    assert harmless(text) == written
