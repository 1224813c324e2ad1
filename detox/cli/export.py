"""`detox export`: a saved detoxifier baked into a plain checkpoint."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "export",
        help="bake a saved detoxifier into a plain checkpoint, reloaded and compared",
        description="Write a plain transformers checkpoint that does what the base model does with the detoxifier applied: weights "
        "merged, constant shifts folded into biases, a system text in the chat template. It is loaded again and compared before it "
        "is kept; certificate.json says how far it is off.",
    )
    parser.add_argument("detoxifier", help="folder that save_pretrained wrote")
    parser.add_argument("--model", required=True, help="base model: hub id or folder")
    parser.add_argument("--output_dir", required=True, help="new or empty folder, or that of an earlier export")
    parser.add_argument("--strength", type=float, help="the dial (default: the method's own)")
    parser.add_argument("--revision", help="commit of a hub id")
    parser.add_argument("--dtype", help="float32, bfloat16, ... (default: the checkpoint's own)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="fold a shift that acts at some positions only into a bias, which acts at all; the certificate says so",
    )
    parser.add_argument("--prompts_file", help="a text a line, to compare on (default: seeded random tokens)")
    parser.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Export, say what was found."""
    from detox.detoxifiers import load
    from detox.files import require_replaceable
    from detox.models import LanguageModel
    from detox.models.export import CERTIFICATE

    require_replaceable(arguments.output_dir, CERTIFICATE)
    detoxifier = load(arguments.detoxifier)
    prompts = None if arguments.prompts_file is None else _texts(arguments.prompts_file)
    print(f"detox export {arguments.detoxifier} into {arguments.model}", flush=True)
    lm = LanguageModel.from_pretrained(
        arguments.model, revision=arguments.revision, dtype=arguments.dtype, device=arguments.device
    )
    found = detoxifier.export(
        lm,
        arguments.output_dir,
        strength=arguments.strength,
        approximate=arguments.approximate,
        prompts=prompts,
    )
    moved = "" if found.family_from == found.family_to else f", {found.family_from} written as {found.family_to}"
    print(f"{found.directory}: {found.semantics}, {found.dtype}{moved}")
    print(
        f"  logits differ by up to {found.max_logit_difference:.3g} (allowed {found.bound:.3g}); {found.greedy_agreement:.2%} of greedy "
        f"tokens are equal, over {found.prompts} prompts"
    )
    for runtime, state in found.runtimes.items():
        if runtime != "slot":
            text = state if isinstance(state, str) else ": ".join(part for part in state if part)
            print(f"  a bias there in {runtime}: {text}")
    for warning in found.warnings:
        print(f"  warning: {warning}")
    print(f"certificate.json holds the rest; `detox verify {found.directory}` repeats it")
    return 0


def _texts(path: str) -> list[str]:
    from pathlib import Path

    from detox.errors import InputError, MissingData

    if not Path(path).is_file():
        raise MissingData(f"--prompts_file: no file {path}; expected a text a line")
    try:
        texts = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"--prompts_file: {path} is not UTF-8 ({error.reason} at byte {error.start})") from error
    if not texts:
        raise InputError(f"--prompts_file: {path} is empty; expected a text a line")
    return texts
