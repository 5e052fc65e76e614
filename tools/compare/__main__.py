"""Hawser beside Gloo, Open MPI and the bare wire, on one machine in one run.

    python3 tools/compare [--ranks 2,4] [--sizes 4,4K,1M,64M] [--json FILE] [--markdown] [--plot FILE]
    python3 tools/compare --from FILE [--markdown] [--plot FILE]       shows a result that was kept

Systems take turns, A B C A B C ..., at each size and in each repeat, so that what the machine does meanwhile meets all of them.
Shown are medians over repeats. Every measurement is checked: the result of one more operation is compared element by element.
README.md here says what is measured, and how rivals are installed.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import about
import report
import systems

LARGE = 1 << 20  # bytes from which a few iterations say enough
LEAST_ITERATIONS, MOST_ITERATIONS = 5, 5000


def list_of(parse):
    def parse_list(text):
        try:
            return [parse(part) for part in text.split(",") if part]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_list


def sizes_of(text):
    size = report.parse_size(text)
    if size < 4:
        raise ValueError("an fp32 has 4 bytes")
    return size


def ranks_of(text):
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError(f"{text!r} is no number of ranks")
    return int(text)


def parse_arguments(arguments):
    known = "hawser, hawser-tcp, hawser-shm, gloo, mpi-tcp, mpi-shm, iperf3"
    parser = argparse.ArgumentParser(
        prog="compare", description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--systems", metavar="A,B", default="hawser-tcp,gloo,mpi-tcp,mpi-shm", help=f"of: {known} [%(default)s]")
    add("--add", metavar="NAME=COMMAND", action="append", default=[],
        help="another Hawser under that name, for two builds or options side by side: 'one=build/x/tools/hawser --strands 1'")  # fmt: skip
    add("--base", metavar="NAME", help="what the others are divided by [the first system]")
    add("--ranks", metavar="N,N", type=list_of(ranks_of), default=[2, 4], help="numbers of ranks [2,4]")
    add("--sizes", metavar="S,S", type=list_of(sizes_of), default=list_of(sizes_of)("4,4K,64K,1M,16M,64M,256M"),
        help="of the buffer [4,4K,64K,1M,16M,64M,256M]")  # fmt: skip
    add("--repeats", metavar="N", type=int, default=5, help="turns of each system at each size [%(default)s]")
    add("--seconds", metavar="S", type=float, default=1.0,
        help=f"timed part of a turn; iterations are chosen for it, {LEAST_ITERATIONS} to {MOST_ITERATIONS} [%(default)s]")  # fmt: skip
    add("--limit", metavar="S", type=float, default=120.0, help="a turn that takes longer in all is given up [%(default)s]")
    add("--warmup", metavar="N", type=int, help="calls before the timed ones, the same for all [50, from 1 MiB 5]")
    placement = parser.add_mutually_exclusive_group()
    placement.add_argument("--in-place", dest="in_place", action="store_true", default=None,
        help="all in place; default: out of place, and Gloo, which has nothing else in torch.distributed, in place")  # fmt: skip
    placement.add_argument("--out-of-place", dest="in_place", action="store_false", help="all out of place; Gloo copies first")
    add("--hawser", metavar="PATH", default=systems.default_hawser(), help="the command [%(default)s]")
    add("--hawser-options", metavar="TEXT", default="", help="further options of `hawser bench`")
    add("--python", metavar="PATH", default=systems.default_python(), help="an interpreter with torch [%(default)s]")
    add("--json", metavar="FILE", help="writes the result, all turns in it; - is standard output, instead of the table")
    add("--markdown", action="store_true", help="tables as Markdown")
    add("--plot", metavar="FILE", help="draws times and ratios (matplotlib); .png, .svg, .pdf")
    add("--from", dest="kept", metavar="FILE", help="measures nothing: shows a result that --json wrote")
    add("--note", metavar="TEXT", default="", help="kept with the result: what else is to be known of this run")
    add("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or options.seconds <= 0 or options.limit <= 0:
        parser.error("--repeats, --seconds and --limit are more than 0")
    return parser, options


def chosen_systems(parser, options, folder):
    extra = shlex.split(options.hawser_options)

    def hawser(name, *arguments):
        return systems.Hawser(name, options.hawser, [*arguments, *extra])

    known = {
        "hawser": lambda: hawser("hawser"),
        "hawser-tcp": lambda: hawser("hawser-tcp", "--transport", "tcp"),
        "hawser-shm": lambda: hawser("hawser-shm", "--transport", "shm"),
        "gloo": lambda: systems.Gloo(options.python, folder),
        "mpi-tcp": lambda: systems.OpenMpi("tcp", folder),
        "mpi-shm": lambda: systems.OpenMpi("shm", folder),
        "iperf3": lambda: systems.Wire(options.seconds),
    }
    chosen = []
    for name in filter(None, options.systems.split(",")):
        if name not in known:
            parser.error(f"--systems {name}: known are {', '.join(known)}")
        chosen.append(known[name]())
    for text in options.add:
        name, equals, command = text.partition("=")
        words = shlex.split(command)
        if not (name and equals and words):
            parser.error(f"--add {text}: say NAME=COMMAND")
        chosen.append(systems.Hawser(name, words[0], words[1:]))
    names = [system.name for system in chosen]
    if not names or len(set(names)) != len(names):
        parser.error("the systems need names, each its own")
    if options.base and options.base not in names:
        parser.error(f"--base {options.base}: is none of {', '.join(names)}")
    return chosen


class Comparison:
    def __init__(self, options, chosen):
        self.options = options
        self.systems = []
        self.iterations = {}  # (system, ranks, bytes): of a turn
        self.rows = {}  # (ranks, bytes, system): figures of its turns
        self.left_out = []
        self.start = time.monotonic()
        for system in chosen:
            try:
                system.check()
                self.systems.append(system)
            except systems.Unavailable as error:
                self.leave_out(system, str(error))

    def say(self, text):
        if not self.options.quiet:
            print(f"[{time.monotonic() - self.start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def leave_out(self, system, reason, ranks=None, size=None):
        hawser = isinstance(system, systems.Hawser)
        self.left_out.append(
            {"system": system.name, "reason": reason, "ranks": ranks, "bytes": size, "hawser": hawser}
        )
        where = f" at {ranks} ranks, {report.size_text(size)}" if ranks else ""
        self.say(f"left out: {system.name}{where}: {reason}")

    def warmup(self, size):
        if self.options.warmup is not None:
            return self.options.warmup
        return 5 if size >= LARGE else 50

    def measure(self, system, ranks, size, iterations, warmup):
        row = systems.Row(ranks, size, iterations, warmup, self.options.in_place, self.options.limit)
        return system.measure(row)

    def iterations_for(self, figures):
        calls = self.options.seconds * 1e6 / max(figures["time_us_p50"], 0.01)
        return int(min(max(calls, LEAST_ITERATIONS), MOST_ITERATIONS))

    def turn(self, system, ranks, size):
        """One system at one size. The first time, some calls more tell how many fill the time; later, the turn before does."""
        key = (system.name, ranks, size)
        if self.iterations.get(key) == 0 or size < system.least_bytes:  # 0: it failed here before
            return
        try:
            if key not in self.iterations:
                pilot = self.measure(system, ranks, size, 3 if size >= LARGE else 200, min(3, self.warmup(size)))
                self.iterations[key] = self.iterations_for(pilot)
            figures = self.measure(system, ranks, size, self.iterations[key], self.warmup(size))
            if figures["wrong"]:
                raise systems.RowFailed(f"{figures['wrong']} wrong elements")
            self.iterations[key] = self.iterations_for(figures)
        except systems.RowFailed as error:
            self.iterations[key] = 0
            self.rows.pop((ranks, size, system.name), None)
            self.leave_out(system, str(error), ranks, size)
            return
        self.rows.setdefault((ranks, size, system.name), []).append(figures)

    def run(self):
        for ranks in self.options.ranks:
            for repeat in range(self.options.repeats):
                for size in self.options.sizes:
                    for system in self.systems:
                        self.turn(system, ranks, size)
                self.say(f"{ranks} ranks: repeat {repeat + 1} of {self.options.repeats}")
            for system in self.systems:
                system.close()

    def result(self):
        options = self.options
        return {
            **about.heading("compare", sys.argv[1:], options.note),
            "settings": {
                "base": options.base or (self.systems[0].name if self.systems else ""),
                "ranks": options.ranks,
                "sizes": options.sizes,
                "repeats": options.repeats,
                "seconds": options.seconds,
                "warmup_small": self.warmup(4),
                "warmup_large": self.warmup(LARGE),
            },
            "systems": [
                {"name": system.name, "version": system.version, "placement": system.placements[options.in_place]}
                for system in self.systems
            ],
            "rows": [
                {"ranks": ranks, "bytes": size, "system": name, "repeats": repeats}
                for (ranks, size, name), repeats in self.rows.items()
            ],
            "left_out": self.left_out,
        }


def measured(parser, options):
    with tempfile.TemporaryDirectory(prefix="compare.") as folder:
        comparison = Comparison(options, chosen_systems(parser, options, folder))
        try:
            comparison.run()
        except KeyboardInterrupt:
            comparison.say("interrupted: what was measured is shown")
        finally:
            for system in comparison.systems:
                system.close()
        return comparison.result()


def verdict(result):
    """Missing and broken rivals are no failure; a Hawser that could not be measured is."""
    broken = any(left["ranks"] is not None and left["hawser"] for left in result["left_out"])
    measured = any(row["system"] == result["settings"]["base"] for row in result["rows"])
    return 0 if measured and not broken else 1


def main(arguments=None):
    parser, options = parse_arguments(arguments)
    if options.kept:
        try:
            result = json.loads(Path(options.kept).read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--from {options.kept}: {error}")
    else:
        result = measured(parser, options)
    if options.json == "-":
        print(json.dumps(result, indent=1))
    else:
        if options.json:
            Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
        print(report.render(result, options.markdown))
    if options.plot:
        try:
            report.plot(result, options.plot)
        except ImportError as error:
            print(f"compare: no plot: {error}", file=sys.stderr)
            return 1
    return 0 if options.kept else verdict(result)


if __name__ == "__main__":
    sys.exit(main())
