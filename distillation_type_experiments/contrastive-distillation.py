r"""Contrastive distillation from an ensemble of teachers.

    L = w_CE CE(student, next token)
      + w_KL T^2 KL(softmax(mean of teacher logits / T) || softmax(student logits / T))
      + w_C  mean over teachers k and tokens t of  -log  exp(c_tt / tau) / sum_u exp(c_tu / tau)

    c_tu = cos(W_k h^S(t), V_k h^k(u)) of last states, u over the tokens of eight windows

InfoNCE (arXiv 1807.03748) between student and teacher, as CRD has it (arXiv 1910.10699). The study cites arXiv
2212.11353 for it, which contains no such loss. There the projections were never trained, and with tau = 2 the loss
could not leave the neighbourhood of chance; here both are learned, and tau is 0.1: docs/methods/contrastive.md.

    python distillation_type_experiments/contrastive-distillation.py
    python distillation_type_experiments/contrastive-distillation.py name=milestone/warmer \
        objective.contrastive.temperature=0.2

Expect: an open question; the study's 67.6 BLiMP, 57.1 supplement are those of a nearly constant term.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the programs of the repository's root

from distill import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__, "config/milestone/Contrastive-KD.yaml")
