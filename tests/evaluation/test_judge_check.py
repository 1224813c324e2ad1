"""Judges of refusals against people: counts as scikit-learn has them, the correction that they feed, and the functional tests."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import yaml
from sklearn.metrics import cohen_kappa_score, confusion_matrix, recall_score

from detox import Sampling, evaluate
from detox.cli import main
from detox.data.judged import XSTEST_VERDICTS, read_xstest_answers
from detox.data.records import JudgedReply
from detox.errors import DataError, InputError, MissingData
from detox.evaluation import OverRefusalTask, Protocol, RefusalPhrases
from detox.evaluation.judge_check import check_judge, functional_replies, functional_verdicts
from detox.evaluation.over_refusal import corrected_metrics
from detox.evaluation.refusal_judge import COMPLIES, VERDICTS
from detox.statistics import rogan_gladen
from tests.conftest import REPOSITORY
from tests.evaluation.test_over_refusal import PROMPTS, Scripted

RECORDS = REPOSITORY / "benchmarks" / "results" / "judges"


class Knowing:
    """Says what a reply begins with."""

    def identity(self):
        return {"name": "knowing"}

    def verdicts(self, requests, replies):
        found = [reply.partition(":")[0] for reply in replies]
        return [one if one in (*VERDICTS, "perhaps") else COMPLIES for one in found]


def replies(n=120, seed=0):
    rng = np.random.default_rng(seed)
    return [
        JudgedReply(
            id=str(i // 3),
            request=f"request {i // 3}",
            reply=f"{VERDICTS[rng.integers(3)]}: {i}",
            verdict=VERDICTS[rng.integers(3)],
            group=f"{('safe', 'unsafe')[i // 3 % 2]}/kind",
            source=f"model {i % 3}",
        )
        for i in range(n)
    ]


def test_counts_and_rates_are_those_of_scikit_learn():
    asked = replies()
    found = check_judge(Knowing(), asked)
    assert (found["replies"], found["requests"], found["sources"]) == (120, 40, ["model 0", "model 1", "model 2"])
    for name, chosen in {
        "all": asked,
        "safe": [one for one in asked if one.group == "safe/kind"],
        "source model 1": [one for one in asked if one.source == "model 1"],
        "unsafe, source model 2": [one for one in asked if (one.group, one.source) == ("unsafe/kind", "model 2")],
    }.items():
        people, said = [one.verdict for one in chosen], [one.reply.partition(":")[0] for one in chosen]
        part = found["parts"][name]
        counts = [[part["confusion"][true][judge] for judge in VERDICTS] for true in VERDICTS]
        assert counts == confusion_matrix(people, said, labels=VERDICTS).tolist()
        assert part["kappa"]["value"] == pytest.approx(cohen_kappa_score(people, said))
        for question, refuses in (("any", lambda v: v != COMPLIES), ("full", lambda v: v == "refuses")):
            for kind, positive in (("sensitivity", True), ("specificity", False)):
                expected = recall_score([refuses(v) for v in people], [refuses(v) for v in said], pos_label=positive)
                rate = part[question][kind]
                assert rate["value"] == pytest.approx(expected)
                assert rate["right"] / rate["n"] == pytest.approx(expected)
                assert 0 <= rate["low"] < expected < rate["high"] <= 1
    for side, kinds in found["errors"].items():
        for kind, pairs in kinds.items():
            rate = found["parts"][side]["any"][kind]
            assert np.sum(pairs, axis=0).tolist() == [rate["right"], rate["n"]]


def test_answers_to_one_request_are_not_as_many_requests():
    """Three models that always answer alike are worth one."""
    one = [
        JudgedReply(id=str(i), request="r", reply=f"{'refuses' if i % 4 else 'complies'}:", verdict="refuses", source="a")
        for i in range(60)
    ]  # fmt: skip
    three = [JudgedReply(id=o.id, request="r", reply=o.reply, verdict=o.verdict, source=s) for o in one for s in "abc"]
    rates = [check_judge(Knowing(), own)["parts"]["all"]["any"]["sensitivity"] for own in (one, three)]
    assert rates[0]["value"] == rates[1]["value"] == 0.75
    widths = [rate["high"] - rate["low"] for rate in rates]
    assert widths[1] > 0.85 * widths[0]


def test_a_judge_or_a_verdict_that_is_none_is_one_line():
    with pytest.raises(InputError, match="verdict 'perhaps'; expected one of complies"):
        check_judge(Knowing(), [JudgedReply(id="0", request="r", reply="refuses:", verdict="perhaps")])
    with pytest.raises(InputError, match="'knowing' gave 1 verdicts for 1 replies"):
        check_judge(Knowing(), [JudgedReply(id="0", request="r", reply="perhaps:", verdict="refuses")])


def test_the_functional_tests_hold_every_verdict_and_no_case_twice():
    functions = functional_replies()
    assert {verdict for _, verdict, _ in functions} == {*VERDICTS}
    cases = [case for _, _, cases in functions for case in cases]
    assert len(cases) == len(set(cases)) >= 100
    assert all(request.strip() and reply.strip() for request, reply in cases)

    class Yielding(Knowing):
        def verdicts(self, requests, replies):
            return [COMPLIES] * len(replies)

    right = {one["function"]: (one["right"], one["refusal_right"]) for one in functional_verdicts(Yielding())}
    assert right == {name: ((len(cases),) * 2 if verdict == COMPLIES else (0, 0)) for name, verdict, cases in functions}


def test_the_record_is_of_the_judge_that_is_here():
    record = json.loads((RECORDS / "refusals.json").read_text())
    judge = RefusalPhrases()
    assert record["judge"] == judge.identity()
    assert record["functional"] == functional_verdicts(judge)
    assert record["half"] == 1
    preset = yaml.safe_load((REPOSITORY / "detox" / "bench" / "presets" / "standard.yaml").read_text())
    assert preset["protocol"]["over_refusal"]["judge_errors"] == record["errors"]


def xstest_rows():
    labels = list(XSTEST_VERDICTS)
    return [
        {
            "id": f"v2-{i}",
            "type": ("homonyms", "contrast_homonyms")[i % 2],
            "prompt": f"request {i}",
            "completion": f"I can't help\nwith {i}." if i % 3 else "Of course.",
            "annotation_1": "",
            "final_label": labels[1 if i % 3 else 0],
        }
        for i in range(40)
    ]


@pytest.fixture
def xstest_file(tmp_path):
    path = tmp_path / "xstest_v2_completions_somebody.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(xstest_rows()[0]))
        writer.writeheader()
        writer.writerows(xstest_rows())
    return path


def test_answers_of_xstest_are_read_as_they_are(xstest_file, tmp_path):
    found = read_xstest_answers(xstest_file)
    assert len(found) == 40
    assert found[1] == JudgedReply(
        id="v2-1", request="request 1", reply="I can't help\nwith 1.", verdict="refuses", group="unsafe/contrast_homonyms",
        source="somebody",
    )  # fmt: skip
    bad = tmp_path / "bad.csv"
    bad.write_text("id,type,prompt,completion,final_label\n1,homonyms,a,b,4_other\n")
    with pytest.raises(DataError, match=r"csv:2: final_label is '4_other'"):
        read_xstest_answers(bad)
    bad.write_text("id,prompt\n1,a\n")
    with pytest.raises(DataError, match="no column 'type'"):
        read_xstest_answers(bad)
    with pytest.raises(MissingData, match="model_completions"):
        read_xstest_answers(tmp_path / "none.csv")


def test_a_user_checks_the_judge(xstest_file, tmp_path, capsys):
    assert main(["judges", "check", "--answers", str(xstest_file), "--output_dir", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "40 answers to 40 requests" in said
    assert "refusal, curt" in said
    record = json.loads((tmp_path / "out" / "refusals.json").read_text())
    assert record["parts"]["all"]["any"]["sensitivity"]["right"] == 26
    halves = []
    for half in "01":
        assert main(["judges", "check", "--answers", str(xstest_file), "--half", half]) == 0
        halves.append(int(capsys.readouterr().out.partition(": ")[2].split()[0]))
    assert sum(halves) == 40
    assert min(halves) > 8
    assert main(["judges", "check", "--answers", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


ERRORS = {
    "safe": {"sensitivity": [[80, 100], [10, 20]], "specificity": [[90, 100], [19, 20]]},
    "unsafe": {"sensitivity": [[70, 100]], "specificity": [[9, 10]]},
}


def test_the_corrected_rates_are_the_formula():
    table = {
        "prompt": [*"0011223344", "5"],
        "side": ["safe"] * 6 + ["unsafe"] * 4 + ["safe"],
        "kind": ["refuses", "complies", "partly refuses", "refuses", "complies", "empty"] + ["refuses", "complies"] * 2 + ["empty"],
    }  # fmt: skip
    found = corrected_metrics(table, ERRORS)
    shares = [0.5, 1.0, 0.0]
    se, sp = 90 / 120, 109 / 120
    rate = found["over_refusal/corrected_rate"]
    assert rate.value == pytest.approx((np.mean(shares) + sp - 1) / (se + sp - 1))
    assert (rate.n, rate.missing) == (3, 1)
    assert rate.low < rate.value < rate.high
    compliance = found["over_refusal/corrected_unsafe_compliance"]
    assert compliance.value == pytest.approx(1 - (0.5 + 0.9 - 1) / (0.7 + 0.9 - 1))
    assert compliance.low < compliance.value < compliance.high
    assert corrected_metrics(table, {}) == {}


def test_the_harness_reports_them_where_errors_are_known(planted):
    task = OverRefusalTask(prompts=PROMPTS, judge=Scripted(), template="{text} says", judge_errors=ERRORS)
    plain = OverRefusalTask(prompts=PROMPTS, judge=Scripted(), template="{text} says")
    assert "judge_errors" not in plain.identity()
    assert task.identity()["judge_errors"] == ERRORS

    class Phrases(Scripted):
        def verdicts(self, requests, replies):
            return ["complies"] * len(replies)

    asked = OverRefusalTask(prompts=PROMPTS, judge=Phrases(), template="{text} says", judge_errors=ERRORS)
    card = evaluate(planted.lm, Protocol(name="x", over_refusal=asked, sampling=Sampling(max_new_tokens=4)))
    assert card["over_refusal/rate"].value == 0
    assert card["over_refusal/corrected_rate"].value == 0
    assert card["over_refusal/corrected_rate"].high > 0.1
    assert card["over_refusal/corrected_unsafe_compliance"].n == 1


@pytest.mark.parametrize(
    "errors",
    [
        {"safe": {"sensitivity": [[1, 2]]}},
        {"harmless": {"sensitivity": [[1, 2]], "specificity": [[1, 2]]}},
        {"safe": {"sensitivity": [[3, 2]], "specificity": [[1, 2]]}},
        {"safe": {"sensitivity": [[1, 2], [1, 2]], "specificity": [[1, 2]]}},
    ],
)
def test_wrong_errors_are_one_line(errors):
    with pytest.raises(InputError, match=r"specificity|sensitivity is 3 of 2") as caught:
        OverRefusalTask(prompts=PROMPTS, judge_errors=errors)
    assert "\n" not in str(caught.value)


def test_sources_that_differ_widen_the_interval():
    shares = np.arange(400) % 4 == 0
    alike = rogan_gladen(shares, sensitivity=[(80, 100)] * 5, specificity=[(95, 100)] * 5)
    apart = rogan_gladen(shares, sensitivity=[(n, 100) for n in (99, 95, 90, 70, 46)], specificity=[(95, 100)] * 5)
    together = rogan_gladen(shares, sensitivity=(400, 500), specificity=(475, 500))
    assert apart.value == alike.value == together.value
    assert together.high - together.low == pytest.approx(alike.high - alike.low, rel=0.1)
    assert apart.high - apart.low > 1.3 * (alike.high - alike.low)
    single = rogan_gladen(shares, sensitivity=[(400, 500)], specificity=[(475, 500)])
    assert single == together
    lacking = rogan_gladen(shares, sensitivity=[(80, 100), (0, 0)], specificity=[(95, 100), (95, 100)])
    assert lacking.low < lacking.value < lacking.high
    assert not math.isnan(lacking.low)
