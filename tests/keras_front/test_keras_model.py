"""The losses in Keras: a model that trains with them, however it is run, saved or copied."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
keras = pytest.importorskip("keras", minversion="3", reason="needs Keras 3")
if keras.backend.backend() != "tensorflow":
    pytest.skip("Keras was told to compute with something else", allow_module_level=True)

from helpers.loss_batches import OPTIONS, batch, softmax  # noqa: E402
from helpers.paths import ROOT  # noqa: E402

import rloss_caffe.keras as rloss_keras  # noqa: E402
from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.numerics.parameters import parameters_of  # noqa: E402

CLASSES = {
    "densecrf": rloss_keras.DenseCRFLoss,
    "kernel_cut": rloss_keras.KernelCutLoss,
    "local_potts": rloss_keras.LocalPottsLoss,
    "normalized_cut": rloss_keras.NormalizedCutLoss,
    "self_label": rloss_keras.SelfLabelLoss,
    "size_constraint": rloss_keras.SizeConstraintLoss,
}
CROSS_ENTROPY = {"from_logits": True, "ignore_class": 255}


def data(**made):
    """Images, channels last, and label maps."""
    images, _, labels, _ = batch(**made)
    return np.moveaxis(images, 1, -1), labels


def network(classes=3, dropout=0.0, dtype=None):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Rescaling(1 / 128, -1, dtype=dtype),
        keras.layers.Conv2D(6, 3, padding="same", activation="relu", dtype=dtype),
        keras.layers.Dropout(dropout, seed=1, dtype=dtype),
        keras.layers.Conv2D(classes, 1, dtype=dtype),
    ]
    return keras.Sequential(layers)


def regularized(losses=None, rate=0.05, **how):
    """A compiled model."""
    if losses is None:
        losses = [rloss_keras.NormalizedCutLoss(0.5, bi_xy_std=5), rloss_keras.SizeConstraintLoss(0.01)]
    model = rloss_keras.RegularizedModel(network(), losses, from_logits=True)
    model.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(**CROSS_ENTROPY), **how)
    return model


def weights(model):
    return np.concatenate([each.ravel() for each in model.get_weights()])


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_function(name):
    images, scores, labels, roi = batch()
    loss = CLASSES[name](0.5, **OPTIONS[name])
    segmentations = softmax(scores)
    tensors = [np.moveaxis(images, 1, -1), tf.constant(np.moveaxis(segmentations, 1, -1)), labels, roi[..., None]]
    with tf.GradientTape() as tape:
        tape.watch(tensors[1])
        value = loss(*tensors)
    gradient = np.moveaxis(tape.gradient(value, tensors[1]).numpy(), -1, 1)
    arrays = [segmentations] if name == "size_constraint" else [images, segmentations]
    result = LOSSES[name](*arrays, labels=labels, roi=roi, **OPTIONS[name])
    assert value.numpy() == np.float32(0.5 * result.value)
    np.testing.assert_array_equal(gradient, result.gradient(0.5))


@pytest.mark.parametrize("name", LOSSES)
def test_options_are_the_functions_parameters(name):
    signature = inspect.signature(CLASSES[name]).parameters
    declared = {each.name.replace("lambda", "lambda_"): each for each in parameters_of(LOSSES[name])}
    assert list(signature) == ["weight", *declared]
    for attribute, parameter in declared.items():
        assert signature[attribute].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}" in CLASSES[name].__doc__
    loss = CLASSES[name](0.25, **OPTIONS[name])
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is CLASSES[name] and twin.options == loss.options and repr(twin) == repr(loss)
    with pytest.raises(TypeError, match="unexpected argument 'sigma'; it takes weight"):
        CLASSES[name](sigma=3)
    with pytest.raises(ValueError, match="weight must be a number"):
        CLASSES[name]("much")


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {}, {"steps_per_execution": 2}])
def test_training_is_gradient_descent_on_the_sum(how):
    """One step of fit is that of a loop of one's own, eager, traced, or several at once; batches of 2, 2 and 1."""
    images, labels = data(images=5)
    model, twin = regularized(**how), network()
    pairs = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    assert pairs.element_spec[0].shape[0] is None
    shown = model.fit(pairs, verbose=0).history
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(**CROSS_ENTROPY)
    sums = np.zeros(3)
    for some, maps in pairs:
        with tf.GradientTape() as tape:
            scores = twin(some, training=True)
            terms = [loss(some, tf.nn.softmax(scores), maps) for loss in model.image_losses]
            total = cross_entropy(maps, scores) + tf.add_n(terms)
        for weight, gradient in zip(twin.trainable_weights, tape.gradient(total, twin.trainable_weights)):
            weight.assign_sub(0.05 * gradient)
        sums += [each.numpy() * len(some) for each in (total, *terms)]
    np.testing.assert_allclose(weights(model), weights(twin), rtol=1e-4, atol=1e-6)
    names = ("loss", "normalized_cut_loss", "size_constraint_loss")
    assert set(shown) == set(names)
    assert [shown[name][0] for name in names] == pytest.approx(list(sums / 5), rel=1e-4)


def test_evaluate_and_predict():
    images, labels = data()
    model = regularized()
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    probabilities = keras.ops.softmax(model.network(images))
    values = [float(loss(images, probabilities, labels)) for loss in model.image_losses]
    assert [found["normalized_cut_loss"], found["size_constraint_loss"]] == pytest.approx(values, rel=1e-6)
    np.testing.assert_allclose(model.predict(images, verbose=0), model.network(images), rtol=1e-5, atol=1e-6)


def test_mixed_precision():
    """The network in float16, with the optimiser's scaling of losses; the losses in float32: near to float32 alone."""
    images, labels = data()
    found = []
    for policy in ("float32", "mixed_float16"):
        losses = [rloss_keras.DenseCRFLoss(1e-2, bi_xy_std=5), rloss_keras.LocalPottsLoss(0.1)]
        net = network(dtype=policy)
        model = rloss_keras.RegularizedModel(net, losses, from_logits=True)
        optimizer = keras.optimizers.SGD(0.05)
        if policy != "float32":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(**CROSS_ENTROPY))
        before = weights(model)
        shown = model.fit(images, labels, verbose=0).history
        assert net(images).dtype == ("float16" if policy != "float32" else "float32")
        found.append((shown["densecrf_loss"][0], weights(model) - before))
    (value, step), (mixed_value, mixed_step) = found
    assert value < -0.1 and mixed_value == pytest.approx(value, rel=0.01)
    assert step @ mixed_step / np.linalg.norm(step) / np.linalg.norm(mixed_step) > 0.99


def test_saved_and_cloned(tmp_path):
    images, labels = data()
    model = regularized(losses=[rloss_keras.SelfLabelLoss(0.5, lambda_=2, steps=3), rloss_keras.SizeConstraintLoss(1)])
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(**CROSS_ENTROPY))
    clone.set_weights(model.get_weights())
    for twin in (loaded, clone):
        assert twin.from_logits and str(twin.image_losses) == str(model.image_losses)
        np.testing.assert_array_equal(weights(twin), weights(model))
    shown = [each.fit(images, labels, verbose=0).history for each in (model, loaded, clone)]
    assert shown[0] == shown[1] == shown[2] and "self_label_loss" in shown[0]
    code = f"import keras, rloss_caffe.keras as k; print(keras.models.load_model({str(tmp_path / 'model.keras')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "<RegularizedModel" in done.stdout, done.stderr[-2000:]


def test_a_callback_changes_weights_and_options():
    """Inside the traced step too."""
    images, labels = data()
    loss = rloss_keras.SizeConstraintLoss(0.0, upper=[30.0, 8.0, 12.0], tags=False, penalty="log_barrier")

    def begin(epoch, logs=None):
        loss.weight = float(epoch)
        if epoch == 3:
            loss.penalty = "quadratic"

    model = regularized(losses=loss, rate=0.0)
    shown = model.fit(images, labels, epochs=4, verbose=0, callbacks=[keras.callbacks.LambdaCallback(begin)]).history
    values = shown["size_constraint_loss"]
    assert values[0] == 0 < values[1] and values[2] == pytest.approx(2 * values[1])
    assert values[3] != pytest.approx(3 * values[1], rel=1e-3)


def test_dropout_is_on_in_training_alone():
    images, labels = data()
    model = rloss_keras.RegularizedModel(network(dropout=0.5), [rloss_keras.NormalizedCutLoss()], from_logits=True)
    assert (model(images, training=True).numpy() != model(images, training=False).numpy()).any()
    np.testing.assert_array_equal(model(images, training=False), model.network(images, training=False))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(**CROSS_ENTROPY))
    model.fit(images, labels, verbose=0)


class WithRegion(rloss_keras.RegularizedModel):
    """Images in a dict, one-hot targets, and a region of interest."""

    def loss_inputs(self, x, y, y_pred):
        images = x["image"]
        return {
            "images": images,
            "segmentations": self.probabilities(y_pred),
            "labels": keras.ops.argmax(y, -1),
            "roi": keras.ops.cast(images[..., 0] > 100, "float32"),
        }


@pytest.mark.parametrize("classes", [1, 3])
def test_other_inputs_and_targets(classes):
    images, labels = data()
    targets = np.eye(classes, dtype=np.float32)[np.minimum(labels, classes - 1)]
    scores = network(classes)
    place = keras.Input((None, None, 3), name="image")
    loss = rloss_keras.NormalizedCutLoss(0.5, bi_xy_std=5)
    model = WithRegion(keras.Model({"image": place}, scores(place)), [loss, loss], from_logits=True)
    kind = keras.losses.BinaryCrossentropy if classes == 1 else keras.losses.CategoricalCrossentropy
    model.compile("sgd", kind(from_logits=True))
    shown = model.evaluate({"image": images}, targets, verbose=0, return_dict=True)
    probabilities = keras.ops.sigmoid(scores(images)) if classes == 1 else keras.ops.softmax(scores(images))
    value = float(loss(images, probabilities, targets.argmax(-1), images[..., 0] > 100))
    assert value > 0 or classes == 1
    assert shown["normalized_cut_loss"] == shown["normalized_cut_loss_2"] == pytest.approx(value, rel=1e-5)
    model.fit({"image": images}, targets, verbose=0)


def test_xla_is_switched_off():
    images, labels = data()
    assert not regularized().jit_compile
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model = regularized(jit_compile=True)
    model.fit(images, labels, verbose=0)


def test_mistakes():
    with pytest.raises(ValueError, match="losses must be losses of rloss_caffe.keras, found 'densecrf'"):
        rloss_keras.RegularizedModel(network(), ["densecrf"])
    with pytest.raises(ValueError, match="losses must hold a loss, found none"):
        rloss_keras.RegularizedModel(network(), [])
    images, labels = data()
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 0 of the batch: images must be finite"):
        regularized().evaluate(images * np.nan, labels, verbose=0)


REPLICAS = """
import sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import test_keras_model as tests
images, labels = tests.data(images=4)
labels[:, 4, :2], labels[:, 4, -2:] = 0, 1  # as many in each half: cross entropy is a mean of each replica's own
found = []
for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()):
    with strategy.scope():
        model = tests.regularized()
    pairs = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    shown = [model.fit(pairs, verbose=0).history for _ in range(3)][-1]
    found.append((strategy.num_replicas_in_sync, shown, tests.weights(model)))
(two, shown, weights), (one, alone, expected) = found
assert (two, one) == (2, 1)
np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
for name, values in alone.items():
    np.testing.assert_allclose(shown[name], values, rtol=1e-4)
print("replicas agree")
"""


def test_two_replicas_train_as_one():
    """MirroredStrategy over two virtual CPUs, each with half of a batch."""
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'keras_front'}"}
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, env={**os.environ, **path})
    assert done.returncode == 0 and "replicas agree" in done.stdout, done.stderr[-3000:]
