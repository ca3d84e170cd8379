#!/usr/bin/env bash
# trackio 0.43.0: a second run begun in the same process ends the first.
#   guess   init returns a run, as wandb's with reinit="create_new" does: two of them are logged to side by side
#   found   the first is finished without having been asked to; what is logged to it afterwards is kept all the same
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" trackio==0.43.0
TRACKIO_DIR=$PWD/trackio python - <<'PYTHON'
import contextvars
from unittest.mock import patch

import trackio

finished = []
with patch.object(trackio.Run, "finish", lambda run: finished.append(run.name)):
    for name in ("a", "b"):
        trackio.init(project="one", name=name, embed=False)
    print("finished by the second init:", finished)
    assert finished == ["a"]
    finished.clear()
    trackio.context_vars.current_run.set(None)
    for name in ("c", "d"):
        contextvars.copy_context().run(trackio.init, project="one", name=name, embed=False)
    print("finished, each in a context of its own:", finished)
    assert finished == []
PYTHON
