"""Scoring, accuracy, baselines and comparison.

    evaluate.py              models on tasks, as the command does it
    protocols.py             the challenge's rules by year
    tasks/                   kinds of task, one a file       models.py         what is evaluated
    items.py, task_files.py  choices, read and checked       texts.py          their tokens, by protocol
    scoring.py               log-probabilities; fast by prefix_tree.py
    results.py               what scores come to; results read back and checked
    statistics.py            accuracies, ties, errors        correlation.py    predictions of people
    baselines.py, ngram.py   what the items give away        cross_entropy.py  dev and test text, per domain
    comparison.py            two models on the same items
    second_opinion.py        how far another scorer's scores are from ours
    acquisition.py           ages of acquisition of a run    learning_curves.py  the ages that curves have
    display.py               what is shown
    official/                the challenge's own pipelines, minicons, files to submit
"""
