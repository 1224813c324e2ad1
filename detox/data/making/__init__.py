"""Making contrasts: a language model says each sentence again, safely and toxically, and filters keep what is fit to learn from.

from detox.data.making import Filters, ModelWriter, load_embedder, make_contrasts, read_seeds
"""

from detox.data.making.endpoint import EndpointWriter
from detox.data.making.filters import Candidate, Filters, require_other_than
from detox.data.making.make import Made, TooFew, make_contrasts
from detox.data.making.prompts import Instructions
from detox.data.making.seeds import Seed, read_seeds
from detox.data.making.similarity import Embedder, SentenceEmbedder, load_embedder
from detox.data.making.writers import Answered, ModelWriter, Request, Text, Unanswered, Writer

__all__ = [
    "Answered",
    "Candidate",
    "Embedder",
    "EndpointWriter",
    "Filters",
    "Instructions",
    "Made",
    "ModelWriter",
    "Request",
    "Seed",
    "SentenceEmbedder",
    "Text",
    "TooFew",
    "Unanswered",
    "Writer",
    "load_embedder",
    "make_contrasts",
    "read_seeds",
    "require_other_than",
]
