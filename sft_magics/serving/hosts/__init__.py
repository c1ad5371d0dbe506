"""A version behind an endpoint lives in a process of its own, its host: what ends a model ends no endpoint.

`process` is that process, `starting` how one begins, `hosted` the model as the endpoint sees it. A host that is gone
is replaced, and asked once more for what it was asked last.
"""
