"""A version to start from has to mean the same classes in the same order."""

from dataclasses import replace

import pytest

import sft_magics as sft
from sft_magics.core.errors import ModelProblem
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry


def test_a_parent_with_the_classes_in_another_order_is_refused(trained: Workspace) -> None:
    registry = Registry(trained)
    films = registry.model("films")
    registry.add_model(replace(films, name="other", labels=films.labels[::-1]))

    with pytest.raises(ModelProblem, match="its head does not fit") as caught:
        sft.finetune("other", from_="films:1", workspace=trained.root)

    with pytest.raises(ModelProblem, match="its head does not fit"):
        sft.retrain("other", from_="films:1", workspace=trained.root)

    assert "%sft_versions other" in caught.value.next_step
    assert [r.model for r in sft.runs(workspace=trained.root).rows] == ["films"]
