"""Small images with probabilities, nets with a DenseCRFLoss layer in both dialects, and their weights."""

import numpy as np
import pytest


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def example(height=14, width=19, classes=3, seed=0):
    random = np.random.RandomState(seed)
    image = np.zeros((3, height, width)) - 60
    image[:, :, width // 2 :] = 70
    image += random.uniform(-9, 9, image.shape)
    return image.astype(np.float32), random.normal(0, 1, (classes, height, width))


HEAD = """
layer { name: "pixels" type: "Python" top: "picture" top: "truth" include { phase: TRAIN }
  python_param { module: "rloss_caffe.layers" layer: "ImageSegData"
  param_str: "{source: 'LIST', batch_size: 1, label_type: NONE, crop_size: 48, "
             "mean_value: [104.008, 116.669, 122.675]}" } }
"""
BODY = """
layer { name: "small" type: "Power" bottom: "picture" top: "small" power_param { scale: 0.02 } }
layer { name: "hidden" type: "Convolution" bottom: "small" top: "hidden" convolution_param { num_output: 6
  kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" dropout_param { dropout_ratio: RATIO } }
layer { name: "last" type: "Convolution" bottom: "hidden" top: "marks" convolution_param { num_output: 4
  kernel_size: 1 weight_filler { type: "gaussian" std: 0.7 } } }
layer { name: "chances" type: "Softmax" bottom: "marks" top: "chances" }
"""
LOSS = """
layer { name: "crf" type: "Python" bottom: "picture" bottom: "chances" top: "crf" loss_weight: 1e-4
  propagate_down: false propagate_down: true python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss"
  param_str: "bi_xy_std: 9\\nbi_rgb_std: 14" } }
"""
FORK_HEAD = """
layer { name: "pixels" type: "ImageSegData" top: "picture" top: "truth" include { phase: TRAIN }
  transform_param { crop_size: 48 mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 }
  image_data_param { source: "LIST" batch_size: 1 label_type: NONE } }
"""
FORK_LOSS = """
layer { name: "crf" type: "DenseCRFLoss" bottom: "picture" bottom: "chances" top: "crf" loss_weight: 1e-4
  propagate_down: false propagate_down: true densecrf_loss_param { bi_xy_std: 9 bi_rgb_std: 14 } }
"""


def write_files(tmp_path):
    """Two images, label maps and probabilities, a list, a net in both dialects, and its weights if there is Caffe."""
    Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
    pytest.importorskip("cv2", reason="images are read with OpenCV")
    (tmp_path / "labels").mkdir()
    (tmp_path / "arrays").mkdir()
    for index, (height, width) in enumerate([(37, 41), (30, 44)]):
        random = np.random.RandomState(index)
        label = np.zeros((height, width), np.uint8)
        label[8:24, 10:30] = 2
        photo = np.where(label[..., np.newaxis] == 2, 210, 50) + random.randint(-20, 20, (height, width, 3))
        Image.fromarray(photo.astype(np.uint8)).save(tmp_path / f"im{index}.png")
        label[20:24] = 255
        Image.fromarray(label).save(tmp_path / "labels" / f"im{index}.png")
        probabilities = softmax(
            random.normal(0, 1, (4, height, width)) + 2 * (label[None] == np.arange(4)[:, None, None])
        )
        np.save(tmp_path / "arrays" / f"im{index}.npy", probabilities)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/im0.png\n\n{tmp_path}/im1.png\n")
    for name, text in {"net": HEAD + BODY + LOSS, "fork": FORK_HEAD + BODY + FORK_LOSS}.items():
        text = text.replace("LIST", str(tmp_path / "list.txt"))
        (tmp_path / f"{name}.prototxt").write_text(text.replace("RATIO", "0.5"))
        (tmp_path / f"{name}_sure.prototxt").write_text(text.replace("RATIO", "0"))
    return tmp_path


def write_weights(folder):
    caffe = pytest.importorskip("caffe")
    caffe.set_random_seed(3)
    path = str(folder / "net.caffemodel")
    caffe.Net(str(folder / "net_sure.prototxt"), caffe.TRAIN).save(path)
    return path
