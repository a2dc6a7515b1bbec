"""Muon for the kernels of convolutions, which Keras's own leaves to AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class ConvolutionalMuon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon for the hidden layers of a convolutional network; all other weights are trained with AdamW.

    The updates of the kernels of convolutions and of dense layers are orthogonalized, a convolution's as a matrix of
    (height * width * input channels, filters). Not so that of the last layer, the classifier, and those of depthwise
    convolutions, which are no matrices; nor those of biases with two axes, such as position embeddings. Keller
    Jordan's program for CIFAR-10 does the same (https://github.com/KellerJordan/cifar10-airbench, airbench94_muon.py);
    AdamW and the size of the steps are Keras's.

    If the model computes in bfloat16, so do the Newton-Schulz iterations, as in that program: they take half the time
    on a CPU with instructions for it.
    """

    def build(self, var_list: Sequence[Any]) -> None:
        """Create the optimizer's variables for the trainable variables of a model, in the order of its layers."""
        kernels = [variable.path for variable in var_list if _is_matrix(variable)]
        self._hidden = frozenset(kernels[:-1])
        in_bfloat16 = keras.config.dtype_policy().compute_dtype == "bfloat16"
        self._iterated_dtype = "bfloat16" if in_bfloat16 else "float32"
        super().build(var_list)

    def _should_use_adamw(self, variable: Any) -> bool:
        return variable.path not in self._hidden

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Orthogonalize an update of shape (inputs, outputs) or (height, width, inputs, outputs)."""
        matrix = _matrix(x)
        matrix /= ops.norm(matrix) + 1e-7  # in full precision
        orthogonal = super().zeropower_via_newtonschulz5(ops.cast(matrix, self._iterated_dtype), steps)
        return ops.cast(ops.reshape(orthogonal, x.shape), x.dtype)

    def lr_adjust(self, x: Any) -> Any:
        """Scale an update, of the same shapes, as Keras does a matrix: by the root of its longer side."""
        return ops.reshape(super().lr_adjust(_matrix(x)), x.shape)


def _is_matrix(variable: Any) -> bool:
    """Whether a variable is the kernel of a dense layer or of a convolution that mixes channels.

    The path has the name of the layer, which a user may choose; a depthwise kernel mostly has one column as well.
    """
    is_kernel = variable.name.endswith("kernel") and "depthwise" not in variable.path
    return is_kernel and len(variable.shape) in (2, 4) and variable.shape[-1] > 1


def _matrix(x: Any) -> Any:
    return ops.reshape(x, (-1, x.shape[-1]))
