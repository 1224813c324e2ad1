"""LoRA adapters on a model: put on, scaled, taken off without a trace. PEFT lives here and where adapters are trained.

While an adapter is on, PEFT's own layers stand where the linear layers stood, each with the original inside. What hung on a layer
(the shift of a head, a counter) stays with the place and not with the module, so that edits nest in any order and unwind.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from detox.errors import InputError
from detox.models.edits import Edit, state_of
from detox.models.language_model import LanguageModel

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
# What an adapter may be: nothing but low-rank pairs beside weights that stay. Other settings train or rewrite those, too.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "bias": ("none",), "modules_to_save": (None,), "trainable_token_indices": (None,), "lora_bias": (False,),
    "init_lora_weights": (True, False, "gaussian"),
}  # fmt: skip
_PREFIX = "base_model.model."  # what PEFT's files put before the names of a model's own modules


def lora_config(model: nn.Module, settings: Mapping[str, Any]) -> Any:
    """PEFT's LoraConfig of these fields, for a causal language model.

    Raises:
        InputError: a field that LoraConfig does not have, or target modules that the model does not have.
    """
    from peft import LoraConfig

    for name, allowed in _ALLOWED.items():
        if name in settings and settings[name] not in allowed:
            expected = " or ".join(map(repr, allowed))
            raise InputError(
                f"LoRA setting {name}={settings[name]!r} would change weights of the base model; expected {expected}"
            )
    try:
        config = LoraConfig(task_type="CAUSAL_LM", **settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"LoRA settings {dict(settings)}: {error}") from error
    _require_targets(model, config)
    if config.target_modules == "all-linear" and any(parameter.ndim > 2 for parameter in model.parameters()):
        # Where a tensor holds all experts of a layer, PEFT adapts that, and renames the linear layers of its namesakes.
        linear = {name for name, one in model.named_modules() if isinstance(one, nn.Linear | Conv1D)}
        config.target_modules = {name for name in linear if "attn" in name or "attention" in name}
    return config


def _require_targets(model: nn.Module, config: Any) -> None:
    if config.target_modules is None or isinstance(config.target_modules, str):
        return  # PEFT's own choice, "all-linear", or a pattern of the user's, which PEFT reports
    names = {name.rpartition(".")[2]: name for name, _ in model.named_modules() if name}
    whole = {name for name, _ in model.named_modules()}
    for target in config.target_modules:
        if target not in whole and not any(name == target or name.endswith(f".{target}") for name in whole):
            linear = sorted({short for short, name in names.items() if hasattr(model.get_submodule(name), "weight")})
            raise InputError(
                f"LoRA target module {target!r} is not in {type(model).__name__}; expected some of {', '.join(linear)}, or "
                "'all-linear'"
            )


def adapter_edit(
    lm: LanguageModel, name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, strength: float
) -> Edit:
    """An edit that adds `strength` times a trained LoRA adapter to the layers it was trained on.

    Args:
        lm: on whose model it will be installed.
        name: what to call it.
        config: the adapter's LoraConfig, as in PEFT's adapter_config.json.
        tensors: its weights, under the names of PEFT's adapter_model.safetensors.
        strength: factor of the adapter's own scale; not 0 (an adapter that is off is no edit).

    Raises:
        InputError: the adapter has modules that the model does not have, or of other sizes.
    """
    modules = dict(lm.model.named_modules())
    named = dict.fromkeys(
        key.removeprefix(_PREFIX).partition(".lora_")[0] for key in sorted(tensors) if ".lora_A." in key
    )
    # Tokens are counted at the first site. OPT and experts run their MLP on rows of tokens, of which no text can be told.
    sites = tuple(sorted(named, key=lambda site: "attn" not in site and "attention" not in site))
    missing = next((site for site in sites if site not in modules), None)
    if missing is not None or not sites:
        raise InputError(
            f"{name}: its adapter is for {missing or 'no module'}, which {type(lm.model).__name__} does not have; apply it to the "
            "family it was trained on"
        )
    other = next((key for key in tensors if ".lora_" not in key), None)
    if other is not None:
        raise InputError(f"{name}: {other} is no low-rank pair; expected an adapter of LoRA alone")
    if config.get("use_dora") and any(_is_tuned(modules[site]) for site in sites):
        raise InputError(
            f"{name}: a DoRA adapter scales whole weights and cannot stand on another adapter; export the first, and fit on that"
        )
    digest = hashlib.sha256(json.dumps([dict(config), strength], sort_keys=True, default=str).encode())
    for key in sorted(tensors):
        raw: Any = tensors[key].detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{key}{tuple(tensors[key].shape)}".encode() + raw.tobytes())
    install = partial(_install_adapter, config=dict(config), tensors=dict(tensors), strength=strength)
    return Edit(name, f"adapter {digest.hexdigest()}", install, sites=sites)


_INJECTED = {"init_lora_weights": True}  # whatever the training began with: the weights are loaded right after


def _is_tuned(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(module, LoraLayer)


def has_adapters(model: nn.Module) -> bool:
    """Whether adapters stand on the model."""
    return any(_is_tuned(module) for module in model.modules())


@contextmanager
def _install_adapter(
    edit: Edit, model: Any, *, config: dict[str, Any], tensors: dict[str, Tensor], strength: float
) -> Iterator[None]:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import cast_adapter_dtype

    adapter = edit.name.replace(".", "_").replace("#", "_")  # PEFT makes a module of this name
    with ExitStack() as stack:
        stack.callback(_restore_attributes, model, dict(vars(model)), {p: p.requires_grad for p in model.parameters()})
        outer = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
        active = {name: list(model.get_submodule(name).active_adapters) for name in outer}
        before = {site: model.get_submodule(site) for site in edit.sites}
        stack.callback(_take_off, model, adapter, before, active)
        vars(model).pop("peft_config", None)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=_gpus(model)):
            warnings.simplefilter("ignore")  # what PEFT says of its defaults was said when the adapter was trained
            made = LoraConfig(**{**config, "target_modules": list(edit.sites), "inference_mode": True, **_INJECTED})
            inject_adapter_in_model(made, model, adapter)
            cast_adapter_dtype(model, adapter)  # float32 beside weights in half precision, as in training
            own = {key.removeprefix(_PREFIX): value for key, value in tensors.items()}
            loaded = set_peft_model_state_dict(model, own, adapter)
        if loaded.unexpected_keys:
            raise InputError(f"{edit.name}: the model has no place for {loaded.unexpected_keys[0]}")
        for name in {*edit.sites, *outer}:
            layer = model.get_submodule(name)
            if name in before:
                if layer is not before[name]:
                    _move_hooks(before[name], layer)
                    layer.train(before[name].training)
                layer.scaling[adapter] *= strength
            names = [*active.get(name, []), *([adapter] if name in before else [])]
            layer.set_adapter(names, inference_mode=True)
        views = state_of(model).views
        views.append((edit, partial(_without, sites=dict(before))))
        stack.callback(views.remove, views[-1])
        for site in edit.sites:
            handle = model.get_submodule(site).register_forward_hook(_counter(edit, model, site))
            stack.callback(handle.remove)
        yield


def _counter(edit: Edit, model: nn.Module, site: str) -> Callable[..., None]:
    def count(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        rows, length = args[0].shape[:2] if args[0].ndim == 3 else (1, 0)  # some families run a layer on rows of tokens
        edit.passed(model, site, rows, length)

    return count


def _take_off(model: Any, adapter: str, before: dict[str, nn.Module], active: dict[str, list[str]]) -> None:
    """Put the layers of before back where they stood; from those that held an adapter already, take this one alone."""
    for site, module in before.items():
        layer = model.get_submodule(site)
        tuned: Any = module
        if layer is not module:
            _move_hooks(layer, module)
            parent, _, leaf = site.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module)
        elif adapter in getattr(module, "scaling", {}):
            tuned.delete_adapter(adapter)
    for name, names in active.items():
        outer: Any = model.get_submodule(name)
        outer.set_adapter(names, inference_mode=True)


def _move_hooks(source: nn.Module, target: nn.Module) -> None:
    # The dictionaries themselves move: whoever holds a handle of a hook can still remove it.
    for name in _HOOKS:
        own, moved = getattr(target, name, None), getattr(source, name, None)
        setattr(target, name, moved)
        setattr(source, name, own)


def _restore_attributes(model: Any, attributes: dict[str, Any], trainable: dict[nn.Parameter, bool]) -> None:
    for name in set(vars(model)) - set(attributes):
        delattr(model, name)
    vars(model).update(attributes)
    for parameter, flag in trainable.items():
        parameter.requires_grad_(flag)


def _without(tensors: dict[str, Tensor], *, sites: dict[str, nn.Module]) -> dict[str, Tensor]:
    """A model's tensors by name, as they would be without the adapter."""
    kept = {name: tensor for name, tensor in tensors.items() if not any(name.startswith(f"{site}.") for site in sites)}
    for site, module in sites.items():
        kept.update(module.state_dict(prefix=f"{site}.", keep_vars=True))
    return kept


def _gpus(model: Any) -> list[torch.device]:
    return [torch.device(model.device)] if torch.device(model.device).type == "cuda" else []


def with_adapter(model: Any, peft_config: Any, *, seed: int) -> Any:
    """`model` with a new adapter, for trainers that do not put it on themselves; its start depends on the seed alone."""
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(seed)  # the caller preserves the random states; TRL's trainers do the same
    return get_peft_model(model, peft_config)


def adapter_tensors(trained: Any) -> dict[str, Tensor]:
    """The weights of a trained PeftModel's adapter, as its adapter_model.safetensors has them: float32, on the CPU."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(trained, save_embedding_layers=False)
    return {key: value.detach().cpu().float().contiguous().clone() for key, value in sorted(found.items())}


def adapter_config(trained: Any) -> dict[str, Any]:
    """PEFT's configuration as its own adapter_config.json has it."""
    values = trained.peft_config["default"].to_dict()
    values.update(inference_mode=True, base_model_name_or_path=None)
    plain = {key: _plain(value) for key, value in values.items()}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value


def merge_adapters(model: Any) -> None:
    """Put the adapters of a model into weights of its own, and plain layers where PEFT's stood; tensors that it shares stay as they are."""
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]:
            base = layer.get_base_layer()
            base.weight = nn.Parameter(base.weight.detach().clone())
            layer.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, base)
    vars(model).pop("peft_config", None)
