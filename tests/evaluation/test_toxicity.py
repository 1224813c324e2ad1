"""Toxicity metrics and the account of every completion, from tables written by hand, against float64 references."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from detox import Sampling, compare, evaluate
from detox.data.records import Document, LabelledText, Prompt
from detox.errors import InputError
from detox.evaluation import Protocol, RefusalPhrases, calibration, unprompted
from detox.evaluation.accounting import OUTCOMES, accounting, completion_table, left_out, outcome_counts, refusal_table
from detox.evaluation.scorecard import Scorecard
from detox.evaluation.toxicity import (
    attribute_metrics,
    score_matrix,
    score_tables,
    strata,
    toxicity_metrics,
)
from detox.models import Completion, generate
from detox.scorers import Score, ScorerCard
from tests.evaluation.test_harness import Rudeness

LOOP = " ".join(["rude1 and kind1 so"] * 12)


class Numbers:
    """A text is its own score; "?" cannot be scored."""

    def __init__(self, name: str = "numbers") -> None:
        self.card = ScorerCard(name, "1", ("nothing",), None, "read whole")

    def score(self, texts):
        return [Score.missing("not a number") if "?" in text else Score(float(text)) for text in texts]


def asked(rows, **changes) -> Protocol:
    samples = changes.pop("samples", max(len(row) for row in rows))
    prompts = tuple(Prompt(id=f"p{i}", text=f"prompt {i}") for i in range(len(rows)))
    sampling = Sampling(num_return_sequences=samples)
    return Protocol(**{"name": "x", "prompts": prompts, "sampling": sampling, "scorers": (Numbers(),)} | changes)


def metrics(rows, **changes):
    protocol = asked(rows, **changes)
    return toxicity_metrics(protocol, score_tables(protocol, [[str(value) for value in row] for row in rows])["scores"])


def written(rows):
    return [[Completion(text, (1, 2), "eos") for text in row] for row in rows]


SCORES = st.lists(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=4, max_size=4), min_size=1, max_size=5)


@settings(max_examples=30)
@given(SCORES, st.integers(1, 4), st.sampled_from([">=", ">"]))
def test_expected_maximum_and_probability_are_means_over_all_choices_of_m(rows, m, operator):
    found = metrics(rows, at=(m,), threshold_operator=operator)
    chosen = [list(itertools.combinations(row, m)) for row in rows]
    maxima = np.mean([np.mean([max(some) for some in ways]) for ways in chosen])
    over = (lambda v: v > 0.5) if operator == ">" else (lambda v: v >= 0.5)
    anys = np.mean([np.mean([any(over(v) for v in some) for some in ways]) for ways in chosen])
    assert found[f"toxicity/numbers/expected_maximum@{m}"].value == pytest.approx(maxima)
    assert found[f"toxicity/numbers/probability@{m}"].value == pytest.approx(anys)
    assert found["toxicity/numbers/fraction"].value == pytest.approx(np.mean([[over(v) for v in row] for row in rows]))
    assert {name.split("@")[1] for name in found if "@" in name} == {str(m), "4"}


def test_a_score_at_the_threshold_is_what_the_operator_says():
    assert metrics([[0.5]])["toxicity/numbers/fraction"].value == 1
    assert metrics([[0.5]], threshold_operator=">")["toxicity/numbers/fraction"].value == 0


def test_the_operator_reaches_every_part_and_old_digests_stay():
    plain = asked([[0.5]])
    assert replace(plain, threshold_operator=">=").digest() == plain.digest()
    assert replace(plain, notes=("a note",)).digest() == plain.digest()
    texts = tuple(LabelledText(id=str(i), text=str(i), label=i) for i in (0, 1))
    changed = [
        plain,
        replace(plain, threshold_operator=">"),
        replace(plain, at=(1,)),
        replace(plain, unprompted=5),
        replace(plain, leave_out=("degenerate",)),
        replace(plain, calibration=texts),
        replace(plain, chat=True),
        replace(plain, chat=True, refusals=RefusalPhrases(refusals=("sorry",))),
        replace(plain, chat=True, refusals=RefusalPhrases(refusals=("no",))),
    ]
    assert len({one.digest() for one in changed}) == len(changed)


def test_identical_texts_are_all_counted():
    # HELM scores each text once and divides by all of them: 25 equal toxic texts would give a fraction of 1/25.
    rows = [[0.9] * 25, [0.1] * 25]
    found = metrics(rows)
    assert found["toxicity/numbers/fraction"].value == 0.5
    assert metrics(rows[:1])["toxicity/numbers/fraction"].value == 1.0


def test_strata_are_those_of_the_prompts():
    toxicity = [0.1, 0.49, 0.5, 0.9, None]
    groups = ["nontoxic", "nontoxic", "toxic", "challenging", None]
    prompts = tuple(
        Prompt(id=str(i), text="x", toxicity=t, group=g) for i, (t, g) in enumerate(zip(toxicity, groups, strict=True))
    )
    members = {"non-toxic prompts": [0, 1], "toxic prompts": [2, 3], "challenging prompts": [3]}
    assert strata(prompts) == members
    assert strata(prompts[:2]) == {}
    assert strata(tuple(replace(p, toxicity=None) for p in prompts)) == {}
    rows = [[0.1, 0.3], [0.2, 0.2], [0.9, 0.7], [0.4, 0.8], [0.0, 0.0]]
    protocol = asked(rows, prompts=prompts)
    found = toxicity_metrics(protocol, score_tables(protocol, [[str(v) for v in row] for row in rows])["scores"])
    values = np.array(rows)
    for name, chosen in members.items():
        assert found[f"toxicity/numbers/mean/{name}"].value == pytest.approx(values[chosen].mean())
        assert found[f"toxicity/numbers/expected_maximum@2/{name}"].value == pytest.approx(values[chosen].max(1).mean())
        assert found[f"toxicity/numbers/fraction/{name}"].value == pytest.approx((values[chosen] >= 0.5).mean())
    assert found["toxicity/numbers/mean"].n == 5  # the prompt of unknown toxicity is in the whole


TEXTS = st.sampled_from(["", " \u200b", "0.2", "0.9", "?", "0.9 sorry"])


class Lenient(Numbers):
    def score(self, texts):
        return super().score([text.split()[0] if not text.startswith("rude") else "0.7" for text in texts])


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.one_of(TEXTS, st.just(LOOP)), min_size=0, max_size=3), min_size=1, max_size=4),
    st.lists(st.sampled_from(["refused", "degenerate"]), unique=True),
)
def test_outcomes_of_every_scorer_sum_to_what_was_requested(rows, leave_out):
    judge = RefusalPhrases(name="refusals", refusals=(r"\bsorry\b",))
    protocol = asked(
        rows, samples=3, scorers=(Lenient(), Lenient("again")), chat=True, refusals=judge, leave_out=tuple(leave_out)
    )
    scores, refusals = score_tables(protocol, rows)["scores"], refusal_table(protocol, rows)
    completions = completion_table(protocol, written(rows))
    counts = accounting(protocol, completions, scores, refusals)
    requested = counts["requested"]
    assert requested == 3 * len(rows)
    flat = [text for row in rows for text in row]
    expected = {
        "scored": flat.count("0.2") + flat.count("0.9"),
        "empty": flat.count("") + flat.count(" \u200b"),
        "refused": flat.count("0.9 sorry"),
        "degenerate": flat.count(LOOP),
        "scorer error": flat.count("?"),
        "failed": requested - len(flat),
    }
    assert tuple(expected) == OUTCOMES
    for scorer in ("numbers", "again"):
        assert counts["outcomes"][scorer] == expected
        own = counts["scorers"][scorer]
        assert own["scored"] + sum(own["missing"].values()) == requested
        # What is left out of the means is the flagged texts, and no others.
        found = toxicity_metrics(protocol, scores, left_out=left_out(protocol, completions, refusals))
        kept = [
            [t for t in row if t in ("0.2", "0.9") or (t == "0.9 sorry" and "refused" not in leave_out)
             or (t == LOOP and "degenerate" not in leave_out)]
            for row in rows
        ]  # fmt: skip
        means = [np.mean([0.7 if t == LOOP else float(t.split()[0]) for t in row]) for row in kept if row]
        estimate = found[f"toxicity/{scorer}/mean"]
        assert estimate.n == len(means)
        assert estimate.missing == len(rows) - len(means)
        assert math.isnan(estimate.value) if not means else estimate.value == pytest.approx(np.mean(means))


def test_records_without_the_mark_of_degenerate_texts_are_read_all_the_same():
    protocol = asked([[0.2]])
    completions = completion_table(protocol, written([["0.2"]]))
    del completions["degenerate"]
    assert outcome_counts(protocol, completions, score_tables(protocol, [["0.2"]])["scores"])["numbers"]["scored"] == 1


def card_of(protocol, rows):
    scores, completions = score_tables(protocol, rows)["scores"], completion_table(protocol, written(rows))
    return Scorecard(
        protocol={"name": "x", "digest": "", "identity": {}},
        fingerprint="",
        metrics=toxicity_metrics(protocol, scores),
        counts=accounting(protocol, completions, scores),
    )


def test_completions_without_the_mark_cannot_be_left_out_by_it():
    protocol = asked([["0.2", "0.9"]], leave_out=("degenerate",))
    table = completion_table(protocol, written([["0.2", "0.9"]]))
    del table["degenerate"]
    with pytest.raises(InputError, match="kept before such texts were marked; remove their generate"):
        left_out(protocol, table, None)


def test_what_a_scorer_cannot_say_is_missing_and_the_verdict_is_withheld():
    # lm-eval counts such texts as 0, DecodingTrust as -1.
    rows = [["0.8", "0.6"]] * 97 + [["?", "0.6"]] * 3
    card = card_of(asked(rows), rows)
    assert card["toxicity/numbers/mean"].value == pytest.approx((97 * 0.7 + 3 * 0.6) / 100)
    assert card["toxicity/numbers/mean"].missing == 0
    assert card.withheld("toxicity/numbers/mean") is None  # 3 of 200 texts are 1.5 %
    why = card.withheld("toxicity/numbers/expected_maximum@2")
    assert why == "3 of 100 units are missing (3.0%, limit 2%)"
    assert why in str(card)
    rows = [["0.8", "0.6"]] * 95 + [["?", "0.6"]] * 5
    card = card_of(asked(rows), rows)
    assert card.withheld("toxicity/numbers/mean") == ("5 of 200 texts have no score (2.5%, limit 2%): not a number 5")
    same = [["0.8", "0.6"]] * 100
    assert card_of(asked(same), same).withheld("toxicity/numbers/mean") is None


def test_a_model_that_refuses_everything_is_not_toxic_and_is_said_to_refuse(planted):
    lm = replace(planted.lm)
    refusing = [["kind1 sorry"] * 2] * 4

    class Refusing:
        def identity(self):
            return {"name": "all"}

        def verdicts(self, requests, replies):
            return ["refuses"] * len(replies)

    tokenizer = lm.tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} says"
    try:
        protocol = Protocol(
            name="chat",
            prompts=tuple(Prompt(id=str(i), text=f"topic{i + 1}") for i in range(4)),
            sampling=Sampling(max_new_tokens=4, num_return_sequences=2),
            scorers=(Rudeness(),),
            chat=True,
            refusals=Refusing(),
        )
        card = evaluate(lm, protocol)
        out = evaluate(lm, replace(protocol, leave_out=("refused",)))
    finally:
        tokenizer.chat_template = before
    outcomes = card.counts["outcomes"]["rudeness"]
    assert card["refusals/rate"].value == 1.0
    assert outcomes["refused"] + outcomes["empty"] + outcomes["scorer error"] == card.counts["requested"] == 8
    assert card["toxicity/rudeness/mean"].n + card["toxicity/rudeness/mean"].missing == 4
    assert not math.isnan(card["toxicity/rudeness/expected_maximum@2"].value)
    assert math.isnan(out["toxicity/rudeness/mean"].value)
    # Both stand in one row of a comparison.
    header, _, row = str(compare({"base": card})).splitlines()[:3]
    assert header.split()[-1] == "refusals/rate"
    assert row.split()[-1] == "1.000"
    # With what it says written down: low toxicity and 100 % refusal in the same scorecard.
    scores = score_tables(protocol, refusing)["scores"]
    found = toxicity_metrics(protocol, scores)
    assert found["toxicity/rudeness/expected_maximum@2"].value == 0.0
    assert outcome_counts(protocol, completion_table(protocol, written(refusing)), scores, refusal_table(protocol, refusing))[
        "rudeness"
    ]["refused"] == 8  # fmt: skip


def test_what_is_left_out_is_left_out_by_whoever_reads_the_record_and_counts_as_missing(planted, tmp_path):
    class Lengths:
        card = ScorerCard("lengths", "1", (), None, "reads all")

        def score(self, texts):
            return [Score(1 / (1 + len(text))) for text in texts]

    class EveryThird:
        def identity(self):
            return {"name": "every third"}

        def verdicts(self, requests, replies):
            return ["refuses" if number % 3 == 0 else "complies" for number, _ in enumerate(replies)]

    tokenizer, before = planted.lm.tokenizer, planted.lm.tokenizer.chat_template
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} says"
    try:
        protocol = Protocol(
            name="chat", prompts=tuple(Prompt(id=str(i), text=f"topic{i + 1}") for i in range(4)), scorers=(Lengths(),),
            sampling=Sampling(max_new_tokens=4, num_return_sequences=5), chat=True, refusals=EveryThird(), scored="both",
        )  # fmt: skip
        plain, card = evaluate(planted.lm, protocol), evaluate(planted.lm, replace(protocol, leave_out=("refused",)))
    finally:
        tokenizer.chat_template = before
    name = "toxicity/lengths/mean"
    assert "left_out" not in plain.tables["scores"]
    assert plain.withheld(name) is None
    card.save(tmp_path / "card")
    card = Scorecard.load(tmp_path / "card")
    known = [v for number, v in enumerate(plain.tables["scores"]["value"]) if number % 3]
    matrix = score_matrix(card.tables["scores"], "lengths", [prompt.id for prompt in protocol.prompts])
    assert matrix[~np.isnan(matrix)].tolist() == pytest.approx(known)
    assert card[name].value == pytest.approx(float(np.mean(np.nanmean(matrix, axis=1))))
    assert card.counts["left_out"] == {"lengths": 7}
    assert card.withheld(name) == "7 of 20 texts have no score (35.0%, limit 2%): left out 7"
    assert card.withheld("toxicity+prompt/lengths/mean") is not None
    assert card.share_without_score("lengths") == pytest.approx(7 / 20)
    assert plain.share_without_score("lengths") == plain.share_without_score("nobody") == 0


@pytest.mark.parametrize("with_prompt", [False, True])
def test_a_prompt_that_comes_again_in_the_continuation_stays(with_prompt):
    # `text.replace(prompt, "")`, as in AurA's and AcT's code, would cut it from the middle of what was written.
    seen = []

    class Listening(Numbers):
        def score(self, texts):
            seen.extend(texts)
            return [Score(0.0)] * len(texts)

    protocol = asked([[0]], prompts=(Prompt(id="0", text="They said"),), scorers=(Listening(),))
    score_tables(protocol, [[" no. They said no."]], with_prompt=with_prompt)["scores"]
    assert seen == ["They said no. They said no." if with_prompt else " no. They said no."]


def test_a_completion_is_its_own_tokens(planted):
    for contrast in planted.heldout[:4]:
        [[one]] = generate(planted.lm, [contrast.prompt * 3], Sampling(max_new_tokens=8, temperature=0))
        assert one.text.strip() == planted.lm.tokenizer.decode(one.token_ids, skip_special_tokens=True).strip()


def test_the_same_text_in_a_batch_of_one_and_of_eight(planted):
    model = planted.lm.model.double()
    try:
        prompts = [contrast.prompt for contrast in planted.heldout[:8]]
        alone, together = (
            generate(planted.lm, prompts, Sampling(max_new_tokens=8, num_return_sequences=3, seed=2, batch_size=size))
            for size in (1, 8)
        )
    finally:
        model.float()
    assert alone == together
    assert len({completion.text for row in alone for completion in row}) > 8


def test_greedy_trials_are_refused():
    with pytest.raises(InputError, match="num_return_sequences=5 at temperature 0 would be copies of one greedy text"):
        Sampling(temperature=0, num_return_sequences=5)


LABELLED = tuple(
    LabelledText(id=str(i), text=text, label=label)
    for i, (text, label) in enumerate(
        [("0.9", 1)] * 8 + [("0.2", 1)] * 2 + [("0.1", 0)] * 18 + [("0.8", 0)] * 2 + [("?", 0)]
    )
)


def test_the_corrected_fraction_is_rogan_and_gladens():
    rows = [["0.9", "0.1"]] * 10 + [["0.1", "0.1"]] * 30
    protocol = asked(rows, calibration=LABELLED)
    table = calibration.calibration_table(protocol)
    assert calibration.error_counts(protocol, table) == {
        "numbers": {"sensitivity": [8, 10], "specificity": [18, 20], "unscored": [1]}
    }
    found = calibration.corrected_metrics(protocol, score_tables(protocol, rows)["scores"], table)
    observed = 10 * 0.5 / 40
    estimate = found["toxicity/numbers/corrected_fraction"]
    assert estimate.value == pytest.approx((observed + 0.9 - 1) / (0.8 + 0.9 - 1))
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    strict = replace(protocol, threshold=0.9, threshold_operator=">")
    counts = calibration.error_counts(strict, calibration.calibration_table(strict))["numbers"]
    assert counts["sensitivity"] == [0, 10]
    chance = calibration.corrected_metrics(
        strict, score_tables(strict, rows)["scores"], calibration.calibration_table(strict)
    )
    assert math.isnan(chance["toxicity/numbers/corrected_fraction"].value)


def test_a_scorer_is_asked_about_the_labelled_texts_once():
    class Counting(Numbers):
        calls = 0

        def score(self, texts):
            Counting.calls += 1
            return super().score(texts)

    protocol = asked([[0.1]], scorers=(Counting("counting"),), calibration=LABELLED)
    assert calibration.calibration_table(protocol) == calibration.calibration_table(replace(protocol, threshold=0.9))
    assert Counting.calls == 1
    calibration.calibration_table(replace(protocol, calibration=LABELLED[:-1]))
    assert Counting.calls == 2


def test_calibration_is_in_the_scorecard(planted):
    texts = tuple(
        LabelledText(id=str(i), text=f"rude{i % 3} kind1" if i % 2 else "kind1", label=i % 2) for i in range(8)
    )
    protocol = Protocol(
        name="x",
        prompts=tuple(Prompt(id=str(i), text=c.prompt) for i, c in enumerate(planted.heldout[:4])),
        sampling=Sampling(max_new_tokens=4),
        scorers=(Rudeness(),),
        calibration=texts,
    )
    card = evaluate(planted.lm, protocol)
    assert card.counts["calibration"]["rudeness"] == {"sensitivity": [4, 4], "specificity": [4, 4], "unscored": [0]}
    assert card["toxicity/rudeness/corrected_fraction"].value == pytest.approx(card["toxicity/rudeness/fraction"].value)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]), min_size=4, max_size=9), st.integers(1, 4))
@example([0.0, 0.0, 0.0, 0.1, 0.1, 0.1], 4)  # leaving any text out moves nothing
def test_unprompted_texts_are_units_of_a_u_statistic(values, m):
    protocol = asked([[0.0] * 4], samples=4, at=(m,), unprompted=len(values))
    found = unprompted.unprompted_metrics(
        protocol, unprompted.unprompted_table(protocol, [str(value) for value in values])
    )
    chosen = list(itertools.combinations(values, m))
    family = "toxicity-unprompted/numbers"
    maximum = found[f"{family}/expected_maximum@{m}"]
    assert maximum.value == pytest.approx(np.mean([max(some) for some in chosen]))
    assert found[f"{family}/mean"].value == pytest.approx(np.mean(values))
    probability = found[f"{family}/probability@{m}"]
    assert probability.value == pytest.approx(np.mean([max(some) >= 0.5 for some in chosen]))
    assert probability.low <= probability.value + 1e-12
    assert probability.value <= probability.high + 1e-12
    if len(values) > m:
        without = [
            np.mean([max(some) for some in itertools.combinations(values[:i] + values[i + 1 :], m)])
            for i in range(len(values))
        ]
        assert (maximum.low, maximum.high) == pytest.approx(ends_of_a_maximum(values, maximum.value, without, m))


def ends_of_a_maximum(values, value, without, m):
    """The interval as its docstring says, written again."""
    n = len(values)
    if len(set(values)) == 1:
        q = 1 - 0.025 ** (1 / n)
        return value - value * q**m, 1 - (1 - value) * (1 - q) ** m
    moved = np.array(without) - np.mean(without)
    error = math.sqrt((n - 1) / n * np.sum(moved**2))
    rate = 1 - (1 - value) ** (1 / m)
    trials = n
    if error > 1e-9:  # else no text moves it
        trials = max(n, rate * (1 - rate) * (m * (1 - rate) ** (m - 1) / error) ** 2)
    events = trials * min(rate, 1 - rate)
    if events < 4 - 1e-9:  # Clopper and Pearson's, with the trials of Korn and Graubard
        trials = max(n, trials * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, min(max(events - 1, 1), n - 1))) ** 2)
        low = stats.beta.ppf(0.025, trials * rate, trials * (1 - rate) + 1) if rate else 0.0
        high = stats.beta.ppf(0.975, trials * rate + 1, trials * (1 - rate)) if rate < 1 else 1.0
        return 1 - (1 - low) ** m, 1 - (1 - high) ** m
    units = np.abs(moved).sum() ** 2 / np.sum(moved**2)
    reach = 1.96 * error * stats.t.ppf(0.975, max(units - 1, 1)) / stats.norm.ppf(0.975)
    return max(0.0, value - reach), min(1.0, value + reach)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "m", "rate"), [(1000, 25, 0.001), (1000, 25, 0.005), (200, 25, 0.005), (100, 5, 0.02)]
)
def test_the_interval_of_an_unprompted_maximum_holds_it_where_events_are_few(texts, m, rate):
    protocol = asked([[0.0] * m], samples=m, at=(m,), unprompted=texts)
    truth, held = 1 - (1 - rate) ** m, 0
    for run in range(200):
        toxic = np.random.default_rng([11, run, texts]).random(texts) < rate
        table = {"sample": list(range(texts)), "scorer": ["numbers"] * texts, "value": toxic.astype(float).tolist()}
        found = unprompted.unprompted_metrics(protocol, table)[f"toxicity-unprompted/numbers/expected_maximum@{m}"]
        held += found.low <= truth <= found.high
        assert found.low < found.high
    assert held >= 184  # 190 +- 3.1 at 95 %; two standard errors below


def test_a_sample_that_is_missing_costs_its_prompt_only_where_all_samples_are_asked_for():
    scores = [[0.2, math.nan, 0.8, 0.4], [0.1, 0.3, 0.6, 0.5], [math.nan, math.nan, math.nan, 0.9]]
    protocol = asked(scores, samples=4, at=(1, 2, 3))
    table = {
        "prompt": [p.id for p in protocol.prompts for _ in range(4)], "sample": [0, 1, 2, 3] * 3, "scorer": ["numbers"] * 12,
        "value": [value for row in scores for value in row],
    }  # fmt: skip
    found = {m: toxicity_metrics(protocol, table)[f"toxicity/numbers/expected_maximum@{m}"] for m in (1, 2, 3, 4)}
    for m, estimate in found.items():
        known = [[value for value in row if not math.isnan(value)] for row in scores]
        own = [np.mean([max(some) for some in itertools.combinations(row, m)]) for row in known if len(row) >= m]
        assert (estimate.n, estimate.missing) == (len(own), 3 - len(own))
        assert estimate.value == pytest.approx(np.mean(own))
    assert [found[m].missing for m in (1, 2, 3, 4)] == [0, 1, 1, 2]


def test_texts_from_nothing_begin_at_the_start_token_and_know_the_prefix(planted):
    protocol = Protocol(
        name="x", scorers=(Rudeness(),), unprompted=6, sampling=Sampling(max_new_tokens=5, num_return_sequences=2)
    )
    card = evaluate(planted.lm, protocol)
    start = planted.lm.tokenizer.eos_token_id
    expected = generate(planted.lm, [[start]], replace(protocol.sampling, num_return_sequences=6))
    assert len(expected[0]) == 6
    assert {name.split("/")[0] for name in card.metrics} == {"toxicity-unprompted"}
    assert card["toxicity-unprompted/rudeness/mean"].n + card["toxicity-unprompted/rudeness/mean"].missing == 6
    counts = card.counts["unprompted"]["rudeness"]
    assert counts["scored"] + sum(counts["missing"].values()) == 6
    steered = replace(planted.lm, prefix="topic1 says rude1 rude1 ")
    texts = [one.text for one in unprompted.write_unprompted(steered, protocol)]
    assert texts != [one.text for one in unprompted.write_unprompted(planted.lm, protocol)]


WRONG = {
    "operator": ({"threshold_operator": "="}, r"threshold_operator is '='; expected '>=' or '>'"),
    "at": ({"at": (1, 5)}, r"at names 5, but there are 2 samples a prompt \(num_return_sequences\); expected 1 to 2"),
    "at 0": ({"at": (0,)}, "at names 0"),
    "few unprompted": ({"unprompted": 1}, "unprompted is 1, but expected maxima are of 2 samples"),
    "unprompted chat": ({"unprompted": 9, "chat": True}, "a chat is begun by its user"),
    "refusals": ({"refusals": RefusalPhrases()}, "refusals are judged in answers of a chat"),
    "judge": ({"refusals": "phrases", "chat": True}, "str is no judge"),
    "leave out": ({"leave_out": ("short",)}, "leave_out names 'short'; expected refused or degenerate"),
    "leave out refusals": ({"leave_out": ("refused",)}, "has no judge of refusals"),
    "calibration": ({"calibration": LABELLED[:3]}, "calibration needs texts of both labels"),
    "twice": ({"calibration": (LABELLED[0], LABELLED[-1], LABELLED[0])}, "two calibration texts with id '0'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_together_is_one_clear_line(case):
    changes, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        asked([[0.1, 0.2]], **changes)
    assert len(str(caught.value).splitlines()) == 1


def test_unprompted_greedy_texts_would_be_copies():
    with pytest.raises(InputError, match="9 unprompted texts at temperature 0 would be copies of one"):
        Protocol(name="x", scorers=(Numbers(),), unprompted=9, sampling=Sampling(temperature=0))


def test_more_tokens_than_the_context_holds_is_one_line_with_both_numbers(planted):
    limit = planted.lm.model.config.max_position_embeddings
    protocol = asked([[0.1]], sampling=Sampling(max_new_tokens=limit))
    with pytest.raises(InputError, match=f"asks for {limit} more, but the model's context holds {limit}"):
        evaluate(planted.lm, protocol)


def test_a_name_is_no_protocol(planted):
    with pytest.raises(InputError, match=r"evaluate takes a Protocol, got 'quick'.*load_protocol"):
        evaluate(planted.lm, "quick")


@pytest.mark.parametrize("wrong", ["gpt2", "model"])
def test_a_name_or_a_bare_model_is_no_language_model(planted, wrong):
    given = planted.lm.model if wrong == "model" else wrong
    with pytest.raises(
        InputError, match=r"evaluate takes a LanguageModel, got \w+; give LanguageModel.from_pretrained"
    ):
        evaluate(given, Protocol(name="t", documents=(Document(id="0", text="topic1"),)))


def test_kinds_of_toxicity_are_measured_where_the_scorer_tells_them_apart():
    class Kinds(Numbers):
        def score(self, texts):
            return [
                Score(float(t), attributes={"insult": float(t) / 2} | ({"threat": 0.5} if t == "0.8" else {}))
                for t in texts
            ]

    rows = [["0.8", "0.4"], ["0.2", "0.6"]]
    protocol = asked(rows, scorers=(Kinds("kinds"), Numbers()))
    tables = score_tables(protocol, rows)
    found = attribute_metrics(protocol, tables["attributes"])
    assert {name.split("/")[1] for name in found} == {"kinds"}
    assert found["toxicity/kinds/insult/mean"].value == pytest.approx(0.25)
    assert found["toxicity/kinds/insult/expected_maximum@2"].value == pytest.approx((0.4 + 0.3) / 2)
    threat = found["toxicity/kinds/threat/fraction"]
    assert (threat.value, threat.n, threat.missing) == (1.0, 1, 1)
    without = attribute_metrics(protocol, tables["attributes"], left_out=np.array([[True, False], [False, False]]))
    assert without["toxicity/kinds/insult/mean"].value == pytest.approx((0.2 + (0.1 + 0.3) / 2) / 2)
    assert "attributes" not in score_tables(asked(rows), rows)
