"""Any transformers text classifier as a scorer: which labels are toxic, which activation, and all of a long text."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detox.errors import InputError, MissingData, UnsupportedModel, require_known
from detox.scorers.classifier_config import activation_of, label_names, max_length_of, require_preset, toxic_indices
from detox.scorers.presets import PRESETS, Activation, Preset
from detox.scorers.protocol import EMPTY, Score, ScorerCard, is_empty, readable, require_texts

_BROKEN = "the classifier returned NaN"
_TEXTS_AT_ONCE = 2048  # tokenised together and sorted by length: memory does not grow with the number of texts


class ClassifierScorer:
    """A sequence classifier's probability of its toxic labels, as the maximum over overlapping windows of tokens.

    The numbers do not depend on what else is in the batch: texts are sorted by length and padded under a mask, and a
    model without a pad token gets its texts one by one.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        toxic_labels: Sequence[str | int] | None = None,
        activation: Activation | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        trained_on: Sequence[str] = (),
    ) -> None:
        """Wrap a loaded model. `from_pretrained` loads one.

        Args:
            model: transformers' model for sequence classification; put into evaluation mode, otherwise unchanged.
            tokenizer: its fast tokenizer; unchanged.
            name: as used in tables.
            toxic_labels: names or indices of the labels that count; the highest of them is the score. None takes the
                one label called "toxic" or "toxicity", and refuses a model without it.
            activation: "sigmoid" or "softmax"; None follows the configuration's problem_type.
            max_length: tokens read at once, special tokens included; None for as many as the model takes.
            batch_size: windows in a batch.
            revision: commit of the checkpoint; None for the digest of its weights.
            trained_on: names of the data whose labels it learned from.

        Raises:
            InputError: labels that the model does not have or that need to be named, an activation that cannot be
                known or contradicts the configuration, a `max_length` out of range.
            UnsupportedModel: a tokenizer without the fast backend.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise UnsupportedModel(f"scorer {name!r}: its tokenizer is not a fast one, which windows need")
        if batch_size < 1:
            raise InputError(f"scorer {name!r}: batch_size {batch_size}; expected 1 or more")
        self.model, self.tokenizer = model.eval(), tokenizer
        labels = label_names(model.config)
        self._toxic = toxic_indices(name, labels, toxic_labels)
        self._activation = activation_of(name, model.config, activation)
        self._length = max_length_of(name, model.config, tokenizer, max_length)
        self._pad = model.config.get_text_config().pad_token_id
        self._batch_size = batch_size if self._pad is not None else 1
        self._inputs = [
            key for key in tokenizer.model_input_names if key in inspect.signature(model.forward).parameters
        ]
        digest = weights_sha256(model)
        self.card = ScorerCard(
            name=name,
            revision=revision or f"sha256:{digest[:16]}",
            trained_on=tuple(trained_on),
            max_length=self._length,
            beyond=f"maximum over windows of {self._length} tokens, each half over the one before",
            sha256=digest,
            settings={
                "toxic_labels": [labels[index] for index in self._toxic],
                "activation": self._activation,
                "aggregate": "max",
            },
        )

    @staticmethod
    def from_pretrained(
        id_or_path: str | Path,
        *,
        preset: Preset | None = None,
        name: str | None = None,
        toxic_labels: Sequence[str | int] | None = None,
        activation: Activation | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        trained_on: Sequence[str] = (),
        device: str | torch.device | None = None,
    ) -> ClassifierScorer:
        """Load a classifier from the hub or a folder. Code from the checkpoint is never run.

        Args:
            id_or_path: hub id, or a folder in the transformers layout.
            preset: gives labels, activation and training data, and the commit where `id_or_path` is the preset's own
                id; the checkpoint's labels must be the preset's. Without it only safetensors are loaded.
            name: as used in tables; None for the last part of `id_or_path`.
            toxic_labels: see `ClassifierScorer`.
            activation: see `ClassifierScorer`.
            max_length: see `ClassifierScorer`.
            batch_size: see `ClassifierScorer`.
            revision: branch, tag or commit of a hub id.
            trained_on: names of the data whose labels it learned from.
            device: "cpu", "cuda", ...; None takes a GPU if there is one.

        Raises:
            MissingData: no such folder, or the hub cannot be reached or has no such repository.
            InputError: what is there is no loadable classifier, or not the preset's; see also `ClassifierScorer`.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        where = str(id_or_path)
        local = Path(where).expanduser().is_dir()
        if not local and (where.startswith((".", "/", "~")) or where.count("/") > 1):
            raise MissingData(f"no classifier at {where}; expected a folder with config.json and weights, or a hub id")
        where = str(Path(where).expanduser()) if local else where
        if preset is not None and not local:
            revision = revision or (preset.revision if where == preset.model_id else None)
        try:
            # Some presets' commits hold no safetensors; transformers reads their weights with weights_only.
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                where,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=None if preset else True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            if local:
                raise InputError(f"cannot load a classifier from {where}: {first}") from error
            raise MissingData(
                f"cannot get the classifier {where} from the hub: {first}; without a network, fetch it elsewhere "
                f"(hf download {where}{f' --revision {revision}' if revision else ''}) and give the folder's path"
            ) from error
        if loading["missing_keys"]:
            # transformers makes up the weights that it does not find: a classifier's head would be noise.
            raise InputError(
                f"{where} is no classifier: its checkpoint lacks {', '.join(sorted(loading['missing_keys']))}"
            )
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if preset is not None:
            require_preset(where, model.config, preset)
        commit = getattr(model.config, "_commit_hash", None)
        return ClassifierScorer(
            model,
            tokenizer,
            name=name or Path(where).name,
            toxic_labels=toxic_labels or (preset.toxic_labels if preset else None),
            activation=activation or (preset.activation if preset else None),
            max_length=max_length,
            batch_size=batch_size,
            revision=None if local else commit or revision,
            trained_on=tuple(trained_on) or (preset.trained_on if preset else ()),
        )

    @staticmethod
    def from_preset(
        preset: str,
        *,
        path: str | Path | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        device: str | torch.device | None = None,
    ) -> ClassifierScorer:
        """Load one of `PRESETS`, from the hub at its pinned commit, or a copy of it in the folder `path`.

        Args:
            preset: its name.
            path: folder with a copy of the checkpoint.
            max_length: see `ClassifierScorer`.
            batch_size: see `ClassifierScorer`.
            device: see `from_pretrained`.

        Raises:
            UnknownName: no such preset.
            MissingData: see `from_pretrained`.
            InputError: the checkpoint has other labels or another problem type than the preset.
        """
        require_known("scorer preset", preset, PRESETS)
        chosen = PRESETS[preset]
        return ClassifierScorer.from_pretrained(
            path or chosen.model_id,
            preset=chosen,
            name=preset,
            max_length=max_length,
            batch_size=batch_size,
            device=device,
        )

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text; see `Scorer`."""
        require_texts(texts, f"scorer {self.card.name!r}")
        scores = [Score.missing(EMPTY if is_empty(text) else "no token") for text in texts]
        visible = ((owner, readable(text)) for owner, text in enumerate(texts) if not is_empty(text))
        while chunk := list(islice(visible, _TEXTS_AT_ONCE)):
            for owner, value in self._window_values(chunk):
                before = scores[owner]
                if math.isnan(value) or before.reason == _BROKEN:
                    scores[owner] = Score.missing(_BROKEN)
                elif before.is_missing or value > before.value:
                    scores[owner] = Score(value)
        return scores

    def _window_values(self, chunk: list[tuple[int, str]]) -> Iterator[tuple[int, float]]:
        special = self.tokenizer.num_special_tokens_to_add()
        encoded = self.tokenizer(
            [text for _, text in chunk],
            truncation=True,
            max_length=self._length,
            stride=(self._length - special) // 2,
            return_overflowing_tokens=True,
        )
        owners = [chunk[sample][0] for sample in encoded["overflow_to_sample_mapping"]]
        lengths = [len(ids) for ids in encoded["input_ids"]]
        by_length = sorted((window for window, n in enumerate(lengths) if n > special), key=lengths.__getitem__)
        for start in range(0, len(by_length), self._batch_size):
            windows = by_length[start : start + self._batch_size]
            logits = self._logits({key: [encoded[key][window] for window in windows] for key in self._inputs})
            values = self._probabilities(logits)[:, self._toxic].amax(dim=1).tolist()
            yield from ((owners[window], value) for window, value in zip(windows, values, strict=True))

    def _logits(self, rows: dict[str, list[list[int]]]) -> Tensor:
        longest = max(map(len, rows["input_ids"]))
        fill = {"input_ids": self._pad or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        batch = {
            key: torch.tensor([row + [fill.get(key, 0)] * (longest - len(row)) for row in values])
            for key, values in rows.items()
        }
        with torch.inference_mode():
            output: Tensor = self.model(**{key: value.to(self.model.device) for key, value in batch.items()}).logits
        return output.float().cpu()

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self._activation == "sigmoid" else logits.softmax(dim=-1)


def weights_sha256(model: torch.nn.Module) -> str:
    """Digest of all weights and buffers that a checkpoint of `model` holds: names, types, shapes, bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
