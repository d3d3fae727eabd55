"""What a GGUF file says of its model; read in llama.cpp's child process only."""

from dataclasses import dataclass
from pathlib import Path

import gguf

from luthier.core.errors import ModelError

EXACT_BYTES, USUAL_BYTES = 4, 2
USUAL_TOKENS = 1024
"""Tokens of a row for which memory is taken in any case; longer ones share, and wait where they do not fit."""
LEAST_TOKENS = 2


@dataclass(frozen=True)
class Head:
    """What stands before a file's weights."""

    context: int
    token_bytes: int
    """Keys and values of one token."""
    vocabulary: int
    is_exact: bool
    """Whether all weights are in fp32, so that keys and values are kept in fp32, too."""

    def tokens(self, *, rows: int, most_bytes: int) -> int:
        """Return how many tokens of all rows there is memory for; raise ModelError where that is next to none."""
        tokens = min(most_bytes // self.token_bytes, max(self.context, rows * USUAL_TOKENS))
        if tokens < LEAST_TOKENS:
            why = f"keys and values of one token take {self.token_bytes:,} bytes"
            raise ModelError("the model needs more memory than it may take", why=why)
        return tokens


def head_of(path: Path) -> Head:
    """Read a file's head; raise ModelError where it is none."""
    try:
        fields = gguf.GGUFReader(path).fields
        arch = fields["general.architecture"].contents()

        def number(name: str, other: int | None = None) -> int:
            field = fields.get(name)
            return int(field.contents()) if field is not None or other is None else other

        heads, layers = number(f"{arch}.attention.head_count"), number(f"{arch}.block_count")
        width = number(f"{arch}.attention.key_length", number(f"{arch}.embedding_length") // heads)
        is_exact = number("general.file_type", -1) == gguf.LlamaFileType.ALL_F32
        a_number = EXACT_BYTES if is_exact else USUAL_BYTES
        return Head(
            context=number(f"{arch}.context_length"),
            token_bytes=2 * a_number * layers * width * number(f"{arch}.attention.head_count_kv", heads),
            vocabulary=len(fields["tokenizer.ggml.tokens"].data),
            is_exact=is_exact,
        )
    except (OSError, ValueError, LookupError, AttributeError, TypeError, ZeroDivisionError) as error:
        raise ModelError("the GGUF file cannot be read", why=type(error).__name__) from error
