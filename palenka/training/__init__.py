"""From a plan to a finished run.

    schema.py                what a YAML file may say        recipes.py       the files of `config/`, and variants
    plan.py                  a run, checked before any model is built
    session.py, build.py     opened, and its parts built     compilation.py   whether they are compiled
    cohort.py                runs side by side on one teacher pass
    loop.py                  the steps of a training
    course.py, batches.py    which windows each step sees, and their batches
    loss_module.py           the loss: student, teachers, objectives
    student.py               its gradients, clipping, the optimizer
    gradients.py             steps whose gradient is not finite
    trainer.py               what follows a step             validation.py    dev text and milestones, measured
    milestones.py, milestone_plan.py    scores along the way
    state.py                 what a checkpoint holds         preemption.py    being told to stop
    meter.py, display.py, trackers.py   figures: taken, shown, sent on
    export.py                model folders for others        cache_logits.py  teachers' logits, kept
"""
