"""/v1/embeddings: the request, and vectors as OpenAI's clients read them.

Owns: both forms of a vector (numbers, base64 of little-endian float32). Pure. Must not know: HTTP, who embeds.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndn_infer.errors import BadRecord
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.refusal import bad, too_long
from ndn_infer.gateway.requests import model_name
from ndn_infer.records.embed import MAX_EMBED_CHARACTERS, MAX_EMBED_TEXTS, TensorRecord
from ndn_infer.tensors import decode_tensor


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """`dimensions`: 0 where the request does not say."""

    model: str
    texts: tuple[str, ...]
    base64: bool
    dimensions: int = 0


def read_embedding(document: Mapping[str, Any]) -> EmbeddingRequest:
    """Raises Refusal."""
    body = Fields(document)
    model = model_name(body)
    texts = _texts(body.take("input"))
    form = body.text("encoding_format", 16)
    if form not in (None, "float", "base64"):
        raise bad("encoding_format must be float or base64", "encoding_format")
    dimensions = body.integer("dimensions")
    if dimensions is not None and dimensions < 1:
        raise bad("dimensions must be 1 or more", "dimensions")
    body.text("user", 512)
    body.end()
    return EmbeddingRequest(model, texts, form == "base64", dimensions or 0)


def _texts(value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given:
        raise bad("input is empty", "input")
    if len(given) > MAX_EMBED_TEXTS:
        raise bad(f"input has {len(given)} texts, and {MAX_EMBED_TEXTS} are the most", "input")
    if any(isinstance(item, int | list) for item in given):
        raise bad("input must be texts: token ids are not supported", "input", "unsupported_parameter")
    texts = tuple(text_of(item, "input", MAX_EMBED_CHARACTERS) for item in given)
    if not all(texts):
        raise bad("input has an empty text", "input")
    return texts


def embedding_document(asked: EmbeddingRequest, record: TensorRecord) -> dict[str, Any]:
    """Raises BadRecord for a tensor that is not one vector a text, Refusal for other dimensions than the model's,
    and for texts that it did not read to the end."""
    tensor = decode_tensor(record.tensor)
    if tensor.dtype != "f32" or len(tensor.shape) != 2 or tensor.shape[0] != len(asked.texts):
        raise BadRecord(f"embed answered with {tensor.dtype} of shape {tensor.shape} for {len(asked.texts)} texts")
    width = tensor.shape[1]
    if asked.dimensions not in (0, width):
        raise bad(f"vectors of this model have {width} dimensions, and no others", "dimensions")
    if record.cut:
        raise too_long(f"{record.cut} of these texts are too large: the model does not read them to the end", "input")
    rows = [bytes(tensor.payload[4 * width * row : 4 * width * (row + 1)]) for row in range(tensor.shape[0])]
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(row) if asked.base64 else _numbers(row)}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": record.tokens, "total_tokens": record.tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode()


def _numbers(row: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(row) // 4}f", row))
