"""Models and alerts: the things that are put under a name of their own, beside datasets."""

import itertools
from dataclasses import replace

from sft_magics.core import errors
from sft_magics.core.records import Alert, Model
from sft_magics.registry.datasets import Datasets


class Catalog(Datasets):
    """Puts, finds and lists models and alerts."""

    def models(self) -> list[Model]:
        """Return the models by name."""
        return sorted(self._rows("models", Model), key=lambda m: m.name)

    def model(self, name: str) -> Model:
        """Return the model called `name`; raises NotFound."""
        self._check_model(name)
        return self._rows("models", Model, name=name)[0]

    def _check_model(self, name: str) -> None:
        """Raise NotFound unless there is a model called `name`."""
        if not self._count("models", name=name):
            known = [m.name for m in self.models()]
            raise errors.not_found("model", name, known, f"%sft_create {name} --data DATASET")

    def add_model(self, model: Model) -> Model:
        """Remember a model and return it; the same name again updates it and keeps when it was created.

        Raises Refused where versions exist whose task or labels would no longer be the model's.
        """
        with self.transaction():
            models = {m.name: m for m in self.models()}
            old = models.get(model.name)
            if old is not None:
                model = replace(model, created_at=old.created_at)
                self._check_update(old, model, set(models))
            if model != old:
                self._put("models", model, "name")
                before = None if old is None else _summary(old)
                self._log("create", f"model {model.name}", before, _summary(model), model=model.name)
        return model

    def _check_update(self, old: Model, new: Model, taken: set[str]) -> None:
        if not self._count("versions", model=old.name):
            return
        same_labels = old.labels == new.labels or not old.labels or not new.labels
        if old.task == new.task and same_labels:
            return
        free = next(n for n in (f"{old.name}-{i}" for i in itertools.count(2)) if n not in taken)
        what = f"the labels {', '.join(old.labels)}" if old.task == new.task else f"the task {old.task}"
        raise errors.Refused(
            f"The model '{old.name}' has versions with {what}, which the new line would change.",
            f"%sft_create {free} --data {new.data or 'DATASET'}",
        )

    def put_alert(self, alert: Alert) -> Alert:
        """Remember an alert, in place of the one of that id; a new rule or state is logged, a mere new value is not."""
        with self.transaction():
            old = self._rows("alerts", Alert, id=alert.id)
            self._put("alerts", alert, "id")
            if not old or (old[0].rule, old[0].state) != (alert.rule, alert.state):
                before = f"{old[0].rule}: {old[0].state}" if old else None
                self._log("alert", f"endpoint {alert.endpoint}", before, f"{alert.rule}: {alert.state}")
        return alert

    def alerts(self, endpoint: str | None = None) -> list[Alert]:
        """Return the alerts, of one endpoint or all, oldest first."""
        return self._rows("alerts", Alert, **({} if endpoint is None else {"endpoint": endpoint}))

    def drop_alert(self, alert: str) -> Alert:
        """Forget the alert with the id `alert` and return it; raises NotFound."""
        with self.transaction():
            found = {a.id: a for a in self.alerts()}
            if alert not in found:
                raise errors.not_found("alert", alert, found, "%sft_alerts")
            old = found[alert]
            self._remove("alerts", id=alert)
            self._log("drop alert", f"endpoint {old.endpoint}", f"{old.rule}: {old.state}", None)
        return old


def _summary(model: Model) -> str:
    return f"{model.task} on {model.base}, data {model.data or 'none'}, labels {', '.join(model.labels) or 'none'}"
