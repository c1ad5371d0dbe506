"""Options that change while a run trains, and what becomes of the plan: each at a step that is written down first.

    edits.json   the edits that are in force, with their steps; on the disk before the step that first goes by them

So a run that is killed and goes on, and one that is made again, change at the same steps. What the rate does:

- another rate is the rate of the next step, and falls from there, by the run's schedule, over the steps that are left;
  while the rate still rises, it rises to the new one instead;
- another number of epochs moves the end: the rate is from now on that of a run of the new length, whose rise was as
  long as this one's. A run that is at its end already therefore goes on well above zero.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_magics.core import codec, commands, errors
from sft_magics.core.commands import MORE_EPOCHS, AppliedEdit, Edit
from sft_magics.core.events import Edited, Event
from sft_magics.core.workspace import write_durably
from sft_magics.engine.training import optimizers
from sft_magics.engine.training.checkpoint_writer import CheckpointWriter


@dataclass(frozen=True)
class ScheduleState:
    """The plan in force: options, steps, and the rate's course: from step `begin`, rising over `rising` to `peak`."""

    options: dict[str, Any]
    batches: int
    steps: int
    peak: float
    rising: float
    begin: int = 0

    @classmethod
    def planned(cls, options: dict[str, Any], batches: int, steps: int) -> "ScheduleState":
        """Return the plan as it was ordered."""
        rising = optimizers.rise(steps, options["warmup"], options.get("schedule", "linear"))
        return cls(options, batches, steps, options["lr"], rising)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        schedule = self.options.get("schedule", "linear")
        return optimizers.along(step - self.begin, self.steps - self.begin, self.peak, self.rising, schedule)

    def edited(self, step: int, changes: dict[str, Any]) -> "ScheduleState":
        """Return the plan from `step` on, with these options in the place of what they were."""
        found = replace(self, options={**self.options, **changes})
        if "epochs" in changes:
            found = replace(found, steps=self._end(step, steps_of(changes["epochs"], self.batches)))
        if "lr" in changes:
            found = replace(found, peak=changes["lr"])
            if step - self.begin >= self.rising:
                found = replace(found, begin=step, rising=0.0)
        return found

    def _end(self, step: int, wanted: int) -> int:
        # One more step where less is left: a run ends with an evaluation, which comes after a step.
        return wanted if wanted > step else min(self.steps, step + 1)


def steps_of(epochs: float, batches: int) -> int:
    """Return how many steps so many epochs take."""
    return max(1, math.ceil(epochs * batches - 1e-9))


class Edits:
    """The edits of one run in the order in which they were taken up, and the plan that is in force with them.

    `plan` is the one that was ordered, `keeper` puts up with a full disk, `say` takes events.
    """

    def __init__(
        self, folder: Path, plan: ScheduleState, keeper: CheckpointWriter, say: Callable[[Event], None]
    ) -> None:
        self._file = folder / "edits.json"
        self._plan = self.course = plan
        self._keeper = keeper
        self._say = say
        self._taken = self._read() or [_repeated(one) for one in plan.options.get("edits", ())]
        self._done = 0

    def _read(self) -> list[AppliedEdit]:
        try:
            return commands.taken(self._file)
        except (ValueError, TypeError, KeyError) as error:
            raise errors.RunProblem(
                f"{self._file} is damaged: at which steps the run was edited is not known.",
                "%sft_finetune MODEL --from RUN starts a new one from its checkpoint.",
            ) from error

    def written(self) -> list[dict[str, Any]]:
        """Return those that are in force, as a version's options record them."""
        return commands.written(self._taken[: self._done])

    def rewind(self, step: int) -> None:
        """Go by what was in force before `step`, which comes next."""
        before = [edit for edit in self._taken if edit.step < step]
        self._done, self.course = len(before), self._plan
        for edit in before:
            self.course = self.course.edited(edit.step, edit.changes)

    def take_up(self, step: int, told: Sequence[Edit]) -> None:
        """Let come into force what is due with `step`: what did so before, then what is new, written down first."""
        while self._done < len(self._taken) and self._taken[self._done].step <= step:
            self._enforce(self._taken[self._done])
        if self._done < len(self._taken):  # steps that are done again: what is new comes after what is to come
            return
        newest = max((edit.number for edit in self._taken), default=-1)
        try:
            for edit in (e for e in told if e.number > newest):
                self._add(AppliedEdit(step, _resolved(edit.changes, self.course), edit.number, edit.who))
        except OSError as error:
            self._keeper.put_up_with(error, "what was edited cannot be written down and waits")

    def _add(self, new: AppliedEdit) -> None:
        if new.changes:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._file, codec.dumps([*self._taken, new]).encode())
            self._taken.append(new)
            self._enforce(new)

    def _enforce(self, edit: AppliedEdit) -> None:
        before = self.course.options
        self.course = self.course.edited(edit.step, edit.changes)
        self._done += 1
        changes = {name: [before.get(name), value] for name, value in edit.changes.items()}
        self._say(Edited(edit.step, changes, self.course.steps, self.course.options["epochs"], edit.who))


def _resolved(changes: dict[str, float], course: ScheduleState) -> dict[str, Any]:
    found = dict(changes)
    if more := found.pop(MORE_EPOCHS, 0.0):
        found["epochs"] = course.options["epochs"] + more
    return found


def _repeated(recorded: dict[str, Any]) -> AppliedEdit:
    return AppliedEdit(int(recorded["step"]), {name: value for name, value in recorded.items() if name != "step"})
