r"""Masked: hidden tokens are predicted at their own places, from all that is shown.

    L = 1/|M| sum_{i in M}  -log p_i(x_i | x~)        x~: the window with the tokens of M hidden
    pseudo-log-likelihood(text) = sum_i  log p_i(x_i | text with x_i masked)

BERT (Devlin et al. 2019, arXiv 1810.04805); the score is that of Salazar et al. 2020, arXiv 1910.14659.

Which tokens are hidden, and what stands in their place: `_corruption.py`, which does all but the alignment.
"""

from palenka.paradigms._corruption import MaskedParadigm


class Masked(MaskedParadigm):
    """Hidden tokens, each where it stands."""

    distance = 0
