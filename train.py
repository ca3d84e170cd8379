"""Train a teacher or an undistilled baseline from scratch.

    python train.py --config config/demo/teacher-gpt2.yaml
    python train.py --config config/demo/teacher-gpt2.yaml training.lr=1e-3 name=demo/faster --dry-run
    torchrun --nproc_per_node=2 train.py --config config/teacher/BabyLlama1-Teacher-Llama-360M.yaml

`runs/<name>/` becomes a Hugging Face model folder that holds the step of the best dev cross-entropy. Started again, an
unfinished run goes on where it stopped; a finished one does nothing.
"""

from palenka.cli import command, read_arguments
from palenka.cost.dry_run import describe
from palenka.report.model_card import write_model_card
from palenka.training.cohort import train
from palenka.training.plan import load_plan
from palenka.training.schema import TrainConfig


@command
def main() -> None:
    arguments = read_arguments(__doc__)
    plan = load_plan(arguments.config, arguments.overrides, TrainConfig, arguments.dry_run)  # checks everything
    if arguments.dry_run:
        print(describe(plan))
    else:
        write_model_card(train(plan, arguments.from_last_good))


if __name__ == "__main__":
    main()
