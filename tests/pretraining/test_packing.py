import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError
from detox.pretraining import PackedSequences, TokenizedDocument, end_token, pack

END = 0


def document(tokens, risk=None):
    tokens = np.asarray(tokens, dtype=np.int32)
    return TokenizedDocument("d", tokens, np.zeros(len(tokens), bool) if risk is None else np.asarray(risk))


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    sequence_length=st.integers(2, 7),
)
def test_packing_keeps_every_token_its_risk_and_its_order(lengths, sequence_length):
    documents, next_token = [], 1
    for length in lengths:
        tokens = np.arange(next_token, next_token + length)
        documents.append(document(tokens, tokens % 3 == 0))
        next_token += length
    stream = [END]
    for tokens in (d.tokens.tolist() for d in documents):
        stream += [*tokens, END]
    if len(stream) < sequence_length:
        with pytest.raises(InputError, match="one sequence"):
            pack(documents, end_token_id=END, sequence_length=sequence_length)
        return
    packed = pack(documents, end_token_id=END, sequence_length=sequence_length)
    kept = packed.tokens.reshape(-1)
    assert packed.tokens.shape == (len(stream) // sequence_length, sequence_length)
    assert kept.tolist() == stream[: len(kept)]
    assert len(stream) - len(kept) < sequence_length
    assert (packed.risk.reshape(-1) == ((kept % 3 == 0) & (kept != END))).all()


def test_the_digest_tells_tokens_risk_and_shape_apart():
    tokens, risk = np.arange(12, dtype=np.int32).reshape(3, 4), np.zeros((3, 4), bool)
    first = PackedSequences(tokens, risk)
    marked = risk.copy()
    marked[2, 3] = True
    others = [PackedSequences(tokens + 1, risk), PackedSequences(tokens, marked)]
    others.append(PackedSequences(tokens.reshape(4, 3), risk.reshape(4, 3)))
    assert PackedSequences(tokens.copy(), risk.copy()).digest == first.digest
    assert len({first.digest, *(other.digest for other in others)}) == 4
    assert first.card()["risky_tokens"] == 0
    assert others[1].card()["risky_tokens"] == 1


def test_the_digest_of_data_without_ignored_tokens_is_that_of_old_records():
    documents = [document([1, 2, 3]), document([4, 5], [True, False])]
    packed = pack(documents, end_token_id=END, sequence_length=4)
    assert packed.ignored is None
    assert packed.digest == "837b83266c465060591d237f5dc16f35ab2219ec113168bf4c1a3760e1c65702"
    nothing = PackedSequences(packed.tokens, packed.risk, ignored=np.zeros_like(packed.risk))
    assert nothing.digest != packed.digest


def test_ignored_tokens_are_packed_like_risk():
    marked = TokenizedDocument("d", np.asarray([1, 2, 3], np.int32), np.zeros(3, bool), np.asarray([False, True, True]))
    packed = pack([document([4, 5]), marked, document([6])], end_token_id=END, sequence_length=3)
    assert packed.tokens.tolist() == [[0, 4, 5], [0, 1, 2], [3, 0, 6]]
    assert packed.ignored.tolist() == [[False] * 3, [False, False, True], [True, False, False]]
    assert packed.card()["ignored_tokens"] == 2
    with pytest.raises(InputError, match="ignored is bool of shape"):
        PackedSequences(packed.tokens, packed.risk, ignored=packed.ignored[:1])


def test_what_is_wrong_is_said():
    with pytest.raises(InputError, match="at least 2"):
        pack([document([1])], end_token_id=END, sequence_length=1)
    with pytest.raises(InputError, match="bool for risk"):
        PackedSequences(np.zeros((2, 3), np.int32), np.zeros((2, 3)))
    with pytest.raises(InputError, match="at least one sequence"):
        PackedSequences(np.zeros((0, 3), np.int32), np.zeros((0, 3), bool))

    class NoEnd:
        eos_token_id = None

    with pytest.raises(InputError, match="no end-of-text token"):
        end_token(NoEnd())
