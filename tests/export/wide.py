"""Tiny models whose widths ONNX Runtime's kernels take, and adapters made with PEFT."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from luthier.model.load import load_model
from luthier.model.tiny import CONTEXT, tiny_tokenizer

KINDS: dict[str, type[PreTrainedConfig]] = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}


def save_wide(folder: Path, family: str = "llama", **changes) -> Path:
    """Save a tiny model with heads 16 wide; large weights, so that all differences show."""
    tokenizer = tiny_tokenizer()
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = KINDS[family](**(values | changes))
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_lora(base: Path, folder: Path, *, seed: int, **options) -> Path:
    """Save a LoRA adapter with random weights."""
    config = LoraConfig(task_type="CAUSAL_LM", **({"r": 4, "lora_alpha": 16, "target_modules": "all-linear"} | options))
    model = get_peft_model(load_model(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def expected(base: Path, adapter: Path | None, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Return log-probabilities after the prompt and after each token of the answer, by transformers and PEFT."""
    model = load_model(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 :]
    return logits.log_softmax(dim=-1)
