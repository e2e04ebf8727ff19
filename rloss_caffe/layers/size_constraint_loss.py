"""SizeConstraintLoss: bounds on the sizes of classes (Kervadec et al., MIDL 2018) as a Caffe layer."""

from rloss_caffe.layers._loss import SegmentationLoss
from rloss_caffe.losses import size_constraint

__all__ = ["SizeConstraintLoss"]


class SizeConstraintLoss(SegmentationLoss):
    """Value and gradient of the size constraint: how far classes are above or below the sizes they may have.

    Bottoms: the segmentation (N, K, H, W), class probabilities; optionally labels (N, 1, H', W') of any size, whose
    classes are the tags of each image: what they do not name is absent and has the bounds 0 and 0, what they name has
    at least one pixel; then optionally a region of interest (N, 1, H, W), 0 outside. Top: the loss, shape
    (1, 1, 1, 1). There is no implicit loss_weight: write one, about 1e-2. There is no bottom for the image.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "size_loss"  type: "Python"
          bottom: "fc8_softmax"  bottom: "label"  top: "size_loss"
          propagate_down: true  propagate_down: false
          loss_weight: 1e-2
          python_param {
            module: "rloss_caffe.layers"  layer: "SizeConstraintLoss"
            param_str: "unit: FRACTION\\nupper: 0.9"
          }
        }
    """

    BOTTOMS = ("segmentation", "label?", "roi?")
    PARAMETERS = size_constraint.PARAMETERS
    LOSS = staticmethod(size_constraint.size_constraint_loss)

    def check_shapes(self, shapes):
        shapes = list(shapes)
        if len(shapes) > 1:
            given, target = shapes[1], shapes[0]
            if len(given) == len(target) == 4 and given[:2] == (target[0], 1) and 0 not in given:
                shapes[1] = (target[0], 1, *target[2:])  # only its classes count
        super().check_shapes(shapes)
        given = self.parameters
        try:
            bounds = size_constraint.Bounds(given.lower, given.upper, given.unit, shapes[0][1])
        except ValueError as error:
            raise self.error(str(error)) from error
        if bounds.are_none and not (given.tags and len(shapes) > 1):
            raise self.error(size_constraint.NOTHING)
