"""The sample data sets: sentences with a human mean sentiment, from four places (Hutto and Gilbert 2014, ICWSM).

Each sentence was rated by about 20 people from -4 to 4. Those with a mean beyond 0.5 either way are kept as `negative`
and `positive`. The same labels in other places are a real shift of the data.
"""

from collections.abc import Callable

from sft_magics.core.runtime import fetching

CLEAR = 0.5  # a mean sentiment nearer to zero is no class
# name -> (file in the package, what it is, rows that are kept)
SAMPLES: dict[str, tuple[str, str, int]] = {
    "reviews": ("movie.txt", "sentences of film reviews", 10_043),
    "amazon": ("amazon.txt", "sentences of product reviews", 2_943),
    "tweets": ("tweets.txt", "tweets", 3_362),
    "nyt": ("nyt.txt", "sentences of newspaper editorials", 2_788),
}
PREFIX = "sample:"


def read_sample(name: str, progress: Callable[[str, int, int], None] | None = None) -> tuple[list[str], list[str], str]:
    """Return texts, labels and license of the sample `name`; raises DataProblem."""
    file, _, _ = SAMPLES[name]
    content = (fetching.fetch("reviews", progress) / file).read_text(encoding="utf-8")
    texts, labels = [], []
    for line in content.split("\n"):
        _, mean, text = line.split("\t", 2)
        if abs(float(mean)) > CLEAR:
            texts.append(text.strip())
            labels.append("positive" if float(mean) > 0 else "negative")
    return texts, labels, fetching.CATALOG["reviews"].license
