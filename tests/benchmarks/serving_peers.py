"""Servers of others, each as its own documentation writes one.

    python -m tests.benchmarks.serving_peers NAME PORT MODEL

All serve the same folder of a text classifier by transformers, one sentence a request, and answer its label and score.
"""

import sys
from typing import Any


def _pipeline(folder: str, *, bf16: bool) -> Any:
    import torch
    from transformers import pipeline

    torch.set_num_threads(2)
    return pipeline("text-classification", folder, device="cpu", dtype=torch.bfloat16 if bf16 else torch.float32)


def litserve(port: int, folder: str, *, bf16: bool) -> None:
    """LitServe with dynamic batches of up to 64 sentences."""
    import litserve as ls

    class Api(ls.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            self.model = _pipeline(folder, bf16=bf16)

        def decode_request(self, request: dict[str, str]) -> str:
            return request["text"]

        def predict(self, texts: list[str]) -> Any:
            return self.model(texts, batch_size=len(texts))

        def encode_response(self, output: Any) -> Any:
            return output

    api = Api(max_batch_size=64, batch_timeout=0.005)
    ls.LitServer(api, accelerator="cpu").run(
        port=port, host="127.0.0.1", log_level="warning", generate_client_file=False
    )


def fastapi(port: int, folder: str) -> None:
    """FastAPI with a pipeline in float32, in a thread of its pool, as most tutorials have it."""
    import uvicorn
    from fastapi import Body, FastAPI

    app, model = FastAPI(), _pipeline(folder, bf16=False)

    @app.post("/predict")
    def predict(body: dict[str, str] = Body()) -> Any:  # noqa: B008
        return model(body["text"])[0]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def main() -> None:
    """Serve until ended."""
    name, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if name == "fastapi":
        fastapi(port, folder)
    else:
        litserve(port, folder, bf16=name.endswith("bf16"))


if __name__ == "__main__":
    main()
