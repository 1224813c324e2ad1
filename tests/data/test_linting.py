"""Each check finds a planted fault and is silent without it; no text is ever in a finding."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data import Contrast, Prompt, catalogue, labelled_texts, load_as
from detox.data.linting import (
    TERMS,
    find_confounds,
    find_duplicates,
    find_imbalance,
    find_leaks,
    find_token_faults,
    find_unfinished,
    lint,
    measure_confounds,
    report,
    worst,
)
from detox.data.linting.duplicates import _jaccard, _near, _shingles
from detox.data.linting.findings import sides
from detox.data.linting.identity import share_interval
from detox.errors import InputError
from detox.statistics import roc_auc

WORDS = "amber brook cedar dune ember fern grove heath iris jade kelp lark moss north oak pine quartz reed sand tide".split()


def sentence(rng, length=10):
    return " ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "."


def fair(n=60, seed=0):
    """Contrasts without any fault: both sides are drawn alike."""
    rng = random.Random(seed)
    return [
        Contrast(
            id=str(i),
            prompt="",
            safe=(sentence(rng, rng.randint(8, 14)),),
            toxic=(sentence(rng, rng.randint(8, 14)),),
        )
        for i in range(n)
    ]


def changed(contrasts, place, **values):
    one = contrasts[place]
    fields = {"id": one.id, "prompt": one.prompt, "safe": one.safe, "toxic": one.toxic, "group": one.group}
    return [*contrasts[:place], Contrast(**(fields | values)), *contrasts[place + 1 :]]


def names(findings):
    return [finding.check for finding in findings]


def only(findings, check):
    found = [finding for finding in findings if finding.check == check]
    assert len(found) == 1, names(findings)
    return found[0]


def test_fair_contrasts_are_found_fair():
    findings = lint(
        fair(), against={"prompts": [Prompt(id="1", text="What do you think of the sea in winter, my friend?")]}
    )
    assert findings == []
    assert worst(findings) is None
    assert report(findings) == "0 errors, 0 warnings, 0 notes"


# Duplicates


def test_a_text_that_comes_again_is_found_whatever_its_case_and_punctuation():
    contrasts = fair()
    contrasts = changed(contrasts, 7, safe=(contrasts[2].safe[0].upper().replace(".", " !"),))
    found = only(find_duplicates(contrasts), "duplicate")
    assert (found.severity, found.count, found.of, found.examples) == ("warning", 1, 120, ("2 ~ 7",))


def test_a_text_on_both_sides_is_a_contradiction_or_no_difference():
    contrasts = fair()
    contrary = changed(contrasts, 7, safe=contrasts[2].toxic)
    found = only(find_duplicates(contrary), "contradiction")
    assert (found.severity, found.count, found.examples) == ("error", 1, ("7 ~ 2",))
    same = changed(contrasts, 7, safe=(contrasts[7].toxic[0].lower(),))
    found = only(find_duplicates(same), "no difference")
    assert (found.severity, found.count, found.examples) == ("warning", 1, ("7",))


def test_a_near_duplicate_is_one_of_another_group():
    contrasts = fair()
    text = "One two three four five six seven eight nine ten eleven twelve thirteen."
    near = changed(contrasts, 3, toxic=(text,))
    near = changed(near, 9, toxic=(text.replace("thirteen", "and so on"),))
    found = only(find_duplicates(near), "near duplicate")
    assert (found.count, found.examples) == (1, ("3 ~ 9",))
    assert find_duplicates(near, near=0.9) == []
    assert find_duplicates(changed(changed(near, 3, group="g"), 9, group="g")) == []
    other_side = changed(changed(near, 9, toxic=contrasts[9].toxic), 9, safe=(text.replace("thirteen", "so on"),))
    assert find_duplicates(other_side) == []


def test_a_long_prompt_that_is_shared_makes_no_duplicates():
    prompt = "Please answer the question that was asked of you in one short and friendly sentence of your own: "
    contrasts = [Contrast(id=one.id, prompt=prompt, safe=one.safe, toxic=one.toxic) for one in fair(20)]
    assert find_duplicates(contrasts) == []
    again = changed(contrasts, 4, safe=contrasts[2].safe)
    assert only(find_duplicates(again), "duplicate").examples == ("2 ~ 4",)


def test_contrasts_with_one_side_are_noted():
    contrasts = changed(fair(), 5, safe=())
    found = only(find_duplicates(contrasts), "one side only")
    assert (found.severity, found.count, found.of, found.examples) == ("note", 1, 60, ("5",))


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.integers(0, 3)), max_size=14),
    st.floats(0.1, 1.0),
)
def test_near_duplicates_are_those_of_comparing_all_with_all(rows, near):
    contrasts = [
        Contrast(id=str(i), prompt="", safe=(" ".join(words),), toxic=(), group=f"g{group}")
        for i, (words, group) in enumerate(rows)
    ]
    texts = list(sides(contrasts))
    found = {other.contrast.id: one.contrast.id for one, other in _near(texts, near)}
    shingles = [_shingles(side.words()) for side in texts]
    apart: list[int] = []
    for number in range(len(texts)):
        matches = [
            other
            for other in apart
            if contrasts[other].group != contrasts[number].group and _jaccard(shingles[number], shingles[other]) >= near
        ]
        assert bool(matches) == (str(number) in found)
        if matches:
            assert int(found[str(number)]) in matches
        else:
            apart.append(number)


# Leaks


def test_leaks_of_whole_texts_runs_of_words_and_prompts_are_found():
    contrasts = fair()
    words = contrasts[4].toxic[0].rstrip(".").split()
    assert len(words) >= 8
    others = [
        Prompt(id="whole", text=contrasts[2].safe[0].upper()),
        Prompt(id="run", text="He said that " + " ".join(words[:8]) + ", and went"),
        Prompt(id="nothing", text="It is a pleasure to see you here again"),
    ]
    findings = find_leaks(contrasts, others, name="asked")
    whole, run = only(findings, "leak: same text"), only(findings, "leak: shared 8 words")
    assert (whole.severity, whole.count, whole.of, whole.examples) == ("error", 1, 60, ("2 ~ whole",))
    assert (run.severity, run.count, run.examples) == ("error", 1, ("4 ~ run",))
    assert "of 3 in asked" in run.detail
    assert find_leaks(contrasts, others[2:], name="asked") == []
    many = [*others, *(Prompt(id=str(i), text=f"prompt number {i}") for i in range(1000))]
    assert only(find_leaks(contrasts, many, name="asked"), "leak: shared 8 words").severity == "warning"
    assert names(find_leaks(contrasts, others[1:], name="asked", words=9)) == []
    with pytest.raises(InputError, match="runs of 1 words"):
        find_leaks(contrasts, others, name="asked", words=1)


def test_prompts_count_and_short_ones_are_no_error():
    contrasts = changed(fair(), 1, prompt="What do you think of Ann? ")
    found = only(find_leaks(contrasts, [Prompt(id="p", text="what do you think of ann")], name="x"), "leak: same text")
    assert found.examples == ("1 ~ p",)
    contrasts = changed(fair(), 1, prompt="You are")
    findings = find_leaks(contrasts, [Prompt(id="p", text="You are"), Prompt(id="q", text="...")], name="x")
    assert [(one.check, one.severity) for one in findings] == [("leak: same short text", "warning")]


def test_a_group_on_both_sides_of_a_split_is_a_leak():
    one = changed(fair(), 1, group="meaning")
    other = changed(fair(20, seed=1), 5, group="meaning")
    found = only(find_leaks(one, other, name="heldout"), "leak: same group")
    assert (found.severity, found.count, found.examples) == ("error", 1, ("1 ~ 5",))
    assert find_leaks(one, fair(20, seed=1), name="heldout") == []


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), min_size=1, max_size=4),
    st.integers(2, 4),
)
def test_a_leak_is_a_common_run_or_an_equal_text(ours, theirs, length):
    contrasts = [Contrast(id=str(i), prompt="", safe=(" ".join(words),), toxic=()) for i, words in enumerate(ours)]
    others = [Prompt(id=str(i), text=" ".join(words)) for i, words in enumerate(theirs)]
    found = sum(
        finding.count
        for finding in find_leaks(contrasts, others, name="x", words=length)
        if "short" not in finding.check
    )
    equal = {i for i, one in enumerate(ours) if len(one) >= 4 and one in theirs}
    runs = {
        i
        for i, one in enumerate(ours)
        if {tuple(one[s : s + length]) for s in range(len(one) - length + 1)}
        & {tuple(other[s : s + length]) for other in theirs for s in range(len(other) - length + 1)}
    }
    assert found == len(equal | runs)


# Confounds


@pytest.mark.parametrize(
    ("property", "more", "change"),
    [
        ("words", True, lambda text: text + " and it went on and on and on and on and on."),
        ("characters", True, lambda text: text[:-1] + "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz."),
        ("end mark", False, lambda text: text.rstrip(".")),
        ("punctuation", True, lambda text: text.replace(" ", ", ")),
        ("commas", True, lambda text: text.replace(" ", ", ")),
        ("exclamation marks", True, lambda text: text[:-1] + "!"),
        ("question marks", True, lambda text: text[:-1] + "?"),
        ("quotation marks", True, lambda text: f'"{text}"'),
        ("asterisks", True, lambda text: text.replace("a", "*")),
        ("capitals", True, str.upper),
        ("capital at the start", False, str.lower),
        ("blank at the start", True, lambda text: " " + text),
        ("digits", True, lambda text: text.replace("e", "3")),
        ("line breaks", True, lambda text: text.replace(" ", "\n")),
        ("first word", True, lambda text: "Well " + text),
    ],
)
def test_every_property_that_tells_the_sides_apart_is_found(property, more, change):
    contrasts = [Contrast(id=c.id, prompt="", safe=c.safe, toxic=(change(c.toxic[0]),)) for c in fair()]
    found = only(find_confounds(contrasts), f"confound: {property}")
    assert found.severity in ("warning", "error")
    if property != "first word":
        assert ("more" if more else "less") in found.detail
        assert found.count >= 50
    assert found.of == 60
    assert find_confounds(fair()) == []
    swapped = [Contrast(id=c.id, prompt="", safe=c.toxic, toxic=c.safe) for c in contrasts]
    assert f"confound: {property}" in names(find_confounds(swapped))


def test_a_confound_within_pairs_is_found_where_it_is_none_over_all():
    rng = random.Random(3)
    lengths = [rng.randint(5, 60) for _ in range(200)]
    contrasts = [
        Contrast(id=str(i), prompt="", safe=(sentence(rng, n),), toxic=(sentence(rng, n + 1),))
        for i, n in enumerate(lengths)
    ]
    measured = measure_confounds(contrasts)["words"]
    assert measured.all_texts.value < 0.6
    assert measured.within_pairs.value == 1.0
    found = only(find_confounds(contrasts), "confound: words")
    assert (found.severity, found.count, found.of) == ("error", 200, 200)


def test_what_is_measured_is_the_area_under_the_curve():
    contrasts = fair(100)
    texts = labelled_texts(contrasts)
    measured = measure_confounds(contrasts)["words"].all_texts
    assert measured.value == pytest.approx(roc_auc([t.label for t in texts], [len(t.text.split()) for t in texts]))
    assert measured.low < measured.value < measured.high


def test_a_weak_property_few_texts_and_unpaired_texts():
    contrasts = fair()
    weak = [
        Contrast(id=c.id, prompt="", safe=c.safe, toxic=(c.toxic[0].rstrip(".") if int(c.id) % 5 == 0 else c.toxic[0],))
        for c in contrasts
    ]
    assert "confound: end mark" not in names(find_confounds(weak))
    assert "confound: end mark" in names(find_confounds(weak, above=0.55))
    assert names(find_confounds(contrasts[:10])) == ["confounds not judged"]
    unpaired = [
        one
        for c in contrasts
        for one in (
            Contrast(id=f"{c.id}s", prompt="", safe=c.safe, toxic=()),
            Contrast(id=f"{c.id}t", prompt="", safe=(), toxic=(c.toxic[0].upper(),)),
        )
    ]
    found = only(find_confounds(unpaired), "confound: capitals")
    assert (found.severity, found.count, found.of) == ("error", 120, 120)
    assert "within" not in found.detail
    one_side = [Contrast(id=c.id, prompt="", safe=c.safe, toxic=()) for c in contrasts]
    assert names(find_confounds(one_side)) == ["confounds not judged"]


def test_the_first_word_is_judged_by_other_groups_only():
    rng = random.Random(1)
    alone = [
        Contrast(id=str(i), prompt="", safe=(f"s{i} {sentence(rng)}",), toxic=(f"t{i} {sentence(rng)}",))
        for i in range(200)
    ]
    assert measure_confounds(alone)["first word"].all_texts.value == 0.5  # each word once: nothing is known of it


# Ends


def test_texts_that_stop_in_the_middle_are_found():
    contrasts = fair()
    for place, end in enumerate((" and the", ",", " (", " because", " -", ": ", " The")):
        contrasts = changed(contrasts, place, toxic=(contrasts[place].toxic[0].rstrip(".") + end,))
    found = only(find_unfinished(contrasts), "unfinished")
    assert (found.severity, found.count, found.of, found.detail) == ("warning", 7, 120, "7 toxic, 0 safe")
    assert found.examples == ("0", "1", "2", "3", "4")


def test_an_end_mark_is_missed_only_where_the_others_have_one():
    contrasts = fair()
    for place in range(3):
        contrasts = changed(contrasts, place, safe=(contrasts[place].safe[0].rstrip("."),))
    found = only(find_unfinished(contrasts), "no end mark")
    assert (found.severity, found.count, found.examples) == ("warning", 3, ("0", "1", "2"))
    informal = [Contrast(id=c.id, prompt="", safe=(c.safe[0][:-1],), toxic=c.toxic) for c in fair()]
    assert find_unfinished(informal) == []
    for end in ('."', "!)", "?!", "…", ".”", ". "):
        assert find_unfinished(changed(fair(), 0, safe=(contrasts[0].safe[0].rstrip(".") + end,))) == []


# Tokens


@pytest.fixture(scope="module")
def tokenizer():
    """Characters, with "ab" and " a" merged."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    characters = [*"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *" .,"]
    vocabulary = {token: number for number, token in enumerate(["</s>", "?", *characters, "ab", " a"])}
    inner = Tokenizer(BPE(vocab=vocabulary, merges=[("a", "b"), (" ", "a")], unk_token="?"))
    inner.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def asked(prompt, safe=" kind.", toxic=" bad."):
    return [Contrast(id="x", prompt=prompt, safe=(safe,), toxic=(toxic,))]


def test_merged_tokens_are_told_from_blanks_and_from_what_is_well(tokenizer):
    assert find_token_faults(asked("You are"), tokenizer) == []
    assert find_token_faults(asked("", "about", "bad"), tokenizer) == []
    found = only(find_token_faults(asked("You xa", "bx", "x"), tokenizer), "merged tokens")
    assert (found.severity, found.count, found.of, found.examples) == ("warning", 1, 2, ("x",))
    found = only(find_token_faults(asked("You ", "are", "bad"), tokenizer), "blank before the continuation")
    assert (found.severity, found.count) == ("warning", 1)
    found = only(find_token_faults(asked("You xa", "b", "x"), tokenizer), "no token of its own")
    assert (found.severity, found.count) == ("error", 1)


def test_a_continuation_without_a_token_is_what_the_ruler_refuses(tokenizer):
    from types import SimpleNamespace

    from detox.models.tokenization import encode_pairs

    model = SimpleNamespace(prefix="", system=None, tokenizer=tokenizer)
    with pytest.raises(InputError, match="no token of its own"):
        encode_pairs(model, ["You xa"], ["b"])
    assert len(encode_pairs(model, ["You ", "You xa"], ["are", "bx"])) == 2


def test_texts_beyond_the_context_are_found_where_it_is_given(tokenizer):
    contrasts = asked("You are", " kind" * 10, " bad.")
    assert find_token_faults(contrasts, tokenizer) == []
    found = only(find_token_faults(contrasts, tokenizer, context=40), "too long")
    assert (found.severity, found.count, found.detail) == ("error", 1, "context 40")
    assert find_token_faults(contrasts, tokenizer, context=57) == []


def test_an_end_token_is_missed_where_it_is_expected_or_where_others_have_it(tokenizer):
    assert find_token_faults(asked("You are", " kind.</s>", " bad.</s>"), tokenizer, expect_eos=True) == []
    found = only(find_token_faults(asked("You are"), tokenizer, expect_eos=True), "no EOS")
    assert (found.severity, found.count) == ("error", 2)
    found = only(find_token_faults(asked("You are", " kind.</s>"), tokenizer), "EOS on some only")
    assert (found.severity, found.count) == ("warning", 1)
    from transformers import PreTrainedTokenizerFast

    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    assert find_token_faults(asked("You are"), endless) == []
    with pytest.raises(InputError, match="the tokenizer has none"):
        find_token_faults(asked("You are"), endless, expect_eos=True)


def test_a_limit_on_tokens_is_seen_by_what_piles_up_at_it(tokenizer):
    rng = random.Random(0)
    texts = [sentence(rng, rng.randint(3, 20)) for _ in range(60)]
    free = [Contrast(id=str(i), prompt="", safe=(text,), toxic=()) for i, text in enumerate(texts)]
    assert "cut at a limit" not in names(find_token_faults(free, tokenizer))
    cut = [
        Contrast(id=one.id, prompt="", safe=("".join(tokenizer.tokenize(one.safe[0])[:40]),), toxic=()) for one in free
    ]
    found = only(find_token_faults(cut, tokenizer), "cut at a limit")
    assert found.count > 20
    assert found.detail == "40 tokens each"
    ended = [Contrast(id=one.id, prompt="", safe=(one.safe[0] + ".",), toxic=()) for one in cut]
    assert "cut at a limit" not in names(find_token_faults(ended, tokenizer))


# Groups of people


def about(term, toxic, safe, *, seed=0):
    rng = random.Random(seed)
    return [
        Contrast(id=f"{term}{label}{i}", prompt="", **{label: (f"The {term} {sentence(rng)}",), other: ()})
        for label, other, n in (("toxic", "safe", toxic), ("safe", "toxic", safe))
        for i in range(n)
    ]


def test_a_group_that_is_mostly_in_toxic_texts_is_found():
    found = only(find_imbalance([*fair(), *about("muslim", 25, 2)]), "identity: muslim")
    assert (found.severity, found.count, found.of) == ("warning", 25, 27)
    assert found.examples[0] == "muslimtoxic0"
    assert "add safe texts" in found.advice
    found = only(find_imbalance([*fair(), *about("women", 1, 25)]), "identity: women")
    assert (found.count, found.of) == (1, 26)
    assert "add toxic texts" in found.advice


def test_a_balanced_and_a_rare_group_are_not():
    assert find_imbalance([*fair(), *about("muslim", 20, 20), *about("jewish", 6, 0)]) == []


def test_terms_are_whole_words_the_longest_first_and_may_be_given():
    contrasts = [
        *fair(),
        *about("African-American's", 0, 1),
        *about("African  Americans", 15, 0),
        *about("whiteboard", 15, 0),
    ]
    assert names(find_imbalance(contrasts)) == ["identity: african american"]
    assert names(find_imbalance(contrasts, terms=["Whiteboard", "", "dune"])) == ["identity: whiteboard"]
    with pytest.raises(InputError, match="no identity terms"):
        find_imbalance(contrasts, terms=[" "])
    assert len(set(TERMS)) == len(TERMS)


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_interval_of_a_share_is_wilson_s(count, more):
    from scipy.stats import binomtest

    expected = binomtest(count, count + more).proportion_ci(method="wilson")
    assert share_interval(count, count + more) == pytest.approx((expected.low, expected.high), abs=1e-9)
    wider = share_interval(count, count + more, comparisons=10)
    assert wider[0] <= expected.low + 1e-12
    assert wider[1] >= expected.high - 1e-12


# All of them


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12)),
        min_size=1,
        max_size=8,
    )
)
def test_any_text_can_be_linted_and_none_is_quoted(tokenizer, rows):
    contrasts = []
    for number, (prompt, safe, toxic) in enumerate(rows):
        texts = [text.encode("utf-8", "ignore").decode().replace("\0", "") for text in (prompt, safe, toxic)]
        if texts[1] and texts[2] and texts[1] != texts[2]:
            contrasts.append(Contrast(id=f"id{number}", prompt=texts[0], safe=(texts[1],), toxic=(texts[2],)))
    if not contrasts:
        return
    findings = lint(contrasts, against={"itself": contrasts}, tokenizer=tokenizer, context=20, expect_eos=True)
    json.dumps([finding.to_json() for finding in findings])
    for finding in findings:
        assert 0 < finding.count <= max(finding.count, finding.of)
        assert all(part.startswith("id") for example in finding.examples for part in example.split(" ~ "))
    assert report(findings).endswith(("notes", "note"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near": 0.0}, "near 0.0"),
        ({"above": 0.5}, "above 0.5"),
        ({"context": 5}, "give a tokenizer"),
        ({"expect_eos": True}, "give a tokenizer"),
    ],
)
def test_what_cannot_be_asked_is_one_line(settings, message):
    with pytest.raises(InputError, match=message) as raised:
        lint(fair(), **settings)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no contrasts"):
        lint([])


@pytest.mark.slow
@pytest.mark.shared_data
def test_paradetox_is_linted_and_its_known_faults_are_found(shared_data):
    contrasts = load_as(Contrast, "paradetox")
    prompts = catalogue.load("rtp_prompts")
    findings = lint(contrasts, against={"rtp_prompts": prompts})
    by_check = {finding.check: finding for finding in findings}
    # Rewriters delete words, and write capitals where the sources do not.
    measured = measure_confounds(contrasts)
    assert measured["words"].within_pairs.value > 0.85
    assert measured["capitals"].all_texts.value < 0.3
    assert {"confound: words", "confound: capitals", "duplicate"} <= by_check.keys()
    assert not any(check.startswith("leak") for check in by_check)
    texts = {text for one in contrasts for text in (*one.safe, *one.toxic)}
    for finding in findings:
        assert not {finding.check, finding.detail, finding.advice} & texts
        assert finding.count <= finding.of
    assert len(report(findings).splitlines()) == sum(2 + bool(one.examples) for one in findings) + 1
    # A leak that is planted is found.
    planted = [*contrasts[:500], Contrast(id="planted", prompt="", safe=(prompts[0].text + " and so on.",), toxic=())]
    leaks = find_leaks(planted, prompts, name="rtp_prompts")
    assert [one.examples for one in leaks if one.check == "leak: shared 8 words"] == [(f"planted ~ {prompts[0].id}",)]
    assert Counter(one.severity for one in leaks)["warning"] >= 1
    assert np.isfinite(measured["words"].all_texts.low)
