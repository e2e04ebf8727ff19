"""Lines of a solver's log."""


def say(text, thread=9853, place="solver.cpp:228"):
    return f"I0301 11:46:37.911602 {thread:5d} {place}] {text}\n"


def step(iteration, loss, crf=None, lr="0.001", accuracy=None, **where):
    """The lines of one displayed iteration; the cross-entropy is the total minus the weighted DenseCRF loss."""
    text = say(f"Iteration {iteration} (2.51 iter/s, 3.98s/10 iters), loss = {loss}", **where)
    outputs = [f"accuracy = {value}" for value in accuracy or ()]
    if crf is not None:
        outputs.append(f"densecrf_loss = {crf:g} (* 1e-07 = {1e-7 * crf:g} loss)")
    outputs.append(f"loss = {loss if crf is None else loss - 1e-7 * crf:g} (* 1 = {loss:g} loss)")
    for number, output in enumerate(outputs):
        text += say(f"    Train net output #{number}: {output}", **where)
    return text + say(f"Iteration {iteration}, lr = {lr}", **where)


def begin(net="train", prefix="model/run", **where):
    head = say("Initializing solver from parameters: ", **where)
    return f'{head}train_net: "{net}.prototxt"\nbase_lr: 0.1\nsnapshot_prefix: "{prefix}"\n' + say("Solving ", **where)
