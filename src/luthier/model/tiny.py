"""Tiny random models of every tested family, and their tokenizer, built in code in milliseconds."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "phi3", "gpt2")
HIDDEN = 32
CONTEXT = 512
SLIDING_WINDOW = 16
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "i n", "e r", "a n", "o n", "r e", "s t", "Ġ t", "Ġ a", "Ġt he", "in g", "e n", "a t", "o r")

# As SmolLM2's, which adds a system message of its own where there is none; with a place for tools besides.
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{% endif %}
{%- if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + ('observation' if message['role'] == 'tool' else message['role']) + '\n' + message['content'] }}
{%- for call in message['tool_calls'] or [] %}
{{- '<tool_call>' + (call['function'] | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a ChatML template; pad and eos are both `<|im_end|>`."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + [merge.replace(" ", "") for merge in MERGES]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in MERGES)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    end = SPECIALS[-1]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, pad_token=end, model_max_length=CONTEXT
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _common(*, layers: int = 2) -> dict[str, object]:
    return {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": tiny_tokenizer().eos_token_id,
        "pad_token_id": tiny_tokenizer().pad_token_id,
    }


def _gemma3() -> PreTrainedConfig:
    layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3TextConfig(
        **_common(layers=3),
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=SLIDING_WINDOW,
        layer_types=layer_types,
        tie_word_embeddings=True,
    )


def _gpt2() -> PreTrainedConfig:
    tokenizer = tiny_tokenizer()
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=HIDDEN,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_common(), tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_common(), tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**_common(), head_dim=8, tie_word_embeddings=True),
    "gemma3": _gemma3,
    "phi3": lambda: Phi3Config(**_common(), tie_word_embeddings=False),
    "gpt2": _gpt2,
}


def tiny_model(family: str, *, seed: int = 0) -> PreTrainedModel:
    """Return a random fp32 model of some 30 k parameters; the global random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[family](), dtype=torch.float32)
    return model.eval()


def save_tiny(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Write a tiny model and its tokenizer as a model folder, and return the folder."""
    tiny_model(family, seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


ENCODERS = ("bert", "roberta", "distilbert")
WORD_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_word_pieces() -> PreTrainedTokenizerFast:
    """Return a tokenizer as BERT's: lower case, no accents, word pieces of single letters; [CLS] and [SEP] around."""
    signs = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-'()"
    pieces = [*WORD_PIECES, *signs, *(f"##{sign}" for sign in signs), "the", "in", "##ing", "##er"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=WORD_PIECES[1]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.decoder = decoders.WordPiece()
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(names, WORD_PIECES, strict=True)))


def _encoder(family: str) -> PreTrainedConfig:
    size = {"vocab_size": len(tiny_word_pieces()), "pad_token_id": 0, "max_position_embeddings": CONTEXT}
    if family == "distilbert":
        return DistilBertConfig(**size, dim=HIDDEN, hidden_dim=2 * HIDDEN, n_layers=2, n_heads=4)
    kind = {"bert": BertConfig, "roberta": RobertaConfig}[family]
    parts = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4}
    return kind(**size, **parts, intermediate_size=2 * HIDDEN)


def save_tiny_encoder(folder: Path, family: str = "bert", *, seed: int = 0) -> Path:
    """Write a tiny encoder and its tokenizer as a model folder, and return the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModel.from_config(_encoder(family), dtype=torch.float32)
    model.save_pretrained(folder)
    tiny_word_pieces().save_pretrained(folder)
    return folder


ENCODER_DECODERS = ("t5", "bart")


def tiny_two_sides(family: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with T5's ends of texts (`… </s>`), or with BART's (`<s> … </s>`)."""
    specials = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>"}
    tokens = [
        *specials.values(),
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *(merge.replace(" ", "") for merge in MERGES),
    ]
    merges = [(left, right) for left, right in (merge.split(" ") for merge in MERGES)]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials.values()])
    ends = [("</s>", 1), ("<s>", 2)]
    single = "<s> $A </s>" if family == "bart" else "$A </s>"
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **specials)


def _encoder_decoder(family: str) -> PreTrainedConfig:
    size = {"vocab_size": len(tiny_two_sides(family)), "d_model": HIDDEN, "pad_token_id": 0, "eos_token_id": 1}
    if family == "t5":
        parts = {"d_kv": 8, "d_ff": 2 * HIDDEN, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
        return T5Config(**size, **parts)
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layers": 2, "decoder_layers": 2}
    widths = {"encoder_ffn_dim": 2 * HIDDEN, "decoder_ffn_dim": 2 * HIDDEN, "max_position_embeddings": CONTEXT}
    return BartConfig(**size, **heads, **widths, bos_token_id=2, decoder_start_token_id=1)


def save_tiny_seq2seq(folder: Path, family: str = "t5", *, seed: int = 0) -> Path:
    """Write a tiny encoder-decoder and its tokenizer as a model folder, and return the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(_encoder_decoder(family), dtype=torch.float32)
    # As BART's published files have it: a target begins with <s>.
    model.generation_config.forced_bos_token_id = 2 if family == "bart" else None
    model.save_pretrained(folder)
    tiny_two_sides(family).save_pretrained(folder)
    return folder
