"""Tiny classifiers with real architectures, tokenizers and labels, random or trained in a second."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

CIVIL = [
    "the",
    "garden",
    "was",
    "quiet",
    "and",
    "we",
    "walked",
    "home",
    "with",
    "our",
    "friend",
    "after",
    "a",
    "long",
    "day",
    "of",
    "rain",
    "and",
    "tea",
]
RUDE = ["idiot", "fool", "moron"]


def bert_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(CIVIL), *RUDE]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=48,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_tokenizer(*, pad: bool = True, special: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(CIVIL + RUDE)], trainer)
    if special:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>" if pad else None,
        model_input_names=["input_ids", "attention_mask"],
    )


def bert(labels: tuple[str, ...], problem_type: str | None, *, spread: float = 0.5) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(bert_tokenizer()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=spread,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem_type,
    )
    return BertForSequenceClassification(config).eval()


def roberta(labels: tuple[str, ...], problem_type: str | None) -> RobertaForSequenceClassification:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=34,
        pad_token_id=1,
        type_vocab_size=1,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem_type,
    )
    return RobertaForSequenceClassification(config).eval()


def gpt2(*, pad_token_id: int | None) -> GPT2ForSequenceClassification:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=40,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.5,
        id2label={0: "fine", 1: "toxic"},
        label2id={"fine": 0, "toxic": 1},
        problem_type="single_label_classification",
        pad_token_id=pad_token_id,
    )
    return GPT2ForSequenceClassification(config).eval()


def trained_bert() -> BertForSequenceClassification:
    """A BERT that has learned to find a rude word among civil ones, in texts of any length up to its 46 tokens."""
    model, tokenizer = bert(("neutral", "toxic"), "single_label_classification", spread=0.1), bert_tokenizer()
    generator = torch.Generator().manual_seed(0)

    def draw(words: list[str], count: int) -> list[str]:
        return [words[index] for index in torch.randint(len(words), (count,), generator=generator).tolist()]

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for dropout in (module for module in model.modules() if isinstance(module, torch.nn.Dropout)):
        dropout.p = 0.0
    for _ in range(80):
        labels = torch.randint(2, (32,), generator=generator)
        texts = []
        for label in labels.tolist():
            words = draw(CIVIL, int(torch.randint(2, 45, (), generator=generator)))
            if label:
                words[int(torch.randint(len(words), (), generator=generator))] = draw(RUDE, 1)[0]
            texts.append(" ".join(words))
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
