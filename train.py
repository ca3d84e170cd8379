"""Train a teacher or an undistilled baseline from scratch.

    python train.py --config config/demo/teacher-gpt2.yaml
    python train.py --config config/demo/teacher-gpt2.yaml training.lr=1e-3 name=demo/faster --dry-run
    torchrun --nproc_per_node=2 train.py --config config/teacher/BabyLlama1-Teacher-Llama-360M.yaml

`runs/<name>/` becomes a Hugging Face model folder that holds the step of the best dev cross-entropy. Started again, an
unfinished run resumes where it stopped; a finished one does nothing.
"""

from palenka.cli import command, read_arguments
from palenka.cost.dry_run import describe
from palenka.cost.record import record_cost
from palenka.report.model_card import write_model_card
from palenka.training.batches import Batches
from palenka.training.build import build_objectives, build_optimizer, build_student
from palenka.training.loop import fit
from palenka.training.loss_module import LossModule
from palenka.training.plan import Plan, load_plan
from palenka.training.schema import TrainConfig
from palenka.training.session import begin
from palenka.training.trainer import Trainer
from palenka.util.processes import is_first_process


@command
def main() -> None:
    arguments = read_arguments(__doc__)
    plan = load_plan(arguments.config, arguments.overrides, TrainConfig, arguments.dry_run)  # checks everything
    if arguments.dry_run:
        print(describe(plan))
    else:
        train(plan, arguments.from_last_good)
        if is_first_process():
            record_cost(plan)
            write_model_card(plan.folder)


def train(plan: Plan, from_last_good: bool = False) -> None:
    """A run from its plan to its export, part by part."""
    session = begin(plan, from_last_good)  # None: finished already
    if session is None:
        return
    batches = Batches(plan.windows(), plan.paradigm, plan.course, session.first_step)  # what of the text is predicted
    model = build_student(plan, session.device)  # weights drawn from the run's seed
    loss = LossModule(model, build_objectives(plan))  # the cross-entropy of what is predicted
    optimizer = build_optimizer(plan, loss)
    session.open()  # runs/<name>/: locked, the data verified
    fit(Trainer(session, loss, optimizer), batches)  # the loop: dev loss, milestones, checkpoints; exports the best


if __name__ == "__main__":
    main()
