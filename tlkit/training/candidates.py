"""The weights that the gradient stages of a run left behind, put into the layers of its classifier by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from tlkit.training.average import Weights
from tlkit.training.checkpoint import Checkpoint, Kept, State
from tlkit.training.plan import Plan, Stage
from tlkit.training.stages import Material, held_out, stage_model


def gradient_stages(plan: Plan) -> list[Stage]:
    """The stages in which the backbone learns."""
    return [stage for stage in plan.stages if stage.name != "head"]


class Trained:
    """What the stages after the first one left.

    Args:
        plan: with at least one of them.
        states: of all its stages, every one over.
        material: the classifier, whose layers every method reads or writes.
        folder: of the checkpoints.
    """

    def __init__(self, plan: Plan, states: Sequence[State], material: Material, folder: Path) -> None:
        self.stages = gradient_stages(plan)
        self._states = {stage.name: state for stage, state in zip(plan.stages, states, strict=True)}
        self._checkpoints = {stage.name: Checkpoint(folder / stage.name) for stage in self.stages}
        self._models = {stage.name: stage_model(stage, material) for stage in self.stages}
        self._own = Checkpoint(folder / "choice")
        self._material = material

    @property
    def _whole(self) -> keras.Model:
        """Of everything that any stage moved: the last stage's, since each moves what the one before it did."""
        return self._models[self.stages[-1].name]

    def kept(self) -> list[tuple[Stage, Kept]]:
        """The epochs that are still there, by stage and then the best first."""
        return [(stage, kept) for stage in self.stages for kept in self._states[stage.name].kept]

    def tried(self, stage: Stage) -> int:
        """Of how many the validation images picked what stands for a stage: epochs with a patience, trials of a search."""
        epochs = 1 if self._material.config.patience is None else self._states[stage.name].epoch
        return epochs * (self._trials if stage.name == self.stages[-1].name else 1)

    def tried_in_all(self) -> int:
        """Of how many epochs of all stages and trials the validation images picked the best."""
        return self._trials * sum(self._states[stage.name].epoch for stage in self.stages)

    @property
    def _trials(self) -> int:
        return self._material.config.search or 1

    def put_probe(self) -> None:
        """The layers as the first of these stages found them: the solved head on the pretrained backbone."""
        self.put(self.stages[0], self._states[self.stages[0].name].start)

    def put(self, stage: Stage, file: str) -> None:
        """The layers as a file of a stage has them; what later stages moved besides is as that stage left it alone."""
        last = self.stages[-1]
        if stage.name != last.name:
            self._checkpoints[last.name].load_weights(self._whole, self._states[last.name].start)
        self._checkpoints[stage.name].load_weights(self._models[stage.name], file)

    def read(self) -> Weights:
        """The weights that the layers hold."""
        return [np.array(weight) for weight in self._whole.get_weights()]

    def write(self, weights: Weights) -> None:
        """Put weights that `read` gave, or what was made of them, into the layers."""
        self._whole.set_weights(weights)

    def held_out(self) -> Callable[[], np.ndarray]:
        """Gives the logits float32 (n, K) of the validation images by what the layers hold when it is called."""
        return held_out(self.stages[-1], self._material)

    def keep(self) -> None:
        """Write what the layers hold, for a resumed run."""
        self._own.save_weights(self._whole, "chosen")

    def is_kept(self) -> bool:
        """Whether `keep` has written."""
        return (self._own.folder / "chosen.weights.h5").is_file()

    def put_chosen(self) -> None:
        """The layers as `keep` found them."""
        self._own.load_weights(self._whole, "chosen.weights.h5")

    def forget_others(self) -> None:
        """Remove the weights of all epochs but the best of each stage."""
        for checkpoint in self._checkpoints.values():
            checkpoint.forget_others()
