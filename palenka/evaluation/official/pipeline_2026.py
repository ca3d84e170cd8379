"""The pipeline of 2026 (babylm-org/babylm-eval, folder `strict`), as of July 2026: that of 2025 with other rules.

What it prints and leaves is read as that of 2025 (`pipeline_2025.py`). Of equals it takes one at random, and seeds
nothing: two runs on one model may differ where scores tie.
"""

from palenka.evaluation.official.checkout import Pipeline
from palenka.evaluation.official.pipeline_2025 import FAST, PACKAGES, WAYS, run

PIPELINE = Pipeline(
    year="2026",
    repository="https://github.com/babylm-org/babylm-eval",
    marker="strict/evaluation_pipeline/global_piqa/dl.py",
    packages=PACKAGES,
    tasks={
        "blimp_filtered": "blimp",
        "supplement_filtered": "blimp",
        "ewok_filtered": "ewok",
        "entity_tracking_filtered": "entity_tracking",
        "comps": "comps",
        "global_piqa_parallel": "global_piqa_parallel",
        "global_piqa_nonparallel": "global_piqa_nonparallel",
        "reading": "reading",
        **FAST,
    },
    run=run,
    ways=WAYS,
    root="strict",
)
