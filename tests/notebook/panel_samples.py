"""One of every record and view, and the same with hostile text in every place that a user can fill."""

import dataclasses
import math
from typing import Any

from sft_magics.core import events as ev
from sft_magics.core import metrics as measures
from sft_magics.core import records
from sft_magics.core.views import JobView, LossView

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>' onload='alert(1)' </style>]]>&\x00\ud800"
LABELS = ("negative", "positive")
AT = 1_764_000_000.0
_OWN_WORDS = {"state", "status", "level", "kind"}  # vocabularies of ours, tested on their own
_FIXED_KEYS = {"train", "validation", "requests", "confidence", "p95", "accuracy"}


def events(
    steps: int = 240, epochs: int = 3, upto: int | None = None, ending: ev.Event | None = None
) -> list[ev.Event]:
    """Return what a run of `steps` steps says up to step `upto`, one evaluation an epoch."""
    upto = steps if upto is None else upto
    said: list[ev.Event] = [
        ev.Started("loading minilm", 4242, "host", at=AT),
        ev.RunPlanned(
            steps,
            epochs,
            8543,
            32,
            5e-5,
            validation_rows=1500,
            padding_waste=0.014,
            device="cpu",
            precision="bf16",
            threads=2,
            at=AT + 1,
        ),
        ev.Remark("info", "classifier.weight and classifier.bias start fresh", at=AT + 1),
    ]
    for step in range(1, upto + 1):
        at, loss = AT + 1 + 0.1 * step, 0.2 + 0.5 * math.exp(-3 * step / steps) + 0.05 * math.sin(step)
        left = 0.1 * (steps - step)
        said.append(
            ev.StepDone(step, epochs * step / steps, loss, 5e-5 * (1 - step / steps), 210.0, left, 1180.0, at=at)
        )
        if step % (steps // epochs) == 0:
            k = step // (steps // epochs)
            scores = {"accuracy": 0.8 + 0.01 * k, "f1": 0.79 + 0.01 * k}
            said.append(ev.EpochDone(step, k, loss, 0.45 - 0.02 * k, scores, True, at=at))
            said.append(ev.CheckpointSaved(step, f"checkpoints/step-{step}", "epoch", at=at))
    return [*said, ending] if ending is not None else said


def finished() -> list[ev.Event]:
    """Return what a run that made a version says."""
    return [*events(), ev.Committed("reviews:2", at=AT + 26), ev.Ended("done", at=AT + 27)]


def folded(said: list[ev.Event], job: str = "run-7f3a") -> LossView:
    """Return the view of these events."""
    view = LossView(job, title="reviews", model="reviews")
    for event in said:
        view.apply(event)
    return view


def edited(step: int = 130) -> ev.Edited:
    """Return an edit of two options."""
    return ev.Edited(step, {"lr": [5e-5, 1e-5], "epochs": [3, 5.0]}, 400, 5.0, "ann", at=AT + 15)


def runs() -> dict[str, LossView]:
    """Return a view in every state."""
    lost = folded(events(upto=100))
    lost.lose("The process is gone without a word.", "%sft_finetune --resume run-7f3a")
    stopped = ev.Ended("interrupted", "The run was stopped.", "%sft_finetune --resume run-7f3a", at=AT + 20)
    paused = ev.Ended("paused", "The run was paused.", "%sft_resume run-7f3a", at=AT + 20)
    failed = ev.Ended(
        "failed", "The loss was not a number.", "%sft_finetune reviews --lr 1e-5", "RunProblem", at=AT + 20
    )
    return {
        "waiting": folded([]),
        "queued": folded([ev.Queued("run-1c02", at=AT)]),
        "running": folded(events(upto=130)),
        "edited": folded([*events(upto=130), edited(), *events(upto=140)[135:]]),
        "paused": folded(events(upto=130, ending=paused)),
        "interrupted": folded(events(upto=130, ending=stopped)),
        "failed": folded(events(upto=130, ending=failed)),
        "lost": lost,
        "done": folded(finished()),
    }


def jobs() -> dict[str, JobView]:
    """Return a short job at work and one that failed."""
    work = JobView("job-1", "evaluating reviews:1", "running", "evaluating", 620, 1500, started_at=AT, heard_at=AT + 4)
    failed = dataclasses.replace(
        work, state="failed", ended_at=AT + 9, why="No network.", next_step="try later", remarks=[("warning", "slow")]
    )
    return {"job": work, "failed job": failed}


def bench() -> list[object]:
    """A measurement of two engines, one of a single version that refused some, and their parts."""
    parts = {"queue": 0.1, "preprocess": 0.4, "model": 3.2, "postprocess": 0.05}
    one, other = "reviews:3, openvino", "reviews:3, torch"
    subjects = (
        records.BenchSubject(one, "reviews:3", "openvino", 0.9, 363.2),
        records.BenchSubject(other, "reviews:3", "torch", 2.4, 964.0, "openvino is not installed"),
    )
    rows = (
        records.BenchRow(one, 1, 226.4, 219.0, 231.8, 4.2, 5.1, 7.9, 1358, parts),
        records.BenchRow(other, 1, 144.0, 139.5, 150.1, 6.9, 8.3, 11.0, 864, parts),
        records.BenchRow(one, 32, 362.0, 350.0, 371.0, 84.0, 99.0, 131.0, 2172, {**parts, "queue": 60.0}),
        records.BenchRow(other, 32, 313.0, 300.0, 320.5, 98.0, 120.0, 155.0, 1878, {}),
    )
    ratios = (records.BenchRatio(one, other, 1, 1.57, 1.52, 1.6), records.BenchRatio(one, other, 32, 1.16, 1.1, 1.2))
    pair = records.Bench("reviews", "films", subjects, rows, ratios, 3, 2.0, {"cores": 2}, "%sft_deploy reviews:3")
    few = records.BenchRow(one, 256, 0.0, 0.0, 0.0, math.nan, math.nan, math.nan, 0, {}, 512)
    alone = records.Bench("reviews", "films", subjects[:1], (few,), (), 1, 0.1, {})
    return [pair, alone, rows[0], few, subjects[1], ratios[0]]


def everything() -> list[Any]:
    """Return at least one of every record type, and a table of every kind."""
    counts = [[640, 110], [60, 690]]
    metrics = measures.classification(counts, LABELS)
    metrics["share[negative]"] = records.Metric("share", 0.5, label="negative")
    version = records.Version(
        "reviews", 2, "run-7f3a", "reviews:1", "reviews", "ab12" * 8, {"epochs": 3, "note": "as given"}, LABELS, {},
        metrics, {"python": "3.11"}, "sha", 91_000_000, AT, cells=("%load_ext sft_magics", "%sft_finetune reviews"),
        note="a note", successor="reviews:3", aliases=("live", "previous"), added=303_000, tags={"owner": "ann"},
    )  # fmt: skip
    answers = tuple(
        records.Prediction(
            f"text {i}", LABELS[i % 2], 0.9, {"negative": 0.1, "positive": 0.9}, f"q{i}", LABELS[i // 2 % 2]
        )
        for i in range(4)
    )
    finding = records.Finding("warning", "duplicates", "14 texts appear twice.")
    example = records.Example("a moving, funny film", "positive", "train")
    dataset = records.Dataset(
        "reviews", "sample:reviews", "text-classification", LABELS, {"train": 80, "validation": 20},
        {"train": {"negative": 40, "positive": 40}, "validation": {"negative": 11, "positive": 9}}, "9f3a" * 8,
        "x.parquet", AT, {"text": "review", "label": "sentiment"}, (finding,), (example,), (3, 40, 20),
        (0, 10, 20, 71), "MIT", ("films",),
    )  # fmt: skip
    weights = {
        "parameters": 22_713_218,
        "fresh": ["classifier.weight"],
        "sha256": "53aa",
        "license": "MIT",
        "source": "x",
    }
    model = records.Model("reviews", "text-classification", "minilm", "reviews", LABELS, weights, AT)
    run = records.Run(
        "run-0a0a", "reviews", "interrupted", "reviews", {"epochs": 1}, AT, "f", "reviews:1", AT + 60, "reviews:2",
        "stopped", "%sft_finetune --resume run-0a0a", 88, 268, 0.8,
    )  # fmt: skip
    endpoint = records.Endpoint(
        "reviews", "reviews", "reviews@live", "reviews:2", "http://127.0.0.1:8731", 8731, "ready", "/tmp/token", "f",
        AT, requests=1243, idle_stop=3600, why="slow", example="a moving, funny film",
        docs="http://127.0.0.1:8731/docs?key=0a53",
    )  # fmt: skip
    public = dataclasses.replace(endpoint, public=True, url="http://192.0.2.7:8731", why="", restarts=2)
    quiet = dataclasses.replace(endpoint, url="http+unix://%2Ftmp%2Fsock", port=0, socket="/tmp/sock")
    alert = records.Alert("alert-1", "reviews", "recall[negative] < 0.8", "firing", 0.731, AT, AT)
    series: dict[str, list[float | None]] = {
        "requests": [50.0] * 6, "confidence": [0.9, 0.8, 0.85, 0.8, 0.8, 0.7], "p95": [60.0] * 6,
        "accuracy": [None, None, 0.8, 0.7, None, 0.6],
    }  # fmt: skip
    report = records.Report(
        "reviews", "reviews:2", 1243, 400, AT, AT + 900, {"p50": 22.4, "p95": 81.2}, {"negative": 0.3, "positive": 0.7},
        {"negative": 0.5, "positive": 0.5}, 0.2, 0.87, metrics, (alert,), series, "%sft_retrain reviews", 3, 0.93,
    )  # fmt: skip
    pair = records.EvaluationPair("reviews", 1500, metrics["accuracy"], metrics["accuracy"], 31, 36, 0.62)
    check = records.Check("disk", "1.6 GB free", "warning", "free some space")
    overlap = records.Overlap(1700, 200, {"reviews:1": 150, "reviews:2": 90}, 12, unknown=("<b>:1",))
    evaluation = records.Evaluation(
        "reviews:2", "tweets", "all", 1500, LABELS, metrics, counts, answers, 7.4, overlap=overlap,
        findings=(records.Finding("warning", "missing_labels", "3 rows without a label were left out."),),
    )  # fmt: skip
    mistake = records.Mistake("negative", "positive", 31)
    gallery = records.ErrorGallery("reviews:2", "tweets", "all", 1500, 40, 31, answers, (mistake,))
    choice = records.Choice("--method head", "often a few points less")
    candidate = records.Candidate("lite0", "image-classification", 4_652_008, "MIT", True, 224, 0.87, 0.012, 0.004, 0.4)
    planned = records.RunPlan(
        "reviews", "text-classification", 8543, 801, 32, "full", 412.0, 380.0, 520.0, 0.5, 22_713_218, 22_713_218,
        1800.0,
        9000.0, 270_000_000, 10**10, {"device": "cpu", "precision": "bf16", "threads": 2}, True, (choice,), "%sft",
        8, 1.2e11, 6.5e11, version_bytes=91_000_000,
    )  # fmt: skip
    pieces = (records.Piece("what·is·up", "read", 3), records.Piece("the·sky", "learned", 2),
              records.Piece("and·more", "cut", 2))  # fmt: skip
    seen = records.Seen("2 square", "a/b.png", "", (), "a note")
    said = records.Seen("", "", "", pieces, "5 tokens")
    previewed = records.BatchPreview(
        "shapes", "object-detection", "shapes", 0, "cropped by chance (flip)", 32, (seen, seen),
        ("pictures 32 x 3 x 64 x 64 uint8",), ("disc", "square"), ("a note",), "%sft_finetune shapes",
    )  # fmt: skip
    told = records.BatchPreview("says", "causal-lm", "says", 1, "", 8, (said,), ("input_ids 2 x 512 int64",))
    tried = records.LrRangeTest(
        "reviews", "text-classification", (1e-7, 1e-5, 1e-3, 1e-1), (0.7, 0.6, 0.5, 3.0), (0.7, 0.65, 0.6, 1.1), 1e-5,
        1e-4, 0.1, 5e-5, 5e-5, "a note", "%sft_finetune reviews --lr 5e-5",
    )  # fmt: skip
    change = records.Change("epochs", "1", "3")
    metric_change = records.MetricChange(
        "accuracy", metrics["accuracy"], metrics["accuracy"], -0.01, 0.03, 0.04, "McNemar, exact"
    )
    layer = records.LayerChange("bert.encoder.layer.3", 1_774_464, 0.31, 0.0042)
    flip = records.ChangedPrediction("a moving, funny film", "positive", answers[0], answers[1])
    difference = records.Diff(
        "reviews:1", "reviews:2", (change,), (change,), (change,), (layer, layer), "reviews (validation)", 1500,
        (metric_change,), 31, 9, 0.0007, (flip,), (flip,), "reviews:2 fixed 31 and broke 9", "%sft_promote reviews:2",
        overlap,
    )  # fmt: skip
    gate = records.GateResult("f1 >= 0.9", False, "f1 is 0.871, 0.029 off")
    then = records.AliasAt("reviews", "live", "reviews:1", AT, "ann", "better")
    promotion = records.Promotion(
        "promote", "reviews", "live", "reviews:1", "reviews:2", "better", (gate,), ("reviews",), difference, "%sft"
    )
    moment = records.HistoryEntry(AT, "ann", "alias", "nothing -> reviews:2", "better")
    card = records.ModelCard(
        version, model, dataset, ("dataset reviews", "run-7f3a", "reviews:2"), ("reviews:3",), (endpoint,),
        "film reviews", (moment,), "card.md",
    )  # fmt: skip
    rows_differ = records.RowChange("relabeled", "a film", "negative", "positive", "train", "validation")
    data_differs = records.DatasetDiff(
        "reviews:1", "reviews:2", 100, 101, 98, 2, 1, 1, 1, {"train to validation": 1}, ("mixed",), ("gone",),
        (rows_differ,),
    )  # fmt: skip
    became = records.DatasetEvent(AT, "reviews:1", "made", "from sample:reviews", "9f3a" * 8, "ann@host")
    garbage = records.CollectableItem("artifact ab12", 91_000_000, "no version has it")
    stored: dict[str, Any] = {
        "aliases": then,
        "versions": version, "runs": run, "endpoints": endpoint, "alerts": alert, "datasets": dataset,
        "dataset history": became, "models": model,
        "checks": check, "bases": candidate, "registry checks": check,
        "fetched": check, "things": {"name": "a", "size": 3},
    }  # fmt: skip
    return [
        version,
        public,
        quiet,
        run,
        endpoint,
        alert,
        dataset,
        model,
        report,
        pair,
        check,
        mistake,
        gallery,
        choice,
        candidate,
        planned,
        tried,
        previewed,
        told,
        seen,
        *pieces,
        evaluation,
        overlap,
        records.Overlap(20, 8, {"a:1": 8}, included=True),
        finding,
        example,
        answers[0],
        metrics["accuracy"],
        change,
        metric_change,
        layer,
        flip,
        difference,
        gate,
        then,
        promotion,
        moment,
        card,
        garbage,
        rows_differ,
        data_differs,
        became,
        records.Collection((garbage,), (garbage,), 91_000_000, False, "%sft_gc --yes"),
        records.Collection((), (), 0, True),
        records.Exported("reviews:2", "out", "a folder", 91_000_000, "%sft_import out"),
        records.ServedVersion("reviews:1", 0.9, 900, 0, 4.2),
        records.AgreementCell("positive", "negative", 20),
        *bench(),
        records.Traffic("reviews", "reviews:1", ended="The trial of reviews:2 ended: it was slow.", next_step="%sft"),
        records.Traffic(
            "reviews",
            "reviews:1",
            (
                records.ServedVersion("reviews:1", 0.9, 900, 0, 4.2),
                records.ServedVersion("reviews:2", 0.1, 100, 3, 9.9),
            ),
            agreement=(
                records.AgreementCell("positive", "positive", 80),
                records.AgreementCell("positive", "negative", 20),
            ),
            agreed=0.8,
            skipped=3,
            next_step="%sft_promote reviews:2",
        ),
        records.Reproduction("reviews:2", False, 1e-6, (change,), True, (change,), 41.0, "the metrics agree"),
        records.Promotion("rollback", "reviews", "live", None, "reviews:1", ""),
        records.Predictions("reviews:2", answers, "reviews", 0.4),
        records.Predictions("reviews:2", answers[:1]),
        records.Predictions("reviews:2", (answers[0], dataclasses.replace(answers[1], truncated_tokens=37))),
        records.Comparison(
            "reviews:3",
            "reviews:2",
            "the plan",
            (pair,),
            "the verdict",
            "%sft_alias reviews:3 live",
            {"reviews": overlap},
        ),
        records.Retirement("reviews:1", "reviews:3", "drift", ("live",), ("reviews",), 91_200_000),
        records.Feedback("reviews", 400, ("q9",), metrics, (alert,), "%sft_monitor reviews"),
        records.Board(
            "/tmp/.sft", (model,), (version,), (run,), (endpoint,), (alert,), (dataset,), 4_000_000, 10**10, "%sft"
        ),
        *(records.Table(kind, (row,), "%sft") for kind, row in stored.items()),
        records.Table("runs", (), "%sft_finetune MODEL"),
    ]


def crowded() -> list[Any]:
    """Return tables and cards as full as real work makes them: many versions, long names and notes, every state."""
    made = {type(thing): thing for thing in everything()}
    version, run, dataset = made[records.Version], made[records.Run], made[records.Dataset]
    note = "kept after 41 of 736 steps: the loss of the validation rows rose from there on, see the run's remarks"
    long = "customer-complaints-2026-emea"
    versions = [
        dataclasses.replace(
            version, model=long if n % 2 else "reviews", number=n, aliases=("live", "previous") if n == 3 else (),
            note=note if n != 2 else "", status="retired" if n == 1 else "ready", data=f"{long}+feedback",
            successor=f"{long}:3" if n == 1 else None, size=91_200_000,
        )
        for n in range(1, 9)
    ]  # fmt: skip
    states = ("running", "queued", "done", "failed", "lost", "paused", "interrupted")
    runs_ = [
        dataclasses.replace(
            run, id=f"run-{n:04x}", model=long, state=state, step=37, steps=184, metric=0.593, data=long,
            version=f"{long}:{n}",
        )
        for n, state in enumerate(states)
    ]  # fmt: skip
    options = {"epochs": 3.0, "lr": 3e-5, "batch": 32, "method": "full", "seed": 0, "warmup": 0.1, "precision": "auto",
               "clip": 1.0, "weight_decay": 0.01, "max_length": 128, "augment": "none", "patience": 0}  # fmt: skip
    return [
        records.Table("versions", tuple(versions), "%sft_show reviews:3"),
        records.Table("runs", tuple(runs_), "%sft_watch run-0000"),
        records.Table("datasets", (dataclasses.replace(dataset, name=long, source=f"/data/{long}.csv"),) * 3, ""),
        dataclasses.replace(versions[2], options=options),
        dataclasses.replace(runs_[0], options=options),
    ]


def hostile(thing: Any, name: str = "") -> Any:
    """Return `thing` with hostile text at the end of every string in it, in keys and values."""
    if isinstance(thing, str):
        return thing if name in _OWN_WORDS else thing + HOSTILE
    if isinstance(thing, records.Metric):
        return dataclasses.replace(thing, label=thing.label and thing.label + HOSTILE)
    if isinstance(thing, dict):
        return _hostile_dict(thing)
    if isinstance(thing, tuple | list):
        return type(thing)(hostile(v, name) for v in thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return type(thing)(**{f.name: hostile(getattr(thing, f.name), f.name) for f in dataclasses.fields(thing)})
    return thing


def _hostile_dict(thing: dict[str, Any]) -> dict[str, Any]:
    values = {k: hostile(v) for k, v in thing.items()}
    return {
        m.key if isinstance(m, records.Metric) else k if k in _FIXED_KEYS else hostile(k): m for k, m in values.items()
    }
