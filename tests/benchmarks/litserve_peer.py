"""LitServe as its documentation writes a server, with dynamic batches; in a module, since it starts its own processes.

python -m tests.benchmarks.litserve_peer litserve-bf16 PORT MODEL
"""

import sys
from typing import Any

import litserve

from tests.benchmarks.serving_peers import pipe


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Batches of up to 64 sentences."""

    folder = ""
    bf16 = False

    def setup(self, device: str) -> None:
        """Load the model, in the worker's process."""
        self.model = pipe(self.folder, bf16=self.bf16)

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the sentence."""
        return request["text"]

    def predict(self, texts: list[str]) -> Any:
        """Answer a batch."""
        return self.model(texts, batch_size=len(texts))

    def encode_response(self, output: Any) -> Any:
        """Return label and score."""
        return output


def main() -> None:
    """Serve until ended."""
    name, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    api = Api(max_batch_size=64, batch_timeout=0.005)
    api.folder, api.bf16 = folder, name.endswith("bf16")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(port=port, host="127.0.0.1", log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
