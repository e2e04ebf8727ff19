"""How much memory tensors take, on any device: counted where PyTorch's operations return them."""

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Counts the memory of what operations return while it is entered; views count with what they look at.

    Attributes
    ----------
    peak : int
        The most bytes that were alive at once. What an operation takes and gives back inside does not count.
    """

    def __init__(self):
        super().__init__()
        self.peak = self._held = 0
        self._users, self._foreign = {}, set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        for tensor in _tensors((arguments, keywords)):
            if tensor.untyped_storage().data_ptr() not in self._users:
                self._foreign.add(tensor.untyped_storage().data_ptr())
        results = function(*arguments, **(keywords or {}))
        for tensor in _tensors(results):
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            if place in self._foreign or not size:
                continue
            if place not in self._users:
                self._users[place] = 0
                self._held += size
                self.peak = max(self.peak, self._held)
            self._users[place] += 1
            weakref.finalize(tensor, self._leave, place, size)
        return results

    def _leave(self, place, size):
        self._users[place] -= 1
        if not self._users[place]:
            del self._users[place]
            self._held -= size


def _tensors(tree):
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]
