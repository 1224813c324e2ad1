"""`detox export` and `detox verify`: what was certified is found again; what was changed since is one line and exit code 1."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from detox import load
from detox.cli import main
from detox.detoxifiers import ITI, Prompting
from detox.models import LanguageModel
from detox.models.comparing import file_hashes

O_PROJ = "model.layers.1.self_attn.o_proj.bias"


@pytest.fixture(scope="module")
def made(planted, tmp_path_factory):
    """A base on disk, ITI fitted on it, and its export by the command."""
    folder = tmp_path_factory.mktemp("export")
    planted.lm.model.save_pretrained(folder / "base")
    planted.lm.tokenizer.save_pretrained(folder / "base")
    lm = LanguageModel.from_pretrained(folder / "base", device="cpu")
    ITI(num_heads=8, strength=2.0).fit(lm, planted.contrasts).save_pretrained(folder / "iti")
    assert (
        main(
            ["export", f"{folder}/iti", "--model", f"{folder}/base", "--output_dir", f"{folder}/out", "--device", "cpu"]
        )
        == 0
    )
    return folder


@pytest.fixture
def out(made, tmp_path):
    """A copy of the export, to be tampered with."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def verify(*words):
    return main(["verify", *map(str, words), "--device", "cpu"])


def failure(capsys, *words) -> str:
    """The one line that a failing verification says."""
    assert verify(*words) == 1
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line and "Loading weights" not in line
    ]  # a progress bar
    assert len(lines) == 1
    assert lines[0].startswith("FAILED: ")
    return str(lines[0])


def rewritten(out, change):
    """Change the weights and, as a forger would, the hash in the certificate."""
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    edit_certificate(out, files=file_hashes(out, without="certificate.json"))


def edit_certificate(out, **changes):
    path = out / "certificate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_fresh_export_is_verified_in_full(made, capsys):
    assert verify(made / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["verified", name] for name in ("files", "loads", "biases", "comparison")
    ]
    assert "exact" in lines[-1]
    assert "64 prompts in float32" in lines[-1]
    certificate = json.loads((made / "out" / "certificate.json").read_text())
    assert certificate["max_logit_difference"] <= 1e-5
    assert certificate["base"]["path"] == str((made / "base").resolve())
    assert load(made / "out" / "detoxifier").heads_ == load(made / "iti").heads_
    assert (made / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_the_export_is_plain_and_carries_the_method(made):
    base, again = (LanguageModel.from_pretrained(made / name, device="cpu") for name in ("base", "out"))
    with load(made / "iti").applied(base) as safe:
        prompts, answers = ["topic1 topic2 says", "topic3"], [" kind1 rude2", " rude1"]
        for here, there in zip(safe.logprobs(prompts, answers), again.logprobs(prompts, answers), strict=True):
            torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    card = (made / "out" / "README.md").read_text()
    assert "llama.cpp: keeps" in card
    assert "more toxic" in card


def test_any_changed_file_fails(out, capsys):
    (out / "README.md").write_text("another card")
    assert "README.md was changed after the export" in failure(capsys, out)


def test_a_file_that_was_added_or_taken_fails(made, out, capsys):
    (out / "adapter_config.json").write_text("{}")  # transformers would load an adapter on top
    assert "adapter_config.json was added" in failure(capsys, out)
    (out / "adapter_config.json").unlink()
    (out / ".gitattributes").write_text("")  # what hubs add, and no loader reads
    assert verify(out) == 0
    (out / "generation_config.json").unlink()
    assert "generation_config.json is missing" in failure(capsys, out)


def test_weights_and_hash_changed_alike_are_found_by_the_comparison(out, capsys):
    rewritten(out, lambda tensors: tensors["model.layers.0.mlp.down_proj.weight"].mul_(1.01))
    assert "more than rounding explains" in failure(capsys, out)


def test_a_bias_set_to_zero_or_taken_out_is_found_without_the_base(out, capsys, tmp_path):
    edit_certificate(out, base={"path": None, "revision": None, "fingerprint": "0:-:-"})
    rewritten(out, lambda tensors: tensors[O_PROJ].zero_())
    assert "o_proj has no bias, or one of zeros" in failure(capsys, out)
    rewritten(out, lambda tensors: tensors.pop(O_PROJ))
    assert f"1 missing keys (first: {O_PROJ})" in failure(capsys, out)


def test_a_configuration_that_drops_the_biases_is_found(out, capsys):
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "attention_bias": False}))
    edit_certificate(out, files=file_hashes(out, without="certificate.json"))
    assert "unexpected keys" in failure(capsys, out)


def test_a_damaged_certificate_fails(out, capsys):
    for text, said in (
        ("{", "not JSON"),
        ("{}", "format 1"),
        ('{"format": 1}', "'files' of the certificate is missing"),
    ):
        (out / "certificate.json").write_text(text)
        assert said in failure(capsys, out)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "banana"}, "'dtype' of the certificate is 'banana'"),
        ({"biases": [1]}, "'biases' of the certificate"),
        ({"prompt_ids": []}, "'prompt_ids' of the certificate"),
        ({"prompt_ids": ["a b"]}, "'prompt_ids' of the certificate"),
        ({"prompt_ids": ["1 999999"]}, "names tokens beyond the model's 32"),
    ],
    ids=str,
)
def test_a_certificate_with_odd_fields_fails(changes, said, out, capsys):
    edit_certificate(out, **changes)
    assert said in failure(capsys, out)


def test_what_cannot_be_compared_is_said(made, out, planted, capsys):
    base = json.loads((out / "certificate.json").read_text())["base"]
    edit_certificate(out, base={**base, "path": str(out / "gone")})
    assert verify(out) == 0
    assert "not verified: comparison: no model folder at" in capsys.readouterr().out
    assert verify(out, "--base", made / "base") == 0
    assert "verified: comparison: exact" in capsys.readouterr().out
    nested = base["fingerprint"].replace(":-:-", ":0123456789abcdef:-")
    edit_certificate(out, base={**base, "fingerprint": nested})
    assert verify(out, "--base", made / "base") == 0
    assert "not verified: comparison: it was exported from another method's handle" in capsys.readouterr().out
    edit_certificate(out, base=base, detoxifier=None)
    assert verify(out) == 0
    assert (
        "not verified: comparison: the detoxifier is not beside the checkpoint; give --detoxifier"
        in capsys.readouterr().out
    )
    assert verify(out, "--detoxifier", made / "iti") == 0
    assert "verified: comparison: exact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "{made}/base"], "no certificate.json in"),
        (["verify", "{made}/none"], "no certificate.json in"),
        (["verify", "{made}/out", "--base", "{made}/none"], "no model folder at"),
        (["verify", "{made}/out", "--base", "{made}/out"], "--base: "),
        (["verify", "{made}/out", "--detoxifier", "{made}/base"], "no detoxifier in"),
        (["export", "{made}/base", "--model", "{made}/base", "--output_dir", "{made}/new"], "no detoxifier in"),
        (["export", "{made}/iti", "--model", "{made}/base", "--output_dir", "{made}/base"], "holds"),
        (["export", "{made}/iti", "--model", "{made}/base", "--output_dir", "{made}/new", "--prompts_file", "no.txt"], "no.txt"),
        (["export", "{made}/iti", "--model", "{made}/base", "--output_dir", "{made}/new",
          "--prompts_file", "{made}/latin.txt"], "is not UTF-8"),
        (["export", "{made}/iti", "--model", "{made}/base", "--output_dir", "{made}/new", "--device", "banana"], "unknown device 'banana'"),
        (["export", "{made}/iti", "--model", "{made}/base", "--output_dir", "{made}/new", "--strength", "nan"], "strength is nan"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(words, said, made, capsys):
    (made / "latin.txt").write_bytes("naïve".encode("latin-1"))
    assert main([word.format(made=made) for word in words]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(err) == 1
    assert said in err[0]
    assert not (made / "new").exists()


def test_a_shift_of_the_generation_needs_to_be_asked_for(made, planted, tmp_path, capsys):
    lm = LanguageModel.from_pretrained(made / "base", device="cpu")
    ITI(num_heads=4, strength=2.0, positions="generation").fit(lm, planted.contrasts).save_pretrained(tmp_path / "iti")
    (tmp_path / "prompts.txt").write_text("topic1 says\n\ntopic2 topic3 says kind1\n")
    words = [
        "export",
        f"{tmp_path}/iti",
        "--model",
        f"{made}/base",
        "--output_dir",
        f"{tmp_path}/out",
        "--device",
        "cpu",
    ]
    words += ["--strength", "1.5", "--prompts_file", f"{tmp_path}/prompts.txt"]
    assert main(words) == 2
    assert "--approximate" in capsys.readouterr().err
    assert main([*words, "--approximate"]) == 0
    assert "approximate" in capsys.readouterr().out
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["prompts"] == 2
    assert certificate["strength"] == 1.5
    assert verify(tmp_path / "out") == 0
    assert "comparison: approximate" in capsys.readouterr().out


def test_a_chat_template_is_compared_too(made, planted, tmp_path, capsys):
    lm = LanguageModel.from_pretrained(made / "base", device="cpu")
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ' says ' + m['content'] + ' ' }}{% endfor %}"
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    chat = LanguageModel.from_pretrained(tmp_path / "base", device="cpu")
    Prompting().export(chat, tmp_path / "out")
    assert verify(tmp_path / "out") == 0
    template = tmp_path / "out" / "chat_template.jinja"
    template.write_text(template.read_text().replace("respectful", "disrespectful"))
    edit_certificate(tmp_path / "out", files=file_hashes(tmp_path / "out", without="certificate.json"))
    capsys.readouterr()
    assert "the chat template is not that of the handle" in failure(capsys, tmp_path / "out")
