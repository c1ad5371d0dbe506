"""Synthetic complaints of six unbalanced classes: invented sentences, for measuring a recipe on few rows.

Every row is drawn from a grammar, and no person wrote any. The classes share most of their words; a tenth of the rows
also has a sentence of another class in it, and 2 % have a wrong label, so that no model answers all of them rightly.
"""

import random

SHARES = {"billing": 0.46, "delivery": 0.22, "quality": 0.13, "account": 0.09, "refund": 0.06, "privacy": 0.04}
_MIXED = 0.1
_WRONG = 0.02
_OPENINGS = (
    "Hello,", "Hi there,", "To whom it may concern,", "I am writing because", "Once again:", "Good morning,",
    "This is my second message.", "Please help.", "I am rather annoyed.", "", "",
)  # fmt: skip
_CLOSINGS = (
    "Please get back to me soon.", "I expect an answer this week.", "Thank you.", "What can you do about it?",
    "I have been a customer for {years} years.", "My order number is {order}.", "", "",
)  # fmt: skip
_THINGS = ("lamp", "coat", "kettle", "phone", "desk", "bicycle", "headset", "book", "printer", "tent")
_CORES = {
    "billing": (
        "you charged me {amount} instead of {other} for the {thing}",
        "the invoice of {month} lists a {thing} that I never ordered",
        "my card was debited twice for one {thing}",
        "the discount on the {thing} is missing from the total",
        "the price of the {thing} went up after I had ordered it",
        "the monthly fee of {amount} is more than we agreed on",
    ),
    "delivery": (
        "the {thing} was due in {month} and is still not here",
        "the courier left my {thing} in the rain",
        "tracking has not moved for {years} weeks",
        "someone else signed for the {thing}",
        "the parcel with the {thing} went to my old street",
        "half of the order came, the {thing} did not",
    ),
    "quality": (
        "the {thing} broke after {years} days",
        "there is a crack in the {thing}",
        "the {thing} smells of glue and wobbles",
        "the color of the {thing} is not that of the picture",
        "the {thing} stops working when it gets warm",
    ),
    "account": (
        "I cannot log in since {month}",
        "the code that you send never arrives",
        "my profile shows another person's {thing}",
        "changing the address in my settings fails every time",
        "the site says that my password is too old",
    ),
    "refund": (
        "I sent the {thing} back in {month} and the {amount} are still missing",
        "you promised me the money for the {thing}",
        "only {other} of the {amount} came back to my card",
        "the return of the {thing} was accepted, the payment was not made",
    ),
    "privacy": (
        "I get advertising for a {thing} though I opted out",
        "please delete all that you keep about me",
        "why does a partner of yours know that I bought a {thing}",
        "I never agreed that my data go to {month} surveys",
    ),
}
_MONTHS = ("January", "March", "May", "June", "August", "October", "December")


def rows(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return `count` distinct synthetic texts and their labels, a function of `seed`."""
    chance = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        label = chance.choices(list(SHARES), list(SHARES.values()))[0]
        text = _text(chance, label)
        wrong = chance.random() < _WRONG
        found.setdefault(text, chance.choice(list(SHARES)) if wrong else label)
    return list(found), list(found.values())


def _text(chance: random.Random, label: str) -> str:
    cores = [chance.choice(_CORES[label])]
    if chance.random() < _MIXED:
        cores.append("apart from that, " + chance.choice(_CORES[chance.choice(list(SHARES))]))
    words = " ".join((chance.choice(_OPENINGS), "; ".join(cores) + ".", chance.choice(_CLOSINGS)))
    amount = chance.randint(20, 400)
    return words.format(
        amount=f"{amount} euros", other=f"{amount - chance.randint(1, 19)} euros", thing=chance.choice(_THINGS),
        month=chance.choice(_MONTHS), years=chance.randint(2, 9), order=chance.randint(10_000, 99_999),
    ).strip()  # fmt: skip
