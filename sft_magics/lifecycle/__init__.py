"""WHAT happens to a model: create, train, deploy, monitor, optimize, retire.

The six stages are the six files of those names. `data`, `evaluate`, `predict`, `versions`, `runs` and `overview` serve
them all; `process` is what runs in a job's own process, `work` and `serve` are how stages reach jobs and endpoints.
Stages speak through records and do not call each other; `optimize` calls `train`, and that is the only exception.
"""
