"""The losses as functions of TensorFlow's tensors: their numbers, traced and not, and what they say to mistakes."""

import inspect
import threading

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")

from helpers.loss_batches import EXACT, OPTIONS, batch, softmax  # noqa: E402
from helpers.tensorflow_batches import arrays_of, channels_last, expected, value_and_gradient  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import rloss_caffe.tensorflow as rloss_tensorflow  # noqa: E402
from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.numerics.parameters import parameters_of  # noqa: E402

UNKNOWN = {"images": (None,) * 4, "segmentations": (None,) * 4, "labels": (None,) * 3, "roi": (None,) * 3}


def of_unknown_size(name, tensors, options):
    """A tf.function that knows how many axes there are, and nothing else."""
    signature = {key: tf.TensorSpec(UNKNOWN[key], tensor.dtype) for key, tensor in tensors.items()}
    return tf.function(lambda given: value_and_gradient(name, given, options), input_signature=[signature])


def constants(arrays):
    return {key: tf.constant(array) for key, array in arrays.items()}


def assert_equal(found, value, gradient, data_format="channels_last"):
    """Bit for bit."""
    assert found[0].shape == () and found[0].numpy() == np.float32(value)
    axes = (0, 3, 1, 2) if data_format == "channels_last" else (0, 1, 2, 3)
    np.testing.assert_array_equal(found[1].numpy().transpose(axes), gradient)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_value_and_gradient_are_the_functions(name, data_format):
    arrays, options = arrays_of(name), OPTIONS[name]
    tensors = constants(channels_last(arrays) if data_format == "channels_last" else arrays)
    found = value_and_gradient(name, tensors, options, data_format=data_format)
    assert_equal(found, *expected(name, arrays, options), data_format)


@pytest.mark.parametrize("name", LOSSES)
def test_a_traced_function_takes_batches_of_any_size(name):
    function = None
    for made in ({}, {"images": 3, "size": (7, 8)}, {"images": 1, "channels": 1}):
        arrays = arrays_of(name, **made)
        tensors = constants(channels_last(arrays))
        function = function or of_unknown_size(name, tensors, OPTIONS[name])
        assert_equal(function(tensors), *expected(name, arrays, OPTIONS[name]))
    assert function.experimental_get_tracing_count() == 1


@given(
    name=st.sampled_from(sorted(LOSSES)),
    made=st.fixed_dictionaries(
        {
            "images": st.integers(1, 3),
            "classes": st.sampled_from([1, 3]),
            "size": st.tuples(st.integers(2, 9), st.integers(2, 9)),
            "channels": st.sampled_from([1, 3]),  # each number has kernels of its own
            "seed": st.integers(0, 99),
        }
    ),
    left_out=st.sets(st.sampled_from(["labels", "roi"])),
    axis=st.booleans(),
    traced=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_batch(name, made, left_out, axis, traced):
    """Of random sizes, with and without labels and region, and these with and without an axis of length 1."""
    options = {**OPTIONS[name], **({"upper": 4.0} if name == "size_constraint" else {})}
    arrays = {key: array for key, array in arrays_of(name, **made).items() if key not in left_out}
    everywhere = np.ones((made["images"], *made["size"]), np.float32)
    value, gradient = expected(name, {"roi": everywhere, **arrays}, options)
    tensors = constants(channels_last(arrays))
    if axis:
        tensors = {key: tensor[..., None] if tensor.shape.rank == 3 else tensor for key, tensor in tensors.items()}
    function = tf.function(value_and_gradient) if traced else value_and_gradient
    assert_equal(function(name, tensors, options), value, gradient)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.float64])
def test_result_and_gradient_have_the_segmentations_type(name, dtype):
    """They are those of the rounded tensors, computed in single precision, and rounded once."""
    tensors = constants(channels_last(arrays_of(name)))
    tensors["segmentations"] = tf.cast(tensors["segmentations"], dtype)
    found = value_and_gradient(name, tensors, OPTIONS[name])
    wide = {**tensors, "segmentations": tf.cast(tensors["segmentations"], tf.float32)}
    exact = value_and_gradient(name, wide, OPTIONS[name])
    for one, other in zip(found, exact):
        assert one.dtype == dtype
        if dtype == tf.float64:
            np.testing.assert_array_equal(tf.cast(one, tf.float32), other)
        else:
            np.testing.assert_array_equal(tf.cast(one, tf.float32), tf.cast(tf.cast(other, dtype), tf.float32))


def test_images_labels_and_regions_of_other_types():
    tensors = constants(channels_last(arrays_of("normalized_cut")))
    whole = {**tensors, "images": tf.round(tensors["images"])}
    exact = value_and_gradient("normalized_cut", whole, OPTIONS["normalized_cut"])
    for image, label, region in ((tf.uint8, tf.uint8, tf.bool), (tf.float64, tf.float32, tf.float16)):
        types = {"images": image, "labels": label, "roi": region}
        other = {**whole, **{key: tf.cast(whole[key], dtype) for key, dtype in types.items()}}
        found = value_and_gradient("normalized_cut", other, OPTIONS["normalized_cut"])
        assert found[0] == exact[0] and (found[1].numpy() == exact[1].numpy()).all()


@pytest.mark.parametrize("name, options", EXACT)
def test_compute_gradient(name, options):
    """Tensors of double precision, numbers of single precision: wide steps, and what single precision leaves."""
    tensors = constants(channels_last(arrays_of(name, images=1, classes=2, size=(4, 5))))
    if name == "self_label":
        tensors["labels"] = tf.reshape(tf.range(20), (1, 4, 5)) % 2
    if "exact_gradient" in options:
        options = {"bi_xy_std": 3.0, "bi_rgb_std": 60.0, **options}

    def value(segmentations):
        return getattr(rloss_tensorflow, f"{name}_loss")(**{**tensors, "segmentations": segmentations}, **options)

    segmentations = tf.cast(tensors["segmentations"], tf.float64)
    ((theoretical,), (numerical,)) = tf.test.compute_gradient(value, [segmentations], delta=2e-3)
    size = np.abs(theoretical).max()
    assert size > 0
    np.testing.assert_allclose(numerical, theoretical, rtol=2e-3, atol=2e-3 * size)


@pytest.mark.parametrize("traced", [False, True])
def test_a_factor_from_above_and_only_the_segmentations_are_differentiated(traced):
    tensors = constants(channels_last(arrays_of("densecrf")))
    roi = tensors["roi"]

    def step():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([tensors["images"], tensors["segmentations"], roi])
            value = 3 * rloss_tensorflow.densecrf_loss(**tensors, **OPTIONS["densecrf"])
        return [tape.gradient(value, each) for each in (tensors["segmentations"], tensors["images"], roi)]

    found = (tf.function(step) if traced else step)()
    assert found[1] is None and found[2] is None
    _, gradient = value_and_gradient("densecrf", tensors, OPTIONS["densecrf"])
    np.testing.assert_array_equal(found[0], 3 * gradient.numpy())


@pytest.mark.parametrize("traced", [False, True])
def test_the_second_derivative_is_refused(traced):
    """And a tape around a step that nobody asks for one is not."""
    tensors = constants(channels_last(arrays_of("normalized_cut")))
    step = tf.function(value_and_gradient) if traced else value_and_gradient
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors["segmentations"])
        value, gradient = step("normalized_cut", tensors, {})
        total = tf.reduce_sum(gradient * tf.sqrt(tensors["segmentations"]))
    np.testing.assert_array_equal(tape.gradient(value, tensors["segmentations"]), gradient)
    with pytest.raises((NotImplementedError, tf.errors.UnimplementedError), match="have a first derivative only"):
        tape.gradient(total, tensors["segmentations"])


@pytest.mark.parametrize("name", LOSSES)
def test_signature_and_explanation_are_the_parameters(name):
    function = getattr(rloss_tensorflow, f"{name}_loss")
    found = inspect.signature(function).parameters
    declared = {each.name.replace("lambda", "lambda_"): each for each in parameters_of(LOSSES[name])}
    tensors = [key for key in ("images", "segmentations", "labels", "roi") if key in arrays_of(name)]
    assert list(found) == [*tensors, "data_format", *declared]
    for argument, parameter in declared.items():
        assert found[argument].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}" in function.__doc__


def test_mistakes_are_told_when_they_can_be_known():
    """Some before there are any numbers: at once in eager code, and while a function is traced."""
    images, scores, labels, roi = (tf.constant(each) for each in channels_last(dict(enumerate(batch()))).values())
    segmentations = tf.nn.softmax(scores)
    loss = rloss_tensorflow.normalized_cut_loss
    for error, arguments, options, message in (
        (
            TypeError,
            (images, segmentations),
            {"sigma": 3},
            "unexpected argument 'sigma'; it takes labels, roi",
        ),
        (ValueError, (images, segmentations), {"bi_xy_std": -1}, "bi_xy_std must be float > 0, found -1"),
        (ValueError, (images, segmentations), {"data_format": "NCHW"}, "data_format must be channels_last or"),
        (
            ValueError,
            (images[0], segmentations),
            {},
            r"images must have shape \(batch, height, width, channels\), found",
        ),
        (
            ValueError,
            (images[:, 1:], segmentations),
            {},
            r"segmentations must have shape \(2, 8, 11, classes\), found shape \(2, 9, 11, 3\)",
        ),
        (
            ValueError,
            (images, segmentations, labels[:, 1:]),
            {},
            r"labels must have shape \(2, 9, 11\) or \(2, 9, 11, 1\)",
        ),
        (ValueError, (images, segmentations, labels, roi[..., None, None]), {}, r"roi must have shape \(2, 9, 11\) or"),
        (ValueError, (images[:0], segmentations[:0]), {}, r"images is empty: its shape is \(0, 9, 11, 3\)"),
        (
            ValueError,
            (tf.cast(images, tf.complex64), segmentations),
            {},
            "images must hold real numbers, found dtype",
        ),
        (ValueError, (images, None), {}, "segmentations must be a dense tensor or an array, found NoneType"),
        (ValueError, (tf.sparse.from_dense(images), segmentations), {}, "images must be a dense tensor or an array"),
    ):
        for call in (loss, tf.function(lambda *given, **keywords: loss(*given, **keywords), autograph=False)):
            with pytest.raises(error, match=message):
                call(*arguments, **options)


def test_mistakes_in_numbers_reach_the_user_in_words():
    tensors = constants(channels_last(arrays_of("densecrf")))
    nan = tf.where(tf.range(11) == 4, np.nan, tensors["images"][..., 0])[..., None]
    for changed, options, message in (
        ({"images": nan}, {}, "image 0 of the batch: images must be finite, found nan at"),
        ({"segmentations": tensors["segmentations"] / 0}, {}, "image 0 of the batch: segmentations must be finite"),
        ({"labels": tensors["labels"] * 0 + 7}, {"classes": "labelled"}, "labels must be whole numbers from 0 to 2"),
        ({"labels": None}, {"classes": "labelled"}, "labels must be given where classes is labelled"),
        ({"roi": tensors["roi"] - 2}, {}, "roi must hold values >= 0, found -2"),
        ({}, {"relaxation": "quadratic", "gate": True}, "gate must be False where relaxation is quadratic"),
        ({"segmentations": tensors["segmentations"][:, 1:]}, {}, r"must have shape \(2, 9, 11, classes\)"),
    ):
        given = {key: value for key, value in {**tensors, **changed}.items() if value is not None}
        with pytest.raises(ValueError, match=message):
            value_and_gradient("densecrf", given, options)
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            of_unknown_size("densecrf", given, options)(given)


def test_xla_is_refused_in_words():
    tensors = constants(channels_last(arrays_of("densecrf")))
    for inner in (value_and_gradient, tf.function(value_and_gradient)):
        compiled = tf.function(lambda given, step=inner: step("densecrf", given, {}), jit_compile=True)
        with pytest.raises(ValueError, match="XLA cannot compile: set jit_compile=False in this tf.function"):
            compiled(tensors)


def test_in_the_workers_of_a_dataset():
    images, scores, _, _ = batch(images=6)
    tensors = constants(channels_last({"images": images, "segmentations": softmax(scores)}))

    def loss(images, segmentations):
        return rloss_tensorflow.densecrf_loss(images[None], segmentations[None], bi_xy_std=5.0)

    data = tf.data.Dataset.from_tensor_slices((tensors["images"], tensors["segmentations"]))
    found = list(data.map(loss, num_parallel_calls=4).as_numpy_iterator())
    each = zip(tensors["images"], tensors["segmentations"])
    assert found == [loss(*pair).numpy() for pair in each] and len(set(found)) == 6


def test_from_many_threads_at_once():
    tensors = constants(channels_last(arrays_of("densecrf", images=3)))
    exact, found = value_and_gradient("densecrf", tensors, {}), []
    function = of_unknown_size("densecrf", tensors, {})
    threads = [
        threading.Thread(target=lambda: found.extend(function(tensors) for _ in range(5)), daemon=True)
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(found) == 30
    assert all(value == exact[0] and (gradient.numpy() == exact[1].numpy()).all() for value, gradient in found)


@pytest.mark.parametrize("name", LOSSES)
def test_a_net_learns_from_each_loss(name):
    """A small net on two images with a bright half, by a traced step: its loss falls, by more than the last digits."""
    tensors = constants(channels_last(arrays_of(name)))
    images = tf.constant(np.moveaxis(batch()[0], 1, -1) / 255 - 0.5)
    random = tf.random.Generator.from_seed(0)
    kernels = [tf.Variable(0.3 * random.normal(shape)) for shape in ((3, 3, 3, 8), (1, 1, 8, 3))]
    options = {"normalization": "AFFINITY"} if name == "densecrf" else OPTIONS[name]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(tf.nn.conv2d(images, kernels[0], 1, "SAME"))
            segmentations = tf.nn.softmax(tf.nn.conv2d(hidden, kernels[1], 1, "SAME"))
            loss = getattr(rloss_tensorflow, f"{name}_loss")
            value = loss(**{**tensors, "segmentations": segmentations}, **options)
        for kernel, gradient in zip(kernels, tape.gradient(value, kernels)):
            kernel.assign_sub(0.05 * gradient / (tf.norm(gradient) + 1e-12))
        return value

    values = [step().numpy() for _ in range(40)]
    assert values[-1] < values[0] - 0.05 * abs(values[0])
