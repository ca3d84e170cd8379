r"""PalenkaLlama: deeply supervised distillation without auxiliary classifiers.

    L = w_CE CE(student, next token)
      + w_KL T^2 KL(softmax(mean of teacher logits / T) || softmax(student logits / T))
      + w_H  mean over teachers k, mapped layers (i, j) and tokens of  1/d_k ||LN(W_kij h^S_j) - LN(h^k_i)||^2

Each mapped student layer j is drawn, through a learned projection W, to layer i of each teacher: the supervision of
arXiv 2202.07846 on hidden states in place of auxiliary classifiers. Every term is a mean per token.

    python dskd_noaux.py                             # --config config/distillation/PalenkaLlama1-58M.yaml
    python dskd_noaux.py --config config/demo/student-dskd.yaml objective.hidden_state.weight=0.1 name=demo/gentle
    torchrun --nproc_per_node=2 dskd_noaux.py --config config/distillation/PalenkaLlama1-58M.yaml
"""

from distill import main

if __name__ == "__main__":
    main(__doc__, "config/distillation/PalenkaLlama1-58M.yaml")
