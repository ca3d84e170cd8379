"""Fine-tuning: (Super)GLUE as the years of BabyLM ask it, and what a trained model makes of it.

A classifier is a model with a small head on one of its tokens; each task and seed is a training of its own, by a recipe
of `config/finetuning/`. Results lie in the model's folder, a file for each (`results.py`):

    evaluation/finetuning/<recipe>/<task>/seed-<n>.json            what the predictions come to
    evaluation/finetuning/<recipe>/<task>/seed-<n>.items.jsonl     the predictions, in the file's order

`results.read_predictions` reads the second, and checks it against the first.
"""
