"""Where a model's shape comes from: sizes in a recipe, a published architecture by name, or a checkpoint to go on from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detox.errors import InputError, MissingData

if TYPE_CHECKING:
    from detox.pretraining.recipe import PretrainingRecipe

FAMILIES = ("olmo", "olmo2")
SIZES = (
    "family",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "tie_word_embeddings",
    "max_position_embeddings",
)

# Published configurations that can be had without a hub. OLMo-1B (Groeneveld et al. 2024, arXiv 2402.00838) from
# configs/official/OLMo-1B.yaml of github.com/allenai/OLMo: mlp_ratio 8 counts both halves of SwiGLU, so the width is 4 x.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "olmo-1b": {
        "model_type": "olmo",
        "vocab_size": 50304,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 8192,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        "eos_token_id": 50279,
        "pad_token_id": 1,
    }
}
# Rows that a published configuration has beyond its tokens, to make their number round; fewer than this are kept.
_PADDED_TO = 128


def published_config(name: str, revision: str | None = None) -> Any:
    """The transformers configuration of an architecture.

    Args:
        name: a name of `ARCHITECTURES`, a folder with config.json, such a file, or a model's id on the hub.
        revision: of the hub's.

    Raises:
        MissingData: nothing of that name can be read.
        InputError: what is there is no configuration of a causal language model.
    """
    from transformers import AutoConfig

    if name in ARCHITECTURES:
        values = dict(ARCHITECTURES[name])
        return AutoConfig.for_model(values.pop("model_type"), **values)
    path = Path(name)
    if path.is_file():
        path = path.parent if path.name == "config.json" else path
    try:
        return AutoConfig.from_pretrained(path if path.exists() else name, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingData(
            f"architecture {name!r} cannot be read ({reason}); expected one of {', '.join(ARCHITECTURES)}, a folder with "
            "config.json, or a model's id on the hub"
        ) from error


def scratch_config(recipe: PretrainingRecipe, tokenizer: Any = None) -> Any:
    """The configuration of the recipe's model from scratch.

    The embedding has a row for each token of the tokenizer; the up to 127 rows that a published configuration adds to
    make their number round are kept. Without a tokenizer a published configuration is as it was published.

    Raises:
        InputError: sizes in the recipe that are not the published ones, or sequences longer than the model's positions.
    """
    from transformers import AutoConfig

    if recipe.architecture is None:
        sizes = recipe.sizes()
        config = AutoConfig.for_model(sizes.pop("family"), **sizes)
    else:
        config = published_config(recipe.architecture, recipe.revision)
        require_sizes(recipe, config, f"the architecture {recipe.architecture}")
    if tokenizer is not None:
        tokens = len(tokenizer)
        padded = recipe.architecture is not None and 0 <= config.vocab_size - tokens < _PADDED_TO
        config.vocab_size = config.vocab_size if padded else tokens
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config, name, getattr(tokenizer, name))
    return config


def require_sizes(recipe: PretrainingRecipe, config: Any, where: str) -> None:
    """Refuse a recipe whose sizes are not those of a configuration it takes over, or whose sequences do not fit in it.

    Raises:
        InputError: names the first.
    """
    for name in SIZES:
        found = getattr(config, "model_type" if name == "family" else name, None)
        if getattr(recipe, name) not in (None, found):
            raise InputError(
                f"{name} is {found} in {where} and {getattr(recipe, name)} in the recipe; leave it out of the recipe"
            )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and recipe.sequence_length > positions:
        raise InputError(
            f"sequence_length is {recipe.sequence_length} and the model has {positions} positions; expected no more"
        )


def checkpoint_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint to go on from; one on the hub is fetched into its cache first.

    Args:
        name: a folder, or a model's id on the hub.
        revision: branch, tag or commit on the hub, or the start of one branch's name: `step737000` for the branch
            `step737000-tokens...`, which is named differently in different repositories.

    Raises:
        MissingData: neither a checkpoint's folder nor to be had from the hub.
        InputError: a revision of a folder, or one that names no branch or several.
    """
    folder = Path(name)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        if revision is not None:
            raise InputError(f"revision is {revision!r} and continue_from {name} is a folder; only the hub's have one")
        if not (folder / "config.json").is_file():
            raise InputError(f"continue_from: {name} has no config.json; expected a transformers checkpoint")
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "tokenizer*", "*.txt"]
    try:
        return Path(snapshot_download(name, revision=_branch(name, revision), allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingData(
            f"continue_from: {name}{f' at {revision}' if revision else ''} is no folder and cannot be had from the hub "
            f"({reason}); expected a checkpoint's folder or a model's id"
        ) from error


def _branch(name: str, revision: str | None) -> str | None:
    """A branch by the start of its name, where that names exactly one; anything else as it is."""
    from huggingface_hub import list_repo_refs
    from huggingface_hub.errors import OfflineModeIsEnabled

    if revision is None:
        return None
    try:
        refs = list_repo_refs(name)
    except (OfflineModeIsEnabled, ConnectionError):
        return revision  # what is in the cache is found by its full name
    known = [ref.name for ref in (*refs.branches, *refs.tags)]
    started = [one for one in known if one.startswith(f"{revision}-")]
    if revision in known or not started:
        return revision
    if len(started) > 1:
        raise InputError(
            f"revision {revision!r} of {name} names {len(started)} branches: {', '.join(started[:3])}, ..."
        )
    return str(started[0])


def build_model(recipe: PretrainingRecipe, tokenizer: Any) -> Any:
    """The model as training starts, in float32: random weights by the seed, or a checkpoint's. Sets no global seed.

    Args:
        recipe: architecture, sizes, seed.
        tokenizer: gives the vocabulary size and the special token ids.

    Raises:
        InputError: the checkpoint is not there, its sizes are not the recipe's, or its vocabulary is smaller.
        MissingData: an architecture or a checkpoint that cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if recipe.continue_from is not None:
        return _continued_model(recipe, tokenizer)
    config = scratch_config(recipe, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **_attention(recipe))


def parameter_counts(config: Any) -> tuple[int, int]:
    """(all parameters, those that multiply every token: without an input embedding that is not also the output).

    No memory is taken: the model is built without storage.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return model_counts(model)


def model_counts(model: Any) -> tuple[int, int]:
    """As `parameter_counts`, of a model that is there."""
    total = sum(parameter.numel() for parameter in model.parameters())
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return total, total - (0 if inputs is outputs else inputs.numel())


def config_digest(config: Any) -> str:
    """SHA-256 of what makes another model of a configuration; versions and the vocabulary's size are not in it."""
    left_out = ("transformers_version", "vocab_size", "_name_or_path", "dtype", "torch_dtype", "use_cache")
    values = {name: value for name, value in config.to_dict().items() if name not in left_out}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _attention(recipe: PretrainingRecipe) -> dict[str, str]:
    """Plain attention where it is faster: on CPUs in bf16 the fused one's backward is slow below 256 tokens.

    It is a choice of this training; checkpoints do not hold it.
    """
    import torch

    plain = recipe.precision == "bf16" and recipe.sequence_length < 256 and not torch.cuda.is_available()
    return {"attn_implementation": "eager"} if plain else {}


def _continued_model(recipe: PretrainingRecipe, tokenizer: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert recipe.continue_from is not None
    folder = checkpoint_folder(recipe.continue_from, recipe.revision)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **_attention(recipe))
    require_sizes(recipe, model.config, f"the checkpoint {recipe.continue_from}")
    has_tokenizer = (folder / "tokenizer.json").is_file()
    same = not has_tokenizer or AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer.get_vocab()
    if not same or len(tokenizer) > model.config.vocab_size:
        raise InputError(
            f"continue_from: the tokens of the data's tokenizer are not those of {recipe.continue_from}; use the "
            "tokenizer that the checkpoint was trained with"
        )
    return model
