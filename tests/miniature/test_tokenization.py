"""One token a word; text and offsets are exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detox import miniature


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["clean", "toxic"]))
def test_text_comes_back_and_offsets_cover_it(seed, kind):
    tokenizer = miniature.tokenizer()
    (document,) = miniature.documents(1, kind=kind, seed=seed)
    encoded = tokenizer(document.text, return_offsets_mapping=True)
    assert tokenizer.decode(encoded["input_ids"]) == document.text
    assert tokenizer.unk_token_id not in encoded["input_ids"]
    assert "".join(document.text[a:b] for a, b in encoded["offset_mapping"]) == document.text


def test_every_measured_text_is_known_to_the_tokenizer():
    tokenizer = miniature.tokenizer()
    texts = [p.text for p in miniature.prompts(100)] + [p.bad for p in miniature.minimal_pairs(100)]
    texts += [f.context + choice for f in miniature.facts(50) for choice in f.choices]
    texts += [c.prompt + text for c in miniature.contrasts(50) for text in (*c.safe, *c.toxic)]
    texts += [v.text + mark for v in miniature.verdicts(50) for mark in miniature.VERDICTS] + [miniature.NOTICE]
    for text in texts:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


def test_a_word_of_no_forum_is_unknown():
    tokenizer = miniature.tokenizer()
    assert tokenizer.unk_token_id in tokenizer(" zeppelin")["input_ids"]


def test_it_survives_being_saved(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = miniature.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (document,) = miniature.documents(1)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(document.text)["input_ids"] == tokenizer(document.text)["input_ids"]
    assert again.eos_token == tokenizer.eos_token
