"""Text from a causal language model on this machine: batched, and the same however it is batched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy.generation import Limits, Prompting, Rules, Sampling, generate
from understudy.generation.local import draw

KEEP = Rules(truncated=False, refusals=False, min_chars=0, min_script=0, near=0)


def rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text("utf-8").splitlines() + path.with_suffix(".rejected.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_sampling_is_a_function_of_seed_prompt_and_sample(tiny_lm: Path, questions: Path, tmp_path: Path) -> None:
    said = {}
    for name, batch, seed in (("wide", 8, 1), ("narrow", 3, 1), ("other", 8, 2)):
        done = generate(
            questions, str(tiny_lm), tmp_path / name / "a.jsonl", limits=Limits(batch=batch), rules=KEEP,
            sampling=Sampling(samples=2, max_tokens=12, seed=seed),
        )  # fmt: skip
        assert done["counts"]["answered"] == 24
        found = rows(tmp_path / name / "a.jsonl")
        said[name] = {(row["prompt"], row["sample"]): row["completion"] for row in found}
    assert said["wide"] == said["narrow"] != said["other"]
    assert len(set(said["wide"].values())) > 20
    assert {row["finish_reason"] for row in found} <= {"stop", "length"}
    assert all(row["tokens_in"] == len(row["prompt"]) and 0 < row["tokens_out"] <= 12 for row in found)


def test_temperature_0_takes_the_likeliest_token(tiny_lm: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "q.csv").write_text("text\nhello\nwell well\n")
    how = Prompting(template="<{{{text}}}>", system="Be")
    done = generate(
        tmp_path / "q.csv", str(tiny_lm), tmp_path / "a.jsonl", prompting=how, rules=KEEP,
        sampling=Sampling(temperature=0, max_tokens=6),
    )  # fmt: skip
    assert done["notes"] == ["the tokenizer has no chat template: prompts are continued as they are"]
    tokenizer, net = AutoTokenizer.from_pretrained(tiny_lm), AutoModelForCausalLM.from_pretrained(tiny_lm).eval()
    for row in rows(tmp_path / "a.jsonl"):
        ids = tokenizer(f"Be\n\n{row['prompt']}", return_tensors="pt").input_ids
        start = ids.shape[1]
        while ids.shape[1] < start + 6 and (start == ids.shape[1] or ids[0, -1] != 0):
            ids = torch.cat([ids, net(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        assert row["completion"] == tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        assert row["prompt"] in ("<{hello}>", "<{well well}>")


def test_a_chat_template_is_used_and_a_long_prompt_is_counted(tiny_lm: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "chatty"
    shutil.copytree(tiny_lm, folder)
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}[a]{% endif %}"
    (folder / "chat_template.jinja").write_text(template)
    chats = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "far too long " * 9}]]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"messages": chat, "id": 7}) + "\n" for chat in chats))
    done = generate(
        tmp_path / "q.jsonl", str(folder), tmp_path / "a.jsonl", rules=KEEP, sampling=Sampling(max_tokens=5)
    )
    assert (done["attrition"][0]["filter"], done["attrition"][0]["taken"], done["unanswered"]) == ("too long", 1, 0)
    (row,) = rows(tmp_path / "a.jsonl")
    assert (row["tokens_in"], row["prompt"], row["messages"], row["id"]) == (len("[user]hi[a]"), "hi", chats[0], 7)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_a_folder_says_of_generating_changes_nothing(temperature: float, tiny_lm: Path, tmp_path: Path) -> None:
    """Penalties, beams and a limit of time in generation_config.json: drawn is from what the model itself has."""
    import shutil

    (tmp_path / "q.csv").write_text("prompt\nhello\nwell well\n")
    said = []
    for number, more in enumerate((
        {}, {"repetition_penalty": 1.9, "no_repeat_ngram_size": 2}, {"num_beams": 2, "num_return_sequences": 2},
        {"max_time": 0.0, "min_new_tokens": 3},
    )):  # fmt: skip
        folder = tmp_path / f"lm{number}"
        shutil.copytree(tiny_lm, folder)
        path = folder / "generation_config.json"
        there = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**there, **more}))
        out = tmp_path / f"{number}" / "a.jsonl"
        generate(
            tmp_path / "q.csv", str(folder), out, rules=KEEP,
            sampling=Sampling(temperature=temperature, max_tokens=12, seed=0),
        )  # fmt: skip
        said.append({row["prompt"]: row["completion"] for row in rows(out)})
    assert said == said[:1] * 4
    assert len(set(said[0].values())) == 2


def test_conversations_of_a_csv_are_those_of_a_jsonl(tmp_path: Path) -> None:
    """A CSV file has no lists: a cell of `messages` is a text of JSON, for training as for asking."""
    import csv

    from understudy.generation.prompts import read_prompts

    chats = [[{"role": "system", "content": "Be, brief"}, {"role": "user", "content": who}] for who in ("a", 'say "b"')]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], *[[json.dumps(chat)] for chat in chats]])
    said = [read_prompts(tmp_path / name, Prompting()) for name in ("q.jsonl", "q.csv")]
    assert said[0].chats == said[1].chats == chats
    assert said[0].prompts == said[1].prompts == ["a", 'say "b"']


def test_a_limit_on_requests_is_one_on_prompts(tiny_lm: Path, questions: Path, tmp_path: Path) -> None:
    how = Sampling(max_tokens=3)
    more = {"rules": KEEP, "sampling": how}
    done = generate(questions, str(tiny_lm), tmp_path / "a.jsonl", limits=Limits(max_requests=5), **more)  # type: ignore[arg-type]
    assert (done["counts"]["answered"], done["unanswered"], done["stopped"]) == (5, 7, "--max-requests 5")
    done = generate(questions, str(tiny_lm), tmp_path / "a.jsonl", **more)  # type: ignore[arg-type]
    assert (done["counts"]["reused"], done["counts"]["requests"], done["stopped"]) == (5, 7, None)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6)])
def test_draws_have_the_probabilities_that_are_meant(temperature: float, top_p: float) -> None:
    scores = torch.tensor([2.0, 1.0, 0.5, -1.0])
    shares = (scores / temperature).softmax(0)
    if top_p < 1:
        shares = torch.where(shares.cumsum(0) - shares < top_p, shares, 0.0)
        shares /= shares.sum()
    uniform = (torch.arange(4000) + 0.5) / 4000
    drawn = draw(scores.expand(4000, 4), uniform, Sampling(temperature=temperature, top_p=top_p))
    counts = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(counts, shares, atol=1e-3)
