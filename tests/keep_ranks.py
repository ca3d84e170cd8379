"""distill.py, with each process writing its final weights into the run directory as rank-<n>.safetensors."""

import os

from safetensors.torch import save_model

import distill
from palenka.training.trainer import Trainer


def main() -> None:
    finish = Trainer.finish

    def recorded(self: Trainer) -> None:
        save_model(self.loss, str(self.run.path / f"rank-{os.environ['RANK']}.safetensors"))
        finish(self)

    Trainer.finish = recorded  # type: ignore[method-assign]
    distill.main()


if __name__ == "__main__":
    main()
