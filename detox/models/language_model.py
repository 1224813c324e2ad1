"""LanguageModel: what is measured. A light handle on transformers' own objects, and the truth about what is installed on them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detox.errors import InputError, MissingData, StaleHandle, require_known
from detox.models.architectures import use_attention_output
from detox.models.edits import Edit, LogitsEdit, Receipt, installed, state_of, uninstalled
from detox.models.generation import Completion, generate
from detox.models.likelihood import token_logprobs
from detox.models.raw_calls import announced_calls
from detox.models.running import reuses_cache
from detox.models.sampling import Sampling
from detox.models.tokenization import PromptLike

# Configuration entries that change with where and by what a checkpoint was saved, not with what the model computes.
QUANTIZATIONS = ("nf4", "int8")
_VOLATILE_CONFIG = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures"}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model as it stands now: weights, tokenizer, text before the prompt, edits.

    A detoxifier's `applied` yields a new handle on the same model. A handle is true only while exactly its edits are installed;
    anything else that is asked of it raises StaleHandle, so the base model can never be measured in a detoxifier's name, nor
    the other way round.

    Attributes:
        model: transformers' causal-LM module.
        tokenizer: transformers' tokenizer; never changed by us.
        system: system turn put before every conversation, through the chat template.
        prefix: text put before every plain-text prompt and before every scored text.
        edits: names of the edits that must be installed for this handle to be true.
        logits_edits: changes of next-token logits, in the order in which they act.
    """

    model: Any
    tokenizer: Any
    system: str | None = None
    prefix: str = ""
    edits: tuple[str, ...] = ()
    logits_edits: tuple[LogitsEdit, ...] = ()
    _root: LanguageModel | None = field(default=None, repr=False)

    @staticmethod
    def from_pretrained(
        id_or_path: str | Path,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        quantization: str | None = None,
        attention_output: str | None = None,
    ) -> LanguageModel:
        """Load a causal language model and its tokenizer, from the hub or a local folder.

        Args:
            id_or_path: hub id, or a folder in the transformers layout.
            revision: branch, tag or commit of a hub id.
            dtype: "float32", "bfloat16", ...; None keeps the checkpoint's own.
            device: "cpu", "cuda", ...; None takes a GPU if there is one.
            quantization: "nf4" or "int8" quantizes the weights while loading, by bitsandbytes (the extra `qlora`); adapters train
                on such a model as on any other, and no adapter is exported from it.
            attention_output: where each layer keeps the projection from its attention heads, `{}` for the layer; None knows or
                finds it. See `detox.models.architectures.use_attention_output`.

        Raises:
            UnknownName: another quantization.
            MissingData: no such folder, and no hub repository of that name.
            InputError: a folder or a name that holds no causal language model, or not all of its weights; an unknown dtype.
            UnsupportedModel: `attention_output` names no such projection in every layer.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise InputError(f"unknown dtype {dtype!r}; expected one such as float32, bfloat16, float16")
        settings = {} if quantization is None else {"quantization_config": _quantization(quantization)}
        try:
            device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise InputError(f"unknown device {device!r}; expected one such as cpu, cuda, cuda:1") from error
        where = str(id_or_path)
        if (where.startswith((".", "/", "~")) or where.count("/") > 1) and not Path(where).expanduser().is_dir():
            raise MissingData(
                f"no model folder at {where}; expected a folder with config.json and weights, or a hub id"
            )
        where = str(Path(where).expanduser()) if Path(where).expanduser().is_dir() else where
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                where, revision=revision, dtype=dtype or "auto", output_loading_info=True, **settings
            )
            tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"cannot load a causal language model from {where}: {first}") from error
        _require_all_weights(model, set(info["missing_keys"]), where)
        model.to(device)
        model.eval()
        if attention_output is not None:
            use_attention_output(model, attention_output)
        return LanguageModel(model, tokenizer)

    def generate(self, prompts: Sequence[PromptLike], sampling: Sampling | None = None) -> list[list[Completion]]:
        """Continue each prompt; see `detox.models.generate`."""
        return generate(self, prompts, sampling)

    def logprobs(self, contexts: Sequence[PromptLike], continuations: Sequence[str | Sequence[int]]) -> list[Tensor]:
        """Log-probability of each continuation's tokens, in nats; see `detox.models.token_logprobs`."""
        return token_logprobs(self, contexts, continuations)

    def require_current(self) -> None:
        """Prove that exactly this handle's edits are installed.

        Raises:
            StaleHandle: naming what the handle stands for and what is installed.
        """
        now = tuple(edit.name for edit in state_of(self.model).edits)
        if now != self.edits:
            mine, theirs = " + ".join(self.edits) or "the bare model", " + ".join(now) or "the bare model"
            advice = "use the handle that `with ...applied(lm) as handle` gave" if now else "its `with` block has ended"
            raise StaleHandle(f"this handle stands for {mine}, but installed is {theirs}; {advice}")

    @contextmanager
    def edited(
        self, edit: Edit, *, system: str | None = None, prefix: str = "", logits_edit: LogitsEdit | None = None
    ) -> Iterator[LanguageModel]:
        """Install an edit, on top of those that are there, for the length of a block.

        Args:
            edit: what is installed.
            system: text put in front of the system turn, or None.
            prefix: text put in front of the prefix.
            logits_edit: a change of next-token logits, after those that are there.

        Yields:
            The handle that is true within the block.
        """
        self.require_current()
        reuses_cache(
            self.model
        )  # asked now, so that the probing forward pass is the bare model's and no edit counts it
        joined = "\n\n".join(text for text in (system, self.system) if text) or self.system
        with installed(self.model, edit):
            yield replace(
                self,
                system=joined,
                prefix=prefix + self.prefix,
                edits=(*self.edits, edit.name),
                logits_edits=self.logits_edits if logits_edit is None else (*self.logits_edits, logits_edit),
                _root=self._root or self,
            )

    @contextmanager
    def suspended(self) -> Iterator[LanguageModel]:
        """The model without its edits (for KL to the base, say), for the length of a block; they come back as they were."""
        self.require_current()
        with uninstalled(self.model):
            yield self._root or self

    @contextmanager
    def announced(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Iterator[None]:
        """Calls of `model` or `model.generate` in this block know which tokens are padding, prompt and generated.

        For beams, static caches and whatever `generate` of this handle does not offer. One batch of prompts a block.

        Args:
            input_ids: (batch, length), the prompts that the model will be called with.
            attention_mask: (batch, length), 0 for padding on either side; None for none.
        """
        self.require_current()
        with announced_calls(self.model, input_ids, attention_mask):
            yield

    def receipts(self) -> list[Receipt]:
        """What this handle's edits did since they were installed."""
        self.require_current()
        return [edit.receipt for edit in state_of(self.model).edits]

    def incidents(self) -> list[str]:
        """What went on with this model that a record should mention: batches halved for lack of memory."""
        return list(state_of(self.model).incidents)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Identity of what this handle computes: `weights:edits:text`, hexadecimal; "-" for a part that is empty.

        The first part covers the architecture's configuration and all weights, the second the active edits that change the
        computation, the third system turn and prefix. A saved and reloaded checkpoint has the same first part.

        Args:
            rehash: hash every weight again; otherwise a tensor keeps its hash while its version counter and some 64 of its
                elements are the same, so that a write through `.data` to few elements is not seen.
        """
        self.require_current()
        digests = [edit.digest for edit in state_of(self.model).edits if edit.digest]
        edits = hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16] if digests else "-"
        text = json.dumps([self.system, self.prefix])
        texts = hashlib.sha256(text.encode()).hexdigest()[:16] if self.system or self.prefix else "-"
        return f"{weights_fingerprint(self.model, rehash=rehash)}:{edits}:{texts}"


def _quantization(name: str) -> Any:
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    require_known("quantization", name, QUANTIZATIONS)
    if find_spec("bitsandbytes") is None:
        raise InputError(
            f"quantization={name!r} needs bitsandbytes, which is not installed; pip install 'detox-lm[qlora]'"
        )
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _require_all_weights(model: Any, missing: set[str], where: str) -> None:
    """Raise InputError where a parameter is new and random; of tied weights one name in the checkpoint is enough."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    absent = [known[0] for known in names.values() if missing.issuperset(known)]
    if absent:
        raise InputError(
            f"{where} lacks {len(absent)} weights of {type(model).__name__} (first: {absent[0]}), which would be random; "
            "expected the checkpoint of a causal language model"
        )


def weights_fingerprint(model: Any, *, rehash: bool = False) -> str:
    """Hash of configuration, parameters and persistent buffers (32 hexadecimal digits)."""
    cache = state_of(model).tensor_hashes
    if rehash:
        cache.clear()
    config = {k: v for k, v in model.config.to_dict().items() if k not in _VOLATILE_CONFIG}
    total = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    present = dict(model.state_dict(keep_vars=True))
    for _, beneath in reversed(state_of(model).views):
        present = beneath(present)
    for name, tensor in sorted(present.items()):
        if id(tensor) not in seen:  # tied weights are one tensor under two names
            seen.add(id(tensor))
            tensors[name] = tensor
    probes = _probes(tensors)
    for name, tensor in tensors.items():
        # Fused optimizers and writes through `.data` leave the version counter alone; the probe sees what changes a tensor
        # throughout. A `.data` write to a few elements stays unseen: `rehash` sees it, and the runner rehashes between cells.
        key = (tensor.data_ptr(), tensor._version, probes[name])
        kept = cache.get(name)
        if kept is None or kept[0] != key:
            raw: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
            digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(raw)
            kept = cache[name] = (key, digest.hexdigest())
        total.update(f"{name}={kept[1]}\n".encode())
    return total.hexdigest()[:32]


def _probes(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    """Bytes of some 64 elements of each tensor, spread over it; one transfer a device."""
    by_device: dict[torch.device, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // 64) | 1  # odd: an even step would stay in few columns of a matrix
        by_device[tensor.device][name] = flat[::step].contiguous().view(torch.uint8)
    probes = {}
    for parts in by_device.values():
        raw, at = torch.cat(list(parts.values())).cpu().numpy().tobytes(), 0
        for name, part in parts.items():
            probes[name] = raw[at : at + part.numel()]
            at += part.numel()
    return probes
