"""A small list of images with label maps, predictions and scribbles, and nets that segment such images."""

import numpy as np
import pytest

HEIGHTS, WIDTHS = (40, 44, 30, 48), (60, 50, 62, 34)


def write(path, array):
    Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)


def read(path):
    Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
    return np.array(Image.open(path))


def write_list(folder):
    """Four images: bright where class 12 is, dark elsewhere; two sets of predictions, scribbles for three of them."""
    random = np.random.RandomState(0)
    lines = []
    for index, (height, width) in enumerate(zip(HEIGHTS, WIDTHS)):
        mask = np.zeros((height, width), np.uint8)
        mask[8:28, 10:30] = 12
        photo = np.where(mask[..., np.newaxis] == 12, 200, 40) + random.randint(-20, 20, (height, width, 3))
        mask[28:30, 10:30] = 255
        write(folder / "images" / f"im{index}.png", photo.astype(np.uint8))
        write(folder / "masks" / f"im{index}.png", mask)
        good, poor = np.where(mask == 255, 0, mask).astype(np.uint8), np.zeros_like(mask)
        good[8 : 8 + index, 10:30] = 0  # the later, the worse
        poor[8:12, 10:30] = 12
        poor[0, :5] = 255
        write(folder / "good" / f"im{index}.png", good)
        write(folder / "poor" / f"im{index}.png", poor)
        scribble = np.full_like(mask, 255)
        scribble[20, 12:26], scribble[3, 5:25] = 12, 0
        if index:
            write(folder / "scribbles" / f"im{index}.png", scribble)
        lines.append(f"images/im{index}.png masks/im{index}.png\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder


# Nets: 13 classes, of which 12 wins where the image is bright; the lists that they name do not exist.

SEG_DATA = """layer { name: "data" type: "Python" top: "data" top: "label" include { phase: TEST } python_param {
  module: "rloss_caffe.layers" layer: "ImageSegData"
  param_str: "{source: nowhere.txt, root_folder: /nowhere, label_type: PIXEL, crop_size: 49, mean_value: [7, 8, 9]}" } }
layer { name: "training" type: "Input" top: "data" top: "label" include { phase: TRAIN } }
"""
STOCK_DATA = """layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { mean_value: 10 scale: 0.5 crop_size: 40 } image_data_param { source: "nowhere.txt" } }
"""
INPUT = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
"""
OLD_INPUT = """input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 32
"""
SCORE = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 13 kernel_size: 1 } }
"""
JUDGE = """layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "acc" type: "Python" bottom: "score" bottom: "label" top: "acc"
  python_param { module: "rloss_caffe.layers" layer: "SegAccuracy" param_str: "ignore_label: 255" } }
layer { name: "rest" type: "Silence" bottom: "prob" }
"""
FORK = """layer { name: "data" type: "ImageSegData" top: "data" top: "label" top: "data_dim" include { phase: TEST }
  transform_param { mirror: false crop_size: 49 mean_value: 7 mean_value: 8 mean_value: 9 }
  image_data_param { source: "nowhere.txt" root_folder: "/nowhere" batch_size: 1 label_type: PIXEL } }
layer { name: "score" type: "Convolution" bottom: "data" top: "fc8"
  convolution_param { num_output: 13 kernel_size: 1 } }
layer { name: "interp" type: "Interp" bottom: "fc8" top: "score" interp_param { zoom_factor: 1 } }
layer { name: "accuracy" type: "SegAccuracy" bottom: "score" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 reset: false } }
layer { name: "rest" type: "Silence" bottom: "data_dim" }
"""
COARSE = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE kernel_size: 1 stride: 2 } }
"""
NETS = {
    "seg_data": (SEG_DATA + SCORE + JUDGE, 1, (7, 8, 9)),
    "image_data": (STOCK_DATA + SCORE + JUDGE, 0.5, (10, 10, 10)),
    "input": (INPUT + SCORE, 1, (104.008, 116.669, 122.675)),
    "old_input": (OLD_INPUT + SCORE, 1, (104.008, 116.669, 122.675)),
    "fork": (FORK, 1, (7, 8, 9)),  # in the dialect of DeepLab's fork
    "coarse": (SEG_DATA + COARSE + SCORE.replace('bottom: "data"', 'bottom: "pool"') + JUDGE, 1, (7, 8, 9)),
}


def write_net(folder, name):
    """The prototxt, and weights with which class 12 has score mean(B, G, R) - 110 and class 0 has 0."""
    caffe = pytest.importorskip("caffe")
    text, scale, mean = NETS[name]
    net, source = folder / f"{name}.prototxt", folder / "weights.prototxt"
    net.write_text(text)
    source.write_text(INPUT + SCORE)
    made = caffe.Net(str(source), caffe.TEST)
    weight, bias = made.params["score"]
    weight.data[...], bias.data[...] = 0, -1000
    weight.data[12], bias.data[0] = 1 / 3 / scale, 0
    bias.data[12] = np.mean(mean) - 110
    weights = folder / f"{name}.caffemodel"
    made.save(str(weights))
    return net, weights
