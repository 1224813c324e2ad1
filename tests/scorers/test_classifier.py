import copy
import math

import pytest
import torch
from transformers import BertModel

from detox.errors import InputError, MissingData, UnknownName, UnsupportedModel
from detox.scorers import PRESETS, ClassifierScorer, score_texts
from detox.scorers.classifier import weights_sha256
from tests.scorers import tiny

TEXTS = [
    "the garden",
    "idiot",
    "we walked home with our friend after a long day of rain and tea",
    "you fool, the rain and the tea and the day were long and quiet",
    "quiet " * 30,
    "\U0001f642 \u05e9\u05dc\u05d5\u05dd",
]


def scorer(model=None, tokenizer=None, **options):
    options = {"name": "tiny", "toxic_labels": ["toxic"], **options}
    model = model or tiny.bert(("neutral", "toxic"), "single_label_classification")
    return ClassifierScorer(model, tokenizer or tiny.bert_tokenizer(), **options)


def by_hand(model, tokenizer, text):
    """Logits of one text without padding, straight from transformers."""
    with torch.no_grad():
        return model(**tokenizer([text], return_tensors="pt")).logits[0]


def values(scores):
    assert not any(score.is_missing for score in scores)
    return [score.value for score in scores]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_its_checkpoint_as_its_authors_meant(name, tmp_path):
    preset = PRESETS[name]
    multi = preset.activation == "sigmoid"
    problem = "multi_label_classification" if multi else "single_label_classification"
    if name == "toxic-bert":
        model, tokenizer = tiny.bert(preset.labels, problem), tiny.bert_tokenizer()
    else:
        model, tokenizer = tiny.roberta(preset.labels, problem), tiny.byte_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = ClassifierScorer.from_preset(name, path=tmp_path, device="cpu")
    text = "you fool"
    logits = by_hand(model, tokenizer, text)
    index = preset.labels.index(preset.toxic_labels[0])
    expected = logits.sigmoid()[index] if multi else logits.softmax(-1)[index]
    other = logits.softmax(-1)[index] if multi else logits.sigmoid()[index]
    assert loaded.score([text])[0].value == pytest.approx(expected.item(), abs=1e-6)
    assert abs(expected - other) > 1e-3
    assert loaded.card.name == name
    assert loaded.card.trained_on == preset.trained_on
    assert loaded.card.sha256 == weights_sha256(model)


def test_a_preset_is_pinned_to_a_commit_and_its_labels_are_its_own():
    for preset in PRESETS.values():
        assert len(preset.revision) == 40
        assert set(preset.toxic_labels) <= set(preset.labels)
        assert preset.trained_on


def test_a_checkpoint_with_other_labels_is_not_the_preset(tmp_path):
    tiny.bert(("toxic", "neutral"), "single_label_classification").save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"'toxic', 'neutral'.*expects 'neutral', 'toxic'"):
        ClassifierScorer.from_preset("s-nlp-roberta", path=tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_batch_equals_single_texts(family, batch_size):
    model, tokenizer = (
        (tiny.bert(("neutral", "toxic"), "single_label_classification"), tiny.bert_tokenizer())
        if family == "bert"
        else (tiny.roberta(("neutral", "toxic"), "single_label_classification"), tiny.byte_tokenizer())
    )
    batched = scorer(model, tokenizer, batch_size=batch_size)
    single = [batched.score([text])[0].value for text in TEXTS]
    assert values(batched.score(TEXTS)) == pytest.approx(single, abs=1e-6)
    assert values(batched.score(TEXTS[::-1])) == pytest.approx(single[::-1], abs=1e-6)
    short = TEXTS[:2]
    expected = [by_hand(model, tokenizer, text).softmax(-1)[1].item() for text in short]
    assert single[:2] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pad_token_id", [None, 1])
def test_a_decoder_works_with_and_without_a_pad_token(pad_token_id):
    model = tiny.gpt2(pad_token_id=pad_token_id)
    tokenizer = tiny.byte_tokenizer(pad=pad_token_id is not None, special=False)
    made = scorer(model, tokenizer)
    expected = [by_hand(model, tokenizer, text).softmax(-1)[1].item() for text in TEXTS[:2]]
    assert values(made.score(TEXTS))[:2] == pytest.approx(expected, abs=1e-6)
    assert tokenizer.pad_token == ("<pad>" if pad_token_id is not None else None)


def test_a_long_text_is_the_maximum_over_overlapping_windows():
    made, room, deciding = scorer(max_length=12), 10, set()
    vocabulary = [*tiny.CIVIL, *tiny.RUDE]
    for shift in range(20):
        words = [vocabulary[(shift + 1) * (index + shift) ** 2 % len(vocabulary)] for index in range(35)]
        windows = values(made.score([" ".join(words[start : start + room]) for start in range(0, 30, room // 2)]))
        (whole,) = made.score([" ".join(words)])
        assert whole.value == pytest.approx(max(windows), abs=1e-6)
        deciding.add(windows.index(max(windows)))
    # windows that only the overlap makes decide too
    assert deciding & {1, 3, 5}
    assert deciding & {0, 2, 4}


def test_toxicity_in_the_tail_is_found():
    made = scorer(tiny.trained_bert())
    civil = " ".join(tiny.CIVIL * 25)
    rude = f"{civil} idiot"
    assert len(rude.split()) > 9 * made.card.max_length
    low, high, *rest = values(made.score([civil, rude, f"idiot {civil}", " ".join(tiny.CIVIL), "idiot"]))
    assert low < 0.1
    assert high > 0.9
    assert [value > 0.5 for value in rest] == [True, False, True]


def test_length_limits_of_the_families():
    roberta = tiny.roberta(("neutral", "toxic"), "single_label_classification")
    assert scorer().card.max_length == 48
    assert scorer(roberta, tiny.byte_tokenizer()).card.max_length == 32
    made = scorer(roberta, tiny.byte_tokenizer(), batch_size=2)
    assert 0.0 <= made.score(["idiot " * 500])[0].value <= 1.0
    for wrong in (2, 49):
        with pytest.raises(InputError, match=f"max_length {wrong}; expected 4 to 48"):
            scorer(max_length=wrong)


def test_odd_texts_get_a_score_or_a_reason():
    made = scorer()
    odd = ["", " \n", "\u200b", "\ufffd", "\ud800", "x\0y", "\U0001f642", "\u05e9\u05dc\u05d5\u05dd", "a" * 100_000]
    scores = score_texts(made, odd)
    assert [score.reason for score in scores[:5]] == ["empty", "empty", "empty", "no token", "no token"]
    assert not any(score.is_missing for score in scores[5:])
    assert [score.reason for score in made.score(odd)] == [score.reason for score in scores]


def test_one_text_is_a_list_of_one_and_none_is_empty():
    assert len(scorer().score(["idiot"])) == 1
    assert scorer().score([]) == []
    with pytest.raises(InputError, match="one string"):
        scorer().score("idiot")


def test_several_toxic_labels_count_by_their_maximum():
    model = tiny.bert(("threat", "insult", "neutral"), "multi_label_classification")
    each = [values(scorer(model, toxic_labels=[label]).score(TEXTS)) for label in (0, "insult")]
    both = values(scorer(model, toxic_labels=["insult", 0]).score(TEXTS))
    assert both == pytest.approx([max(pair) for pair in zip(*each, strict=True)], abs=1e-7)
    assert both not in each


def test_labels_are_never_guessed():
    generic = tiny.bert(("LABEL_0", "LABEL_1"), "single_label_classification")
    with pytest.raises(InputError, match="'LABEL_0', 'LABEL_1'; say toxic_labels"):
        scorer(generic, toxic_labels=None)
    assert scorer(generic, toxic_labels=[1]).card.settings["toxic_labels"] == ["LABEL_1"]
    assert scorer(toxic_labels=None).card.settings["toxic_labels"] == ["toxic"]
    with pytest.raises(UnknownName, match="did you mean 'toxic'"):
        scorer(toxic_labels=["toxik"])
    with pytest.raises(InputError, match="expected 0 to 1"):
        scorer(toxic_labels=[2])
    with pytest.raises(InputError, match="empty"):
        scorer(toxic_labels=[])


def test_the_activation_is_known_or_said():
    silent = tiny.bert(("neutral", "toxic"), None)
    with pytest.raises(InputError, match="no problem_type; say activation"):
        scorer(silent)
    logits = by_hand(silent, tiny.bert_tokenizer(), "idiot")
    (sigmoid,) = values(scorer(silent, activation="sigmoid").score(["idiot"]))
    (softmax,) = values(scorer(silent, activation="softmax").score(["idiot"]))
    assert sigmoid == pytest.approx(logits.sigmoid()[1].item(), abs=1e-6)
    assert softmax == pytest.approx(logits.softmax(-1)[1].item(), abs=1e-6)
    with pytest.raises(InputError, match="contradicts"):
        scorer(activation="sigmoid")
    with pytest.raises(UnknownName, match="activation 'sigmod'"):
        scorer(activation="sigmod")
    with pytest.raises(InputError, match="always 1"):
        scorer(tiny.bert(("toxic",), None), activation="softmax")
    with pytest.raises(UnsupportedModel, match="regression"):
        scorer(tiny.bert(("toxic",), "regression"))


def test_a_classifier_that_returns_nan_is_missing_not_clean():
    model = tiny.bert(("neutral", "toxic"), "single_label_classification")
    with torch.no_grad():
        model.classifier.bias.fill_(math.nan)
    scores = scorer(model, max_length=12).score(["idiot", "the garden " * 30])
    assert {score.reason for score in scores} == {"the classifier returned NaN"}


def test_neither_model_nor_tokenizer_is_changed():
    model, tokenizer = tiny.gpt2(pad_token_id=None), tiny.byte_tokenizer(pad=False, special=False)
    before, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config.to_dict())
    scorer(model, tokenizer).score(TEXTS)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.config.to_dict() == config
    assert tokenizer.pad_token is None


def test_the_digest_follows_the_weights():
    model = tiny.bert(("neutral", "toxic"), "single_label_classification")
    before = scorer(model).card
    assert scorer(tiny.bert(("neutral", "toxic"), "single_label_classification")).card == before
    with torch.no_grad():
        model.classifier.weight[0, 0] += 1e-3
    assert scorer(model).card.identity() != before.identity()


def test_a_folder_loads_like_the_model_it_holds(tmp_path):
    model = tiny.bert(("neutral", "toxic"), "single_label_classification")
    model.save_pretrained(tmp_path / "model")
    tiny.bert_tokenizer().save_pretrained(tmp_path / "model")
    loaded = ClassifierScorer.from_pretrained(tmp_path / "model", trained_on=["my-comments"], device="cpu")
    assert values(loaded.score(TEXTS)) == values(scorer(model).score(TEXTS))
    assert loaded.card.revision.startswith("sha256:")
    assert loaded.card.trained_on == ("my-comments",)
    (tmp_path / "model").rename(tmp_path / "moved")
    moved = ClassifierScorer.from_pretrained(tmp_path / "moved", name="model", device="cpu")
    assert moved.card.identity() == loaded.card.identity()


def test_a_checkpoint_without_a_head_is_no_classifier(tmp_path):
    model = tiny.bert(("neutral", "toxic"), "single_label_classification")
    BertModel(model.config).save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no classifier.*classifier\.weight"):
        ClassifierScorer.from_pretrained(tmp_path, toxic_labels=[1])


def test_pickled_weights_of_strangers_are_not_read(tmp_path):
    model = tiny.bert(("neutral", "toxic"), "single_label_classification")
    model.config.save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load a classifier"):
        ClassifierScorer.from_pretrained(tmp_path)


def test_missing_folders_are_told_apart_from_hub_ids(tmp_path):
    with pytest.raises(MissingData, match="no classifier at"):
        ClassifierScorer.from_pretrained(tmp_path / "none")
    with pytest.raises(UnknownName, match="did you mean 'toxic-bert'"):
        ClassifierScorer.from_preset("toxicbert")


def test_without_the_hub_the_message_says_what_to_fetch():
    # The suite runs with HF_HUB_OFFLINE; this repository does not exist on the hub either.
    with pytest.raises(MissingData, match="hf download nobody/no-such-classifier --revision abc"):
        ClassifierScorer.from_pretrained("nobody/no-such-classifier", revision="abc")


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(UnsupportedModel, match="not a fast one"):
        scorer(tokenizer=Slow())
