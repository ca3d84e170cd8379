r"""Hidden-state distillation: last states beside logits.

    L = w_CE CE(student, next token)
      + w_KL T^2 KL(softmax(mean of teacher logits / T) || softmax(student logits / T))
      + w_H  mean over teachers k and tokens of  1/d_k ||LN(W_k h^S) - LN(h^k)||^2      h: the last states

FitNets' hint (arXiv 1412.6550) on the last layer. The study asked student and teacher for one width, so that one
teacher of two could be used, and matched unnormalised states; here a learned projection stands between any widths.

    python distillation_type_experiments/hidden-state-distillation.py
    python distillation_type_experiments/hidden-state-distillation.py name=milestone/plain \
        objective.hidden_state.distance=plain

Expect: an open question; the study's student (24,977,664 parameters, one teacher) had 64.3 BLiMP, 56.5 supplement.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the programs of the repository's root

from distill import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__, "config/milestone/hidden-state.yaml")
