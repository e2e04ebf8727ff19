"""The quickstart's network and optimiser in Keras, as exper/quickstart/net.py defines them for Caffe."""

import keras
import numpy as np
from settings import CONVOLUTIONS, MOMENTUM, POWER, STRIDE, WEIGHT_DECAY

from rloss_caffe.datasets import examples

CLASSES = len(examples.CLASSES)


def network():
    """From images (N, H, W, 3), BGR minus the mean, to class scores (N, H, W, K); H and W are multiples of 4.

    Its output is in single precision under mixed precision, too.
    """
    image = keras.Input((None, None, 3), name="image")
    below = keras.layers.Rescaling(1 / 64, name="scaled")(image)
    for number, (channels, stride, dilation) in enumerate(CONVOLUTIONS, 1):
        below = keras.layers.ZeroPadding2D(dilation)(below)  # "same" would pad one side more where the stride is 2
        below = convolution(f"conv{number}", channels, 3, strides=stride, dilation_rate=dilation)(below)
        below = keras.layers.ReLU(name=f"relu{number}")(below)
    coarse = convolution("score_coarse", CLASSES, 1)(below)
    # Caffe's Deconvolution with bilinear weights. Unlike UpSampling2D it takes 0 for what is beyond the edge.
    interpolate = keras.layers.Conv2DTranspose(
        CLASSES, 2 * STRIDE, STRIDE, "same", use_bias=False, name="score", trainable=False, dtype="float32"
    )
    result = keras.Model(image, interpolate(coarse), name="quickstart")
    interpolate.set_weights([bilinear_weights(STRIDE)])
    return result


def convolution(name, channels, size, **how):
    return keras.layers.Conv2D(
        channels,
        size,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal"),  # Caffe's "msra"
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2),
        name=name,
        **how,
    )


def bilinear_weights(factor):
    """Weights of a transposed convolution that interpolates each class by itself, (2 factor, 2 factor, K, K)."""
    row = 1 - abs(np.arange(2 * factor) - factor + 0.5) / factor
    return np.einsum("y,x,kl->yxkl", row, row, np.eye(CLASSES)).astype(np.float32)


@keras.saving.register_keras_serializable(package="quickstart")
class CaffeSGD(keras.optimizers.SGD):
    """SGD as in the Caffe solvers: biases learn twice as fast. (They do not decay, as only kernels have a penalty.)"""

    def update_step(self, gradient, variable, learning_rate):
        is_bias = len(variable.shape) == 1
        super().update_step(gradient, variable, learning_rate * (2 if is_bias else 1))


def optimizer(base_lr, iterations):
    """SGD with momentum, and Caffe's schedule "poly"."""
    schedule = keras.optimizers.schedules.PolynomialDecay(base_lr, iterations, 0.0, POWER)
    return CaffeSGD(schedule, MOMENTUM)
