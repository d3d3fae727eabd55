"""Training weights of the model itself: all of them, or those of its last layers."""

from pathlib import Path

from transformers import PreTrainedModel

from luthier.model.adapters.freeze import FreezeSpec
from luthier.model.adapting.configs import check_layers
from luthier.model.adapting.layers import decoder_layers
from luthier.model.headed import head_parts
from luthier.model.load import quiet


class FullWeights:
    """Every weight trains, but for sines of positions."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Let every weight require gradients; `seed` draws nothing here."""
        model.requires_grad_(True)
        # Some models keep their positions' sines among their weights, and do not save them.
        for module in model.modules():
            if "Sinusoidal" in type(module).__name__:
                module.requires_grad_(False)
        return model

    def save(self, model: PreTrainedModel, folder: Path, *, base_model: str) -> None:
        """Write the whole model."""
        with quiet():
            model.save_pretrained(str(folder))


class LastLayers:
    """The last layers train, and the head where it is asked for."""

    def __init__(self, spec: FreezeSpec) -> None:
        self.spec = spec

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Let the last layers' weights require gradients; `seed` draws nothing here."""
        check_layers(self.spec.layers, model)
        model.requires_grad_(False)
        layers = decoder_layers(model)
        layers[-self.spec.layers :].requires_grad_(True)
        for part in head_parts(model).values():
            part.requires_grad_(True)
        if self.spec.head:
            if (output := model.get_output_embeddings()) is not None:
                output.requires_grad_(True)
            for module in model.base_model.children():
                if module is not layers and "norm" in type(module).__name__.lower():
                    module.requires_grad_(True)
        return model

    def save(self, model: PreTrainedModel, folder: Path, *, base_model: str) -> None:
        """Write the whole model."""
        with quiet():
            model.save_pretrained(str(folder))
