"""A small net that learns, with shared and frozen blobs, and solvers of every type for it."""

import caffe

SOLVER_TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]

SMALL_NET = """name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "target"
  dummy_data_param { data_filler { type: "gaussian" } data_filler { type: "gaussian" }
    shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
layer { name: "first" type: "InnerProduct" bottom: "data" top: "first"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "first" top: "norm" }
layer { name: "second" type: "InnerProduct" bottom: "norm" top: "second" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "third" type: "InnerProduct" bottom: "second" top: "third" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "third" bottom: "target" top: "loss" }
"""


def small_solver(folder, kind="SGD", prefix=None, more="", iterations=2):
    """A caffe.Solver of the type `kind` that has trained some iterations and saves as folder/PREFIX_iter_N."""
    (folder / "small.prototxt").write_text(SMALL_NET)
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    text = (
        f'net: "{folder}/small.prototxt" type: "{kind}" base_lr: 0.001 lr_policy: "fixed" max_iter: 100 {momentum} '
        f'snapshot_prefix: "{folder}/{prefix or kind}" random_seed: 1 {more}'
    )
    path = folder / f"{kind}.prototxt"
    path.write_text(text)
    solver = caffe.get_solver(str(path))
    solver.step(iterations)
    return solver
