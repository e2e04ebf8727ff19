"""One process or several: torchrun starts them, and its environment variables say which one this is."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from rloss_caffe import get_num_threads


@dataclass(frozen=True)
class Processes:
    """How many processes train together, the number of this one among all and on its machine, and its device."""

    count: int
    rank: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self):
        return self.rank == 0

    def sum(self, tensor):
        """The sum over all processes; every one gets it, in `tensor`."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value):
        """The values of all processes, in a list that every one gets."""
        values = [value]
        if self.count > 1:
            values = [None] * self.count
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value):
        """The first process's value."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def wait(self):
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def end(self):
        if self.count > 1:
            dist.destroy_process_group()


def start():
    """Join the others. Each process has a GPU of its own where there are GPUs, else its share of the CPUs."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    is_cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if is_cuda else torch.device("cpu")
    if is_cuda:
        torch.cuda.set_device(device)
    torch.set_num_threads(get_num_threads())  # the machine's CPUs by LOCAL_WORLD_SIZE
    if "RANK" not in os.environ:
        return Processes(1, 0, 0, device)
    dist.init_process_group("nccl" if is_cuda else "gloo")
    return Processes(dist.get_world_size(), dist.get_rank(), local_rank, device)
