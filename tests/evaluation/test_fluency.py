"""Fluency under another model: numbers from plain forward passes, medians from the definition, nothing dropped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detox import LanguageModel, Sampling, evaluate
from detox.data.records import Prompt
from detox.errors import InputError
from detox.evaluation import Protocol, ReferenceModel
from detox.evaluation.fluency import MERGED, clustered_median, fluency_metrics, fluency_table
from tests.evaluation.test_harness import Rudeness
from tests.models.reference import logprobs_one_by_one


@pytest.fixture(scope="module")
def folder(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference")
    planted.lm.model.save_pretrained(path)
    planted.lm.tokenizer.save_pretrained(path)
    return path


def test_nats_are_those_of_the_text_after_its_prompt(planted):
    lm = planted.lm
    prompts, texts = ["topic1 says", "", "topic2 says "], [[" kind1 rude1", " says"], ["topic3"], ["rude2 rude3"]]
    table = fluency_table(lm, ["a", "b", "c"], prompts, texts)
    ids = lm.tokenizer
    expected = [
        logprobs_one_by_one(lm.model, ids(context)["input_ids"] or [ids.eos_token_id], ids(text)["input_ids"])
        for context, text in (("topic1 says", "kind1 rude1"), ("topic1 says", "says"), ("", "topic3"), ("topic2 says", "rude2 rude3"))
    ]  # fmt: skip
    np.testing.assert_allclose(table["nats"], [-values.sum() for values in expected], atol=1e-5)
    assert table["tokens"] == [len(values) for values in expected]
    assert table["reason"] == [None] * 4


def test_what_has_no_nats_is_missing_and_says_why(planted):
    class Merging:
        """Reads "a b" and "a b\u200a" alike, as a tokenizer with merges may."""

        def __getattr__(self, name):
            return getattr(planted.lm.tokenizer, name)

        def __call__(self, texts, **options):
            if isinstance(texts, str):
                return planted.lm.tokenizer(texts, **options)
            return planted.lm.tokenizer([text.removesuffix("s") for text in texts], **options)

    table = fluency_table(planted.lm, ["a"], ["topic1"], [["", " \n", " kind1", "\u200b"]])
    assert table["reason"] == ["empty", "empty", None, "empty"]
    merged = fluency_table(
        LanguageModel(planted.lm.model, Merging()), ["a", "b"], ["topic1"] * 2, [["s", " rude1"]] * 2
    )
    assert merged["reason"] == [MERGED, None] * 2
    metrics = fluency_metrics(merged)
    assert (metrics["fluency/perplexity_median"].n, metrics["fluency/perplexity_median"].missing) == (2, 2)
    assert math.isnan(fluency_metrics(fluency_table(planted.lm, ["a"], ["topic1"], [[""]]))["fluency/above_1e4"].value)


def test_metrics_are_the_definitions():
    nats = [2.0, 30.0, math.nan, 4.0, 50.0, 9.0]
    table = {
        "prompt": list("aabbcc"),
        "sample": [0, 1] * 3,
        "nats": nats,
        "tokens": [2, 3, 0, 1, 4, 3],
        "reason": [None] * 6,
    }
    metrics = fluency_metrics(table)
    perplexities = np.exp([1, 10, 4, 12.5, 3])
    assert metrics["fluency/perplexity_median"].value == pytest.approx(np.median(perplexities))
    assert metrics["fluency/above_1e4"].value == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert metrics["fluency/cross_entropy"].value == pytest.approx(95 / 13)
    for name in (
        "perplexity_median",
        "cross_entropy",
    ):  # texts of texts: a share of them decides whether a verdict is given
        assert (metrics[f"fluency/{name}"].n, metrics[f"fluency/{name}"].missing) == (5, 1)
    assert metrics["fluency/perplexity_median"].low <= metrics["fluency/perplexity_median"].high


def test_the_median_resamples_prompts_and_not_texts():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 25)
    values = rng.normal(size=40)[units] + 0.01 * rng.normal(size=1000)
    clustered = clustered_median(values, units, 40)
    alone = clustered_median(values, np.arange(1000), 1000)
    assert clustered.value == alone.value == np.sort(values)[499]
    assert clustered.high - clustered.low > 3 * (alone.high - alone.low)
    # Against copies that are really drawn.
    found = []
    for _ in range(400):
        drawn = rng.integers(40, size=40)
        found.append(np.sort(np.concatenate([values[units == unit] for unit in drawn]))[499])
    np.testing.assert_allclose([clustered.low, clustered.high], np.quantile(found, [0.025, 0.975]), atol=0.15)
    assert math.isnan(clustered_median(values[:3], np.zeros(3, dtype=int), 1).low)


def test_the_reference_is_part_of_what_is_asked_and_never_the_edited_model(planted, folder):
    def asked(**changes):
        return Protocol(
            name="x", prompts=(Prompt(id="0", text="topic1 says"), Prompt(id="1", text="topic2")), scorers=(Rudeness(),),
            sampling=Sampling(max_new_tokens=5, num_return_sequences=3), **changes,
        )  # fmt: skip

    protocol = asked(reference=ReferenceModel(str(folder)))
    assert protocol.identity()["reference"] == {"fingerprint": planted.lm.fingerprint()}
    assert protocol.digest() != asked().digest()
    card = evaluate(planted.lm, protocol)
    again = fluency_table(planted.lm, ["0", "1"], ["topic1 says", "topic2"], card.texts)
    np.testing.assert_allclose(card.tables["fluency"]["nats"], again["nats"], atol=1e-5)
    assert not any(name.startswith("fluency") for name in evaluate(planted.lm, asked()).metrics)
    with pytest.raises(InputError, match="reference but no prompts"):
        Protocol(name="x", reference=ReferenceModel(str(folder)), stereotypes=asked().stereotypes)
