"""The study's results as text: tables, means and spreads over the seeds."""

from statistics import mean, stdev

from tables import table

RUNS = {
    "phase_one": "phase one: partial cross entropy",
    "control": "control: as long, without the loss",
    "phase_two": "phase two: with the DenseCRF loss",
    "full": "full masks",
}


def report(results, seeds):
    """All of it. `results` is what results.json holds."""
    runs = {name: [results["runs"][f"seed{seed}/{name}"] for seed in seeds] for name in RUNS}
    parts = [comparison(runs), *sentences(runs, seeds), every_run(runs, seeds), tuning(results["tuning"])]
    return "\n\n".join(parts) + "\n"


def comparison(runs):
    """IoU of every class and their mean, averaged over the seeds."""
    classes = list(runs["full"][0]["plain"]["classes"])
    rows = []
    for name, title in RUNS.items():
        plain = [run["plain"] for run in runs[name]]
        ious = [f"{mean(each['classes'][key]['iou'] for each in plain):.1f}" for key in classes]
        with_crf = spread([run["dense_crf"]["mean_iou"] for run in runs[name]])
        rows.append([title, f"**{spread([each['mean_iou'] for each in plain])}**", with_crf, *ious])
    return table(["IoU in %", "mean", "mean, with the DenseCRF layer", *classes], rows)


def sentences(runs, seeds):
    """What the loss gains, with and without mean-field inference on top."""
    for key, title in (("plain", "The networks' own scores"), ("dense_crf", "With the DenseCRF layer on top")):
        scores = {name: [run[key]["mean_iou"] for run in runs[name]] for name in runs}
        gains = {base: difference(scores["phase_two"], scores[base]) for base in ("phase_one", "control")}
        gap = difference(scores["full"], scores["phase_one"])
        closed = [share(gain, whole) for gain, whole in zip(gains["phase_one"], gap)]
        yield (
            f"{title}: the loss gains {spread(gains['phase_one'])} points over phase one and "
            f"{spread(gains['control'])} over the control, of a gap of {spread(gap)} points to full masks: "
            f"{share(mean(gains['phase_one']), mean(gap))} % of it (seed by seed {', '.join(closed)} %)."
        )


def every_run(runs, seeds):
    rows = [
        [str(seed), *(f"{runs[name][index]['plain']['mean_iou']:.2f}" for name in RUNS)]
        for index, seed in enumerate(seeds)
    ]
    return table(["seed", *(title.split(":")[0] for title in RUNS.values())], rows)


def tuning(settings):
    """The settings tried on the images held out."""
    rows = [[*map(str, each["setting"]), f"{each['mean_iou']:.2f}"] for each in settings]
    return table(["loss_weight", "bi_xy_std", "bi_rgb_std", "mean IoU, images held out"], rows)


def share(part, whole):
    """In per cent; of a run of a few iterations, which has no gap to close, none."""
    return f"{100 * part / whole:.0f}" if round(whole, 2) > 0 else "-"


def difference(one, other):
    return [a - b for a, b in zip(one, other)]


def spread(values):
    """Mean and, of several values, standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
