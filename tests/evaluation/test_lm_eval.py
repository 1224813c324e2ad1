"""lm-eval on a live model: item by item what its own HFLM says of one without edits, and what the rulers say of an edited one."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing

from detox import ITI, Sampling, compare, evaluate
from detox.data.records import Cloze, MultipleChoice, Prompt
from detox.errors import InputError, MissingData, StaleHandle, UnknownName
from detox.evaluation import Protocol, Scorecard, lm_eval_local, lm_eval_tasks
from detox.evaluation.lm_eval_adapter import LiveModel
from detox.evaluation.lm_eval_metrics import utility_metrics
from detox.evaluation.lm_eval_tasks import LoadedTasks, data_of, load_tasks, run_tasks
from detox.models import generate, token_logprobs
from tests.evaluation.test_harness import Rudeness
from tests.models.reference import logprobs_one_by_one


def asked(kind, arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=tuple(pair), idx=number) for number, pair in enumerate(arguments)
    ]


def words(rng, count):
    return " ".join(rng.choice([f"topic{i}" for i in range(12)] + ["says", "kind1", "rude1", "rude3"], size=count))


def texts(seed, count, longest):
    rng = np.random.default_rng(seed)
    return [words(rng, rng.integers(1, longest + 1)) for _ in range(count)]


@pytest.fixture(scope="module")
def hflm(planted):
    return HFLM(pretrained=planted.lm.model, tokenizer=planted.lm.tokenizer, batch_size=8, device="cpu")


def test_likelihoods_and_greedy_flags_are_those_of_hflm(planted, hflm):
    contexts = [*texts(0, 12, 20), "", "topic1 says "] * 3  # contexts that others share
    continuations = [f" {text}" for text in texts(1, 43, 4)]
    # What the model itself would write, so that some flags are true.
    for number in range(0, 12, 2):
        [[written]] = generate(planted.lm, [contexts[number]], Sampling(max_new_tokens=2, temperature=0))
        continuations[number] = written.text if written.text.startswith(" ") else " " + written.text
    contexts.append(words(np.random.default_rng(2), 300))  # longer than the model's context: both drop its beginning
    requests = asked("loglikelihood", zip(contexts, continuations, strict=True))
    theirs, ours = hflm.loglikelihood(requests, disable_tqdm=True), LiveModel(planted.lm).loglikelihood(requests)
    np.testing.assert_allclose([value for value, _ in ours], [value for value, _ in theirs], atol=1e-4)
    assert [flag for _, flag in ours] == [flag for _, flag in theirs]
    assert 0 < sum(flag for _, flag in ours) < len(ours)


def test_rolling_likelihoods_are_those_of_hflm(planted, hflm):
    documents = [*texts(3, 6, 12), *(words(np.random.default_rng(4 + n), n) for n in (30, 31, 32, 33, 64, 100, 300))]
    requests = asked("loglikelihood_rolling", [(document,) for document in documents])
    theirs = hflm.loglikelihood_rolling(requests, disable_tqdm=True)
    np.testing.assert_allclose(LiveModel(planted.lm).loglikelihood_rolling(requests), theirs, rtol=1e-5, atol=1e-4)


def test_generations_are_those_of_hflm(planted, hflm):
    options = [
        {"until": ["rude1", "topic3"], "max_gen_toks": 12},
        {"until": ["kind1"], "max_gen_toks": 5, "do_sample": False},
    ]
    prompts = [(text, dict(options[number % 2])) for number, text in enumerate(texts(5, 14, 8))]
    requests = asked("generate_until", prompts)
    theirs = hflm.generate_until(asked("generate_until", [(t, dict(o)) for t, o in prompts]), disable_tqdm=True)
    ours = LiveModel(planted.lm, batch_size=5).generate_until(requests)
    assert [text.removeprefix(" ") for text in ours] == theirs  # a blank that decoding without the prompt loses
    assert len({len(text) for text in theirs}) > 1  # some were cut


def test_an_edit_acts_alike_alone_and_in_a_padded_batch(planted):
    method = ITI(num_heads=4, positions="generation").fit(planted.lm, planted.contrasts)
    contexts, continuations = texts(6, 8, 14), [f" {text}" for text in texts(7, 8, 5)]
    requests = asked("loglikelihood", zip(contexts, continuations, strict=True))
    base = LiveModel(planted.lm).loglikelihood(requests)
    with method.applied(planted.lm, strength=4.0) as safe:
        together = LiveModel(safe).loglikelihood(requests)
        alone = [LiveModel(safe).loglikelihood([request])[0] for request in requests]
        plain = [float(v.double().sum()) for v in token_logprobs(safe, contexts, continuations)]
        touched = safe.receipts()[0].touched
        with pytest.raises(StaleHandle):
            LiveModel(planted.lm).loglikelihood(requests)
    np.testing.assert_allclose([v for v, _ in together], [v for v, _ in alone], atol=1e-5)
    np.testing.assert_allclose([v for v, _ in together], plain, atol=1e-5)
    assert max(abs(a - b) for (a, _), (b, _) in zip(together, base, strict=True)) > 0.1
    assert touched["pad"] == 0 < touched["generated"]


def test_a_text_before_the_prompt_is_there(planted):
    lm = replace(planted.lm, prefix="topic4 says kind2 ")
    [(value, _)] = LiveModel(lm).loglikelihood(asked("loglikelihood", [("topic1 says", " rude1")]))
    ids = lm.tokenizer("topic4 says kind2 topic1 says")["input_ids"]
    assert value == pytest.approx(
        logprobs_one_by_one(lm.model, ids, lm.tokenizer(" rude1")["input_ids"]).sum(), abs=1e-5
    )


@pytest.mark.parametrize("length", [10, 62, 63, 64, 200])
def test_a_text_before_a_whole_text_is_read_and_not_scored(planted, length):
    """A task divides by the words of its own text: nats of the prefix would make every prompted model look worse."""
    lm = replace(planted.lm, prefix="topic4 says kind2 ")
    text = words(np.random.default_rng(9), length)
    [value] = LiveModel(lm).loglikelihood_rolling(asked("loglikelihood_rolling", [(text,)]))
    ids = lm.tokenizer(f"{lm.prefix}{text}")["input_ids"]
    # lm-eval's windows: each begins where the one before ends, and sees as much before it as the context holds.
    expected, first = 0.0, lm.tokenizer.eos_token_id
    assert lm.tokenizer.bos_token_id is None or first == lm.tokenizer.bos_token_id
    for start, end in [(0, min(64, len(ids))), *((s, min(s + 64, len(ids))) for s in range(64, len(ids), 64))]:
        before = [first] if start == 0 else ids[max(0, end - 65) : start]
        values = logprobs_one_by_one(lm.model, before, ids[start:end])
        expected += values[max(0, 3 - start) :].sum()
    assert value == pytest.approx(expected, abs=1e-4)


def test_a_long_context_loses_its_beginning_and_not_the_text_before_it(planted):
    lm = replace(planted.lm, prefix="topic4 says kind2 ")
    live, long = LiveModel(lm), words(np.random.default_rng(2), 300)
    [(value, _)] = live.loglikelihood(asked("loglikelihood", [(long, " rude1 says")]))
    ids = lm.tokenizer("topic4 says kind2")["input_ids"] + lm.tokenizer(" " + long)["input_ids"][-(64 + 1 - 2 - 3) :]
    continuation = lm.tokenizer(" rude1 says")["input_ids"]
    assert value == pytest.approx(logprobs_one_by_one(lm.model, ids, continuation).sum(), abs=1e-4)
    [text] = live.generate_until(asked("generate_until", [(long, {"until": [], "max_gen_toks": 20})]))
    prompt = lm.tokenizer("topic4 says kind2")["input_ids"] + lm.tokenizer(" " + long)["input_ids"][-(64 - 20 - 3) :]
    [[written]] = generate(planted.lm, [prompt], Sampling(max_new_tokens=20, temperature=0))
    assert text == written.text
    assert live.cut == 2
    with pytest.raises(InputError, match="3 of the handle's prefix, but the model's context holds 64"):
        live.generate_until(asked("generate_until", [(long, {"until": [], "max_gen_toks": 61})]))


TURNS = "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}says{% endif %}"
TEMPLATES = {
    "begins with BOS": "{{ bos_token }}" + TURNS,
    "leaves BOS to the tokenizer": TURNS,
    "ends with a blank": "{{ bos_token }}" + TURNS.replace("says", "says "),
    "refuses a system turn": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS,
    "says nothing of a system turn": TURNS.replace("{{ m['content'] }}", "{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}"),
}  # fmt: skip


@pytest.mark.parametrize("habit", ["begins texts with BOS", "begins nothing"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_what_hflm_makes_of_it_item_by_item(planted, name, habit):
    tokenizer = copy.deepcopy(planted.lm.tokenizer)
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.chat_template = TEMPLATES[name]
    if habit != "begins nothing":
        bos = tokenizer.bos_token, tokenizer.bos_token_id
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
        assert tokenizer("topic1 says")["input_ids"][0] == bos[1]
    lm = replace(planted.lm, tokenizer=tokenizer)
    theirs = HFLM(pretrained=lm.model, tokenizer=tokenizer, batch_size=8, device="cpu")
    ours = LiveModel(lm, chat=True)
    user, system = [{"role": "user", "content": "topic1 says kind1"}], [{"role": "system", "content": "topic3 kind2"}]
    begun = [{"role": "assistant", "content": "topic5"}]
    contexts = [theirs.apply_chat_template(turns) for turns in (user, system + user)]
    contexts.append(theirs.apply_chat_template(system + user + begun, add_generation_prompt=False))
    assert contexts[2].endswith("topic5")
    assert contexts == [
        *(ours.apply_chat_template(turns) for turns in (user, system + user)),
        ours.apply_chat_template(system + user + begun, add_generation_prompt=False),
    ]
    assert ours.left_out == (2 if "system" in name else 0)
    pairs = [(context, " rude1 says") for context in contexts]
    values = [model.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True) for model in (theirs, ours)]
    np.testing.assert_allclose([v for v, _ in values[1]], [v for v, _ in values[0]], atol=1e-5)
    ids = tokenizer(contexts[0].rstrip(), add_special_tokens=False)["input_ids"]
    begins = habit != "begins nothing" and ids[0] != tokenizer.bos_token_id
    ids = [tokenizer.bos_token_id] * begins + ids
    assert ids.count(tokenizer.bos_token_id) == (habit != "begins nothing" or "{{ bos_token }}" in TEMPLATES[name])
    expected = logprobs_one_by_one(lm.model, ids, tokenizer(" rude1 says", add_special_tokens=False)["input_ids"]).sum()
    assert values[1][0][0] == pytest.approx(expected, abs=1e-5)
    written = [
        model.generate_until(asked("generate_until", [(c, {"until": ["rude3"], "max_gen_toks": 6}) for c in contexts]), disable_tqdm=True)
        for model in (theirs, ours)
    ]  # fmt: skip
    assert [text.removeprefix(" ") for text in written[1]] == written[0]


def test_a_handles_own_system_turn_is_never_left_out(planted):
    tokenizer = copy.deepcopy(planted.lm.tokenizer)
    tokenizer.chat_template = TEMPLATES["refuses a system turn"]
    live = LiveModel(replace(planted.lm, tokenizer=tokenizer, system="topic7 kind1"), chat=True)
    turns = [{"role": "system", "content": "topic3"}, {"role": "user", "content": "topic1"}]
    assert live.apply_chat_template(turns).split() == ["topic7", "kind1", "topic3", "topic1", "says"]
    begun = [*turns, {"role": "assistant", "content": "topic5"}]
    assert live.apply_chat_template(begun, add_generation_prompt=False).split()[-1] == "topic5"
    assert live.left_out == 0


def tiny_tasks(monkeypatch):
    """Local tasks on questions of our own, so that no data directory is needed."""
    rng = np.random.default_rng(8)
    questions = [
        MultipleChoice(id=f"q{i}", context=words(rng, 6), choices=(" kind1", " rude1 says", " topic2"), answer=i % 3)
        for i in range(24)
    ]
    blanks = [
        MultipleChoice(
            id=f"w{i}", context="", contexts=("topic1", "topic2 says"), choices=(" kind1",) * 2, answer=i % 2
        )
        for i in range(10)
    ]
    several = [replace(q, id=f"m{i}", answer=0, right=(0, 2)) for i, q in enumerate(questions)]
    cloze = [Cloze(id=f"l{i}", context=words(rng, 5), target=" rude1" if i % 2 else " says") for i in range(16)]
    sets = {"arc_easy": questions, "winogrande": blanks, "truthfulqa_mc2": several, "lambada_openai": cloze}
    monkeypatch.setattr(lm_eval_local, "load", lambda name, source: sets[name])
    return [f"{name}_local" for name in sets]


def test_whole_tasks_are_those_of_hflm_item_by_item(planted, hflm, monkeypatch):
    from lm_eval.evaluator import evaluate

    loaded = load_tasks(tiny_tasks(monkeypatch))
    ours = run_tasks(planted.lm, loaded)
    theirs = evaluate(
        hflm, {"tasks": dict(load_tasks(loaded.asked).tasks), "groups": {}, "group_map": {}}, bootstrap_iters=0
    )
    for name in loaded.asked:
        for sample in theirs["samples"][name]:
            for metric in sample["metrics"]:
                at = [
                    row for row in range(len(ours.table["id"]))
                    if (ours.table["task"][row], ours.table["id"][row], ours.table["metric"][row]) == (name, sample["doc"]["id"], metric)
                ]  # fmt: skip
                assert [ours.table["value"][row] for row in at] == pytest.approx([sample[metric]], abs=1e-4)
        for key, value in theirs["results"][name].items():
            metric = key.partition(",")[0]
            if key.endswith(",none") and "stderr" not in metric:
                assert ours.metrics[f"lm_eval/{name}/{metric}"].value == pytest.approx(value, rel=1e-4)
    assert {name.split("/")[1] for name in ours.metrics} == {*loaded.asked, "utility_local"}


def test_the_share_of_right_answers_is_the_formula(planted, monkeypatch):
    names = tiny_tasks(monkeypatch)
    result = run_tasks(planted.lm, ["truthfulqa_mc2_local"])
    assert names
    for record, value in zip(lm_eval_local.load("truthfulqa_mc2", source="local"), result.table["value"], strict=True):
        ids = planted.lm.tokenizer(record.context)["input_ids"]
        sums = [
            logprobs_one_by_one(planted.lm.model, ids, planted.lm.tokenizer(c)["input_ids"]).sum()
            for c in record.choices
        ]
        assert value == pytest.approx((np.exp(sums[0]) + np.exp(sums[2])) / np.exp(sums).sum(), abs=1e-5)


def test_nothing_is_left_behind(planted, monkeypatch):
    names = tiny_tasks(monkeypatch)
    before = planted.lm.fingerprint(rehash=True)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    side = planted.lm.tokenizer.padding_side
    run_tasks(planted.lm, names, limit=4)
    assert planted.lm.fingerprint(rehash=True) == before
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert planted.lm.tokenizer.padding_side == side


def test_any_process_of_a_launcher_has_results(planted, monkeypatch):
    names = tiny_tasks(monkeypatch)[:1]
    expected = run_tasks(planted.lm, names).metrics
    for variable in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.setenv(variable, "1")
    assert run_tasks(planted.lm, names).metrics == expected


def test_an_edited_model_is_measured_as_such_and_a_cache_is_refused(planted, monkeypatch):
    names = tiny_tasks(monkeypatch)
    base = run_tasks(planted.lm, names)
    method = ITI(num_heads=4).fit(planted.lm, planted.contrasts)
    results = []
    for strength in (2.0, 4.0):
        with method.applied(planted.lm, strength=strength) as safe:
            results.append(run_tasks(safe, names).table["value"])
            with pytest.raises(StaleHandle):
                run_tasks(planted.lm, names)
    assert base.table["value"] != results[0] != results[1]
    with pytest.raises(InputError, match="does not know which edits are on"):
        LiveModel(planted.lm).set_cache_hook(None)


def test_a_limit_draws_and_does_not_cut(planted, monkeypatch):
    names = tiny_tasks(monkeypatch)[:1]
    drawn = [run_tasks(planted.lm, names, limit=6, seed=seed).table["id"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) != {f"q{i}" for i in range(6)}


def test_utility_is_the_mean_above_chance():
    table = {
        "task": ["a"] * 4 + ["b"] * 2 + ["c"],
        "value": [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.4],
        "chance": [0.25] * 4 + [0.0] * 2 + [float("nan")],
    }
    found = utility_metrics(table, ["a", "b", "c"], "u")["u"]
    assert found.value == pytest.approx(((0.75 - 0.25) / 0.75 + 0.5) / 2)
    assert found.low < found.value < found.high
    assert found.n == 6
    assert utility_metrics(table, ["c"], "u") == {}


def test_wrong_requests_are_one_clear_line(planted, monkeypatch, tmp_path):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=r"arc_easy_val\.jsonl\.gz .*'allenai/ai2_arc'"):
        load_tasks(["arc_easy_local"])
    with pytest.raises(InputError, match="none twice"):
        load_tasks(["arc_easy_local", "arc_easy_local"])
    with pytest.raises(InputError, match="limit 0"):
        load_tasks(["arc_easy_local"], limit=0)
    with pytest.raises(InputError, match="empty continuation"):
        LiveModel(planted.lm).loglikelihood(asked("loglikelihood", [("topic1", "")]))
    with pytest.raises(InputError, match="generation with repetition_penalty"):
        LiveModel(planted.lm).generate_until(asked("generate_until", [("topic1", {"repetition_penalty": 1.2})]))
    monkeypatch.setattr(lm_eval_tasks, "lm_eval_version", lambda: None)
    with pytest.raises(InputError, match="not installed"):
        load_tasks(["arc_easy_local"])


@pytest.mark.slow
def test_tasks_of_the_hub_say_what_is_missing(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownName, match="did you mean 'arc_easy"):
        load_tasks(["arc_eazy"])
    with pytest.raises(MissingData, match=r"cannot be had from the hub .*arc_easy_val\.jsonl\.gz .* arc_easy_local"):
        load_tasks(["arc_easy"])


def test_tasks_of_the_hub_are_drawn_and_pooled(planted, monkeypatch):
    """What `_hub_tasks` gives, made here: a group of two subjects."""
    tiny_tasks(monkeypatch)
    leaves = {f"subject{i}": lm_eval_local.local_task("arc_easy_local") for i in range(2)}
    for name, task in leaves.items():
        task._config.task = name
    monkeypatch.setattr(lm_eval_tasks, "_hub_tasks", lambda name: {"tasks": leaves, "groups": {name: None}})
    loaded = load_tasks(["mmlu"], limit=5)
    assert isinstance(loaded, LoadedTasks)
    result = run_tasks(planted.lm, loaded)
    assert result.metrics["lm_eval/mmlu/acc"].n == 10
    assert {"lm_eval/utility"} == {name for name in result.metrics if "utility" in name}
    assert set(result.table["leaf"]) == set(leaves)
    assert result.table["id"] != [f"q{i}" for i in range(5)] * 4


def test_tasks_of_the_hub_are_loaded_once_and_draw_the_same_examples_each_time(planted, monkeypatch):
    """The hub's part is played by local data, as in `lm_eval.tasks.TaskManager.load`."""
    tiny_tasks(monkeypatch)
    loads = []

    class Manager:
        all_tasks = ("arc_easy",)

        def load(self, names):
            loads.append(names)
            task = lm_eval_local.local_task("arc_easy_local")
            task._config.task = "arc_easy"
            task.set_config("num_fewshot", 2)
            return {"tasks": {"arc_easy": task}, "groups": {}}

    monkeypatch.setattr(lm_eval_tasks, "_manager", Manager)
    lm_eval_tasks._hub_tasks.cache_clear()
    try:
        protocol = asking(lm_eval=("arc_easy",))
        first, second = evaluate(planted.lm, protocol), evaluate(planted.lm, protocol)
        plain = replace(protocol, lm_eval=("arc_easy_local",))
        assert loads == [["arc_easy"]]
        assert first.tables["lm_eval"] == second.tables["lm_eval"]
        without = evaluate(planted.lm, plain)
        assert first.counts["lm_eval"]["tasks"]["arc_easy"]["source"].startswith("hub")
        assert protocol.identity()["lm_eval"]["tasks"] == ["arc_easy"]
        assert without.counts["lm_eval"]["tasks"]["arc_easy_local"]["source"].startswith("local file")
    finally:
        lm_eval_tasks._hub_tasks.cache_clear()


def test_the_record_says_which_data_was_asked_and_other_data_is_not_compared(planted, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    names = tiny_tasks(monkeypatch)[:1]
    one, again, fewer = (load_tasks(names, limit=limit).tasks[names[0]] for limit in (None, None, 7))
    told = data_of(one)
    assert told == data_of(again) != data_of(fewer)
    assert told["revision"] is None  # rows in memory have none
    # Data of the hub lies in a folder that is named by the commit.
    revision = "0123456789abcdef0123456789abcdef01234567"
    one.dataset["test"].save_to_disk(tmp_path / "saved")
    [file] = (tmp_path / "saved").glob("*.arrow")
    (tmp_path / revision).mkdir()
    file.rename(tmp_path / revision / "test.arrow")
    one.dataset = {"test": datasets.Dataset.from_file(str(tmp_path / revision / "test.arrow"))}
    assert data_of(one)["revision"] == revision
    one.dataset = None
    assert data_of(one) == {"fingerprint": None, "revision": None}

    card = evaluate(planted.lm, asking(lm_eval=tuple(names)))
    assert card.counts["lm_eval"]["tasks"][names[0]]["data"] == told

    def elsewhere(data):
        task = {**card.counts["lm_eval"]["tasks"][names[0]], "data": data}
        return replace(card, counts={**card.counts, "lm_eval": {**card.counts["lm_eval"], "tasks": {names[0]: task}}})

    other = {"fingerprint": "ab", "revision": revision}
    with pytest.raises(InputError, match=rf"{names[0]} was asked on fingerprint .* and on revision {revision}"):
        compare([card, elsewhere(other)])
    assert len(compare([card, elsewhere(None), elsewhere(told)]).rows) == 3


def test_a_group_may_hold_tasks_of_different_metrics(planted, monkeypatch):
    tiny_tasks(monkeypatch)
    leaves = {name: lm_eval_local.local_task(f"{name}_local") for name in ("arc_easy", "lambada_openai")}
    for name, task in leaves.items():
        task._config.task = name
    monkeypatch.setattr(lm_eval_tasks, "_hub_tasks", lambda name: {"tasks": leaves, "groups": {name: None}})
    result = run_tasks(planted.lm, load_tasks(["both"]))
    nats = [v for m, v in zip(result.table["metric"], result.table["value"], strict=True) if m == "perplexity"]
    assert len(nats) == 16
    assert result.metrics["lm_eval/both/perplexity"].value == pytest.approx(np.exp(-np.mean(nats)))


def test_a_gate_is_asked_about_the_whole_text_and_not_about_a_window(planted):
    from tests.models.test_head_shifts import Choosy, shift_of

    gate = Choosy(planted.lm)
    documents = [words(np.random.default_rng(n), n) for n in (30, 31, 100, 101)]
    with planted.lm.edited(shift_of(planted.lm, "all", gate=gate)[0]) as safe:
        LiveModel(safe).loglikelihood_rolling(asked("loglikelihood_rolling", [(d,) for d in documents]))
    assert {len(ids) for ids in gate.asked} == {30, 31, 100, 101}


def asking(**changes):
    return Protocol(
        name="x", prompts=(Prompt(id="0", text="topic1 says"),), scorers=(Rudeness(),), sampling=Sampling(max_new_tokens=3), **changes
    )  # fmt: skip


def test_a_protocol_asks_for_tasks_and_the_card_holds_every_question(planted, monkeypatch, tmp_path):
    names = tiny_tasks(monkeypatch)
    protocol = asking(lm_eval=tuple(names), lm_eval_limit=5)
    card = evaluate(planted.lm, protocol)
    assert {name.split("/")[1] for name in card.metrics if name.startswith("lm_eval/")} == {*names, "utility_local"}
    assert card.counts["lm_eval"]["tasks"]["arc_easy_local"]["questions"] == 5
    assert protocol.digest() != asking(lm_eval=tuple(names), lm_eval_limit=6).digest() != asking().digest()
    card.save(tmp_path / "card")
    table = Scorecard.load(tmp_path / "card").tables["lm_eval"]
    again = utility_metrics(table, names, "lm_eval/utility_local")["lm_eval/utility_local"]
    assert again.value == pytest.approx(card["lm_eval/utility_local"].value)


def test_what_is_missing_is_said_before_anything_is_generated(planted, monkeypatch, tmp_path):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))

    def never(*args, **options):
        raise AssertionError("something was generated")

    monkeypatch.setattr("detox.evaluation.toxicity.generate", never)
    with pytest.raises(MissingData, match=r"arc_easy_val\.jsonl\.gz"):
        evaluate(planted.lm, asking(lm_eval=("arc_easy_local",)))


def test_a_task_that_is_added_is_asked_alone(planted, monkeypatch, tmp_path):
    from detox.bench.stage_store import KeptStages

    first, *others = tiny_tasks(monkeypatch)
    asked = []
    real = lm_eval_tasks.run_tasks

    def counting(lm, names, **options):
        asked.append(tuple(names))
        return real(lm, names, **options)

    monkeypatch.setattr(lm_eval_tasks, "run_tasks", counting)
    for names in ((first,), (first, *others)):
        kept = KeptStages(tmp_path, {})
        grown = evaluate(planted.lm, asking(lm_eval=names, lm_eval_limit=5), kept=kept)
        kept.commit()
    assert asked == [(name,) for name in (first, *others)]
    together = real(planted.lm, (first, *others), limit=5)
    assert {n: v for n, v in grown.metrics.items() if n.startswith("lm_eval/")}.keys() == together.metrics.keys()
    for name, value in together.metrics.items():
        assert grown.metrics[name].value == pytest.approx(value.value, abs=1e-6), name
    assert grown.counts["lm_eval"] == together.counts
    assert [len(column) for column in grown.tables["lm_eval"].values()] == [
        len(column) for column in together.table.values()
    ]


def test_a_question_does_not_count_under_two_tasks():
    table = {"task": ["mmlu", "mmlu_anatomy"], "leaf": ["mmlu_anatomy"] * 2, "value": [1.0] * 2, "chance": [0.25] * 2}
    with pytest.raises(InputError, match="mmlu and mmlu_anatomy both hold mmlu_anatomy; leave one out"):
        lm_eval_tasks.mean_utility(table)
