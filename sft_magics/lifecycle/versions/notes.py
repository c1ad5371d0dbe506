"""What people write on versions: notes and tags, each change of them in the history."""

from typing import Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Version
from sft_magics.core.signatures import Names
from sft_magics.lifecycle.options import WorkspaceOption

_LONGEST = 10_000


def note(
    version: Annotated[str, "the version: reviews:3", Names("version")],
    *text: Annotated[str, "the note, in quotes; it takes the place of the one there"],
    reason: Annotated[str, "why; it is kept in the history"] = "",
    workspace: WorkspaceOption = None,
) -> Version:
    """Write a note on a version, in place of the one it has; "" takes it away. The history keeps what was there."""
    from sft_magics.registry import Registry

    if not text:
        raise errors.UsageProblem("There is no note to write.", f'%sft_note {version} "trained on the new labels"')
    return Registry(places.find(workspace)).set_note(version, _checked(" ".join(text), "note"), reason=reason)


def tag(
    version: Annotated[str, "the version: reviews:3", Names("version")],
    *tags: Annotated[str, "name=value, any number of them; name= takes one away"],
    reason: Annotated[str, "why; it is kept in the history"] = "",
    workspace: WorkspaceOption = None,
) -> Version:
    """Write tags on a version, such as owner=ann or intended-use="film reviews"; the history keeps what was there."""
    from sft_magics.registry import Registry

    wanted: dict[str, str | None] = {}
    for word in tags:
        name, equals, value = str(word).partition("=")
        if not equals:
            raise errors.UsageProblem(
                f"'{word[:60]}' is not a tag: it reads name=value.", f"write {name or 'owner'}=..."
            )
        wanted[name.strip()] = _checked(value, f"tag {name}") or None
    if not wanted:
        raise errors.UsageProblem("There is no tag to write.", f"%sft_tag {version} owner=ann stage=pilot")
    return Registry(places.find(workspace)).set_tags(version, wanted, reason=reason)


def _checked(text: str, what: str) -> str:
    if len(text) > _LONGEST:
        raise errors.UsageProblem(
            f"The {what} has {len(text):,} characters; {_LONGEST:,} are the most.",
            "put the long text in a file and write its name here.",
        )
    return text
