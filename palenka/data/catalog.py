"""The catalogue: which official texts and items there are, where they lie, and what is known of them beforehand.

An *item* is what `palenka download` takes by name. Its *parts* are folders, each made of one zip archive or
of single files, which lie in one of three *places*. What a place publishes about its files (size, hash) is asked when
they are fetched; here stands only what the projects themselves fix: a Git commit, or the pointer of a large file.

Uncertain is where things lie on OSF: the folder names come from the pipelines' readmes, the ids in circulation from
third-party code. No id stands here: files are looked for by name, in the folder named here first.
"""

from dataclasses import dataclass, replace
from typing import Literal

DOMAINS = ("bnc_spoken", "childes", "gutenberg", "open_subtitles", "simple_wiki", "switchboard")


@dataclass(frozen=True)
class GithubFile:
    """A file of a repository; its hash is part of the catalogue."""

    repository: str
    revision: str
    path: str
    sha256: str


@dataclass(frozen=True)
class OsfFile:
    """The file `name` of a project on osf.io, looked for in `folder` first."""

    node: str
    folder: str
    name: str


@dataclass(frozen=True)
class OsfFolder:
    """All .jsonl files of the folder `name` of a project on osf.io, looked for in `folder` first."""

    node: str
    folder: str
    name: str


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset on the Hugging Face hub: the named ones in `folder`, or all its .jsonl files."""

    dataset: str
    revision: str
    folder: str = ""
    names: tuple[str, ...] = ()
    gated: bool = False


Place = GithubFile | OsfFile | OsfFolder | HubFiles


@dataclass(frozen=True)
class Part:
    """The folder `folder` of an item. Tables of tab-separated values become .jsonl there (`global_piqa.py`).

    Args:
        archive: whether the one file of `places` is a zip archive to be unpacked into the folder.
        content_sha256: of all .jsonl files, one after the other, in the order of their names, where that is known.
    """

    folder: str
    places: tuple[Place, ...]
    archive: bool = False
    content_sha256: str | None = None


@dataclass(frozen=True)
class Item:
    """What can be asked for by name.

    Args:
        page: where a person finds it with a browser.
        splits: the folders that `palenka prepare` takes as train, dev and test.
        prepared_as: the name for the prepared data, as configs use it.
        tasks: the evaluation tasks that it holds.
        protocol: the year whose tasks they are all, or all but what is gated.
        note: what else has to be known.
    """

    name: str
    kind: Literal["text", "items"]
    about: str
    size: str
    page: str
    licence: str
    citation: str
    parts: tuple[Part, ...]
    splits: tuple[tuple[str, str], ...] = ()
    prepared_as: str = ""
    tasks: tuple[str, ...] = ()
    protocol: str = ""
    note: str = ""


TEXT_LICENCE = (
    "each domain keeps its own: childes and switchboard CC BY-NC-SA 3.0, simple_wiki CC BY-SA, gutenberg public "
    "domain, bnc_spoken the BNC's licence, open_subtitles unclear"
)
BLIMP_LICENCE = "BLiMP: CC BY 4.0; the supplement is BabyLM's own and comes with its pipelines"
BLIMP_CITATION = (
    "Warstadt et al. (2020), BLiMP: The Benchmark of Linguistic Minimal Pairs for English, TACL 8, "
    "doi:10.1162/tacl_a_00321"
)
CHALLENGE = {
    "2023": "Warstadt et al. (2023), Findings of the BabyLM Challenge, CoNLL; call for papers: arXiv:2301.11796",
    "2024": "Choshen et al. (2024), [Call for Papers] The 2nd BabyLM Challenge, arXiv:2404.06214",
    "2025": "Charpentier et al. (2025), BabyLM Turns 3: Call for papers for the 2025 BabyLM workshop, arXiv:2502.10645",
    "2026": "Choshen et al. (2026), BabyLM Turns 4: Call for Papers for the 2026 BabyLM Workshop, arXiv:2602.20092",
}

# The same in the copies of the 2024 and 2025 pipelines that were compared.
BLIMP_FILTERED = "9fbeba30b1332b2b4335cb6cf236328d03faa1a9d01955034aba3475cf88dbdf"
SUPPLEMENT_FILTERED = "d8f672407b7b2d9bb50842d765a9864834b281b8822ee15d5b6fb73796864024"
EVALS_2026 = HubFiles("BabyLM-community/BabyLM-2026-Strict-Evals", "8d52da9424a9ff30b9e8266c4f751aba9c504233")
EWOK_REVISION = "34d912a608066c92e2990a0328ffc3bd9a716042"


def _osf_text(year: str, node: str, words: str, size: str, name: str, note: str) -> Item:
    archives = (f"train_{words}", "dev", "test")
    return Item(
        name=f"babylm-{year}-{words}",
        kind="text",
        about=f"BabyLM {year}, {words[:-1]} million words of six domains, with dev and test",
        size=size,
        page=f"https://osf.io/{node} (folder text_data)",
        licence=TEXT_LICENCE,
        citation=CHALLENGE[year],
        parts=tuple(Part(folder, (OsfFile(node, "text_data", f"{folder}.zip"),), archive=True) for folder in archives),
        splits=(("train", f"train_{words}"), ("dev", "dev"), ("test", "test")),
        prepared_as=name,
        note=note,
    )


def _hub_text(words: str, dataset: str, revision: str, size: str, name: str, note: str) -> Item:
    splits = (
        ("train", dataset, revision, ".train.txt"),
        ("dev", "BabyLM-community/BabyLM-dev", "169f42e32d0aaf65ec6b91d55bafad27a3afc729", ".dev"),
        ("test", "BabyLM-community/BabyLM-Test", "2c47b98e2dc3707465aed81da69dc36cdca5d13b", ".test"),
    )
    return Item(
        name=f"babylm-2026-{words}",
        kind="text",
        about=f"BabyLM 2026, {words[:-1]} million words of six domains, detoxified, with dev and test",
        size=size,
        page=f"https://huggingface.co/datasets/{dataset}",
        licence=TEXT_LICENCE,
        citation=CHALLENGE["2026"],
        parts=tuple(
            Part(split, (HubFiles(repository, commit, names=tuple(domain + ending for domain in DOMAINS)),))
            for split, repository, commit, ending in splits
        ),
        splits=(("train", "train"), ("dev", "dev"), ("test", "test")),
        prepared_as=name,
        note=note,
    )


def _evals_2026(folder: str, *names: str) -> HubFiles:
    return replace(EVALS_2026, folder=f"evaluation_data/{folder}", names=names)


# What 2025 and 2026 both ask. The hub's copy of 2026 has the numbers of items that the scripts of both years count.
_OF_BOTH_YEARS = (
    Part("entity_tracking", (_evals_2026("full_eval/entity_tracking"),)),
    Part("comps", (_evals_2026("full_eval/comps"),)),
    Part("reading", (_evals_2026("full_eval/reading", "reading_data.csv"),)),
    Part("aoa", (_evals_2026("full_eval/aoa", "cdi_childes.json", "cdi_human.csv"),)),
    Part("glue_filtered", (_evals_2026("full_eval/glue_filtered"),)),
    *(
        Part(folder, (_evals_2026(f"fast_eval/{folder}"),))
        for folder in ("blimp_fast", "supplement_fast", "entity_tracking_fast")
    ),
)
_BOTH_CITED = (
    "Kim and Schuster (2023), Entity Tracking in Language Models, ACL; Misra et al. (2023), COMPS, EACL; de Varda et "
    "al. (2023), Cloze probability, predictability ratings, and computational estimates for 205 English sentences; "
    "Chang and Bergen (2022), Word Acquisition in Neural Language Models, TACL 10; Wang et al. (2018), GLUE; Wang et "
    "al. (2019), SuperGLUE"
)
_EWOK_APART = (
    "EWoK is not among it: `ewok` fetches it with your own access. Of EWoK's fast set the hub has an archive, "
    "evaluation_data/fast_eval/ewok_fast.zip of BabyLM-2026-Strict-Evals, whose password the pipeline's readme tells: "
    "what is in it belongs to ewok_fast/, beside the others."
)


def _global_piqa(kind: str, revision: str) -> HubFiles:
    return HubFiles(f"mrlbenchmarks/global-piqa-{kind}", revision, "data", (f"{kind}_eng_latn.tsv",))


def _filtered(blimp: Place, supplement: Place) -> tuple[Part, Part]:
    return (
        Part("blimp_filtered", (blimp,), content_sha256=BLIMP_FILTERED),
        Part("supplement_filtered", (supplement,), content_sha256=SUPPLEMENT_FILTERED),
    )


def _osf_folders(node: str, folder: str, *names: str) -> tuple[OsfFolder, ...]:
    return tuple(OsfFolder(node, folder, name) for name in names)


_ITEMS = (
    Item(
        name="babylm-2023",
        kind="text",
        about="BabyLM 2023, 10 and 100 million words of ten domains, with dev and test",
        size="253 MB (about 700 MB unpacked)",
        page="https://github.com/babylm/babylm.github.io/blob/main/babylm_data.zip",
        licence="each domain keeps its own; the part of the BNC is there under fair dealing for research",
        citation=CHALLENGE["2023"],
        parts=(
            Part(
                "babylm_data",
                (
                    GithubFile(
                        repository="babylm/babylm.github.io",
                        revision="main",
                        path="babylm_data.zip",
                        sha256="1337771192c61fa38c7eca2ef535f568c19270789b114fe7c60fe23e4314ab57",
                    ),
                ),
                archive=True,
            ),
        ),
        splits=(
            ("train", "babylm_data/babylm_10M"),
            ("dev", "babylm_data/babylm_dev"),
            ("test", "babylm_data/babylm_test"),
        ),
        prepared_as="babylm-2023-10M",
        note="Other domains than in later years. The 100 million words lie beside the 10, in babylm_data/babylm_100M.",
    ),
    _osf_text("2024", "ad7qg", "10M", "18 MB for the 10 million words, and dev and test", "strict-small", ""),
    _osf_text("2024", "ad7qg", "100M", "told by OSF when it is fetched", "strict", ""),
    _osf_text(
        "2025", "ryjfm", "10M", "18 MB for the 10 million words, and dev and test", "strict-small",
        "The corpus of 2024, republished.",
    ),
    _osf_text(
        "2025", "ryjfm", "100M", "told by OSF when it is fetched", "strict",
        "The corpus of 2024, republished.",
    ),
    _hub_text(
        "10M", "BabyLM-community/BabyLM-2026-Strict-Small", "c92ab16b4f08858304b0815706065b3354d8fc0a",
        "55 MB, and 57 MB of dev, and test", "strict-small-2026",
        "The rules of 2026 charge a teacher's own training words to the student's budget.",
    ),
    _hub_text(
        "100M", "BabyLM-community/BabyLM-2026-Strict", "9e57baaaa91ac3c638746be14d1d5fa6c789f4cf",
        "told by the hub when it is fetched; dev 57 MB", "strict-2026",
        "The rules of 2026 charge a teacher's own training words to the student's budget.",
    ),
    Item(
        name="evals-2024",
        kind="items",
        about="BLiMP and its supplement as the BabyLM pipeline of 2024 filters them: 59,875 and 5,218 pairs",
        size="23 MB, 72 files",
        page="https://osf.io/ad7qg (folder evaluation_data)",
        licence=BLIMP_LICENCE,
        citation=f"{BLIMP_CITATION}; {CHALLENGE['2024']}",
        parts=_filtered(*_osf_folders("ad7qg", "evaluation_data", "blimp_filtered", "supplement_filtered")),
        tasks=("blimp_filtered", "supplement_filtered"),
        note="The same pairs in all years: looked for by name, fetched one by one, compared with the known set.",
    ),
    Item(
        name="evals-2025",
        kind="items",
        about="all that the BabyLM pipeline of 2025 asks but EWoK: BLiMP, its supplement, entity tracking, COMPS, "
        "made-up words, reading, age of acquisition, GLUE; the fast sets of milestones",
        size="told by OSF and the hub when it is fetched; BLiMP and its supplement 23 MB",
        page="https://osf.io/ryjfm (folder evaluation_data), and what 2026 has alike, "
        f"https://huggingface.co/datasets/{EVALS_2026.dataset}",
        licence=f"{BLIMP_LICENCE}; the others as their authors published them, and GLUE as each of its tasks",
        citation=f"{BLIMP_CITATION}; {_BOTH_CITED}; Hofmann et al. (2024), Derivational Morphology Reveals Analogical "
        "Generalization in Large Language Models, arXiv:2411.07990; Weissweiler et al. (2023), Counting the Bugs in "
        f"ChatGPT's Wugs, arXiv:2310.15113; {CHALLENGE['2025']}",
        parts=(
            *_filtered(
                *_osf_folders("ryjfm", "evaluation_data/full_eval", "blimp_filtered", "supplement_filtered")
            ),
            *_OF_BOTH_YEARS,
            *(
                Part(place.name, (place,))
                for place in _osf_folders(
                    "ryjfm", "evaluation_data/full_eval", "wug_adj_nominalization", "wug_past_tense"
                )
            ),
        ),
        tasks=(
            "blimp_filtered", "supplement_filtered", "entity_tracking", "comps", "wug_adj_nominalization",
            "wug_past_tense", "reading",
        ),
        protocol="2025",
        note=_EWOK_APART,
    ),
    Item(
        name="evals-2026",
        kind="items",
        about="all that the BabyLM pipeline of 2026 asks but EWoK: BLiMP, its supplement, entity tracking, COMPS, "
        "GlobalPIQA, reading, age of acquisition, GLUE; the fast sets of milestones",
        size="told by the hub when it is fetched; BLiMP and its supplement 23 MB",
        page=f"https://huggingface.co/datasets/{EVALS_2026.dataset}",
        licence=f"{BLIMP_LICENCE}; GlobalPIQA: CC BY-SA 4.0, for evaluation alone; the others as their authors "
        "published them, and GLUE as each of its tasks",
        citation=f"{BLIMP_CITATION}; {_BOTH_CITED}; Chang et al. (2025), Global PIQA, arXiv:2510.24081; "
        f"{CHALLENGE['2026']}",
        parts=(
            *_filtered(_evals_2026("full_eval/blimp_filtered"), _evals_2026("full_eval/supplement_filtered")),
            *_OF_BOTH_YEARS,
            Part("global_piqa_parallel", (_global_piqa("parallel", "b0b18516a8bc2cb1106bce3dd4db32848ca715ea"),)),
            Part("global_piqa_nonparallel", (_global_piqa("nonparallel", "6777742fa3634c0583cda3b7f8a482ea7b1b0937"),)),
        ),
        tasks=(
            "blimp_filtered", "supplement_filtered", "entity_tracking", "comps", "global_piqa_parallel",
            "global_piqa_nonparallel", "reading",
        ),
        protocol="2026",
        note=f"At fixed revisions of the hub. {_EWOK_APART}",
    ),
    Item(
        name="blimp",
        kind="items",
        about="BLiMP as its authors published it, unfiltered: 67 paradigms of 1,000 pairs",
        size="2.4 MB (30 MB unpacked)",
        page="https://github.com/alexwarstadt/blimp",
        licence="CC BY 4.0",
        citation=BLIMP_CITATION,
        parts=(
            Part(
                "blimp",
                (
                    GithubFile(
                        repository="alexwarstadt/blimp",
                        revision="3e56b06fcabca9b30822fc66435fca6b1aa40bb1",
                        path="BLiMP.zip",
                        sha256="172a1a714d72e72a89e8384dd531483f3d0f8a9aee3d33dccaf7992d8cecbb73",
                    ),
                ),
                archive=True,
            ),
        ),
        tasks=("blimp",),
        note="Scores on it do not compare with BabyLM's, which are on blimp_filtered.",
    ),
    Item(
        name="ewok",
        kind="items",
        about="EWoK-core-1.0 (4,374 items), with your own access, and the 7,618 lines that BabyLM's filter makes of it",
        size="0.7 MB",
        page="https://huggingface.co/datasets/ewok-core/ewok-core-1.0",
        licence="CC BY 4.0, and terms of use: never to be put on the internet in plain text (only in zip archives with "
        "a password), and any use for training has to be reported",
        citation="Ivanova et al. (2024), Elements of World Knowledge (EWoK), arXiv:2405.09605",
        parts=(
            Part(
                "ewok-core-1.0",
                (
                    HubFiles(
                        "ewok-core/ewok-core-1.0", EWOK_REVISION, "data/test", ("ewok-core-1.0.parquet",), gated=True
                    ),
                    GithubFile(
                        repository="babylm/evaluation-pipeline-2025",
                        revision="bf55c1131e53654c2a87418f5629c26959acd710",
                        path="evaluation_pipeline/ewok/vocab.txt",
                        sha256="f812e2f4b723598964d3cbbd860e7b18a8d7e4902859fe74f4a6104694a41ceb",
                    ),
                ),
            ),
        ),
        tasks=("ewok_filtered",),
        note="BabyLM's pipelines keep the items whose words are all in a list of theirs, and write each twice, the "
        "second time with 1 and 2 swapped. Palenka does the same with word boundaries of its own, and keeps the result "
        "only if it has the published number of lines in each of the 11 domains.",
    ),
)  # fmt: skip

CATALOGUE = {item.name: item for item in _ITEMS}
