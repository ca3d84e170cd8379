r"""Masked next-token prediction: a hidden token is predicted one place before it, from all that is shown.

    L = 1/|M| sum_{i in M}  -log p_{i-1}(x_i | x~)        x~: the window with the tokens of M hidden
    pseudo-log-likelihood(text) = sum_i  log p_{i-1}(x_i | text with x_i masked)

So one head has one alignment, that of a causal model: position i-1 predicts token i, whoever sees whom. LLM2Vec
(BehnamGhader et al. 2024, arXiv 2404.05961); GPT-BERT (Charpentier & Samuel 2024, arXiv 2410.24159).

Which tokens are hidden, and what stands in their place: `_corruption.py`, which does all but the alignment.
"""

from palenka.paradigms._corruption import MaskedParadigm


class Mntp(MaskedParadigm):
    """Hidden tokens, each one place before it stands."""

    distance = 1
