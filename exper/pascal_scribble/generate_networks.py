#!/usr/bin/env python3
"""Write the prototxts of the experiments: exper/pascal_scribble/config/NET/*.prototxt.

    python exper/generate_networks.py               write the files that are committed, and bring others up to date
    python exper/generate_networks.py resnet-101    write all of a network's files; the nets of resnet-101, which are
                                                    large, and of quickstart are not committed, and git ignores them
    python exper/generate_networks.py resnet-101/test deeplab_vgg16/train    write these
    python exper/generate_networks.py --check       change nothing; exit code 1 and a list if a file is out of date

Each network has a solver and a net for phase one, which is called train; the same for phase two with each loss, such as
trainwithdensecrfloss; and test. They are templates: run_pascal_scribble.sh fills in ${EXP}, ${NET_ID}, ${NUM_LABELS},
${DATA_ROOT}, ${TRAIN_SET}, ${TEST_SET} and ${DENSECRF_LOSS_WEIGHT}. To change a network or a loss, change this script,
run it and commit both. It needs Python's own library only, as it also runs where Python has no Caffe.

How to read it: a network is a function that appends layers to a `Net`, from top to bottom. A helper appends a layer
or a block and returns the name of its last blob. The four networks of Tang et al. (ECCV 2018) keep the original's
layer and parameter names, since published weights load by these names, and its oddities, which are marked.
"""

import argparse
import json
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config"

HEADER = "# Written by exper/generate_networks.py. Change that script, not this file.\n"

QUICKSTART = runpy.run_path(str(HERE.parent / "quickstart" / "settings.py"))["CONVOLUTIONS"]

MEAN_BGR = [104.008, 116.669, 122.675]  # as in rloss_caffe.data.samples


# ---------------------------------------------------------------------------------------------------------------------
# Prototxts


class Word(str):
    """A value that is written without quotes: a constant of the schema, or a placeholder for a number."""


NUM_LABELS = Word("${NUM_LABELS}")
DENSECRF_LOSS_WEIGHT = Word("${DENSECRF_LOSS_WEIGHT}")
MAX, AVE, SUM = map(Word, ("MAX", "AVE", "SUM"))


def to_text(fields, indent=""):
    """A message as text. `fields` is a dict; a list is a repeated field, a dict a message."""
    lines = []
    for name, value in fields.items():
        for item in as_list(value):
            if isinstance(item, dict):
                lines.append(f"{indent}{name} {{\n{to_text(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {to_word(item)}\n")
    return "".join(lines)


def to_word(value):
    if isinstance(value, Word):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def in_order(fields, order):
    """The fields that are there, in that order."""
    return {name: fields[name] for name in order.split() if name in fields}


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


# ---------------------------------------------------------------------------------------------------------------------
# The losses of phase two


@dataclass(frozen=True)
class Loss:
    """A regularised loss beside the cross entropy.

    Attributes
    ----------
    layer : str
        Of rloss_caffe.layers.
    weight : float or Word
        Its loss_weight.
    parameters : dict
        What differs from the layer's defaults, without the bandwidths of a dense kernel, which are the network's.
    dense : bool
        Whether it works on the image at full size, with a dense kernel; else on the scores as they are.
    labels : bool
        Whether it takes the label map.
    """

    layer: str
    weight: object
    parameters: dict = field(default_factory=dict)
    dense: bool = True
    labels: bool = True


GRID_POTTS = {"radius": 1, "relaxation": "absolute", "normalization": "WEIGHTS", "contrast": "image"}
NONE = "none"  # phase two as long and with the same rates, without such a loss: the control
LOSSES = {
    "densecrf": Loss("DenseCRFLoss", DENSECRF_LOSS_WEIGHT, labels=False),
    "normalized_cut": Loss("NormalizedCutLoss", 1.0),
    "kernel_cut": Loss("KernelCutLoss", 0.3, {"densecrf_weight": 3e-8}),
    "local_potts": Loss("LocalPottsLoss", 10.0, GRID_POTTS, dense=False),
    # Of the labelled pixels the net has its own cross entropy.
    "self_label": Loss("SelfLabelLoss", 30.0, {"lambda": 50, "steps": 100, "labelled_weight": 0}, dense=False),
}


def train_file(loss):
    """The name of phase two's net."""
    return f"trainwith{'no' if loss == NONE else loss.replace('_', '')}loss"


PHASES = {"train": None, **{train_file(loss): loss for loss in [*LOSSES, NONE]}}  # file: loss


# ---------------------------------------------------------------------------------------------------------------------
# Layers


class Net:
    """A network under construction: `file` is train, another of PHASES, or test."""

    def __init__(self, file):
        self.train = file != "test"
        self.second_phase = file not in ("train", "test")
        self.loss = LOSSES.get(PHASES.get(file))
        self.loss_name = f"{PHASES[file]}_loss" if self.loss else None
        self.fields = {"name": "${NET_ID}", "layer": []}

    def add(self, kind, name, bottoms, top=None, **fields):
        """Append a layer of type `kind`. Its top is called like the layer unless `top` (a name or a list) is given."""
        tops = [name] if top is None else as_list(top)
        rules = in_order(fields, "loss_weight param include propagate_down")
        layer = {"name": name, "type": kind, "bottom": as_list(bottoms), "top": tops, **rules, **fields}
        self.fields["layer"].append(layer)
        return tops[0] if tops else None

    def add_python(self, layer, name, bottoms, top=None, parameters=None, **fields):
        """Append one of rloss_caffe's layers; `parameters` become its param_str."""
        lines = [f"{key}: {to_yaml(value)}" for key, value in parameters.items()]
        python = {"module": "rloss_caffe.layers", "layer": layer, "param_str": "\n".join(lines)}
        return self.add("Python", name, bottoms, top, **fields, python_param=python)


def to_yaml(value):
    return value if isinstance(value, str) else json.dumps(value)


CONVOLUTION = "num_output bias_term pad kernel_size stride weight_filler bias_filler dilation"


def conv(net, name, bottom, num_output, kernel_size, lr=(1, 2), std=None, **fields):
    """A convolution with bias. Learning rates and, with `std`, Gaussian fillers are written in train files only."""
    settings = dict(num_output=num_output, kernel_size=kernel_size, **fields)
    if not net.train:
        return net.add("Convolution", name, bottom, convolution_param=in_order(settings, CONVOLUTION))
    if std is not None:
        settings.update(gaussian(std))
    settings = in_order(settings, CONVOLUTION)
    return net.add("Convolution", name, bottom, param=weight_and_bias(lr), convolution_param=settings)


def weight_and_bias(lr, names=(None, None)):
    """The `param` fields: learning rates of weight and bias; only the weight decays."""
    rates = [{"lr_mult": lr_mult, "decay_mult": decay_mult} for lr_mult, decay_mult in zip(lr, (1, 0))]
    return [{"name": name, **each} if name else each for name, each in zip(names, rates)]


def gaussian(std):
    return {"weight_filler": {"type": "gaussian", "std": std}, "bias_filler": {"type": "constant", "value": 0}}


def relu(net, name, blob):
    return net.add("ReLU", name, blob, blob)


def dropout(net, name, blob):
    return net.add("Dropout", name, blob, blob, dropout_param={"dropout_ratio": 0.5})


def conv_relu_drop(net, name, suffix, bottom, num_output, kernel_size, **settings):
    """Convolution `name`, then relu and drop, called relu`suffix` and drop`suffix`."""
    blob = conv(net, name, bottom, num_output, kernel_size, **settings)
    relu(net, f"relu{suffix}", blob)
    return dropout(net, f"drop{suffix}", blob)


def pool(net, name, bottom, stride, method=MAX):
    """3x3 pooling. With pad 1 an input of 2n+1 gives n+1 at stride 2 and 2n+1 at stride 1."""
    return net.add(
        "Pooling", name, bottom, pooling_param={"pool": method, "kernel_size": 3, "stride": stride, "pad": 1}
    )


def eltwise(net, name, bottoms, operation=SUM):
    return net.add("Eltwise", name, bottoms, eltwise_param={"operation": operation})


def interp(net, name, bottom, top=None, **parameters):
    return net.add_python("Interp", name, bottom, top, parameters)


# ---------------------------------------------------------------------------------------------------------------------
# What all networks share: data, losses, scores


def data(net, batch_size, data_dim=False, scale_factors=None):
    """Images and labels: random crops of 321 for training, whole images padded to 513 for testing."""
    image_set, crop_size = ("${TRAIN_SET}", 321) if net.train else ("${TEST_SET}", 513)
    parameters = {"source": f"'${{EXP}}/list/{image_set}.txt'", "root_folder": "'${DATA_ROOT}'"}
    parameters["batch_size"] = batch_size if net.train else 1
    if net.train:
        parameters["shuffle"] = True
    parameters.update(label_type="PIXEL", mirror=net.train, crop_size=crop_size, mean_value=MEAN_BGR)
    if net.train and scale_factors:
        parameters["scale_factors"] = scale_factors
    tops = ["data", "label"] + (["data_dim"] if data_dim or not net.train else [])
    include = {"phase": Word("TRAIN" if net.train else "TEST")}
    net.add_python("ImageSegData", "data", [], tops, parameters, include=include)


def label_shrink(net, factor=8, name="label_shrink"):
    """The labels at the scores' resolution: with crop 321 every `factor`-th pixel, nothing is blended."""
    interp(net, name, "label", shrink_factor=factor, pad_beg=0, pad_end=0)


def partial_cross_entropy(net, scores, name="loss", labels="label_shrink", top=None, **fields):
    """Cross entropy over the labelled pixels. The original names no top; pycaffe needs one when there are several."""
    rules = {"include": {"phase": Word("TRAIN")}, "loss_param": {"ignore_label": 255}}
    net.add("SoftmaxWithLoss", name, [scores, labels], top, **rules, **fields)


def accuracy(net, scores, name="accuracy", labels="label_shrink", top=None):
    """Accuracy, mean recall, mean IoU: of the batch when training, of all images so far when testing."""
    parameters = {"ignore_label": 255} if net.train else {"ignore_label": 255, "reset": False}
    net.add_python("SegAccuracy", name, [scores, labels], top, parameters)


def regularized_loss(net, scores, top="fc8_interp", name=None, factor=8, bi_xy_std=100, bi_rgb_std=15, **fields):
    """The loss of the second phase. `factor` is how much smaller than the image the scores are.

    A dense one works at full resolution: scores up-sampled to `top`, softmax, loss. Another one works on the scores as
    they are, with the image and the labels at every `factor`-th pixel. The bandwidths are those of a dense kernel;
    `fields` stand in the original's DenseCRFLoss layer only.
    """
    if not net.loss:
        return
    parameters = dict(net.loss.parameters)
    if net.loss.dense:
        interp(net, name or top, scores, top, zoom_factor=factor)
        net.add("Softmax", f"{top}_softmax", top)
        bottoms = ["data", f"{top}_softmax", "label"]
        parameters = {"bi_xy_std": bi_xy_std, "bi_rgb_std": bi_rgb_std, **parameters}
    else:
        image = interp(net, "data_shrink", "data", shrink_factor=factor, pad_beg=0, pad_end=0)
        bottoms = [image, net.add("Softmax", "softmax_shrink", scores), "label_shrink"]
    if not net.loss.labels:
        bottoms.pop()
    net.add_python(
        net.loss.layer,
        net.loss_name,
        bottoms,
        parameters=parameters,
        loss_weight=net.loss.weight,
        propagate_down=[False, True, False][: len(bottoms)],
        **(fields if net.loss_name == "densecrf_loss" else {}),
    )


# The original sets this on most of its DenseCRFLoss layers; it has no effect there.
NO_EFFECT = {"loss_param": {"ignore_label": 255}}


def silence(net, blobs, **fields):
    net.add("Silence", "silence", blobs, [], **fields)


# ---------------------------------------------------------------------------------------------------------------------
# The VGG networks

VGG_STAGES = {1: (64, 2, 2), 2: (128, 2, 2), 3: (256, 3, 2), 4: (512, 3, 1), 5: (512, 3, 1)}  # channels, convs, stride


def vgg_stage(net, blob, stage, lr):
    """Stage 5 is dilated, as the pooling before it no longer strides."""
    channels, count, stride = VGG_STAGES[stage]
    dilation = {"pad": 2, "dilation": 2} if stage == 5 else {"pad": 1}
    for index in range(1, count + 1):
        blob = conv(net, f"conv{stage}_{index}", blob, channels, 3, lr, **dilation)
        relu(net, f"relu{stage}_{index}", blob)
    return pool(net, f"pool{stage}", blob, stride)


def vgg_trunk(net):
    blob = "data"
    for stage in VGG_STAGES:
        blob = vgg_stage(net, blob, stage, (1, 2))
    return blob


def classifier(net, blob, suffix="", dilation=12, lr=(1, 2), score_lr=(10, 20)):
    """fc6 (dilated: the large field of view), fc7 and the scores of every class."""
    blob = conv_relu_drop(net, f"fc6{suffix}", f"6{suffix}", blob, 1024, 3, lr=lr, pad=dilation, dilation=dilation)
    blob = conv_relu_drop(net, f"fc7{suffix}", f"7{suffix}", blob, 1024, 1, lr=lr)
    return conv(net, f"fc8_${{EXP}}{suffix}", blob, NUM_LABELS, 1, score_lr, std=0.01)


def deeplab_largefov(net):
    data(net, batch_size=20)
    blob = pool(net, "pool5a", vgg_trunk(net), 1, AVE)
    scores = classifier(net, blob)
    if net.train:
        label_shrink(net)
        # Oddity: weight and top are written in the second phase only. The top's name shows in logs.
        written = {"top": "softmax_loss", "loss_weight": 1} if net.second_phase else {}
        partial_cross_entropy(net, scores, **written)
        regularized_loss(net, scores)
        accuracy(net, scores)
    else:
        full = interp(net, "fc8_interp", scores, zoom_factor=8)
        accuracy(net, full, labels="label")
        silence(net, ["label", full, "data_dim"], include={"phase": Word("TEST")})


# Source blob, stride to the resolution of the scores, settings of the middle convolution, fillers of the last one.
# Oddities kept: pool4's middle fillers stand in the test file too, pool3's last convolution starts from zeros, and
# a stride of 1 is written in three of the five.
MSC_BRANCHES = [
    ("data", 8, {"std": 0.001, "stride": 1}, 0.01),
    ("pool1", 4, {"std": 0.001}, 0.01),
    ("pool2", 2, {"std": 0.001}, 0.01),
    ("pool3", 1, {"std": 0.001, "stride": 1}, None),
    ("pool4", 1, dict(stride=1, **gaussian(0.005)), 0.01),
]


def msc_branch(net, source, stride, middle, last_std):
    """Scores from an early blob; in the test file they stay at that blob's resolution."""
    stride = stride if net.train else 1
    blob = conv_relu_drop(net, f"{source}_conv", f"_{source}_conv", source, 128, 3, pad=1, stride=stride, std=0.001)
    blob = conv_relu_drop(net, f"{source}_fc", f"_{source}_fc", blob, 128, 1, **middle)
    return conv(net, f"{source}_ms", blob, NUM_LABELS, 1, std=last_std)


def deeplab_msc_largefov(net):
    """LargeFOV, frozen, plus trained branches on the image and the first four poolings."""
    frozen = (0, 0)
    data(net, batch_size=30)
    blob, scores = "data", []
    for stage, branch in enumerate(MSC_BRANCHES, start=1):
        scores.append(msc_branch(net, *branch))
        blob = vgg_stage(net, blob, stage, frozen)
    blob = pool(net, "pool5a", blob, 1, AVE)
    scores.append(classifier(net, blob, lr=frozen, score_lr=frozen))
    if net.train:
        fused = eltwise(net, "fc_fusion", scores)
        label_shrink(net)
        partial_cross_entropy(net, fused)
        regularized_loss(net, fused, top="fc_fusion_interp", **NO_EFFECT)
        accuracy(net, fused)
    else:
        names = ["pool1_interp", "pool2_interp", "pool3_interp", "pool4_interp", "fc8_interp"]
        zooms = zip(names, scores[1:], (2, 4, 8, 8, 8))
        full = [interp(net, name, blob, zoom_factor=zoom) for name, blob, zoom in zooms]
        accuracy(net, eltwise(net, "fc_fusion", [scores[0], *full]), labels="label")


def deeplab_vgg16(net):
    """DeepLab-v2's ASPP: four classifiers of growing field of view, summed."""
    data(net, batch_size=10, data_dim=True)
    blob = vgg_trunk(net)
    branches = [classifier(net, blob, f"_{i}", dilation=6 * i) for i in (1, 2, 3, 4)]
    scores = eltwise(net, "fc8_${EXP}", branches)
    if net.train:
        label_shrink(net)
        regularized_loss(net, scores, **NO_EFFECT)
        partial_cross_entropy(net, scores)
        accuracy(net, scores)
        silence(net, "data_dim")
    else:
        accuracy(net, interp(net, "fc8_interp", scores, zoom_factor=8), labels="label")


# ---------------------------------------------------------------------------------------------------------------------
# resnet-101: three scales of the image through one set of weights. `scale` is the suffix of layers and blobs; the
# parameters' names lack it, which is what makes the three share.

RESNET_STAGES = {2: list("abc"), 3: ["a"], 4: ["a"], 5: list("abc")}
RESNET_STAGES[3] += [f"b{i}" for i in range(1, 4)]
RESNET_STAGES[4] += [f"b{i}" for i in range(1, 23)]
RESNET_SCALES = ["", "_res05", "_res075"]


def conv_bn_scale(net, scale, names, bottom, num_output, kernel_size, stride, pad, dilation=None):
    """A convolution without bias; batch normalisation with the stored statistics; `names` are those of the three."""
    settings = {"num_output": num_output, "bias_term": False, "pad": pad, "kernel_size": kernel_size, "stride": stride}
    if dilation:
        settings["dilation"] = dilation
    conv_name, bn_name, scale_name = names
    weight = [{"name": f"{conv_name}_0", "lr_mult": 1, "decay_mult": 1}]
    blob = net.add("Convolution", conv_name + scale, bottom, param=weight, convolution_param=settings)
    bn = {"param": frozen(bn_name, 3), "batch_norm_param": {"use_global_stats": True}}
    net.add("BatchNorm", bn_name + scale, blob, blob, **bn)
    return net.add(
        "Scale", scale_name + scale, blob, blob, param=frozen(scale_name, 2), scale_param={"bias_term": True}
    )


def frozen(name, count):
    return [{"name": f"{name}_{i}", "lr_mult": 0} for i in range(count)]


def resnet_block(net, scale, bottom, stage, block):
    """A bottleneck block; the first of a stage has a projection beside it, and that of stage 3 strides."""
    width = 64 * 2 ** (stage - 2)
    stride = 2 if (stage, block) == (3, "a") else 1
    dilation = {4: 2, 5: 4}.get(stage)
    unit = f"{stage}{block}"

    def branch(name, blob, *settings):
        tail = f"{unit}_branch{name}"
        return conv_bn_scale(net, scale, (f"res{tail}", f"bn{tail}", f"scale{tail}"), blob, *settings)

    shortcut = branch("1", bottom, 4 * width, 1, stride, 0) if block == "a" else bottom
    blob = branch("2a", bottom, width, 1, stride, 0)
    relu(net, f"res{unit}_branch2a_relu{scale}", blob)
    blob = branch("2b", blob, width, 3, 1, dilation or 1, dilation)
    relu(net, f"res{unit}_branch2b_relu{scale}", blob)
    blob = branch("2c", blob, 4 * width, 1, 1, 0)
    blob = net.add("Eltwise", f"res{unit}{scale}", [shortcut, blob])
    return relu(net, f"res{unit}_relu{scale}", blob)


def resnet_trunk(net, scale):
    names = ("conv1", "bn_conv1", "scale_conv1")
    blob = conv_bn_scale(net, scale, names, f"data{scale}", 64, kernel_size=7, stride=2, pad=3)
    relu(net, f"conv1_relu{scale}", blob)
    blob = pool(net, f"pool1{scale}", blob, 2)
    for stage, blocks in RESNET_STAGES.items():
        for block in blocks:
            blob = resnet_block(net, scale, blob, stage, block)
    return blob


def resnet_classifier(net, scale, bottom):
    """ASPP straight to class scores. The test file keeps the names of the shared parameters, not their rates."""
    scores = []
    for index, dilation in enumerate((6, 12, 18, 24)):
        names = [f"fc1_${{EXP}}_c{index}_w", f"fc1_${{EXP}}_c{index}_b"]
        settings = {"num_output": NUM_LABELS, "kernel_size": 3, "pad": dilation, "dilation": dilation}
        param = weight_and_bias((10, 20), names) if net.train else [{"name": name} for name in names]
        if net.train:
            settings.update(gaussian(0.01))
        settings = in_order(settings, CONVOLUTION)
        name = f"fc1_${{EXP}}{scale}_c{index}"
        scores.append(net.add("Convolution", name, bottom, param=param, convolution_param=settings))
    return eltwise(net, f"fc1_${{EXP}}{scale}", scores)


def resnet_101(net):
    data(net, batch_size=1, scale_factors=[0.5, 0.75, 1, 1.25, 1.5])
    interp(net, "data_res05", "data", shrink_factor=2, pad_beg=0, pad_end=0)
    interp(net, "data_res075", "data", zoom_factor=3, shrink_factor=4, pad_beg=0, pad_end=0)
    trunks = [resnet_trunk(net, scale) for scale in RESNET_SCALES]
    full, half, three_quarters = [resnet_classifier(net, *pair) for pair in zip(RESNET_SCALES, trunks)]
    half_up = interp(net, f"{half}_interp", half, zoom_factor=2, pad_beg=0, pad_end=0)
    parameters = {"zoom_factor": 4, "shrink_factor": 3, "pad_beg": 0, "pad_end": 0}
    three_quarters_up = interp(net, f"{three_quarters}_interp", three_quarters, **parameters)
    fused = eltwise(net, "fc_fusion", [full, three_quarters_up, half_up], MAX)
    if not net.train:
        accuracy(net, interp(net, "fc1_interp", fused, zoom_factor=8), labels="label", top="fc1_accuracy")
        silence(net, ["label", "data_dim"])
        return
    label_shrink(net)
    resnet_loss(net, fused)
    regularized_loss(net, fused, name="fc1_interp", bi_xy_std=80, bi_rgb_std=13, **NO_EFFECT)
    resnet_loss(net, full, "_res1")
    resnet_loss(net, three_quarters_up, "_res075")  # not at its own resolution: labels do not shrink to 3/4
    label_shrink(net, 16, "label_shrink16")
    resnet_loss(net, half, "_res05", "label_shrink16")


def resnet_loss(net, scores, suffix="", labels="label_shrink"):
    partial_cross_entropy(net, scores, f"loss{suffix}", labels)
    accuracy(net, scores, f"accuracy{suffix}", labels)


# ---------------------------------------------------------------------------------------------------------------------
# deeplab_squeezenet: ours, for training on a CPU. SqueezeNet v1.0 (Iandola et al., 2016) with the layer names of its
# release, so that the public weights load; beside its ImageNet classifier conv10 comes a DeepLab one.

# Layers up to here keep their ImageNet weights: generic features, half of the time to train.
LAST_FROZEN_FIRE = 4
FIRES = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # squeeze channels; each expand has four times these


def fire(net, number, bottom):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side. fire9 is dilated, as pool8 no longer strides."""
    squeeze, dilation = FIRES[number], {"pad": 2, "dilation": 2} if number == 9 else {"pad": 1}

    lr = (0, 0) if number <= LAST_FROZEN_FIRE else (1, 2)

    def conv_relu(name, blob, *settings, **fields):
        blob = conv(net, f"fire{number}/{name}", blob, *settings, lr=lr, **fields)
        return relu(net, f"fire{number}/relu_{name}", blob)

    blob = conv_relu("squeeze1x1", bottom, squeeze, 1)
    branches = [conv_relu("expand1x1", blob, 4 * squeeze, 1), conv_relu("expand3x3", blob, 4 * squeeze, 3, **dilation)]
    return net.add("Concat", f"fire{number}/concat", branches)


def squeezenet_trunk(net):
    """Output stride 8, and output i must look at pixel 8 i: that is what Interp, whose corners align, assumes.

    The release has no padding in conv1 and in the poolings, so its output 0 looks at the middle of a 16-pixel border,
    not at pixel 0. Padding by half a kernel (conv1 by 3, pools by 1) centres each window on its own pixel: sizes go
    321, 161, 81, 41. Away from the border this changes no value, only which pixels the windows stand on. pool8 has
    stride 1 instead of 2; the layer behind it makes up for this by dilation 2.
    """
    blob = relu(net, "relu_conv1", conv(net, "conv1", "data", 96, 7, lr=(0, 0), stride=2, pad=3))
    blob = pool(net, "pool1", blob, 2)
    for number in FIRES:
        blob = fire(net, number, blob)
        if number in (4, 8):
            blob = pool(net, f"pool{number}", blob, 2 if number == 4 else 1)
    return blob


def image_context(net, blob, **fillers):
    """What is in the whole image: ImageNet's 1000 scores, as the release computes them, become 256 features of it.

    Without it the small network tells the classes apart poorly: it sees a cow's flank as sheep, horse and cow. Every
    second pixel is enough for an average. DeepLab v3 has such a branch, too.
    """
    blob = conv(net, "conv10", blob, 1000, 1, lr=(0, 0), stride=2)
    relu(net, "relu_conv10", blob)
    blob = net.add("Pooling", "pool10", blob, pooling_param={"pool": AVE, "global_pooling": True})
    blob = net.add("Power", "scale10", blob, power_param={"scale": 1 / 16})
    blob = conv(net, "context", blob, 256, 1, lr=(10, 20), **fillers)
    return net.add("Flatten", "context_flat", blob)


def outlines(net, blob, features, **fillers):
    """Features of stride 8 refined by earlier ones of stride 4, which still see the outlines; as in DeepLab v3+.

    Scribbles say nothing of outlines, the DenseCRF loss does; without these the network cannot follow it there.
    """
    blob = relu(net, "relu7", conv(net, "fc7", blob, 64, 1, lr=(10, 20), **fillers))
    blob = interp(net, "fc7_interp", blob, zoom_factor=2)
    features = net.add("Power", "scale4", features, power_param={"scale": 1 / 256})
    features = relu(net, "relu_skip4", conv(net, "skip4", features, 48, 1, lr=(10, 20), **fillers))
    blob = net.add("Concat", "concat7", [blob, features])
    return relu(net, "relu_refine7", conv(net, "refine7", blob, 128, 1, lr=(10, 20), **fillers))


def deeplab_squeezenet(net):
    data(net, batch_size=4, scale_factors=[0.75, 1, 1.25])
    xavier = {"weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant"}} if net.train else {}
    trunk = squeezenet_trunk(net)
    # The trunk's features are large (standard deviation 40 on photographs, 200 behind fire4). Unscaled, the new
    # layers' first steps are so long that the network ends up with one answer for every image.
    blob = net.add("Power", "scale9", trunk, power_param={"scale": 1 / 64})
    # Squeezed first, as in the trunk: otherwise fc6 takes 43 % of the time to train.
    blob = relu(net, "relu_squeeze6", conv(net, "squeeze6", blob, 128, 1, lr=(10, 20), **xavier))
    # A quarter of largeFOV's 1024 channels, and the image's context as a bias of every channel.
    blob = conv(net, "fc6", blob, 256, 3, lr=(10, 20), pad=12, dilation=12, **xavier)
    blob = net.add("Bias", "fc6_context", [blob, image_context(net, trunk, **xavier)], bias_param={"axis": 0})
    blob = relu(net, "relu6", blob)
    if (
        not net.second_phase
    ):  # the DenseCRF loss wants sure predictions: where they waver between classes, background wins
        blob = dropout(net, "drop6", blob)
    blob = outlines(net, blob, "fire4/concat", **xavier)
    scores_at_quarter(net, conv(net, "fc8_${EXP}", blob, NUM_LABELS, 1, lr=(10, 20), std=0.01))


def scores_at_quarter(net, scores):
    """The losses or, of a test net, the accuracy of scores at every fourth pixel."""
    if net.train:
        label_shrink(net, factor=4)
        partial_cross_entropy(net, scores)
        regularized_loss(net, scores, factor=4)
        accuracy(net, scores)
    else:
        accuracy(net, interp(net, "fc8_interp", scores, zoom_factor=4), labels="label")
        silence(net, "data_dim")


# ---------------------------------------------------------------------------------------------------------------------
# quickstart: that of exper/quickstart, for a few photographs of one's own. It is trained from nothing.


def quickstart(net):
    data(net, batch_size=4, scale_factors=[0.75, 1, 1.25])
    msra = {"weight_filler": {"type": "msra"}} if net.train else {}
    blob = net.add("Power", "scaled", "data", power_param={"scale": 1 / 64})
    for number, (channels, stride, dilation) in enumerate(QUICKSTART, 1):
        more = {"stride": stride, "pad": dilation, "dilation": dilation, **msra}
        blob = relu(net, f"relu{number}", conv(net, f"conv{number}", blob, channels, 3, **more))
    scores_at_quarter(net, conv(net, "fc8_${EXP}", blob, NUM_LABELS, 1, **msra))


# ---------------------------------------------------------------------------------------------------------------------
# Solvers and files

NETWORKS = {
    "deeplab_largeFOV": deeplab_largefov,
    "deeplab_msc_largeFOV": deeplab_msc_largefov,
    "deeplab_vgg16": deeplab_vgg16,
    "resnet-101": resnet_101,
    "deeplab_squeezenet": deeplab_squeezenet,
    "quickstart": quickstart,
}


def step(stepsize):
    return {"lr_policy": "step", "gamma": 0.1, "stepsize": stepsize, "display": 10}


POLY = {"lr_policy": "poly", "power": 0.9, "display": 20, "average_loss": 20}

# The two phases of each network.
SOLVERS = {
    "deeplab_largeFOV": [
        dict(base_lr=1e-3, max_iter=9000, **step(3000)),
        dict(base_lr=1e-4, max_iter=9000, random_seed=40, **step(3000)),
    ],
    "deeplab_msc_largeFOV": [
        dict(base_lr=1e-3, max_iter=6000, average_loss=10, **step(2000)),
        dict(base_lr=1e-3, max_iter=9000, average_loss=10, random_seed=10000000, **step(3000)),
    ],
    "deeplab_vgg16": [
        dict(base_lr=1e-3, max_iter=20000, **POLY),
        dict(base_lr=5e-4, max_iter=10000, **POLY),
    ],
    "resnet-101": [
        dict(base_lr=2.5e-4, max_iter=20000, iter_size=10, **POLY),
        dict(base_lr=1.5e-4, max_iter=10000, iter_size=10, random_seed=100000, **POLY),
    ],
    "deeplab_squeezenet": [
        # Adam: in 150 iterations it comes as far as plain gradient descent in 350.
        dict(base_lr=1e-4, max_iter=3000, type="Adam", solver_mode=Word("CPU"), snapshot=500, **POLY),
        dict(base_lr=1e-4, max_iter=1500, type="Adam", solver_mode=Word("CPU"), snapshot=500, **POLY),
    ],
    "quickstart": [
        dict(base_lr=1e-2, max_iter=400, solver_mode=Word("CPU"), snapshot=100, **POLY),
        dict(base_lr=5e-3, max_iter=200, solver_mode=Word("CPU"), snapshot=100, **POLY),
    ],
}


SOLVER = """train_net base_lr display max_iter lr_policy gamma power momentum weight_decay stepsize snapshot
snapshot_prefix solver_mode random_seed average_loss iter_size type"""


def solver(file, settings):
    fields = {
        "train_net": f"${{EXP}}/config/${{NET_ID}}/{file}_${{TRAIN_SET}}.prototxt",
        "snapshot_prefix": f"${{EXP}}/model/${{NET_ID}}/{file}",
        **{"momentum": 0.9, "weight_decay": 5e-4, "snapshot": 1000, "solver_mode": Word("GPU")},
        **settings,
    }
    return in_order(fields, SOLVER)


def generate(network, file):
    """The text of a file, which is called without its ending."""
    if file.startswith("solver"):
        file = file.replace("solver", "train")
        fields = solver(file, SOLVERS[network][file != "train"])
    else:
        net = Net(file)
        NETWORKS[network](net)
        fields = net.fields
    return HEADER + to_text(fields)


FILES = ["test", *(name.replace("train", kind) for name in PHASES for kind in ("train", "solver"))]
ALL = [f"{network}/{file}" for network in NETWORKS for file in FILES]
# Nets of 20,000 lines, and those of few users.
ON_DEMAND = [name for name in ALL if name.startswith(("resnet-101/", "quickstart/")) and "solver" not in name]


def chosen(words):
    """The names that a command line asks for: `network` or `network/file`, with or without .prototxt."""
    names = []
    for word in words:
        name = word[: -len(".prototxt")] if word.endswith(".prototxt") else word
        found = [name] if name in ALL else [each for each in ALL if each.split("/")[0] == name]
        if not found:
            known = FILES if name.split("/")[0] in NETWORKS else NETWORKS
            raise ValueError(f"no {word}; there are: {' '.join(known)}")
        names += found
    return names


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="a network or NETWORK/FILE; default: all that are committed")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is out of date")
    parser.add_argument("--output", type=Path, default=CONFIG, metavar="FOLDER", help="default: %(default)s")
    arguments = parser.parse_args(arguments)
    paths = {name: arguments.output / f"{name}.prototxt" for name in ALL}
    try:
        names = chosen(arguments.name) or [name for name in ALL if name not in ON_DEMAND or paths[name].exists()]
    except ValueError as error:
        parser.error(str(error))
    texts = {paths[name]: generate(*name.split("/")) for name in names}
    stale = {path: text for path, text in texts.items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        print(f"{'out of date:' if arguments.check else 'wrote'} {path}")
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
