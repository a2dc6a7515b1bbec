"""The layer `Scale`."""

import keras


@keras.saving.register_keras_serializable("flowers")
class Scale(keras.layers.Layer):
    """Multiplies its input by a trained number.

    Args:
        initial: value of the number before training.
    """

    def __init__(self, initial: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.initial), name="factor")

    def call(self, inputs):
        return inputs * self.factor

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
