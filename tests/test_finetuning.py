"""Fine-tuning against transformers' own classes, metrics against figures by hand, and laws of every training."""

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import glue_items
import made_runs
import numpy as np
import pytest
import tiny
import torch
from shared_fixtures import Call, WriteConfig
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
)

from palenka.cli import main
from palenka.evaluation.results import write_records
from palenka.finetuning import checkpoints, training
from palenka.finetuning.checkpoints import Checkpoints
from palenka.finetuning.classifier import Classifier, Items, Pretrained, _sizes
from palenka.finetuning.finetune import finetune, held_out
from palenka.finetuning.metrics import METRICS, best_constant, count, measure, standard_error
from palenka.finetuning.results import (
    figures,
    read_finetuning,
    read_predictions,
    recipe_folder,
    records_of,
    result_path,
)
from palenka.finetuning.schema import Recipe
from palenka.finetuning.tasks import TASKS, GlueTask
from palenka.finetuning.texts import read_texts
from palenka.finetuning.training import Course, Training
from palenka.models.huggingface import quiet_transformers
from palenka.optimizers._schedules import learning_rate
from palenka.report.model_card import write_model_card
from palenka.report.write import report
from palenka.util.config import load
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT

RECIPES = sorted((ROOT / "config" / "finetuning").glob("*.yaml"))
LTG_BERT = {
    "architecture": "ltg_bert", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "tiny", "tasks": {"rte": {}, "mrpc": {}},
        "training": {"lr": 1e-2, "batch_size": 8, "num_epochs": 3, "max_grad_norm": 1.0, "weight_decay": 0.1},
    }  # fmt: skip
    return Recipe.model_validate(values | changes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return glue_items.write_tasks(tmp_path / "evaluation", "rte", "mrpc")


@pytest.fixture
def recipe_file(write_config: WriteConfig) -> Path:
    return write_config(recipe().model_dump(mode="json", exclude_unset=True), "tiny.yaml")


def paradigm(run: Path, name: str) -> Path:
    """A run that says in its config that it learned so."""
    (run / "config.yaml").write_text(f"name: {run.name}\nparadigm: {name}\n", encoding="utf-8")
    return run


# Metrics

COUNTS = np.array([[5, 1], [2, 4]])


def test_metrics_are_those_of_the_formulas_by_hand() -> None:
    assert measure("accuracy", COUNTS) == 9 / 12
    assert measure("f1", COUNTS) == 8 / 11  # 2 · 4 / (2 · 4 + 1 + 2)
    assert measure("mcc", COUNTS) == pytest.approx((5 * 4 - 1 * 2) / math.sqrt(7 * 5 * 6 * 6))
    constant = np.array([[0, 6], [0, 6]])
    assert [measure(name, constant) for name in ("accuracy", "f1", "mcc")] == [0.5, 12 / 18, 0.0]
    assert measure("f1", np.array([[3, 0], [0, 0]])) == 0


def test_counts_have_the_true_label_in_rows() -> None:
    assert count([0, 0, 1, 2], [1, 0, 1, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("metric", METRICS)
def test_an_error_is_the_jackknifes_over_the_items_one_by_one(metric: Any) -> None:
    items = [(true, predicted) for (true, predicted), n in np.ndenumerate(COUNTS) for _ in range(n)]
    without = [measure(metric, count(*map(list, zip(*(items[:i] + items[i + 1 :]), strict=True)), 2))
               for i in range(len(items))]  # fmt: skip
    expected = math.sqrt(11 / 12 * np.square(np.array(without) - np.mean(without)).sum())
    assert standard_error(metric, COUNTS) == pytest.approx(expected)


def test_the_error_of_an_accuracy_is_the_usual_one() -> None:
    outcomes = [1.0] * 9 + [0.0] * 3
    assert standard_error("accuracy", COUNTS) == pytest.approx(np.std(outcomes, ddof=1) / math.sqrt(12))


def test_the_baseline_is_the_best_answer_that_is_always_the_same() -> None:
    assert best_constant("accuracy", np.array([[3, 2], [1, 1]])) == 5 / 7
    assert best_constant("f1", np.array([[3, 2], [1, 1]])) == 2 * 2 / (2 * 2 + 5)  # always 1; always 0 gets none
    assert best_constant("mcc", COUNTS) == 0


def test_one_answer_to_all_items_is_called_not_learned() -> None:
    records = [{"label": label, "predicted": 1} for label in (0, 1, 1)]
    found = figures(TASKS["mrpc"], records)
    assert (found["learned"], found["predicted"], found["value"]) == (False, [0, 1], found["majority"])
    assert figures(TASKS["mrpc"], [*records, {"label": 0, "predicted": 0}])["learned"]


# Texts and tokens


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_task_is_read_and_what_is_fed_of_it(task: GlueTask, tmp_path: Path) -> None:
    glue_items.write_tasks(tmp_path, task.name)
    texts = read_texts(tmp_path / "glue_filtered", task.name, "valid")
    item = glue_items.items(task.name, 2, task.labels)[1]
    assert texts.first[1] == task.first.format(**item)
    assert texts.second is None if task.second is None else texts.second == [*texts.second]
    assert texts.labels[1] == item["label"]


def test_two_texts_that_are_too_long_lose_the_end_of_the_longer_one() -> None:
    sizes = [_sizes(*case) for case in ((3, 4, 7), (10, 2, 8), (2, 10, 8), (10, 10, 5), (4, 9, 9), (9, 4, 9))]
    assert sizes == [(3, 4), (6, 2), (2, 6), (2, 3), (4, 5), (5, 4)]


def test_what_stands_around_texts_is_the_recipes_choice(teacher: Path, tmp_path: Path) -> None:
    glue_items.write(tmp_path, "rte.valid", [{"sentence1": "a cat", "sentence2": "a dog", "label": 0}])
    texts = read_texts(tmp_path / "glue_filtered", "rte", "valid")

    def tokens(**keys: Any) -> list[int]:
        return Pretrained(teacher, recipe(**keys)).read(texts).tokens[0]

    own = Pretrained(teacher, recipe()).tokenizer
    a, b = own("a cat")["input_ids"], own("a dog")["input_ids"]
    assert tokens() == [1, *a, 2, *b, 2]
    assert tokens(special_tokens="tokenizer") == own("a cat", "a dog")["input_ids"] == [*a, *b]
    assert len(tokens(max_length=8)) == 8


def test_a_tokenizer_that_has_something_to_put_around_texts_does_so(tmp_path: Path, teacher: Path) -> None:
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "a", "cat", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    for special in ("always", "tokenizer"):
        found = Pretrained(teacher, recipe(special_tokens=special))
        found.tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
        glue_items.write(tmp_path, "rte.valid", [{"sentence1": "a cat", "sentence2": "dog", "label": 0}])
        texts = read_texts(tmp_path / "glue_filtered", "rte", "valid")
        assert found.read(texts).tokens == [found.tokenizer("a cat", "dog")["input_ids"]]


# The classifier


def some_items(lengths: tuple[int, ...] = (9, 3, 6, 12, 5, 4)) -> Items:
    chance = np.random.default_rng(0)
    tokens = [chance.integers(4, tiny.VOCABULARY, size=length).tolist() for length in lengths]
    return Items(tokens, [number % 2 for number in range(len(lengths))])


def peer(keys: Any) -> Any:
    """transformers' own classifier, with the weights of a model of ours."""
    model = tiny.model(keys)
    model.config.num_labels = 2
    with quiet_transformers():
        found = AutoModelForSequenceClassification.from_config(model.config, attn_implementation="eager")
    found.base_model.load_state_dict(model.base_model.state_dict())
    return model, found


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=["gpt2", "llama"])
def test_a_training_is_that_of_the_library_on_the_same_batches(keys: Any) -> None:
    """Loss by loss, and in the weights at the end."""
    model, library = peer(keys)
    head = nn.Linear(model.config.hidden_size, 2, bias=False)
    head.weight.data.copy_(library.score.weight)
    settings = recipe(training={
        "lr": 1e-2, "batch_size": 3, "num_epochs": 4, "warmup_steps": 2, "weight_decay": 0.1, "max_grad_norm": 0.5,
    }).training  # fmt: skip
    items = some_items()
    ours = Training(Classifier(model, head, "causal", True), items, items, {}, "accuracy", 2, settings, 0)
    decayed = [p for p in library.parameters() if p.ndim > 1]
    others = [p for p in library.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])
    ours.classifier.train()
    library.train()
    for number in range(8):
        batch = ours.batches(number // 2)[number % 2]
        loss = ours.step(number, batch)
        expected = library_loss(library, items, batch)
        expected.backward()
        nn.utils.clip_grad_norm_(library.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, 1e-2, 2, 8, "linear")
        optimizer.step()
        optimizer.zero_grad()
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(head.weight, library.score.weight, rtol=1e-3, atol=1e-5)
    for name, weight in library.base_model.named_parameters():
        torch.testing.assert_close(model.base_model.get_parameter(name), weight, rtol=1e-3, atol=1e-5)


def library_loss(library: Any, items: Items, batch: list[int]) -> torch.Tensor:
    tokens, lengths, labels = items.tensors(batch, tiny.CPU)
    mask = torch.arange(tokens.shape[1]) < lengths[:, None]
    output = library(tokens, attention_mask=mask.long(), labels=labels)
    return output.loss


def test_positions_do_not_count_from_padding() -> None:
    """Left padding gives transformers' GPT-2 our logits where it is told the positions, and others where it is not."""
    model, library = peer(tiny.GPT2)
    head = nn.Linear(24, 2, bias=False)
    head.weight.data.copy_(library.score.weight)
    items = some_items()
    tokens, lengths, _ = items.tensors([*range(len(items))], tiny.CPU)
    ours = Classifier(model.eval(), head, "causal", True)(tokens, lengths)
    left = torch.stack([row.roll(int(len(row) - length)) for row, length in zip(tokens, lengths, strict=True)])
    mask = torch.arange(tokens.shape[1]) >= (tokens.shape[1] - lengths)[:, None]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    states = library.eval().base_model(left, attention_mask=mask.long(), position_ids=positions).last_hidden_state
    torch.testing.assert_close(library.score(states[:, -1]), ours)
    counted = library.base_model(left, attention_mask=mask.long()).last_hidden_state
    assert (library.score(counted[:, -1]) - ours).abs().max() > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_padding_side_of_a_tokenizer_changes_nothing(
    side: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    texts = read_texts(data / "glue_filtered", "rte", "valid")
    plain, padded = (Pretrained(teacher, recipe()) for _ in range(2))
    padded.tokenizer.padding_side = side
    assert plain.read(texts) == padded.read(texts)


def bert(folder: Path, tokenizer: Path) -> Path:
    """A masked model that was not trained here."""
    config = BertConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, pad_token_id=0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with quiet_transformers():
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(params=["causal", "masked llama", "masked ltg_bert", "mix", "bert"])
def learner(request: pytest.FixtureRequest, prepared: Path, runs_folder: Path) -> Path:
    """Models of all kinds."""
    tokenizer = prepared / "tokenizer"
    if request.param == "bert":
        return bert(runs_folder / "bert", tokenizer)
    keys = LTG_BERT if "ltg" in request.param else tiny.LLAMA
    run = tiny.write_finished_run(runs_folder / "run", keys, tokenizer)
    name = {"mix": "{name: mix, rows: {mntp: 1, causal: 1}}"}.get(request.param, request.param.split()[0])
    return paradigm(run, name)


def test_an_item_has_the_same_logits_alone_and_beside_longer_ones(learner: Path) -> None:
    found = Pretrained(learner, recipe(head="mlp"))
    classifier = found.classifier(2, seed=0).eval()
    items = some_items()
    together = classifier(*items.tensors([*range(len(items))], found.device)[:2])
    alone = [classifier(*items.tensors([number], found.device)[:2])[0] for number in range(len(items))]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_the_token_is_the_last_of_causal_models_and_the_first_of_others(learner: Path) -> None:
    """What a causal one makes of an item depends on its last token, and the others see all from the first on."""
    found = Pretrained(learner, recipe())
    is_causal = found.attention == "causal"
    assert is_causal == (learner.name == "run" and "paradigm: causal" in (learner / "config.yaml").read_text())
    assert found.classifier(2, 0).takes_last == is_causal
    assert Pretrained(learner, recipe(token="last")).classifier(2, 0).takes_last
    one, other = Items([[5, 6, 7, 8]], [0]), Items([[5, 6, 7, 9]], [0])
    classifier = found.classifier(2, 0).eval()
    logits = [classifier(*items.tensors([0], found.device)[:2]) for items in (one, other)]
    assert not torch.equal(*logits)


def test_a_masked_model_cannot_be_read_causally(prepared: Path, runs_folder: Path) -> None:
    folder = bert(runs_folder / "bert", prepared / "tokenizer")
    with pytest.raises(UserError, match="attention: causal is not for a masked model"):
        Pretrained(folder, recipe(attention="causal"))


def test_each_training_begins_with_the_same_weights_and_from_scratch_with_its_seeds(teacher: Path) -> None:
    found, scratch = Pretrained(teacher, recipe()), Pretrained(teacher, recipe(), from_scratch=True)
    first = copy.deepcopy(found.classifier(2, 0).state_dict())
    found.model.get_input_embeddings().weight.data.zero_()
    again = found.classifier(2, 0).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    one, other = (copy.deepcopy(scratch.classifier(2, seed).state_dict()) for seed in (0, 1))
    name = next(name for name in first if name.endswith("wte.weight"))
    assert not torch.equal(one[name], other[name]) and not torch.equal(one[name], first[name])


# Trainings


def test_micro_batches_hold_all_items_once_and_are_no_larger_than_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.TOKENS_AT_ONCE, "cpu", 14)
    items = some_items()
    groups = list(training.micro_batches(items, range(len(items)), tiny.CPU))
    assert sorted(number for group in groups for number in group) == [*range(len(items))]
    assert all(len(group) == 1 or len(items.tokens[group[0]]) * len(group) <= 14 for group in groups)
    assert [len(items.tokens[group[0]]) for group in groups] == [12, 9, 6, 4]


@pytest.mark.parametrize("most", [8, 4096])
def test_a_step_is_the_same_however_it_is_cut(monkeypatch: pytest.MonkeyPatch, most: int, teacher: Path) -> None:
    monkeypatch.setitem(training.TOKENS_AT_ONCE, "cpu", most)
    items = some_items()
    made = Pretrained(teacher, recipe()).classifier(2, 0)
    work = Training(made, items, items, {}, "accuracy", 2, recipe().training, 0)
    made.eval()
    expected = F.cross_entropy(made(*items.tensors([*range(6)], tiny.CPU)[:2]), torch.tensor(items.labels))
    made.train()
    assert float(work.step(0, [*range(6)])) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_an_epoch_shows_each_item_once_in_an_order_of_its_own(teacher: Path) -> None:
    items = some_items()
    made = Pretrained(teacher, recipe()).classifier(2, 0)
    settings = recipe().training.model_copy(update={"batch_size": 4})
    work = Training(made, items, items, {}, "accuracy", 2, settings, 0)
    epochs = [work.batches(epoch) for epoch in range(3)]
    assert all(sorted(sum(epoch, [])) == [*range(6)] for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
    dropping = Training(made, items, items, {}, "accuracy", 2, settings.model_copy(update={"drop_last": True}), 0)
    assert [len(batch) for batch in dropping.batches(0)] == [4]


def test_the_first_of_the_best_epochs_is_chosen_and_patience_counts_from_a_gain() -> None:
    course = Course(scores=[0.5, 0.6, 0.6005, 0.6004], epoch=3)
    assert course.best == 0.6005
    assert course.waited(0.0) == 1 and course.waited(0.001) == 2
    assert Course().waited(0.0) == 0 and Course().best == -np.inf


def test_what_is_held_out_is_part_of_the_training_file() -> None:
    chosen, others = held_out(50, 0.1)
    assert len(chosen) == 5 and sorted(chosen + others) == [*range(50)]
    assert held_out(50, 0.1) == (chosen, others)
    assert [len(part) for part in held_out(2, 0.9)] == [1, 1]


# All of it


def run(teacher: Path, recipe_file: Path, data: Path, *overrides: str, **options: Any) -> Path:
    finetune([str(teacher)], recipe_file, overrides, data=data, **options)
    return teacher


@pytest.mark.slow
def test_a_task_is_learned_and_its_predictions_are_kept(
    teacher: Path, recipe_file: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(teacher, recipe_file, data, "training.num_epochs=8", seeds=[0, 1])
    (found,) = read_finetuning(teacher)
    assert (found.name, found.missing, found.seeds, found.selection) == ("tiny", [], [0, 1], ["train"])
    assert found.tasks["rte"].mean > 0.9
    predictions = read_predictions(teacher, "tiny", "rte", 1)
    assert [record["id"] for record in predictions] == [f"rte_{number}" for number in range(11)]
    assert [record["label"] for record in predictions] == [item["label"] for item in glue_items.items("rte", 11)]
    assert found.mean == pytest.approx(np.mean([found.tasks[task].values for task in ("rte", "mrpc")]))
    shown = capsys.readouterr().out
    assert "fine-tuned by tiny" in shown and "selection: valid" not in shown
    before = result_path(recipe_folder(teacher, "tiny"), "rte", 0).stat().st_mtime_ns
    run(teacher, recipe_file, data, "training.num_epochs=8", seeds=[0, 1])
    assert result_path(recipe_folder(teacher, "tiny"), "rte", 0).stat().st_mtime_ns == before
    assert "at epoch" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(
    teacher: Path, recipe_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    whole = copied(teacher, "whole")
    run(whole, recipe_file, data, tasks=["rte"])
    for killed_in in (1, 2, 3):
        folder = copied(teacher, f"killed-{killed_in}")
        with monkeypatch.context() as patch:
            patch.setattr(Training, "_judge", killed_at(killed_in))
            with pytest.raises(KeyboardInterrupt):
                run(folder, recipe_file, data, tasks=["rte"])
        left = sorted(path.name for path in recipe_folder(folder, "tiny").glob("rte/*.checkpoint*"))
        assert left == [f"seed-0.checkpoint-{killed_in - 1}"][: killed_in - 1]
        run(folder, recipe_file, data, tasks=["rte"])
        expected, found = (read_json(result_path(recipe_folder(each, "tiny"), "rte", 0)) for each in (whole, folder))
        assert (found["losses"], found["scores"], found["epoch"]) == (
            expected["losses"], expected["scores"], expected["epoch"]
        )  # fmt: skip
        assert read_predictions(folder, "tiny", "rte", 0) == read_predictions(whole, "tiny", "rte", 0)
        assert not [*recipe_folder(folder, "tiny").glob("rte/*checkpoint*")]


def copied(model: Path, name: str) -> Path:
    return Path(shutil.copytree(model, model.with_name(name)))


def killed_at(epoch: int) -> Any:
    judge = Training._judge

    def killed(self: Training) -> None:
        if len(self.course.losses) == epoch:
            raise KeyboardInterrupt
        judge(self)

    return killed


def test_a_checkpoint_of_another_training_does_not_count(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    made = Pretrained(teacher, recipe()).classifier(2, 0)
    path = tmp_path / "seed-0.json"
    Checkpoints(path, {"seed": 0}).save(1, made, {}, {"losses": [1.0]})
    assert Checkpoints(path, {"seed": 0}).resume(made, {}) == {"losses": [1.0]}
    assert Checkpoints(path, {"seed": 1}).resume(made, {}) is None


@pytest.mark.slow
def test_other_weights_are_trained_again_and_other_settings_are_refused(
    teacher: Path, recipe_file: Path, data: Path, capsys: pytest.CaptureFixture[str], prepared: Path
) -> None:
    run(teacher, recipe_file, data, "training.num_epochs=1", tasks=["rte"])
    with pytest.raises(UserError, match=r"result of other settings .* training\.num_epochs; choose another name"):
        run(teacher, recipe_file, data, tasks=["rte"])
    tiny.write_finished_run(teacher, tiny.GPT2, prepared / "tokenizer", seed=2)
    capsys.readouterr()
    run(teacher, recipe_file, data, "training.num_epochs=1", tasks=["rte"])
    printed = capsys.readouterr()
    assert "of other weights" in printed.err and "at epoch" in printed.out


@pytest.mark.slow
def test_the_reported_items_choose_where_they_are_told_to_and_are_answered_once(
    teacher: Path, recipe_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    predict = Training.predict
    monkeypatch.setattr(Training, "predict", lambda self, items: asked.append(len(items)) or predict(self, items))
    run(teacher, recipe_file, data, "selection=valid", tasks=["mrpc"])
    assert asked == [11] * 3
    assert "chosen by the very items that are reported" in capsys.readouterr().out
    run(teacher, recipe_file, data, "name=other", tasks=["mrpc"])
    scores = read_json(result_path(recipe_folder(teacher, "other"), "mrpc", 0))["scores"]
    gains = sum(score > max(scores[:place], default=-1) for place, score in enumerate(scores))
    assert sorted(asked[3:]) == [2] * 3 + [11] * gains


@pytest.mark.slow
def test_mnli_mm_is_answered_by_the_classifier_of_mnli(
    teacher: Path, write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = glue_items.write_tasks(tmp_path / "evaluation", "mnli", "mnli-mm")
    values = recipe(tasks={"mnli": {}, "mnli-mm": {}}).model_dump(mode="json", exclude_unset=True)
    file = write_config(values, "nli.yaml")
    run(teacher, file, data, "training.num_epochs=1", from_scratch=True)
    assert capsys.readouterr().out.count("at epoch") == 1
    (found,) = read_finetuning(teacher)
    assert [*found.tasks] == ["mnli", "mnli-mm"] and found.from_scratch
    assert found.tasks["mnli"].values == found.tasks["mnli-mm"].values  # whose items are the same here


# What is wrong is said first


def fails(call: Call, expected: str, *arguments: Any) -> None:
    code, _, errors = call(main, ["finetune", *map(str, arguments)])
    assert code == 2
    assert expected in errors and "Traceback" not in errors


def test_what_cannot_be_done_is_one_message_before_any_training(
    call: Call, teacher: Path, recipe_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "__init__", lambda *_, **__: pytest.fail("it trains"))
    options = ("--recipe", recipe_file, "--data", data)
    folder = data / "glue_filtered"
    fails(call, "no RUN was given", "training.lr=1", *options)
    fails(call, "--seeds one: expected whole numbers", "teacher", *options, "--seeds", "one")
    fails(call, "--tasks: 'ret' is not among the tasks of recipe tiny; did you mean 'rte'?", "teacher", *options,
          "--tasks", "ret")  # fmt: skip
    fails(call, "tasks: unknown task 'ret'; did you mean 'rte'?", "teacher", "tasks.ret={}", *options)
    fails(call, "unknown key; did you mean 'batch_size'?", "teacher", "training.batchsize=3", *options)
    fails(call, "glue_filtered: no such folder", "teacher", "--recipe", recipe_file, "--data", teacher)
    glue_items.write(data, "rte.valid", [{"sentence1": "a", "sentence2": "b", "label": 2}])
    fails(call, "rte.valid.jsonl, line 1: 'label' is 2; expected a whole number from 0 to 1", "teacher", *options)
    glue_items.write(data, "rte.valid", [{"sentence1": "a", "label": 1}])
    fails(call, "rte.valid.jsonl, line 1: 'sentence2' is missing; expected a text", "teacher", *options)
    (folder / "rte.train.jsonl").unlink()
    glue_items.write_tasks(data, "mrpc")
    fails(call, "rte.valid.jsonl, line 1", "teacher", *options)
    shutil.copy(folder / "mrpc.valid.jsonl", folder / "rte.valid.jsonl")
    fails(call, "rte.train.jsonl: no such file, so rte has nothing to train on", "teacher", *options)


def test_mnli_mm_has_no_settings_of_its_own() -> None:
    with pytest.raises(ValueError, match="mnli-mm: set the keys of mnli"):
        recipe(tasks={"mnli-mm": {"lr": 1.0}})


def write_result(model: Path, task: str, seed: int, predicted: list[int], from_scratch: bool = False) -> list[Any]:
    """A result of the recipe `2025`, with items whose labels are 1, 0, 1, 0, …"""
    path = result_path(recipe_folder(model, "2025", from_scratch), task, seed)
    records = records_of(TASKS[task], [number % 2 for number in range(1, len(predicted) + 1)], predicted)
    write_records(path, records)
    others = {"task": task, "seed": seed, "recipe_tasks": ["mrpc", "rte", "wsc"], "truncated": 0, "epoch": 1}
    write_json(path, others | {"selection": "valid", "identity": {}} | figures(TASKS[task], records))
    return records


def test_a_report_and_a_card_show_means_over_seeds_and_what_did_not_learn(
    runs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_runs.write_run(runs_folder, "kd")
    for seed, predicted in enumerate(([1, 0, 1, 0], [1, 1, 1, 0])):  # accuracies 100 and 75
        write_result(run, "rte", seed, predicted)
    write_result(run, "mrpc", 0, [1, 1, 1, 1])  # F1 66.67, as always 1 has
    write_result(run, "rte", 0, [0, 0, 1, 0], from_scratch=True)
    found, scratch = read_finetuning(run)
    assert (found.mean, found.spread, found.seeds) == (pytest.approx((0.875 + 2 / 3) / 2), None, [0])
    assert found.tasks["rte"].spread == pytest.approx(0.25 / math.sqrt(2))
    report(["kd"], tmp_path / "report.html")
    shown, page = " ".join(capsys.readouterr().out.split()), (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "fine-tuned by 2025" in shown and "87.50 ±17.68" in shown and "kd, from scratch" in shown
    for expected in (
        "mrpc did not learn: one answer to all items with seed 0",
        "the mean is not that of the recipe, which has also wsc",
        "chosen by the very items that are reported",
    ):
        assert expected in shown and expected in page
    write_model_card(run)
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "| 2025 | 0 | mrpc 66.67, rte 87.50 | 77.08 |" in card
    assert "| 2025 from scratch | 0 | rte 75.00 | 75.00 |" in card


def test_damaged_predictions_are_told(teacher: Path) -> None:
    with pytest.raises(UserError, match="teacher --recipe config/finetuning/2025.yaml --tasks rte --seeds 3 makes it"):
        read_predictions(teacher, "2025", "rte", 3)
    records = write_result(teacher, "rte", 3, [1, 1])
    items = recipe_folder(teacher, "2025") / "rte" / "seed-3.items.jsonl"
    assert records[1] == {"id": "rte_1", "label": 0, "predicted": 1}
    assert read_predictions(teacher, "2025", "rte", 3) == records
    items.write_text(items.read_text().replace('"predicted": 1', '"predicted": 0', 1))
    broken: list[str] = []
    assert read_finetuning(teacher, broken) == []
    assert "value is 0.5, and comes to 0.0" in broken[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_whole_and_names_itself(path: Path) -> None:
    assert load(path, [], Recipe).name == path.stem


def test_the_recipes_of_the_years_are_what_their_pipelines_did() -> None:
    first, second = (load(ROOT / "config" / "finetuning" / f"{year}.yaml", [], Recipe) for year in (2024, 2025))
    assert len(first.tasks) == 11 and len(second.tasks) == 7
    sizes = {task: second.hyperparameters(task) for task in second.tasks}
    assert {task: (of.batch_size, of.num_epochs) for task, of in sizes.items()} == {
        "boolq": (16, 10), "mnli": (32, 10), "mrpc": (32, 10), "multirc": (16, 10), "qqp": (32, 10), "rte": (32, 10),
        "wsc": (32, 30),
    }  # fmt: skip
    assert {of.lr for of in sizes.values()} == {3e-5}
