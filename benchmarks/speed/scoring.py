"""A classifier's scores of texts of mixed lengths against a plain transformers pipeline: same batch size, same truncation, same scores.

    python benchmarks/speed/scoring.py            # about 10 minutes on 2 cores
    python benchmarks/speed/scoring.py --quick    # seconds; writes no record

Half of the texts have the lengths of ParaDetox's sentences, half of Wikipedia comments (jigsaw_wiki_balanced), shuffled: what a panel
is asked where completions and comments are scored together. The pipeline pads each batch to its longest text in the order given;
`ClassifierScorer` sorts by length first. Texts are cut to the model's length beforehand, so that both read the same tokens: of a
longer text the scorer would read windows to its end and the pipeline the beginning alone. The model has random weights, and a time does
not depend on them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import PAIRS, interleaved, write_record

# Words a text: the quantiles .025, .075, ..., .975 of the two sets.
PARADETOX = (4, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 11, 11, 12, 13, 14, 15, 16, 17, 19)
WIKIPEDIA = (4, 5, 7, 9, 11, 14, 16, 19, 22, 26, 29, 34, 39, 45, 52, 62, 75, 96, 140, 285)
TOKENS_A_WORD = 1.3
MAX_LENGTH, BATCH = 512, 32
VOCABULARY = 8000
# layers, hidden size, heads, texts
SIZES = {"tiny": (2, 32, 2, 40), "small": (6, 256, 4, 256)}
TARGET = 1.5


def build(size: str) -> tuple[Any, Any]:
    """A BERT classifier with random weights, and a tokenizer of made-up words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    layers, hidden, heads, _ = SIZES[size]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(VOCABULARY - 4))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=MAX_LENGTH, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * hidden, max_position_embeddings=MAX_LENGTH, initializer_range=0.1,
        id2label={0: "neutral", 1: "toxic"}, label2id={"neutral": 0, "toxic": 1}, problem_type="single_label_classification",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
    return model, tokenizer


def texts_of(count: int) -> list[str]:
    """Made-up words, as many as the two sets have, shuffled."""
    rng = random.Random(0)
    lengths = [rng.choice(PARADETOX if index % 2 else WIKIPEDIA) for index in range(count)]
    rng.shuffle(lengths)
    tokens = [min(round(TOKENS_A_WORD * words), MAX_LENGTH - 2) for words in lengths]
    return [" ".join(f"w{rng.randrange(VOCABULARY - 4)}" for _ in range(number)) for number in tokens]


def compare(size: str, *, pairs: int) -> dict[str, Any]:
    from transformers import pipeline

    from detox.scorers import ClassifierScorer

    model, tokenizer = build(size)
    texts = texts_of(SIZES[size][3])
    plain = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    scorer = ClassifierScorer(model, tokenizer, name=size, toxic_labels=["toxic"], batch_size=BATCH)

    def baseline() -> list[float]:
        answers = plain(texts, batch_size=BATCH, truncation=True, max_length=MAX_LENGTH, top_k=None)
        return [next(one["score"] for one in answer if one["label"] == "toxic") for answer in answers]

    def ours() -> list[float]:
        return [score.value for score in scorer.score(texts)]

    difference = max(abs(a - b) for a, b in zip(baseline(), ours(), strict=True))
    if not difference <= 1e-5:
        raise SystemExit(f"the scores differ by {difference}: the work is not the same")
    result = interleaved(baseline, ours, pairs=pairs)
    lengths = [len(text.split()) + 2 for text in texts]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "texts": len(texts),
        "tokens": {"own": sum(lengths), "padded in the order given": _padded(lengths), "padded by length": _padded(sorted(lengths))},
        "largest_difference_of_scores": difference,
        **result,
        "target": TARGET,
        "met": result["speedup"]["low"] >= TARGET,
    }  # fmt: skip


def _padded(lengths: list[int]) -> int:
    batches = [lengths[start : start + BATCH] for start in range(0, len(lengths), BATCH)]
    return sum(len(batch) * max(batch) for batch in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    if arguments.quick:
        print(compare("tiny", pairs=2)["speedup"])
        return
    result = compare("small", pairs=arguments.pairs)
    print(result["speedup"], flush=True)
    about = {"against": "transformers pipeline('text-classification')", "batch_size": BATCH, "max_length": MAX_LENGTH}
    write_record("scoring", {**about, "sizes": {"small": result}}, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
