"""The study's results as text: tables, means and spreads over the seeds."""

from statistics import mean, stdev

from tables import table

LOSSES = {
    "densecrf": "the DenseCRF loss",
    "normalized_cut": "the normalised cut loss",
    "kernel_cut": "the kernel cut loss",
    "local_potts": "the local Potts loss",
    "self_label": "soft self-labelling",
}


def report(results, seeds):
    """All of it. `results` is what results.json holds."""
    settings = results["settings"]
    names = ["phase_one", "control", *settings, "full"]
    runs = {name: [results["runs"][f"seed{seed}/{name}"] for seed in seeds] for name in names}
    parts = [comparison(runs, settings), *sentences(runs, settings), every_run(runs, seeds), tuning(results["tuning"])]
    return "\n\n".join(parts) + "\n"


def words_of(name, settings):
    """How a run's loss is called; where there are several settings of one, with its parameters."""
    setting = settings[name]
    words = LOSSES.get(setting["loss"], setting["loss"])
    if sum(each["loss"] == setting["loss"] for each in settings.values()) == 1:
        return words
    return f"{words}, weight {setting['weight']}, {setting['parameters']}"


def comparison(runs, settings):
    """IoU of every class and their mean, averaged over the seeds."""
    titles = {
        "phase_one": "phase one: partial cross entropy",
        "control": "control: as long, without the loss",
        **{name: f"phase two: with {words_of(name, settings)}" for name in settings},
        "full": "full masks",
    }
    classes = list(runs["full"][0]["plain"]["classes"])
    rows = []
    for name, title in titles.items():
        plain = [run["plain"] for run in runs[name]]
        ious = [f"{mean(each['classes'][key]['iou'] for each in plain):.1f}" for key in classes]
        means = [spread([run[key]["mean_iou"] for run in runs[name]]) for key in ("plain", "dense_crf", "held_out")]
        rows.append([title, f"**{means[0]}**", *means[1:], *ious])
    return table(["IoU in %", "mean", "mean, with the DenseCRF layer", "mean, images held out", *classes], rows)


def sentences(runs, settings):
    """What each loss gains, with and without mean-field inference on top."""
    keys = {
        "plain": "The networks' own scores",
        "dense_crf": "With the DenseCRF layer on top",
        "held_out": "On the images held out",
    }
    for key, title in keys.items():
        scores = {name: [run[key]["mean_iou"] for run in runs[name]] for name in runs}
        gap = difference(scores["full"], scores["phase_one"])
        for name in settings:
            gains = {base: difference(scores[name], scores[base]) for base in ("phase_one", "control")}
            closed = [share(gain, whole) for gain, whole in zip(gains["phase_one"], gap)]
            yield (
                f"{title}: {words_of(name, settings)} gains {spread(gains['phase_one'])} points over phase one and "
                f"{spread(gains['control'])} over the control, of a gap of {spread(gap)} points to full masks: "
                f"{share(mean(gains['phase_one']), mean(gap))} % of it (seed by seed {', '.join(closed)} %)."
            )


def every_run(runs, seeds):
    rows = [
        [str(seed), *(f"{runs[name][index]['plain']['mean_iou']:.2f}" for name in runs)]
        for index, seed in enumerate(seeds)
    ]
    return table(["seed", *(name.replace("_", " ") for name in runs)], rows)


def tuning(settings):
    """The settings tried on the images held out."""
    rows = [[each["loss"], each["weight"], each["parameters"], f"{each['mean_iou']:.2f}"] for each in settings]
    return table(["loss", "loss_weight", "parameters", "mean IoU, images held out"], rows)


def share(part, whole):
    """In per cent; of a run of a few iterations, which has no gap to close, none."""
    return f"{100 * part / whole:.0f}" if round(whole, 2) > 0 else "-"


def difference(one, other):
    return [a - b for a, b in zip(one, other)]


def spread(values):
    """Mean and, of several values, standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
