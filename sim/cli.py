"""The command line: `run_sim.py COMMAND ...`, also installed as `memhier`.

Only what every command needs is imported here; each command imports the rest when it runs, so that help comes at once.
What a person did wrong is one `error:` line each on stderr and exit code 2. With --json, stdout holds one document and
nothing else, with --csv one table; progress is drawn on stderr, where that is a terminal.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer
from typer.exceptions import TyperException

from sim.errors import InputError, InputErrors
from sim.garbage import collect_rarely

app = typer.Typer(
    help="A discrete-event simulator of memory hierarchies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
traces_app = typer.Typer(help="The catalogue of traces.", no_args_is_help=True)
app.add_typer(traces_app, name="traces")

_Scenario = Annotated[str, typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the scenario, such as tiers.dram.capacity=5%."),
]
_Seed = Annotated[int | None, typer.Option(help="Instead of the scenario's own seed.", min=0)]
_Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="Where results go [default: results/SCENARIO or SCENARIO-compare].")
]
_Trace = Annotated[str, typer.Argument(metavar="TRACE", help="A trace, dense folder, or name from the catalogue.")]
_Reader = Annotated[str | None, typer.Option(help="The trace's format, where it does not say it.")]
_Option = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the reader (list readers).")
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
_Csv = Annotated[bool, typer.Option("--csv", help="The main table as CSV on stdout, and nothing else there.")]


@app.command()
def run(
    scenario: _Scenario,
    set_: _Set = None,
    seed: _Seed = None,
    out: _Out = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Run a scenario, print its metrics, and write tables and figures."""
    from sim.commands import output, scenarios

    form = output.form_of(json, csv)
    output.show(scenarios.run(scenario, _settings(set_), seed, out), form)


@app.command()
def compare(
    scenario: _Scenario,
    policies: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Eviction policies, such as lru,s3fifo:small_ratio=0.2.")
    ] = None,
    tier: Annotated[str | None, typer.Option(metavar="NAME", help="Change the policy of this tier only.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Say where each stands between this one and belady.")
    ] = None,
    set_: _Set = None,
    seed: _Seed = None,
    out: _Out = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Run a scenario once for each policy, and say which is best at what."""
    from sim.commands import output, scenarios

    form = output.form_of(json, csv)
    output.show(scenarios.compare(scenario, policies, tier, _settings(set_), seed, out, against), form)


@app.command()
def diff(
    was: Annotated[str, typer.Argument(metavar="A", help="A folder of results: of a run, a comparison or a sweep.")],
    now: Annotated[str, typer.Argument(metavar="B", help="Another, whose runs are compared with those.")],
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Only these; with fewer tests, more of them can tell.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Show tiers' and links' metrics, too, and each pair.")] = False,
    json: _Json = False,
    csv: _Csv = False,
):
    """What differs between two sets of results, in configuration and scores, and how sure that is."""
    from sim.commands import diff as command
    from sim.commands import output

    form = output.form_of(json, csv)
    output.show(command.diff(was, now, metrics, all_), form)


@app.command()
def regress(
    baselines: Annotated[
        list[str], typer.Argument(metavar="BASELINE.yaml...", help="What is watched: scenarios, metrics, tolerances.")
    ],
    update: Annotated[bool, typer.Option("--update", help="Record the values as they are now.")] = False,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write JUnit XML, which CI systems read.")] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a table for a pull request or a job's summary.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="How many processes run scenarios.", min=1, max=1024)] = 1,
    json: _Json = False,
    csv: _Csv = False,
):
    """Run baselines and say what is worse than recorded: exit code 0 if nothing is, 1 if something is, 2 on errors."""
    from sim.commands import output
    from sim.commands import regress as command

    form = output.form_of(json, csv)
    answer, code = command.regress(baselines, update, junit, markdown, jobs)
    output.show(answer, form)
    command.report_errors(answer)
    raise typer.Exit(code)


@app.command()
def sweep(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's file, or the name of a shipped one.")],
    jobs: Annotated[int | None, typer.Option(help="Runs at a time [default: one a processor].", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Do what is missing of a sweep that was begun.")] = False,
    executor: Annotated[str, typer.Option(help="Where runs are done: local or dask.")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of Dask, such as tcp://127.0.0.1:8786.")
    ] = None,
    set_: _Set = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where results go [default: results/SWEEP].")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Run a scenario at many points: fields, policies and seeds that a file lists; compare what comes out."""
    from sim.commands import output
    from sim.commands import sweep as command

    form = output.form_of(json, csv)
    command.sweep(sweep, _settings(set_), out, jobs, resume, executor, scheduler, form)


@app.command()
def optimize(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's file, or the name of a shipped one.")],
    jobs: Annotated[int | None, typer.Option(help="Runs at a time [default: one a processor].", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that was begun.")] = False,
    set_: _Set = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where results go [default: results/STUDY].")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Search for the best values of fields: several objectives, limits to keep to, and the front of what is best."""
    from sim.commands import optimize as command
    from sim.commands import output

    form = output.form_of(json, csv)
    command.optimize(study, _settings(set_), out, jobs, resume, form)


@app.command()
def replay(
    trace: _Trace,
    policy: Annotated[str, typer.Option(help="Eviction policy, such as lru or s3fifo:small_ratio=0.2.")] = "lru",
    capacity: Annotated[
        str, typer.Option(help='A share ("10%"), objects with --ignore-object-size, else bytes ("4 GiB").')
    ] = "10%",
    ignore_object_size: Annotated[bool, typer.Option("--ignore-object-size", help="Every object counts 1.")] = False,
    admission: Annotated[str, typer.Option(help="Admission policy, such as size:max_bytes=4096.")] = "always",
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A parameter of the eviction policy.")
    ] = None,
    reader: _Reader = None,
    option: _Option = None,
    seed: Annotated[int, typer.Option(help="Of policies that draw lots.", min=0)] = 0,
    json: _Json = False,
    csv: _Csv = False,
):
    """Hit ratios of one cache alone, as fast as possible."""
    from sim.commands import output
    from sim.commands import replay as command

    form = output.form_of(json, csv)
    label = ":".join([policy, *(param or [])])
    output.show(command.replay(trace, label, capacity, ignore_object_size, admission, reader, option, seed), form)


@app.command()
def alloc(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE", help="Recorded allocations, a name from the catalogue, or a source that generates them."
        ),
    ],
    allocators: Annotated[
        str, typer.Option(metavar="A,B,...", help="Such as paged,buddy:smallest_bytes=64,best_fit (list policies).")
    ] = "first_fit,best_fit,buddy:smallest_bytes=64,slab,paged:page_bytes=64",
    capacity: Annotated[
        str, typer.Option(help='A share of the most bytes live at a time ("110%"), or bytes ("40 GiB").')
    ] = "400%",
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="What reads the file, where it does not say (list allocations).")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the source.")
    ] = None,
    link: Annotated[str, typer.Option(metavar="DEVICE", help="A link over which objects may be moved.")] = "pcie4_x16",
    looks: Annotated[int, typer.Option(help="How often to look at the memory, at most.", min=1, max=4096)] = 256,
    seed: Annotated[int, typer.Option(help="Of allocators that draw lots.", min=0)] = 0,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where results go [results/TRACE-alloc].")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Allocators on a stream of allocations: what each holds, wastes, refuses, and how it scatters objects."""
    from sim.commands import allocations, output

    form = output.form_of(json, csv)
    output.show(allocations.alloc(trace, allocators, capacity, source, option, link, looks, seed, out), form)


@app.command()
def convert(
    source: _Trace,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="NAME.dense, NAME.parquet or NAME.oracleGeneral[.zst].")
    ],
    reader: _Reader = None,
    option: _Option = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="parquet, oracleGeneral or dense [default: by the target's name].")
    ] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Write a trace in another format; a dense one is replayed without being read first."""
    from sim.commands import convert as command
    from sim.commands import output

    form = output.form_of(json, csv)
    output.show(command.convert(source, target, reader, option, format_), form)


@app.command("trace-stats")
def trace_stats(
    trace: _Trace,
    reader: _Reader = None,
    option: _Option = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Write tables and figures there.")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """What a trace is like: popularity, reuse, sizes, working set, scans, tenants."""
    from sim.commands import output
    from sim.commands import trace_stats as command

    form = output.form_of(json, csv)
    output.show(command.trace_stats(trace, reader, option, out), form)


@app.command()
def mrc(
    trace: _Trace,
    policies: Annotated[str, typer.Option(metavar="A,B,...", help="Eviction policies.")] = "lru",
    sizes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Capacities, such as 1%,10%; as replay takes them.")
    ] = None,
    points: Annotated[int, typer.Option(help="How many sizes, where none are given.", min=1)] = 20,
    method: Annotated[
        str, typer.Option(help="exact, shards (of lru, by sampling) or minisim (of any policy).")
    ] = "exact",
    rate: Annotated[float, typer.Option(help="Share of the objects that shards and minisim look at.")] = 0.01,
    check: Annotated[bool, typer.Option("--check", help="Draw the exact curve, too, and tell the error.")] = False,
    ignore_object_size: Annotated[bool, typer.Option("--ignore-object-size", help="Every object counts 1.")] = False,
    reader: _Reader = None,
    seed: Annotated[int, typer.Option(help="Of the sample, and of policies that draw lots.", min=0)] = 0,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where CSV and figure go [results/TRACE-mrc].")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Miss-ratio curves: how often a cache misses, by its size."""
    from sim.commands import mrc as command
    from sim.commands import output

    form = output.form_of(json, csv)
    how = (policies, sizes, points, method, rate, check, ignore_object_size, reader, seed)
    output.show(command.mrc(trace, *how, out, form.is_for_a_person), form)


@app.command()
def probe(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device file, or the name of a shipped one.")],
    pattern: Annotated[
        str,
        typer.Option(
            help="seq, rand, strideN, burstN or mstreamN, N in bytes (mstreamN: streams); or an operation: of a memory "
            "with units gemvNxK, addN, mulN, madN, reluN, movN, of a computational drive scan1GiB, gemv1GiB or "
            "attention1GiB:flops_per_byte=8."
        ),
    ] = "rand",
    read_ratio: Annotated[float, typer.Option(help="Share of reads among the requests.")] = 1.0,
    outstanding: Annotated[
        str | None, typer.Option(metavar="N,...", help="Closed loop: so many requests outstanding; a list is a curve.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE,...", help="Open loop: Poisson arrivals at this rate, such as 12.8GB/s.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of a request, such as 64B [default: one transaction].")] = None,
    requests: Annotated[int, typer.Option(help="How many are measured.", min=1)] = 20_000,
    warmup: Annotated[int, typer.Option(help="How many come before.", min=0)] = 3_000,
    seed: Annotated[int, typer.Option(help="Of addresses and arrivals.", min=0)] = 1,
    base: Annotated[str, typer.Option(metavar="SIZE", help="The first address that is asked for.")] = "0B",
    span: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of the addresses from there on [default: the rest].")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE,...",
            help="One more requester beside this one, such as pattern=rand,rate=2GB/s,read_ratio=0.5,size=64B.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a parameter of the model, such as mapping=MOP4CLXOR, or take another model: model=fixed.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where CSV and figure of a curve go [results/DEVICE-PATTERN-probe]."),
    ] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Drive a device or link alone: bandwidth, latency, energy under a load, a curve of loads, or several at once."""
    from sim.commands import output
    from sim.commands import probe as command

    form = output.form_of(json, csv)
    asked = {"pattern": pattern, "read_ratio": read_ratio, "outstanding": outstanding, "rate": rate, "size": size}
    asked |= {"requests": requests, "warmup": warmup, "seed": seed, "base": base, "span": span}
    output.show(command.probe(device, asked, with_ or [], _settings(set_), out, form.is_for_a_person), form)


@app.command()
def calibrate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="KERNEL_TIMES...", help="CSV of Vidur, of LLMServingSim, or generic (kind, time_ns)."),
    ],
    device: Annotated[str | None, typer.Option(metavar="NAME", help="The accelerator, shipped or a file.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model, where the files do not tell its shape.")
    ] = None,
    apply: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fit nothing: errors of these constants on all times.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the constants go [results/DEVICE.yaml].")
    ] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Fit the cost model to measured kernel times; errors are told on the half that was not fitted to."""
    from sim.commands import calibrate as command
    from sim.commands import output

    form = output.form_of(json, csv)
    output.show(command.calibrate(files, device, model, apply, out), form)


@app.command()
def explain(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="A folder of results of serving or alloc.")],
    request: Annotated[
        int | None,
        typer.Option(metavar="ID", help="Where the time of this request went: its place in the trace, from 0."),
    ] = None,
    what_if: Annotated[
        bool,
        typer.Option("--what-if", help="Simulate it with no lower tiers, with infinite and with infinitely fast ones."),
    ] = False,
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="That of the run, where it names files of its own.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="That of a replay of allocations, where it is a file.")
    ] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Why a serving run took its time, or which objects pinned the holes when an allocation was refused."""
    from sim.commands import explain as command
    from sim.commands import output

    form = output.form_of(json, csv)
    output.show(command.explain(result, request, what_if, scenario, trace), form)


@app.command()
def timeline(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="A folder of results of run, compare or alloc.")],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="NAME.json or NAME.json.gz [RESULT/timeline.json.gz].")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Draw from here on, such as 2.5ms.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="TIME", help="Draw up to here.")] = None,
    most: Annotated[
        int, typer.Option(metavar="N", help="How many events at most; of more, a sample is drawn.")
    ] = 200_000,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="What the tables hold alone; the run is not simulated again.")
    ] = False,
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="That of the run, where it names files of its own.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="The trace of the run, where that is a file.")
    ] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """What happened when, as a trace for Perfetto: requests, iterations, transfers, evictions, what was in use."""
    from sim.commands import output
    from sim.commands import timeline as command

    command.timeline(result, out, from_, to, most, recorded, scenario, trace, output.form_of(json, csv))


@app.command()
def report(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULT...", help="Folders of runs, comparisons, sweeps or studies.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="The page [RESULT/report.html, or report.html of several].")
    ] = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its title [default: the scenarios' names].")
    ] = None,
    figures: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write every figure there, as PNG, SVG and CSV.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    json: _Json = False,
    csv: _Csv = False,
):
    """One HTML file about results: the verdict, tables, and charts to hover over and zoom, without a network."""
    from sim.commands import output
    from sim.commands import report as command

    command.report(results, out, title, figures, open_, output.form_of(json, csv))


@app.command("check-serving")
def check_serving(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="requests.jsonl, meta.json, timeseries.csv.")],
    system: Annotated[str, typer.Option(metavar="SYSTEM", help="The system that it ran on.")],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model; default: the one that the run names.")
    ] = None,
    kernels: Annotated[
        str | None, typer.Option(metavar="NAME", help="Constants of kernels; default: of the system's accelerator.")
    ] = None,
    arrivals: Annotated[
        str | None, typer.Option(metavar="WHEN", help="client (when sent) or queued (when the engine took them in).")
    ] = None,
    figure: Annotated[str | None, typer.Option(metavar="PNG", help="Draw the series of both runs.")] = None,
    json: _Json = False,
    csv: _Csv = False,
):
    """Replay a measured run of a real serving engine, and say how far ours is from it."""
    from sim.commands import check_serving as command
    from sim.commands import output

    form = output.form_of(json, csv)
    output.show(command.check(folder, system, model, kernels, arrivals, figure), form)


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="policies, devices, systems, gpus, kernels, models, readers, generators, allocations, traces, "
            "scenarios, sweeps, studies, presets.",
        ),
    ],
    json: _Json = False,
    csv: _Csv = False,
):
    """What there is to choose from."""
    from sim.commands import listing, output

    form = output.form_of(json, csv)
    output.show(listing.entries(what), form)


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Devices, systems, scenarios, sweeps, models, accelerators.")
    ],
    json: _Json = False,
    csv: _Csv = False,
):
    """Check hardware profiles, scenarios and models, and name every error of every file."""
    from sim.commands import checking, output

    form = output.form_of(json, csv)
    answer, errors = checking.validate(files)
    output.show(answer, form)
    if errors:
        raise InputErrors(errors)


@traces_app.command("get")
def traces_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the catalogue.")],
    json: _Json = False,
    csv: _Csv = False,
):
    """Find a trace on this machine or download it, and print where it is."""
    from sim.commands import checking, output

    form = output.form_of(json, csv)
    output.show(checking.get_trace(name), form)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    collect_rarely()
    try:
        code = app(arguments, prog_name=_program(), standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        code = _report(error.lines)
    except TyperException as error:
        code = _misused(error)
    except typer.Abort:
        code = _interrupted()
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(_interrupted() if code == 130 else code if isinstance(code, int) else 0)


def _settings(given: list[str] | None) -> dict[str, str]:
    """`--set key=value`, the values as text: the scenario reads them as its file would."""
    settings = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError("bad --set", value=text, expected="key=value, such as tiers.dram.capacity=5%")
        settings[key.strip()] = value.strip()
    return settings


def _report(lines: list[str]) -> int:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return 2


def _misused(error: TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # no command given: its message is the help
        print(error.format_message(), file=sys.stderr)
        return 2
    return _report([" ".join(error.format_message().split())])


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _program() -> str:
    return os.path.basename(sys.argv[0]) or "memhier"


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)


warnings.showwarning = _warn
