"""A real HTTP server on this machine that says what a test scripts, and a tiny real causal LM."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.generation.server import KEY, NAMES, Server
from tests.generation.speaker import Speaker


class _Quiet(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """A server in a thread leaves signals alone."""


@pytest.fixture(scope="session")
def running() -> Iterator[tuple[str, list[Server]]]:
    """One server for all tests: what answers is the last of the list."""
    current: list[Server] = []

    async def chat(request: Request) -> Response:
        return await current[-1].chat(request)

    async def list_models(request: Request) -> Response:
        return await current[-1].list_models(request)

    async def page(request: Request) -> Response:
        return PlainTextResponse("<html>welcome</html>")

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", chat, methods=["POST"]),
        Route("/v1/models", list_models),
        Route("/page/chat/completions", page, methods=["POST"]),
    ]
    server = _Quiet(uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", current
    server.should_exit = True
    thread.join()


@pytest.fixture
def server(running: tuple[str, list[Server]], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A fresh server, with its key in the environment."""
    url, current = running
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    current.append(Server(f"{url}/v1"))
    return current[-1]


@pytest.fixture(scope="session")
def tiny_sorter(tmp_path_factory: pytest.TempPathFactory, tiny_texts: Callable[..., Any]) -> Path:
    """A GPT-2 of two layers of 32 over the words of ``tiny_texts`` that says A to D for their four labels, then ends.

    Its chat template is the last message alone. Read-only.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    texts, labels = tiny_texts(240)
    words = dict.fromkeys(word for text in texts for word in text.split())
    known = {word: place for place, word in enumerate(["<end>", "<unk>", ">", *"ABCD", *words])}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = "{{ messages[-1]['content'] }} >"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(known), n_positions=24, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    rows = [f"{text} > {'ABCD'[label]} <end>" for text, label in zip(texts, labels, strict=True)]
    ids = tokenizer(rows, padding=True, return_tensors="pt")["input_ids"]
    told = ids.clone()
    for row, text in enumerate(texts):
        told[row, : len(text.split()) + 1] = -100
        told[row, len(text.split()) + 3 :] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(60):
        some = torch.arange(step * 48, step * 48 + 48) % len(rows)
        model(input_ids=ids[some], labels=told[some]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    folder = tmp_path_factory.mktemp("tiny_sorter")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def speaker(tiny_sorter: Path) -> Speaker:
    """The same, as what answers."""
    return Speaker(tiny_sorter)


@pytest.fixture
def speaking(server: Server, speaker: Speaker) -> Server:
    """A server behind which it speaks."""
    server.speaker, server.says = speaker, lambda prompt, times: None
    return server


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Twelve prompts with a column beside them."""
    path = tmp_path / "questions.csv"
    path.write_text("prompt,topic\n" + "".join(f"number {name},{i}\n" for i, name in enumerate(NAMES)), "utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level GPT-2 of two layers of 32 with 64 positions, random weights that are far from uniform. Read-only."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<end>", *alphabet])}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny_lm")
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
