"""What tools/compare shows of a result: tables in text or Markdown, and a plot. A result is the object that --json writes."""

import re
from statistics import median


def size_text(size):
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            number = size / (1 << shift)
            return f"{number:g} {unit}" if number == int(number) else f"{number:.4g} {unit}"
    return f"{size} B"


def parse_size(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size: 4096, 64K, 1.5M, 1G")
    return int(float(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[match[2].upper()])


def summary(repeats):
    """Of the figures of all repeats of one system at one row: the median of each."""
    figures = {}
    for name in ("time_us_p50", "time_us_p99", "cpu_ns_per_byte"):
        values = [repeat[name] for repeat in repeats if repeat[name] is not None]
        figures[name] = median(values) if values else None
    # So few values have no 99th percentile.
    if min(repeat["iters"] for repeat in repeats) < 100:
        figures["time_us_p99"] = None
    times = [repeat["time_us_p50"] for repeat in repeats]
    figures["spread"] = (max(times) - min(times)) / figures["time_us_p50"] if figures["time_us_p50"] else 0.0
    return figures


def number(value, digits=3):
    """With so many significant digits, never in exponents."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    return f"{float(text):.0f}" if value > 1 else f"{float(text):.12f}".rstrip("0")


def table(title, header, lines, markdown):
    """Columns as wide as their widest; the first is left-aligned."""
    if markdown:
        rows = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
        rows += [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([f"**{title}**", "", *rows, ""])
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    out = [title]
    for line in [header, *lines]:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        out.append("  " + "  ".join(cells).rstrip())
    return "\n".join([*out, ""])


def cells_of(result, ranks):
    """{(bytes, system): summary} of one number of ranks."""
    return {(row["bytes"], row["system"]): summary(row["repeats"]) for row in result["rows"] if row["ranks"] == ranks}


def ratio(result, cells, size, system):
    """How many times as long as the base `system` takes; None where one of the two was not measured."""
    base = cells.get((size, result["settings"]["base"]))
    other = cells.get((size, system))
    return other["time_us_p50"] / base["time_us_p50"] if base and other and base["time_us_p50"] else None


def render(result, markdown=False):
    settings, machine = result["settings"], result["machine"]
    base = settings["base"]
    names = [system["name"] for system in result["systems"]]
    placements = ", ".join(f"{system['name']} {system['placement']}" for system in result["systems"])
    head = [
        f"All-reduce of fp32, sum; placement: {placements}.",
        f"Time of one blocking call at rank 0 (median), after {settings['warmup_small']} warm-ups "
        f"({settings['warmup_large']} from 1 MiB); medians of {settings['repeats']} interleaved repeats.",
        f"{machine['processor']}, {machine['processors']} processors, {machine['memory']}, {machine['kernel']}; "
        f"commit {result['commit']}; {result['time']}.",
        "; ".join(f"{system['name']}: {system['version']}" for system in result["systems"]) + ".",
    ]
    parts = ["\n".join(line + ("  " if markdown else "") for line in head) + "\n"]
    for ranks in settings["ranks"]:
        cells = cells_of(result, ranks)
        sizes = sorted({size for size, _ in cells})
        if not sizes:
            continue

        def lines(value, sizes=sizes, cells=cells, columns=names):
            return [[size_text(size), *(value(cells.get((size, name)), size, name) for name in columns)] for size in sizes]

        def cell(name):
            return lambda figures, *_: number(figures[name]) if figures else "-"

        parts.append(table(f"{ranks} ranks, µs", ["size", *names], lines(cell("time_us_p50")), markdown))
        others = [name for name in names if name != base]
        if others:
            shown = lines(
                lambda _, size, name, cells=cells: number(ratio(result, cells, size, name)), columns=others
            )
            title = f"{ranks} ranks, time / time of {base} (above 1: {base} is faster)"
            parts.append(table(title, ["size", *others], shown, markdown))
        shown = lines(cell("time_us_p99"))
        shown = [line for line in shown if any(text != "-" for text in line[1:])]
        if shown:
            parts.append(table(f"{ranks} ranks, 99th percentile, µs", ["size", *names], shown, markdown))
        shown = lines(cell("cpu_ns_per_byte"))
        parts.append(table(f"{ranks} ranks, processor time, ns per byte and rank", ["size", *names], shown, markdown))
        shown = lines(lambda figures, *_: f"{100 * figures['spread']:.0f} %" if figures else "-")
        title = f"{ranks} ranks, slowest less fastest repeat, of the median"
        parts.append(table(title, ["size", *names], shown, markdown))
    missing = []
    for left in result["left_out"]:
        where = f" ({left['ranks']} ranks, {size_text(left['bytes'])})" if left["ranks"] else ""
        missing.append(f"{'- ' if markdown else ''}left out: {left['system']}{where}: {left['reason']}")
    return "\n".join(parts + (["\n".join(missing)] if missing else []))


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    base = result["settings"]["base"]
    names = [system["name"] for system in result["systems"]]
    worlds = [ranks for ranks in result["settings"]["ranks"] if cells_of(result, ranks)]
    figure, axes = pyplot.subplots(2, len(worlds), figsize=(6 * len(worlds), 8), sharex=True, squeeze=False)
    for column, ranks in enumerate(worlds):
        cells = cells_of(result, ranks)
        times, ratios = axes[0][column], axes[1][column]
        for name in names:
            points = sorted((size, figures) for (size, system), figures in cells.items() if system == name)
            line = {"marker": "o", "markersize": 4, "label": name, "linewidth": 2.5 if name == base else 1.2}
            times.plot([size for size, _ in points], [figures["time_us_p50"] for _, figures in points], **line)
            shown = [(size, ratio(result, cells, size, name)) for size, _ in points]
            shown = [(size, value) for size, value in shown if value is not None]
            ratios.plot([size for size, _ in shown], [value for _, value in shown], **line)
        times.set(title=f"{ranks} ranks", yscale="log", ylabel="time of an all-reduce (µs)")
        ratios.set(yscale="log", xlabel="bytes", ylabel=f"time / time of {base}")
        ratios.set_xscale("log", base=2)
        for axis in (times, ratios):
            axis.grid(True, which="major", alpha=0.3)
        times.legend()
    machine = result["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['processors']} processors; commit {result['commit']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
