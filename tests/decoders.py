"""Tiny real decoders and their tokenizer, made in seconds: a GPT-2 with tied embeddings, a Llama and a Qwen2."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

END = "<|endoftext|>"


def tokenizer_of(texts: Iterable[str], *, entries: int = 300) -> Any:
    """A byte-level BPE in whose vocabulary the end of a text is the padding, and the start too, as GPT-2's."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    inner = ByteLevelBPETokenizer()
    inner.train_from_iterator(texts, vocab_size=entries, min_frequency=2, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner._tokenizer, eos_token=END, bos_token=END, pad_token=END, model_max_length=64
    )


def decoder(
    kind: str, entries: int, *, layers: int = 4, width: int = 32, heads: int = 2, key_heads: int = 1, seed: int = 0
) -> Any:
    """A model with random weights; ``key_heads`` of keys and values, but for a GPT-2, which has as many as heads."""
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    sizes = {"vocab_size": entries, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        gpt = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 64, "initializer_range": 0.1}
        return hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, **gpt, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).eval()
    more = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": 2 * width, "max_position_embeddings": 64, "initializer_range": 0.1,
    }  # fmt: skip
    if kind == "qwen2":
        return hf.Qwen2ForCausalLM(hf.Qwen2Config(**sizes, **more, tie_word_embeddings=True)).eval()
    return hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **more)).eval()


def saved(kind: str, tokenizer: Any, folder: Path, **sizes: Any) -> Path:
    """A folder with a decoder and its tokenizer."""
    decoder(kind, len(tokenizer), **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
