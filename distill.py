"""Distil teachers into a student: any weighted sum of the objectives in `palenka/objectives/`.

    python distill.py --config config/demo/student-kd.yaml
    python distill.py --config config/demo/student-kd.yaml objective.logit.temperature=1 name=demo/cooler --dry-run
    torchrun --nproc_per_node=2 distill.py --config config/distillation/BabyLlama1-58M.yaml

The teachers are finished runs, named in the config. The student ends up in `runs/<name>/`, a Hugging Face model folder
without anything that only training needed. Started again, an unfinished run resumes where it stopped.
"""

from palenka.cli import command, read_arguments
from palenka.cost.dry_run import describe
from palenka.cost.record import record_cost
from palenka.report.model_card import write_model_card
from palenka.training.batches import Batches
from palenka.training.build import build_objectives, build_optimizer, build_student, find_teachers
from palenka.training.loop import fit
from palenka.training.loss_module import LossModule
from palenka.training.plan import Plan, load_plan
from palenka.training.schema import DistillConfig
from palenka.training.session import begin
from palenka.training.trainer import Trainer
from palenka.util.processes import is_first_process


@command
def main(description: str | None = __doc__, default_config: str | None = None) -> None:
    arguments = read_arguments(description, default_config)
    plan = load_plan(arguments.config, arguments.overrides, DistillConfig, arguments.dry_run)  # checks everything
    if arguments.dry_run:
        print(describe(plan))
    else:
        distill(plan, arguments.from_last_good)
        if is_first_process():
            record_cost(plan)
            write_model_card(plan.folder)


def distill(plan: Plan, from_last_good: bool = False) -> None:
    """A run with teachers from its plan to its export, part by part."""
    session = begin(plan, from_last_good)  # None: finished already
    if session is None:
        return
    batches = Batches(plan.windows(), plan.paradigm, plan.course, session.first_step)  # what of the text is predicted
    teachers = find_teachers(plan, session.device)  # frozen, or the logits that were cached of them
    student = build_student(plan, session.device)  # weights drawn from the run's seed
    loss = LossModule(student, build_objectives(plan), teachers, plan.taught)  # what it learns, of the text and of them
    optimizer = build_optimizer(plan, loss)  # of the student and of what objectives own
    session.open()  # runs/<name>/: locked, the data verified
    fit(Trainer(session, loss, optimizer), batches)  # the loop: dev loss, milestones, checkpoints; exports the best


if __name__ == "__main__":
    main()
