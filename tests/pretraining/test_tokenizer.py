import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from detox.errors import InputError
from detox.pretraining import train_tokenizer

TEXTS = ["the cat sat on the mat", "the dog sat on the log"] * 20


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=50, deadline=None)
def test_every_text_comes_back_as_it_was(text):
    tokenizer = train_tokenizer(TEXTS, 300)
    assert tokenizer.decode(tokenizer(text, split_special_tokens=True)["input_ids"]) == text


def test_special_tokens():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in tokenizer("the cat")["input_ids"]  # nothing is added around a text


def test_size_merges_and_determinism():
    tokenizer = train_tokenizer(TEXTS, 270)
    assert len(tokenizer) == 270
    assert len(tokenizer("the cat sat on the mat")["input_ids"]) < len("the cat sat on the mat")
    assert tokenizer.get_vocab() == train_tokenizer(TEXTS, 270).get_vocab()
    assert len(train_tokenizer(["a"], 5000)) == 258  # nothing to merge
    with pytest.raises(InputError, match="at least 258"):
        train_tokenizer(TEXTS, 257)


def test_saved_and_loaded(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat é👧 sat"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
