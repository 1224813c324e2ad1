"""What goes in: record types, contrasts, and a catalogue of named data sets (local files or the Hugging Face hub).

from detox.data import load, read_contrasts, preference_dataset

contrasts = load("paradetox", split="train", limit=2000)
contrasts = read_contrasts("mine.jsonl")
dataset = preference_dataset(contrasts)          # prompt, chosen, rejected: what trl.DPOTrainer takes
"""

from detox.data.catalogue import data_directory, describe, entry, load, load_as, names
from detox.data.contrasts import Contrast, digest, labelled_texts, read_contrasts, write_contrasts
from detox.data.corpora import CorpusSize, clean_corpus, corpus_sizes, toxic_corpus
from detox.data.data_set import KINDS, DataSet, HubSource, LocalFile, OwnSplit
from detox.data.jsonl import read_jsonl, write_jsonl
from detox.data.projections import (
    contrasts_from_kto,
    contrasts_from_preferences,
    group_dataset,
    kto_dataset,
    preference_dataset,
    sft_dataset,
)
from detox.data.records import (
    BiasQuestion,
    Cloze,
    Document,
    LabelledText,
    LexiconTerm,
    MinimalPair,
    MultipleChoice,
    Prompt,
    Span,
    middle_kind,
    span_from_json,
    span_to_json,
)
from detox.data.subsets import Record, draw, normalised, split_of, split_records, without_texts_of

__all__ = [
    "KINDS",
    "BiasQuestion",
    "Cloze",
    "Contrast",
    "CorpusSize",
    "DataSet",
    "Document",
    "HubSource",
    "LabelledText",
    "LexiconTerm",
    "LocalFile",
    "MinimalPair",
    "MultipleChoice",
    "OwnSplit",
    "Prompt",
    "Record",
    "Span",
    "clean_corpus",
    "contrasts_from_kto",
    "contrasts_from_preferences",
    "corpus_sizes",
    "data_directory",
    "describe",
    "digest",
    "draw",
    "entry",
    "group_dataset",
    "kto_dataset",
    "labelled_texts",
    "load",
    "load_as",
    "middle_kind",
    "names",
    "normalised",
    "preference_dataset",
    "read_contrasts",
    "read_jsonl",
    "sft_dataset",
    "span_from_json",
    "span_to_json",
    "split_of",
    "split_records",
    "toxic_corpus",
    "without_texts_of",
    "write_contrasts",
    "write_jsonl",
]
