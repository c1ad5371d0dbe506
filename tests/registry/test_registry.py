import json
import math
import subprocess
import sys
import threading

import pytest

from sft_magics.core import errors
from sft_magics.core.records import Alert, Metric
from sft_magics.core.references import parse
from sft_magics.registry import Registry
from sft_magics.registry.testing import a_dataset, a_model, a_version


def commit(registry: Registry, count: int, model: str = "pets") -> None:
    for _ in range(count):
        registry.commit_version(a_version(model))


# versions


def test_numbers_are_given_in_order_whatever_the_draft_says(registry: Registry) -> None:
    assert [registry.commit_version(a_version(number=n)).number for n in (7, 0, 7)] == [1, 2, 3]
    assert [v.number for v in registry.versions("pets")] == [3, 2, 1]


def test_the_order_holds_beyond_ten(registry: Registry) -> None:
    commit(registry, 12)
    assert [v.number for v in registry.versions("pets")] == list(range(12, 0, -1))
    assert registry.version("pets").number == 12
    assert registry.history("pets")[0].subject == "pets:12"


def test_each_model_counts_for_itself(registry: Registry) -> None:
    registry.add_model(a_model("cars"))
    commit(registry, 2)
    commit(registry, 1, "cars")
    assert [v.ref for v in registry.versions()] == ["cars:1", "pets:2", "pets:1"]


def test_a_version_comes_back_as_it_went_in(registry: Registry) -> None:
    draft = a_version(
        cells=("%sft_finetune pets",), note="first", metrics={"f1[a]": Metric("f1", 0.5, None, 0.6, 3, "a")}
    )
    made = registry.commit_version(draft, aliases=("candidate",))
    assert made.aliases == ("candidate",)
    assert registry.version("pets:1") == made
    assert registry.version(parse("pets@candidate")) == made
    assert made.metrics == draft.metrics
    assert made.options == draft.options


def test_what_is_handed_out_is_a_copy(registry: Registry) -> None:
    commit(registry, 1)
    registry.version("pets:1").options["nested"]["betas"].append("changed")
    with registry.transaction():
        registry.version("pets:1").options["nested"]["betas"].append("changed")
        registry.set_note("pets:1", "so that the transaction writes")
    assert registry.version("pets:1").options["nested"] == {"betas": [0.9, 0.999]}


def test_numbers_that_are_not_finite_come_back(registry: Registry) -> None:
    values = {"loss": math.nan, "high": math.inf, "low": -math.inf}
    registry.commit_version(a_version(metrics={k: Metric(k, v, v, v) for k, v in values.items()}))
    found = registry.version("pets:1").metrics
    assert math.isnan(found["loss"].value)
    assert math.isnan(found["loss"].low or 0)
    assert found["high"].value == math.inf
    assert found["low"].high == -math.inf


def test_an_unknown_model_gets_no_version(registry: Registry) -> None:
    with pytest.raises(errors.NotFound, match=r"no model called 'pest'\. Did you mean 'pets'"):
        registry.commit_version(a_version("pest"))
    assert registry.versions() == []


def test_a_bad_alias_leaves_no_version(registry: Registry) -> None:
    with pytest.raises(errors.UsageProblem):
        registry.commit_version(a_version(), aliases=("candidate", "a b"))
    assert registry.versions("pets") == []
    assert registry.aliases("pets") == {}


@pytest.mark.parametrize(
    ("ref", "what", "step"),
    [
        ("pest", "Did you mean 'pets'", "%sft_create pest"),
        ("pest:1", "Did you mean 'pets'", "%sft_create pest"),
        ("pest@live", "Did you mean 'pets'", "%sft_create pest"),
        ("cars", "has no versions yet", "%sft_finetune cars"),
        ("cars:1", "has no versions yet", "%sft_finetune cars"),
        ("pets:4", "has no version 4: it has versions 1 to 3", "%sft_versions pets"),
        (
            "pets@liev",
            "Did you mean 'live'. It has candidate .version 3., live .version 2.",
            "%sft_alias pets:NUMBER liev",
        ),
        ("cars@live", "has no alias 'live'. It has none", "%sft_alias cars:NUMBER live"),
        ("run-0000", "No version was made by run-0000", "%sft_keep run-0000"),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(registry: Registry, ref: str, what: str, step: str) -> None:
    registry.add_model(a_model("cars"))
    commit(registry, 3)
    registry.set_alias("pets", "live", 2)
    registry.set_alias("pets", "candidate", 3)
    with pytest.raises(errors.NotFound, match=what) as caught:
        registry.version(ref)
    assert caught.value.next_step.startswith(step)


def test_a_run_means_the_version_it_made(registry: Registry) -> None:
    commit(registry, 1)
    registry.commit_version(a_version(run="run-beef"))
    assert registry.version("run-beef").ref == "pets:2"


def test_a_note_is_changed_and_logged(registry: Registry) -> None:
    commit(registry, 1)
    assert registry.set_note("pets:1", "good on short texts").note == "good on short texts"
    assert registry.version("pets:1").note == "good on short texts"
    entry = registry.history("pets")[0]
    assert (entry.action, entry.subject, entry.before, entry.after) == ("note", "pets:1", None, "good on short texts")


# aliases


def test_live_remembers_what_was_live(registry: Registry) -> None:
    commit(registry, 3)
    assert registry.set_alias("pets", "live", 1) is None
    assert registry.aliases("pets") == {"live": 1}
    assert registry.set_alias("pets", "live", 3, reason="better") == 1
    assert registry.aliases("pets") == {"live": 3, "previous": 1}
    assert registry.set_alias("pets", "live", 3) == 3
    assert registry.aliases("pets") == {"live": 3, "previous": 1}
    assert registry.set_alias("pets", "live", 1) == 3
    assert registry.aliases("pets") == {"live": 1, "previous": 3}
    assert [v.aliases for v in registry.versions("pets")] == [("previous",), (), ("live",)]


def test_compare_and_set(registry: Registry) -> None:
    commit(registry, 3)
    assert registry.set_alias("pets", "live", 1, expected=None) is None
    with pytest.raises(errors.Refused, match="was not set, it is version 1 now"):
        registry.set_alias("pets", "live", 2, expected=None)
    with pytest.raises(errors.Refused, match="was version 3, it is version 1 now"):
        registry.set_alias("pets", "live", 2, expected=3)
    assert registry.aliases("pets") == {"live": 1}
    assert registry.set_alias("pets", "live", 2, expected=1) == 1


@pytest.mark.parametrize(
    ("alias", "number", "kind"),
    [("live", 2, errors.NotFound), ("live", 0, errors.NotFound), ("a b", 1, errors.UsageProblem)],
)
def test_an_alias_needs_a_name_and_a_version(
    registry: Registry, alias: str, number: int, kind: type[errors.SftError]
) -> None:
    commit(registry, 1)
    with pytest.raises(kind):
        registry.set_alias("pets", alias, number)
    assert registry.aliases("pets") == {}


def test_an_alias_is_dropped_once(registry: Registry) -> None:
    commit(registry, 2)
    registry.set_alias("pets", "best", 2)
    assert registry.drop_alias("pets", "best", reason="a mistake") == 2
    with pytest.raises(errors.NotFound):
        registry.drop_alias("pets", "best")
    entry = registry.history("pets")[0]
    assert (entry.action, entry.before, entry.after, entry.reason) == ("drop alias", "pets:2", None, "a mistake")


# retirement


def test_retiring_moves_the_aliases_to_the_successor(registry: Registry) -> None:
    commit(registry, 3)
    registry.set_alias("pets", "live", 2)
    registry.set_alias("pets", "live", 1)
    registry.set_alias("pets", "best", 1)
    retired = registry.retire_version("pets:1", "pets:3", "drift to tweets")
    assert (retired.status, retired.successor, retired.aliases) == ("retired", "pets:3", ())
    assert registry.aliases("pets") == {"live": 3, "best": 3, "previous": 2}
    assert registry.history("pets")[0].reason == "drift to tweets"
    entries = len(registry.history())
    assert registry.retire_version("pets:1", "pets:3", "again") == retired
    assert len(registry.history()) == entries


def test_previous_never_points_to_what_is_retired_or_live(registry: Registry) -> None:
    commit(registry, 2)
    registry.set_alias("pets", "live", 1)
    registry.set_alias("pets", "live", 2)
    registry.retire_version("pets:2", "pets:1", "back again")
    assert registry.aliases("pets") == {"live": 1}
    commit(registry, 1)
    registry.set_alias("pets", "live", 3)
    registry.retire_version("pets:1", None, "old")
    assert registry.aliases("pets") == {"live": 3}


def test_retiring_in_the_order_a_stage_might_choose(registry: Registry) -> None:
    commit(registry, 2)
    registry.set_alias("pets", "live", 1)
    with registry.transaction():
        for alias in registry.version("pets:1").aliases:
            registry.set_alias("pets", alias, 2)
        registry.retire_version("pets:1", "pets:2", "drift")
    assert registry.aliases("pets") == {"live": 2}


def test_what_cannot_be_retired(registry: Registry) -> None:
    registry.add_model(a_model("cars"))
    commit(registry, 1, "cars")
    commit(registry, 3)
    registry.set_alias("pets", "live", 1)
    for successor, what in ((None, "still @live"), ("pets:1", "succeed itself"), ("cars:1", "another model")):
        with pytest.raises(errors.Refused, match=what):
            registry.retire_version("pets:1", successor, "")
    registry.retire_version("pets:2", None, "")
    with pytest.raises(errors.Refused, match="retired itself"):
        registry.retire_version("pets:1", "pets:2", "")
    assert registry.version("pets:1").status == "ready"


def test_a_retired_version_is_not_the_newest_and_gets_no_alias(registry: Registry) -> None:
    commit(registry, 2)
    registry.retire_version("pets:2", "pets:1", "worse")
    assert registry.version("pets").ref == "pets:1"
    with pytest.raises(errors.Refused, match="pets:2 is retired") as caught:
        registry.set_alias("pets", "live", 2)
    assert caught.value.next_step == "%sft_alias pets:1 live"
    registry.retire_version("pets:1", None, "all of it")
    with pytest.raises(errors.NotFound, match="Every version of 'pets' is retired"):
        registry.version("pets")
    commit(registry, 1)
    assert registry.version("pets").ref == "pets:3"


# data sets, models, alerts


def test_data_sets(registry: Registry) -> None:
    registry.put_dataset(a_dataset("films"))
    registry.put_dataset(a_dataset("cars"))
    registry.put_dataset(a_dataset("films", fingerprint="e" * 64))
    assert [d.ref for d in registry.datasets()] == ["cars:1", "films:1", "films:2"]
    assert registry.dataset("films").fingerprint == "e" * 64
    assert registry.dataset("films:1").fingerprint == "f" * 64
    entry = registry.history()[0]
    assert (entry.subject, entry.before, entry.after) == ("dataset films:2", "f" * 64, "e" * 64)
    assert entry.reason == "from films.csv"
    with pytest.raises(errors.NotFound, match="Did you mean 'films'") as caught:
        registry.dataset("film")
    assert caught.value.next_step == "%sft_data film FILE"


def test_the_same_model_again_is_harmless(registry: Registry) -> None:
    commit(registry, 1)
    entries = len(registry.history())
    again = registry.add_model(a_model("pets", created_at=9.0))
    assert again.created_at == a_model().created_at
    assert len(registry.history()) == entries
    assert registry.add_model(a_model("pets", base="org/other")).base == "org/other"
    assert registry.model("pets").base == "org/other"
    assert [m.name for m in registry.models()] == ["pets"]


@pytest.mark.parametrize("change", [{"task": "image-classification"}, {"labels": ("positive", "negative")}])
def test_a_model_with_versions_keeps_its_task_and_labels(registry: Registry, change: dict[str, object]) -> None:
    assert registry.add_model(a_model("pets", **change)) == a_model("pets", **change)
    registry.add_model(a_model("pets"))
    registry.add_model(a_model("pets-2"))
    commit(registry, 1)
    with pytest.raises(errors.Refused, match="'pets' has versions") as caught:
        registry.add_model(a_model("pets", **change))
    assert caught.value.next_step.startswith("%sft_create pets-3 ")
    assert registry.model("pets") == a_model("pets")


def test_alerts(registry: Registry) -> None:
    one = Alert("alert-1", "pets", "recall[negative] < 0.8")
    registry.put_alert(one)
    registry.put_alert(Alert("alert-2", "cars", "accuracy < 0.9"))
    entries = len(registry.history())
    registry.put_alert(Alert(one.id, one.endpoint, one.rule, "no data", checked_at=5.0))
    assert len(registry.history()) == entries
    registry.put_alert(Alert(one.id, one.endpoint, one.rule, "firing", 0.7, 6.0, 6.0))
    assert registry.history()[0].after == "recall[negative] < 0.8: firing"
    assert [a.state for a in registry.alerts("pets")] == ["firing"]
    assert [a.id for a in registry.alerts()] == ["alert-1", "alert-2"]
    assert registry.drop_alert("alert-1").value == 0.7
    assert registry.alerts("pets") == []
    with pytest.raises(errors.NotFound, match="no alert called 'alert-1'"):
        registry.drop_alert("alert-1")


# transactions and the log


def test_nothing_is_written_if_the_block_raises(registry: Registry) -> None:
    before = registry.history()

    def fail_late() -> None:
        with registry.transaction():
            commit(registry, 2)
            registry.set_alias("pets", "live", 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()
    assert registry.versions("pets") == []
    assert registry.aliases("pets") == {}
    assert registry.history() == before


def test_an_inner_block_that_raises_takes_back_only_its_own(registry: Registry) -> None:
    def fail_late() -> None:
        with registry.transaction():
            commit(registry, 1)
            raise ZeroDivisionError

    with registry.transaction():
        commit(registry, 1)
        with pytest.raises(ZeroDivisionError):
            fail_late()
        registry.set_alias("pets", "live", 1)
    assert [v.number for v in registry.versions("pets")] == [1]
    assert registry.aliases("pets") == {"live": 1}


def test_a_second_handle_in_a_transaction_joins_it(registry: Registry) -> None:
    other = Registry(registry.workspace, registry.storage)
    with registry.transaction():
        commit(registry, 1)
        assert other.version("pets").number == 1
        commit(other, 1)
    assert [v.number for v in registry.versions("pets")] == [2, 1]


def test_threads_take_turns(registry: Registry) -> None:
    threads = [threading.Thread(target=commit, args=(registry, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.number for v in registry.versions("pets")] == list(range(40, 0, -1))


def test_every_change_is_in_the_log(registry: Registry) -> None:
    commit(registry, 2)
    registry.set_alias("pets", "live", 1)
    registry.set_alias("pets", "live", 2, reason="f1 rose")
    registry.put_dataset(a_dataset())
    told = [(e.action, e.subject, e.before, e.after, e.reason) for e in reversed(registry.history("pets"))]
    assert told[1:] == [
        ("commit", "pets:1", None, "run-7f3a", ""),
        ("commit", "pets:2", None, "run-7f3a", ""),
        ("alias", "pets@live", None, "pets:1", ""),
        ("alias", "pets@live", "pets:1", "pets:2", "f1 rose"),
        ("alias", "pets@previous", None, "pets:1", "f1 rose"),
    ]
    assert told[0][:2] == ("create", "model pets")
    newest = registry.history()[0]
    assert newest.subject == "dataset films:1"
    assert newest.who
    assert newest.host
    assert newest.pid > 0
    assert newest.at > 1.7e9
    assert newest.who in str(newest)
    with pytest.raises(errors.NotFound):
        registry.history("cars")


def test_importing_the_room_brings_in_nothing_heavy() -> None:
    heavy = ("tinydb", "torch", "transformers", "pandas", "numpy", "IPython", "starlette")
    code = f"import sys, json, sft_magics.registry; print(json.dumps([n for n in {heavy!r} if n in sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []
