"""Servers of others, each as its own documentation writes one.

    python -m tests.benchmarks.serving_peers NAME PORT MODEL

All serve the same folder of a text classifier by transformers, one sentence a request, and answer its label and score.
"""

import sys
from typing import Any


def pipe(folder: str, *, bf16: bool) -> Any:
    """Return transformers' pipeline of a folder."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(2)
    return pipeline("text-classification", folder, device="cpu", dtype=torch.bfloat16 if bf16 else torch.float32)


def fastapi(port: int, folder: str) -> None:
    """FastAPI with a pipeline in float32, in a thread of its pool, as most tutorials have it."""
    import uvicorn
    from fastapi import Body, FastAPI

    app, model = FastAPI(), pipe(folder, bf16=False)

    @app.post("/predict")
    def predict(body: dict[str, str] = Body()) -> Any:  # noqa: B008
        return model(body["text"])[0]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def main() -> None:
    """Serve until ended."""
    fastapi(int(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
