"""An alias and the endpoint that follows it say the same, also when the switch fails."""

from dataclasses import replace

import pytest

import sft_magics as sft
from sft_magics.core.errors import Refused, SftError
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry


def test_a_version_that_cannot_be_served_leaves_alias_and_endpoint_as_they_were(trained: Workspace) -> None:
    registry = Registry(trained)
    first = registry.version("films:1")
    lost = registry.commit_version(replace(first, artifact="0" * 64))
    other = registry.add_model(replace(registry.model("films"), name="other"))
    stranger = registry.commit_version(replace(first, model=other.name))
    sft.alias(first.ref, "live", workspace=trained.root)
    sft.deploy("films@live", workspace=trained.root)

    with pytest.raises(SftError):
        sft.alias(lost.ref, "live", workspace=trained.root)
    with pytest.raises(Refused, match="answers for the model films") as caught:
        sft.deploy(stranger.ref, name="films", workspace=trained.root)

    assert "--name" in caught.value.next_step
    assert registry.aliases("films") == {"live": 1}
    (served,) = sft.endpoints(workspace=trained.root).rows
    assert (served.state, served.version) == ("ready", "films:1")
    assert sft.predict("films", "a moving film", endpoint=True, workspace=trained.root).version == "films:1"
