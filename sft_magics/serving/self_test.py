"""An endpoint asks itself, over HTTP as any client would, before it answers others."""

import http.client
import json
from typing import Any

from sft_magics.core import errors
from sft_magics.core.records import Prediction
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.serving.addresses import Address
from sft_magics.serving.http.dispatch import PROOF
from sft_magics.serving.scheduling import golden_examples
from sft_magics.serving.scheduling.loading import LoadedVersion

_SECONDS = 120.0


def prove(live: LoadedVersion, file: str, where: tuple[Address, str], proof: str) -> int:
    """Ask for the stored examples of a version, and return how many there are; raises ModelProblem, EndpointProblem.

    `where` is the endpoint's door and its token.
    Each request has one example, as most clients ask.
    """
    examples = golden_examples.load(file, live.task)
    door, token = where
    connection = door.connection(_SECONDS)
    headers = {"Host": door.host, "Authorization": f"Bearer {token}", "Content-Type": "application/json", PROOF: proof}
    try:
        now = [_asked(connection, headers, example, live.task) for example in examples]
    except (OSError, http.client.HTTPException) as error:
        raise errors.EndpointProblem(
            f"The endpoint did not answer itself ({type(error).__name__}).", "type the same line again."
        ) from error
    finally:
        connection.close()
    golden_examples.judge(live, examples, now)
    return len(examples)


def _asked(
    connection: http.client.HTTPConnection, headers: dict[str, str], example: golden_examples.Example, task: str
) -> Prediction:
    body: dict[str, Any] = {"inputs": [example.asked]}
    if task == CAUSAL_LM:
        body["max_new_tokens"] = int(example.said["tokens"])
    connection.request("POST", "/predict", json.dumps(body).encode(), headers)
    response = connection.getresponse()
    reply = json.loads(response.read())
    if response.status != 200:
        raise errors.ModelProblem(
            f"The version does not answer one of its stored examples: {reply.get('error')}", "train it again."
        )
    row = reply["predictions"][0]
    return Prediction("", row["label"], row["confidence"], row["scores"], boxes=tuple(row.get("boxes") or ()))
