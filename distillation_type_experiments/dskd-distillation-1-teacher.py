r"""Deeply supervised distillation with auxiliary classifiers, from one teacher.

    L = w_CE CE(student, next token)
      + w_KL T^2 KL(softmax(teacher logits / T) || softmax(student logits / T))
      + w_A  ( sum_l w_l T^2 KL(softmax(teacher logits / T) || softmax(U g_l / T))  +  lambda mean_l d(V_l g_l, h) )

Heads g_l on shallow student layers learn the teacher's predictions and its last states (arXiv 2202.07846, from images
to text); the head that is behind weighs more, token by token. In the study the heads were frozen random maps and one
of them took all the weight; what is different here, and why: docs/methods/auxiliary.md.

    python distillation_type_experiments/dskd-distillation-1-teacher.py
    python distillation_type_experiments/dskd-distillation-1-teacher.py name=milestone/one-head \
        objective.auxiliary.layers=[8]

Expect: an open question; the study's 64.7 BLiMP, 54.2 supplement came through untrained heads.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the programs of the repository's root

from distill import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__, "config/milestone/DSKD-teacher-Llama.yaml")
