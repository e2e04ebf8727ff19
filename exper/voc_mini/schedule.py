"""Tasks in an order that suits what they need of each other, several at a time."""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

__all__ = ["run_all"]


def run_all(needs, done, do, jobs, watch=lambda: None):
    """Do all tasks that are not done, each after those that it needs.

    Parameters
    ----------
    needs : dict
        Of every task the tasks that must be done before it.
    done : iterable
        Tasks of `needs` that are done already.
    do : callable
        Called with a task, in a thread of its own.
    jobs : int
        How many tasks at a time. Those that others wait for come first.
    watch : callable
        Called about every second while tasks run, in the calling thread.

    Raises
    ------
    Exception
        The first that a task raised, once the tasks that run beside it have ended; no other is begun.
    """
    needed = {other for others in needs.values() for other in others}
    done = set(done)
    waiting = sorted((task for task in needs if task not in done), key=lambda task: task not in needed)
    running, failure = {}, None
    with ThreadPoolExecutor(jobs) as pool:
        while running or (waiting and not failure):
            ready = [task for task in waiting if done.issuperset(needs[task])]
            for task in ready[: 0 if failure else jobs - len(running)]:
                waiting.remove(task)
                running[pool.submit(do, task)] = task
            for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                done.add(running.pop(future))
                failure = failure or future.exception()
            watch()
    if failure:
        raise failure
