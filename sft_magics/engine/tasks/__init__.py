"""One file a task, registered the way a third party's would be."""

from sft_magics.engine.tasks.base import Batch, Encoded, Measured, Report, Task, find, register

__all__ = ["Batch", "Encoded", "Measured", "Report", "Task", "find", "register"]
