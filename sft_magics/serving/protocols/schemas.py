"""The shapes of bodies, as JSON Schema: what goes in and what comes out, by the name that `openapi` refers to."""

from typing import Any

from sft_magics.serving.http import parsing
from sft_magics.serving.protocols.openai_requests import USUAL_LENGTH

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
TRUTH: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
TEXT: Schema = {"type": "string", "maxLength": parsing.MAX_TEXT}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": parsing.MAX_ID}


def ref(name: str) -> Schema:
    """Return a reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def some(of: Schema, least: int = 0, most: int | None = None) -> Schema:
    """Return the schema of a list."""
    bounds = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": of, "minItems": least, **bounds}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these keys, and maybe others."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def mapping(of: Schema) -> Schema:
    """Return the schema of an object whose keys are labels or names."""
    return {"type": "object", "additionalProperties": of}


def either(*of: Schema) -> Schema:
    """Return a schema of which one part shall fit."""
    return {"anyOf": list(of)}


_BOX = record(dict.fromkeys(("confidence", "left", "top", "right", "bottom"), NUMBER) | {"label": STRING})
_MESSAGE = record(
    {
        "role": {"enum": ["system", "user", "assistant", "tool", "developer"]},
        "content": either(TEXT, some(record({"type": {"const": "text"}, "text": TEXT}))),
    }
)
_SAMPLING: dict[str, Schema] = {
    "max_tokens": {"type": "integer", "minimum": 1, "default": USUAL_LENGTH},
    "temperature": {"type": "number", "minimum": 0, "maximum": 100, "default": 0},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
    "stop": either(STRING, some(STRING, 0, 16)),
    "seed": WHOLE,
    "stream": {"type": "boolean", "default": False},
    "stream_options": record({}, {"include_usage": TRUTH}),
    "n": {"const": 1},
}
_USAGE = record(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), WHOLE))
_ENDED: Schema = {"enum": ["stop", "length"]}
_TENSOR_OUT = record(
    {"name": STRING, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": some(WHOLE)},
    {"data": some(either(STRING, NUMBER)), "parameters": record({"binary_data_size": WHOLE})},
)
_TENSOR_ABOUT = record({"name": STRING, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": some(WHOLE)})
_MODEL_CARD = {"id": STRING, "object": {"const": "model"}, "created": WHOLE, "owned_by": STRING}
_SWAP: dict[str, Schema] = {"version": NAME, "folder": {"type": "string", "pattern": "^/"}}
_ONE_INPUT = either(TEXT, some(ref("Message"), 1))

SCHEMAS: dict[str, Schema] = {
    "Problem": record({"error": STRING}, {"next": STRING}),
    "OpenAIProblem": record({"error": record({"message": STRING, "type": STRING})}),
    "MLflowProblem": record({"error_code": STRING, "message": STRING}),
    "Message": _MESSAGE,
    "Question": record(
        {"inputs": either(_ONE_INPUT, some(_ONE_INPUT, 1, parsing.MAX_INPUTS))},
        {"ids": either(NAME, some(NAME, 1, parsing.MAX_INPUTS))},
    ),
    "Prediction": record(
        {"id": STRING, "label": STRING, "confidence": NUMBER, "scores": mapping(NUMBER)},
        {
            "boxes": some(_BOX),
            "mask": {"type": "string", "description": "a PNG as a data: address"},
            "truncated_tokens": {
                "type": "integer",
                "minimum": 1,
                "description": "tokens at the text's end that were not read",
            },
        },
    ),
    "Answer": record({"version": STRING, "predictions": some(ref("Prediction"))}),
    "Feedback": record({"labels": some(record({"id": NAME, "label": NAME}), 1)}),
    "FeedbackResult": record(
        {
            "added": WHOLE,
            "unknown": some(STRING),
            "mended": WHOLE,
            "refused": mapping(STRING),
            "labels": some(STRING),
        }
    ),
    "Health": record({"name": STRING, "state": STRING}),
    "Ready": record(dict.fromkeys(("name", "state", "version", "ref", "task"), STRING) | {"labels": some(STRING)}),
    "Stats": record({"name": STRING, "state": STRING, "answered": WHOLE, "latency_ms": mapping(NUMBER)}),
    "Swap": record(_SWAP, {"ref": NAME, "labels": some(NAME)}),
    "Swapped": record({"version": STRING, "ref": STRING}, {"labels": some(STRING), "share": NUMBER}),
    "Traffic": either(
        record(
            {**_SWAP, "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}},
            {"ref": NAME, "labels": some(NAME), "rules": mapping(NUMBER)},
        ),
        record({"abort": NAME}),
    ),
    "TrafficResult": either(ref("Swapped"), record({"aborted": TRUTH})),
    "ServerAbout": record({"name": STRING, "version": STRING, "extensions": some(STRING)}),
    "Live": record({"live": TRUTH}),
    "IsReady": record({"ready": TRUTH}, {"name": STRING}),
    "ModelAbout": record(
        {
            "name": STRING,
            "versions": some(STRING),
            "platform": STRING,
            "inputs": some(_TENSOR_ABOUT),
            "outputs": some(_TENSOR_ABOUT),
        }
    ),
    "Tensors": record(
        {
            "inputs": some(
                record(
                    {
                        "name": {"enum": ["text", "image", "prompt"]},
                        "datatype": {"const": "BYTES"},
                        "shape": some({"type": "integer", "minimum": 1, "maximum": parsing.MAX_INPUTS}, 1, 2),
                    },
                    {"data": some(TEXT), "parameters": record({}, {"binary_data_size": WHOLE})},
                ),
                1,
                1,
            )
        },
        {
            "id": NAME,
            "outputs": some(record({"name": STRING}, {"parameters": record({}, {"binary_data": TRUTH})})),
            "parameters": record({}, {"binary_data_output": TRUTH}),
        },
    ),
    "TensorAnswer": record(
        {"model_name": STRING, "model_version": STRING, "outputs": some(_TENSOR_OUT)}, {"id": STRING}
    ),
    "Chat": record(
        {"model": NAME, "messages": some(ref("Message"), 1, parsing.MAX_MESSAGES)},
        {**_SAMPLING, "max_completion_tokens": {"type": "integer", "minimum": 1}},
    ),
    "ChatAnswer": record(
        {
            "id": STRING,
            "object": {"const": "chat.completion"},
            "created": WHOLE,
            "model": STRING,
            "usage": _USAGE,
            "choices": some(
                record(
                    {"index": WHOLE, "finish_reason": _ENDED, "message": record({"role": STRING, "content": STRING})}
                )
            ),
        }
    ),
    "Prompt": record({"model": NAME, "prompt": either(TEXT, some(TEXT, 1, 1))}, _SAMPLING),
    "PromptAnswer": record(
        {
            "id": STRING,
            "object": {"const": "text_completion"},
            "created": WHOLE,
            "model": STRING,
            "usage": _USAGE,
            "choices": some(record({"index": WHOLE, "finish_reason": _ENDED, "text": STRING})),
        }
    ),
    "Models": record({"object": {"const": "list"}, "data": some(record(_MODEL_CARD))}),
    "ModelStatus": record(
        {"model_version_status": some(record({"version": STRING, "state": STRING, "status": mapping(STRING)}))},
        _MODEL_CARD,
    ),
    "ModelMetadata": record({"model_spec": mapping(STRING), "metadata": mapping(ANYTHING)}),
    "Instances": either(
        record({"instances": some(ANYTHING, 1)}, {"signature_name": STRING}),
        record({"inputs": ANYTHING}, {"signature_name": STRING}),
    ),
    "InstancesAnswer": either(
        record({"predictions": some(mapping(ANYTHING))}), record({"outputs": mapping(some(ANYTHING))})
    ),
    "HubQuestion": record({"inputs": either(TEXT, some(TEXT, 1))}, {"parameters": mapping(ANYTHING), "stream": TRUTH}),
    "HubAnswer": some(either(mapping(ANYTHING), some(mapping(ANYTHING)))),
    "Rows": either(
        record({"dataframe_split": record({"columns": some(STRING, 1), "data": some(some(ANYTHING), 1)})}),
        record({"dataframe_records": some(mapping(ANYTHING), 1)}),
        record({"instances": some(ANYTHING, 1)}),
        record({"inputs": either(TEXT, some(ANYTHING, 1), mapping(ANYTHING))}),
    ),
    "RowsAnswer": record({"predictions": some(either(STRING, ref("Prediction")))}),
    "Document": record({"openapi": STRING, "paths": mapping(ANYTHING)}),
}
