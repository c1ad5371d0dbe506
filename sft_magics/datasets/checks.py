"""What is wrong, or worth knowing, about labeled texts: findings, and an error only for what cannot be learned."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets import identity
from sft_magics.datasets.splits import TEST, TRAIN, VALIDATION

FEW_IN_VALIDATION = 10
FEW_TO_TRAIN = 200
LONG_WORDS = 350
_LOPSIDED = 5.0
_MOST_NUMBERS = 12


@dataclass(frozen=True)
class Checked:
    """Split rows as the checks see them; `keys` are the normalized texts, or the hashes of the images."""

    keys: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]
    empty_classes: Sequence[str] = ()
    noun: str = "text"
    classes: Sequence[Sequence[str]] | None = None  # what is met in each row, where a row has not one class


def check_classes(where: str, labels: Sequence[str]) -> None:
    """Refuse labels that no classifier can learn: one class only, or as many classes as rows."""
    counts = Counter(labels)
    if len(counts) == 1:
        raise errors.DataProblem(
            f"All {len(labels):,} rows of {where} are of one class, '{_short(labels[0])}': nothing to tell apart.",
            "add rows of a second class, or name another column with --label.",
        )
    if len(labels) >= 20 and len(counts) > max(20, len(labels) / 2):
        raise errors.DataProblem(
            f"The labels of {where} take {len(counts):,} values in {len(labels):,} rows: they are not classes.",
            "name the column that holds the classes with --label.",
        )
    if len(counts) > _MOST_NUMBERS and _are_measures(counts):
        raise errors.DataProblem(
            f"The labels of {where} are {len(counts):,} numbers with fractions, such as {next(iter(counts))}: they are "
            "measures, and a classifier learns classes.",
            "make classes of them: frame['label'] = pandas.qcut(frame['label'], 3, labels=['low', 'middle', 'high']).",
        )


def _are_measures(labels: Iterable[str]) -> bool:
    """Say whether labels are numbers, and at least one of them has a fraction."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return any(not number.is_integer() for number in numbers)


def _numbers(rows: Checked) -> list[Finding]:
    """Say that numbers are taken as names of classes, where there are many of them or they have fractions."""
    known = sorted(set(rows.labels))
    try:
        many = len({float(label) for label in known}) > _MOST_NUMBERS
    except ValueError:
        return []
    if not (many or _are_measures(known)):
        return []
    message = f"The labels are {len(known):,} numbers, and each is a class of its own: their order says nothing."
    return [Finding("info", "numeric_labels", message)]


def check_trained(where: str, rows: Checked) -> None:
    """Refuse a class that only validation or test rows have; only a source's own split can come to that."""
    trained = {label for label, split in zip(rows.labels, rows.splits, strict=True) if split == TRAIN}
    lacking = sorted(set(rows.labels) - trained)
    if lacking:
        named = ", ".join(f"'{_short(label)}'" for label in lacking[:5])
        raise errors.DataProblem(
            f"In the split of {where} no train row has the label {named}.",
            "add train rows for it, or write --split none for a split of ours.",
        )


def findings(rows: Checked) -> tuple[Finding, ...]:
    """Return all findings on split rows, the weightier first."""
    if rows.classes is not None:
        found = [
            *_leaks(rows),
            *_near_leaks(rows),
            *_empty_classes(rows),
            *_unlearned(rows),
            *_tiny(rows),
            *_duplicates(rows),
            *_long(rows),
        ]
        return tuple(sorted(found, key=lambda f: ("error", "warning", "info").index(f.level)))
    found = [
        *_conflicts(rows), *_leaks(rows), *_near_leaks(rows), *_empty_classes(rows), *_spellings(rows), *_rare(rows),
        *_imbalance(rows), *_tiny(rows), *_duplicates(rows), *_long(rows), *_numbers(rows),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda f: ("error", "warning", "info").index(f.level)))


def _short(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def _conflicts(rows: Checked) -> list[Finding]:
    labels: dict[str, set[str]] = defaultdict(set)
    for key, label in zip(rows.keys, rows.labels, strict=True):
        labels[key].add(label)
    clashing = {key for key, known in labels.items() if len(known) > 1}
    if not clashing:
        return []
    first = next(i for i, key in enumerate(rows.keys) if key in clashing)
    which = " and ".join(sorted(_short(label, 30) for label in labels[rows.keys[first]]))
    message = (
        f"{_count(len(clashing), f'{rows.noun} has', f'{rows.noun}s have')} more than one label, such as "
        f"“{_short(rows.texts[first])}”: {which}."
    )
    return [Finding("warning", "conflicting_labels", message)]


def _leaks(rows: Checked) -> list[Finding]:
    train = {key for key, split in zip(rows.keys, rows.splits, strict=True) if split == TRAIN}
    found = []
    for split in (VALIDATION, TEST):
        leaked = [i for i, key in enumerate(rows.keys) if rows.splits[i] == split and key in train]
        if leaked:
            message = (
                f"{_count(len(leaked), 'row', 'rows')} of {split} {'is' if len(leaked) == 1 else 'are'} also in train, "
                f"such as “{_short(rows.texts[leaked[0]])}”: the {split} scores will look better than they are."
            )
            found.append(Finding("warning", "leak", message))
    return found


def _near_leaks(rows: Checked) -> list[Finding]:
    """Return how many rows outside train differ from a train row only in case, spaces, punctuation, or "RT:"."""
    if rows.noun != "text":
        return []
    bare = [identity.bare(text) for text in rows.texts]
    exact = {key for key, split in zip(rows.keys, rows.splits, strict=True) if split == TRAIN}
    train = {words for words, split in zip(bare, rows.splits, strict=True) if split == TRAIN}
    found = []
    for split in (VALIDATION, TEST):
        near = [
            i
            for i, words in enumerate(bare)
            if rows.splits[i] == split and words in train and rows.keys[i] not in exact
        ]
        if near:
            are = "is a near-duplicate" if len(near) == 1 else "are near-duplicates"
            message = (
                f"{_count(len(near), 'row', 'rows')} of {split} {are} of train rows (but for case, spaces, punctuation "
                f"or a leading RT), such as “{_short(rows.texts[near[0]])}”: the {split} scores may flatter."
            )
            found.append(Finding("warning", "near_leak", message))
    return found


def _empty_classes(rows: Checked) -> list[Finding]:
    if not rows.empty_classes:
        return []
    named = ", ".join(f"'{_short(label, 30)}'" for label in rows.empty_classes[:5])
    message = f"No row has the declared label {named}: a model made for this data will not know it."
    return [Finding("warning", "empty_class", message)]


def _spellings(rows: Checked) -> list[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(rows.labels)):
        alike[label.casefold()].append(label)
    return [
        Finding(
            "warning", "label_spelling", f"These labels differ only in case and count as different: {', '.join(v)}."
        )
        for v in alike.values()
        if len(v) > 1
    ]


def _rare(rows: Checked) -> list[Finding]:
    counts = Counter(label for label, split in zip(rows.labels, rows.splits, strict=True) if split == VALIDATION)
    few = {label: counts[label] for label in sorted(set(rows.labels)) if counts[label] < FEW_IN_VALIDATION}
    if not few:
        return []
    named = ", ".join(f"{_short(label, 30)} ({n})" for label, n in list(few.items())[:5])
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    message = f"Few validation rows for {named}{more}: scores of such a class say little."
    return [Finding("warning", "rare_class", message)]


def _unlearned(rows: Checked) -> list[Finding]:
    """Return classes that are met in validation rows and in no training row."""
    pairs = list(zip(rows.classes or (), rows.splits, strict=True))
    met = {split: {name for names, s in pairs if s == split for name in names} for split in (TRAIN, VALIDATION)}
    lacking = sorted(met[VALIDATION] - met[TRAIN])
    if not lacking:
        return []
    named = ", ".join(f"'{_short(label, 30)}'" for label in lacking[:5])
    return [Finding("warning", "unlearned_class", f"No train row has the class {named}: it will not be learned.")]


def _imbalance(rows: Checked) -> list[Finding]:
    counts = Counter(rows.labels).most_common()
    (most, high), (least, low) = counts[0], counts[-1]
    if high < _LOPSIDED * low:
        return []
    message = (
        f"'{_short(most, 30)}' has {high:,} rows and '{_short(least, 30)}' {low:,}: look at recall and F1 per class, "
        "not at accuracy."
    )
    return [Finding("warning", "imbalance", message)]


def _tiny(rows: Checked) -> list[Finding]:
    n = sum(split == TRAIN for split in rows.splits)
    if n >= FEW_TO_TRAIN:
        return []
    return [Finding("warning", "tiny", f"Only {_count(n, 'row', 'rows')} to train on: expect scores that jump about.")]


def _duplicates(rows: Checked) -> list[Finding]:
    again = len(rows.keys) - len(set(rows.keys))
    if not again:
        return []
    verb = "repeats" if again == 1 else "repeat"
    like = "" if rows.noun == "image" else " (but for case and spaces)"
    message = f"{_count(again, 'row', 'rows')} {verb} {_article(rows.noun)} that is there already{like}."
    return [Finding("info", "duplicates", message)]


def _long(rows: Checked) -> list[Finding]:
    words = [(len(text.split()), text) for text in rows.texts if len(text) > LONG_WORDS]
    long = [pair for pair in words if pair[0] > LONG_WORDS]
    if not long:
        return []
    most, text = max(long)
    message = (
        f"{_count(len(long), 'text is', 'texts are')} longer than {LONG_WORDS} words, at most {most:,} "
        f"(“{_short(text, 40)}”): most bases read only the beginning."
    )
    return [Finding("info", "long_texts", message)]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
