"""POST /embeddings: one vector per text, from the model's own last layer."""

import base64
import math
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier.api.shapes_talk import EmbeddingRequest, Embeddings, Json
from luthier.api.talking import (
    ClientLeft,
    check_ids,
    nobody_there,
    room_for,
    take,
    texts_or_ids,
    while_there,
)
from luthier.jobs.service.refusal import Refusal

router = APIRouter(tags=["embeddings"])


@router.post("/embeddings", response_model=Embeddings, operation_id="createEmbedding")
async def create_embedding(request: Request, body: EmbeddingRequest) -> Any:
    """Return the vector of each text."""
    return await answer_embedding(request, body)


async def answer_embedding(request: Request, body: EmbeddingRequest, *, model: str | None = None) -> Response | Json:
    """Return vectors; `model` stands in for the body's where the address names a deployment."""
    given = texts_or_ids(body.input, "input")
    if not all(given):
        raise Refusal("Invalid 'input': an input cannot be empty.", param="input", code="invalid_value")
    with ExitStack() as held:
        seat = await take(request, model or body.model)
        held.callback(seat.close)
        prompts = [
            await seat.text_ids(item) if isinstance(item, str) else check_ids(seat, item, "input") for item in given
        ]
        for prompt in prompts:
            room_for(seat, prompt, wanted=0, what="input")
        try:
            vectors = await while_there(request, seat.embed(prompts))
        except ClientLeft:
            return nobody_there()
    return _shape(body, seat.name, [_short(vector, body.dimensions) for vector in vectors], sum(map(len, prompts)))


def _shape(body: EmbeddingRequest, model: str, vectors: Sequence[Sequence[float]], tokens: int) -> Json:
    in_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if in_text else list(vector)}
        for index, vector in enumerate(vectors)
    ]
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _short(vector: Sequence[float], dimensions: int | None) -> Sequence[float]:
    """Return the vector's first numbers, of length one again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        message = f"Invalid value for 'dimensions': this model's vectors have {len(vector)} numbers."
        raise Refusal(message, param="dimensions", code="invalid_value")
    length = math.hypot(*vector[:dimensions]) or 1.0
    return [number / length for number in vector[:dimensions]]


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
