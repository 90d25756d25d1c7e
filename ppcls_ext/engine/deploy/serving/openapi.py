"""What the OpenAPI page says of requests and answers."""

from __future__ import annotations

from typing import Any, Optional, Union

from pydantic import BaseModel, ConfigDict

from ppcls_ext.engine.deploy.serving.limits import Limits
from ppcls_ext.engine.deploy.serving.reading import FORM, IMAGES, JSON, TOPK

#: A white PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
_GOOD: dict[str, Any] = {
    "file_name": "cat.jpg",
    "class_ids": [281, 282],
    "scores": [0.81, 0.12],
    "label_names": ["tabby", "tiger cat"],
}
_BAD: dict[str, Any] = {
    "file_name": "notes.txt",
    "class_ids": [],
    "scores": [],
    "label_names": [],
    "error": "no known image format",
}


class Result(BaseModel):
    """What the model says of one image, best class first; or why it says nothing."""

    file_name: str
    class_ids: list[int]
    scores: list[float]
    label_names: list[str]
    error: Optional[str] = None


class Answer(BaseModel):
    """The results of a request, in the order of its images."""

    model_config = ConfigDict(
        protected_namespaces=(), json_schema_extra={"example": {"model": "ResNet50", "results": [_GOOD, _BAD]}}
    )

    model: str
    results: list[Result]


class Refusal(BaseModel):
    """Why a request was refused as a whole."""

    code: str
    message: str


class Health(BaseModel):
    """Whether the model answers."""

    status: str
    model: str
    reason: Optional[str] = None


ANSWERS: dict[Union[int, str], dict[str, Any]] = {
    400: {"model": Refusal, "description": "Malformed body, no image, unknown field, or topk out of range."},
    408: {"model": Refusal, "description": "The body arrived too slowly."},
    413: {"model": Refusal, "description": "Too many images, or too many bytes."},
    415: {"model": Refusal, "description": f"Neither {FORM} nor {JSON}."},
    422: {"model": Answer, "description": "No image could be read; each has its error."},
    500: {"model": Answer, "description": "The model failed on all images; each has its error."},
    503: {"model": Refusal, "description": "The queue is full or too many requests are in progress; see Retry-After."},
}


def request_body(most_classes: int) -> dict:
    """Return the description of the body of ``POST /predict``."""
    topk = {"type": "integer", "minimum": 1, "maximum": most_classes, "description": "classes a result"}
    file = {"type": "string", "format": "binary"}
    base64 = {"type": "string", "contentEncoding": "base64", "description": "an image file in base64"}
    named = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "data": base64},
        "required": ["data"],
        "additionalProperties": False,
    }

    def body(item: dict) -> dict:
        images = {"type": "array", "items": item, "minItems": 1}
        return {
            "type": "object",
            "properties": {IMAGES: images, TOPK: topk},
            "required": [IMAGES],
            "additionalProperties": False,
        }

    examples = {
        "named": {"summary": "with names", "value": {IMAGES: [{"name": "white.png", "data": PIXEL}], TOPK: 1}},
        "plain": {"summary": "base64 alone", "value": {IMAGES: [PIXEL]}},
    }
    content = {
        FORM: {"schema": body(file)},
        JSON: {"schema": body({"anyOf": [named, base64]}), "examples": examples},
    }
    return {"requestBody": {"required": True, "content": content}}


def description(model: str, classes: int, limits: Limits) -> str:
    """Return the text above the operations."""
    return (
        f"Image classification with **{model}**, {classes:,} classes. At most {limits.images} images a request, "
        f"{limits.image_bytes:,} bytes and {limits.pixels:,} pixels an image, {limits.request_bytes:,} bytes a body. "
        "An image that cannot be read gets an `error`; the others get their classes."
    )
