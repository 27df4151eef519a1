"""A model small enough to train in a test: SmolLM2's tokenizer and chat template, two random layers, 3.3 M parameters.

    python -m tests.trainer.tiny_model OUT

It is a Llama like the starter model, so vLLM, transformers and the trainer load it as they load any other. It knows nothing.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from trainer.starter_model import find_gguf

HIDDEN_SIZE = 64


def make_tiny_model(folder: Path, *, seed: int = 0) -> LlamaForCausalLM:
    """Write model and tokenizer into `folder` and return the model."""
    gguf = find_gguf()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN_SIZE,
            intermediate_size=2 * HIDDEN_SIZE,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    # as published models bring settings of their own: whoever samples by these sees no token but the likeliest
    settings = {"eos_token_id": tokenizer.eos_token_id, "do_sample": True, "top_k": 1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return model


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]))
