r"""Deeply supervised distillation with auxiliary classifiers, from an ensemble of teachers.

    L = w_CE CE(student, next token)
      + w_KL T^2 KL(softmax(mean of teacher logits / T) || softmax(student logits / T))
      + w_A  ( sum_l w_l T^2 KL(softmax(mean of teacher logits / T) || softmax(U g_l / T))
               +  lambda mean over teachers k and heads l of d(V_kl g_l, h^k) )

As `dskd-distillation-1-teacher.py` (arXiv 2202.07846), with the teachers' averaged logits for the classes, and a
projection for each teacher's last states: docs/methods/auxiliary.md.

    python distillation_type_experiments/dskd-distillation-ensemble.py
    python distillation_type_experiments/dskd-distillation-ensemble.py name=milestone/own-heads \
        objective.auxiliary.own_heads=true

Expect: an open question; the study's 65.4 BLiMP, 55.4 supplement came through untrained heads.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the programs of the repository's root

from distill import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__, "config/milestone/DSKD-ensemble.yaml")
