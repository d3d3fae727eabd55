"""A tokenizer as llama.cpp reads it: tokens, merges or scores, how text is cut first, and which tokens are special.

llama.cpp cuts text by rules that are compiled into it and chosen by a name. The name is found by comparing the
tokenizer's own rules with those behind each name; rules that are not among them are refused, since any other name
would give other tokens without a word.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import ModelError
from luthier.model.template import Template

SPACE = "\u2581"
WORDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + WORDS
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + WORDS
NO_PRE = "default"
PHI_3 = "Phi-3"
"""A name with these letters tells llama.cpp that special tokens swallow the white space that follows them."""
PHI_3_PLAIN = frozenset(("<unk>", "<s>", "<|endoftext|>"))
ENDS = ("eos", "eot", "eom")
"""Places that GGUF has for tokens that end an answer: of the text, of a turn, and of a message to a tool."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Words:
    """What a GGUF file says of a tokenizer."""

    model: str
    """`gpt2`: merges of bytes; `llama`: merges of characters, as SentencePiece does them."""
    pre: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    scores: list[float]
    space_prefix: bool | None
    ids: dict[str, int]
    """Special tokens by their names in the file: bos, eos, eot, eom, pad, unk."""
    add_bos: bool
    add_eos: bool
    template: str
    is_phi_3: bool
    """Whether special tokens swallow the white space that follows them, as Phi-3's do."""

    def write(self, writer: GGUFWriter) -> None:
        """Write all of it as metadata."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.space_prefix is not None:
            writer.add_add_space_prefix(self.space_prefix)
        for name, token in self.ids.items():
            getattr(writer, f"add_{name}_token_id")(token)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        writer.add_chat_template(self.template)


def words_of(template: Template, rows: int, folder: Path) -> Words:
    """Return what a GGUF file says of a tokenizer, for a model with that many embeddings.

    Raise ModelError for a tokenizer that llama.cpp has no rules for.
    """
    tokenizer = template.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused(folder, "it has no `tokenizer.json`")
    given = json.loads(backend.to_str())
    if given["model"]["type"] != "BPE":
        raise _refused(folder, f"its kind is `{given['model']['type']}`, and only BPE is exported")
    is_bytes = not given["model"].get("byte_fallback")
    tokens, types = _tokens(tokenizer, given, rows, is_bytes=is_bytes, folder=folder)
    pairs = [tuple(one) if isinstance(one, list) else tuple(one.split(" ")) for one in given["model"]["merges"]]
    add_bos, add_eos = _adds(tokenizer)
    return Words(
        model="gpt2" if is_bytes else "llama",
        pre=_pre(given, folder) if is_bytes else NO_PRE,
        tokens=tokens,
        types=types,
        merges=[" ".join(pair) for pair in pairs] if is_bytes else [],
        scores=[] if is_bytes else _scores(tokens, pairs),
        space_prefix=None if is_bytes else _space_prefix(given, folder),
        ids=_special_ids(template, folder),
        add_bos=add_bos,
        add_eos=add_eos,
        template=_default(template.source),
        is_phi_3=_is_phi_3(given["added_tokens"], folder),
    )


def _refused(folder: Path, why: str) -> ModelError:
    hint = "llama.cpp would cut text into other tokens without a word; export it as `merged` or `onnx`"
    return ModelError("llama.cpp has no rules for this tokenizer", where={"model": folder}, why=why, hint=hint)


def _pre(given: Json, folder: Path) -> str:
    """Return llama.cpp's name for the rules by which a byte-level tokenizer cuts text.

    Qwen's tokenizers compose accents first (NFC), which llama.cpp does not do: decomposed text has other tokens there.
    """
    normalizer = (given.get("normalizer") or {}).get("type")
    cut = given.get("pre_tokenizer") or {}
    parts = cut.get("pretokenizers", [cut])
    kinds = tuple(part.get("type") for part in parts)
    takes_whole = bool(given["model"].get("ignore_merges"))
    found = None
    if _is_byte_level(parts[-1], regex=True) and normalizer is None and not takes_whole:
        digits = len(parts) == 2 and parts[0].get("type") == "Digits" and parts[0].get("individual_digits")
        found = "gpt-2" if len(parts) == 1 else "smollm" if digits else None
    elif kinds == ("Split", "ByteLevel") and _is_byte_level(parts[1], regex=False) and _isolates(parts[0]):
        pattern = parts[0]["pattern"].get("Regex")
        if pattern == QWEN2 and normalizer in ("NFC", None) and not takes_whole:
            found = "qwen2"
        elif pattern == LLAMA3 and normalizer is None:
            found = "llama-bpe" if takes_whole else "smaug-bpe"
    if found is None:
        rules = json.dumps({"normalizer": given.get("normalizer"), "pre_tokenizer": cut}, ensure_ascii=False)
        raise _refused(folder, f"it cuts text by {rules[:300]}")
    return found


def _is_byte_level(part: Json, *, regex: bool) -> bool:
    return part.get("type") == "ByteLevel" and part.get("use_regex", True) == regex and not part["add_prefix_space"]


def _isolates(part: Json) -> bool:
    return part.get("behavior") == "Isolated" and not part.get("invert")


def _space_prefix(given: Json, folder: Path) -> bool:
    """Return whether a text begins with a space that nobody wrote; refuse rules that are not SentencePiece's."""
    normalizer, cut = given.get("normalizer") or {}, given.get("pre_tokenizer")
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if cut is None and steps == [{"type": "Prepend", "prepend": SPACE}, replaces]:
        return True
    # Gemma's: there is no space left at which it could cut.
    at_spaces = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if steps == [replaces] and cut in (None, at_spaces):
        return False
    is_whole = not steps and (cut or {}).get("type") == "Metaspace" and not cut.get("split", True)
    if is_whole and cut["replacement"] == SPACE and cut["prepend_scheme"] in ("always", "never"):
        return bool(cut["prepend_scheme"] == "always")
    rules = json.dumps({"normalizer": given.get("normalizer"), "pre_tokenizer": cut}, ensure_ascii=False)
    raise _refused(folder, f"it prepares text by {rules[:300]}")


def _tokens(
    tokenizer: PreTrainedTokenizerBase, given: Json, rows: int, *, is_bytes: bool, folder: Path
) -> tuple[list[str], list[TokenType]]:
    """Return each id's token and type, up to the model's number of embeddings."""
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(names) >= rows:
        why = f"its largest id is {max(names)}, and the model has {rows} embeddings"
        raise ModelError("tokenizer and model do not belong together", where={"model": folder}, why=why)
    added = {one["id"]: one for one in given["added_tokens"]}
    tokens, types = [], []
    for number in range(rows):
        token, kind = names.get(number, f"[PAD{number}]"), TokenType.NORMAL
        if number not in names:
            kind = TokenType.UNUSED
        elif number in added:
            kind = TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED
            # Whole tokens are looked for in the text as it was written.
            token = token if is_bytes or added[number]["special"] else token.replace(SPACE, " ")
        elif not is_bytes and len(token) == 6 and token.startswith("<0x"):
            kind = TokenType.BYTE
        if not is_bytes and number == tokenizer.unk_token_id:
            kind = TokenType.UNKNOWN
        tokens.append(token)
        types.append(kind)
    return tokens, types


def _scores(tokens: Sequence[str], pairs: Sequence[tuple[str, ...]]) -> list[float]:
    """Return a score for each token, so that llama.cpp joins neighbours in the tokenizer's own order.

    It joins those whose token has the highest score; merges are listed by the score of what they make, first the best.
    """
    first: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        first.setdefault("".join(pair), rank)
    return [-float(first.get(token, len(pairs))) for token in tokens]


def _adds(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool]:
    """Return whether the tokenizer puts BOS before and EOS after a text, by letting it encode one."""
    plain, whole = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a", add_special_tokens=True)
    more = len(whole) - len(plain)
    adds_bos = more > 0 and whole[0] == tokenizer.bos_token_id and whole[1 : 1 + len(plain)] == plain
    adds_eos = more > int(adds_bos) and whole[-1] == tokenizer.eos_token_id
    return adds_bos, adds_eos


def _special_ids(template: Template, folder: Path) -> dict[str, int]:
    """Return the special tokens; every token that ends an answer has a place, or the model is refused.

    Besides these, llama.cpp ends an answer at tokens that it knows by their text, such as `<|endoftext|>`.
    """
    tokenizer = template.tokenizer
    ends = [template.eos_id, *sorted(template.stop_ids - {template.eos_id}, reverse=True)]
    if len(ends) > len(ENDS):
        why = f"{len(ends)} tokens end its answers, and GGUF has places for {len(ENDS)}"
        raise ModelError("this model cannot be written as GGUF", where={"model": folder}, why=why)
    found = dict(zip(ENDS, ends, strict=False))
    others = {"bos": tokenizer.bos_token_id, "pad": tokenizer.pad_token_id, "unk": tokenizer.unk_token_id}
    return found | {name: number for name, number in others.items() if number is not None}


def _default(source: "str | dict[str, str]") -> str:
    if isinstance(source, str):
        return source
    return source.get("default") or next(iter(source.values()))


def _is_phi_3(added: Sequence[Json], folder: Path) -> bool:
    """Return whether whole tokens take the white space around them as Phi-3's do; refuse other ways than none."""
    if any(one["lstrip"] or one["single_word"] for one in added):
        raise _refused(folder, "some of its whole tokens look at what stands before them")
    taking = {one["content"] for one in added if one["rstrip"]}
    if not taking:
        return False
    specials = {one["content"] for one in added if one["special"] or one["content"] == "</s>"}
    if taking != specials - PHI_3_PLAIN:
        raise _refused(folder, "some of its whole tokens swallow the white space that follows them")
    return True
