"""Distil teachers into a student: any weighted sum of the objectives in `palenka/objectives/`.

    python distill.py --config config/demo/student-kd.yaml
    python distill.py --config config/demo/student-kd.yaml objective.logit.temperature=1 name=demo/cooler --dry-run
    torchrun --nproc_per_node=2 distill.py --config config/distillation/BabyLlama1-58M.yaml

The teachers are finished runs, named in the config. The student ends up in `runs/<name>/`, a Hugging Face model folder
without anything that only training needed. Started again, an unfinished run goes on where it stopped.
"""

from palenka.cli import command, read_arguments
from palenka.cost.dry_run import describe
from palenka.report.model_card import write_model_card
from palenka.training.cohort import train
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig


@command
def main(description: str | None = __doc__, default_config: str | None = None) -> None:
    arguments = read_arguments(description, default_config)
    plan = load_plan(arguments.config, arguments.overrides, DistillConfig, arguments.dry_run)  # checks everything
    if arguments.dry_run:
        print(describe(plan))
    else:
        write_model_card(train(plan, arguments.from_last_good))


if __name__ == "__main__":
    main()
