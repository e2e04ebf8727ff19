"""Checkpoints: all that a training needs to go on as if it had never stopped."""

import torch

from rloss_caffe.data.files import replacing


def save(path, processes, settings, iteration, **objects):
    """Write a checkpoint, whole or not at all. Every process calls this, the first one writes.

    Parameters
    ----------
    path : pathlib.Path
    processes : processes.Processes
    settings : dict
        What the training was started with. `load` refuses a checkpoint of another one.
    iteration : int
        How many are done; from it follow the places of the next crops.
    objects
        What has a ``state_dict``, by name: network, optimizer, scheduler.
    """
    content = {name: each.state_dict() for name, each in objects.items()}
    content.update(settings=settings, iteration=iteration, random=processes.gather(random_state()))
    if processes.is_first:
        with replacing(path) as temporary:
            torch.save(content, temporary)


def load(path, processes, settings, **objects):
    """Bring all to where the checkpoint was written; returns the iterations that were done, 0 without a checkpoint.

    The first process reads, so the machines need no file system that they share.

    Raises
    ------
    ValueError
        The file is no checkpoint, or one of another training. In every process, as the others wait for the first.
    """
    content = processes.from_first(read(path) if processes.is_first else None)
    if isinstance(content, str):
        raise ValueError(content)
    if content is None:
        return 0
    if content["settings"] != settings:
        raise ValueError(
            f"{path} is from a run with {content['settings']}, this one has {settings}; give the same options, "
            "another --output, or leave out --resume to begin anew"
        )
    for name, each in objects.items():
        each.load_state_dict(content[name])
    if len(content["random"]) == processes.count:
        set_random_state(content["random"][processes.rank])
    return content["iteration"]


def read(path):
    """The content of a checkpoint, None if there is none, or in a text what is wrong with it."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, by what is wrong with the file
        return f"{path} cannot be read as a checkpoint: {type(error).__name__}"
    is_ours = isinstance(content, dict) and {"settings", "iteration", "random"} <= content.keys()
    return content if is_ours else f"{path} cannot be read as a checkpoint: it is another file of PyTorch's"


def random_state():
    """Of PyTorch's random numbers in this process. The quickstart's training draws none; one with dropout does."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state):
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
