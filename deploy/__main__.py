"""The command line, `thalweg`."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from thalweg import __version__
from thalweg.deploy.commands import bench as bench_command
from thalweg.deploy.commands import secrets
from thalweg.deploy.commands.recording import recordings
from thalweg.deploy.commands.scaffolding.commands import new
from thalweg.deploy.commands.serving import serve
from thalweg.deploy.fleet import commands as fleet
from thalweg.deploy.ops.keeping import operating
from thalweg.deploy.ops.keeping.operating import FILE as _FILE
from thalweg.deploy.ops.keeping.operating import PIPELINE, settings_of
from thalweg.deploy.ops.keeping.operating import SET as _SET
from thalweg.models.errors import ModelError
from thalweg.pipeline.errors import ReaderGone, ThalwegError
from thalweg.stages.io.terminal import READER_GONE, be_in_utf8, begin, log_to_stderr, say, say_json


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
@click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="THALWEG_LOG",
    help="Format of the log: text, or one JSON object per line.  [$THALWEG_LOG]",
)
def cli(debug: bool, log: str) -> None:
    """Streaming multimodal pipelines, from sensor to language model.

    \b
    First run:        thalweg run voice_turn.yaml --set input=question.wav --set output=answer.wav
                      (a file of yours, or the bare name of an example that comes with Thalweg)
    What there is:    thalweg stages, thalweg models list, thalweg doctor
    Your own:         thalweg new pipeline NAME, thalweg new stage NAME
    In background:    thalweg up FILE, then ps, top, logs, restart, down
    """
    level, ours = (logging.DEBUG, logging.DEBUG) if debug else (logging.WARNING, logging.INFO)
    log_to_stderr(level, ours=ours, as_json=log == "json")


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("--report", type=_FILE, help="Write turns, stages, channels and errors as JSON.")
@click.option("--trace", type=_FILE, help="Write a trace for ui.perfetto.dev.")
@click.option("--timeline", type=_FILE, help="Draw when each stage worked (PNG, SVG or PDF).")
@click.option("--live/--no-live", default=None, help="Show a table of rates and queues while it runs.")
@operating.METRICS
@click.option("-q", "--quiet", is_flag=True, help="Only what the pipeline itself prints, and errors.")
def run(
    file: Path,
    pairs: tuple[str, ...],
    report: Any,
    trace: Any,
    timeline: Any,
    live: Any,
    metrics: str | None,
    quiet: bool,
) -> None:
    """Run a pipeline file to its end, or until Ctrl-C.

    Exit status: 0, 1 after errors, 2 if it could not start, 130 after Ctrl-C.
    """
    from thalweg.deploy.commands.run import Outputs, run_file

    outputs = Outputs(report=report, trace=trace, timeline=timeline)
    sys.exit(run_file(file, settings_of(pairs), outputs, live=live, quiet=quiet, metrics=metrics))


@cli.command()
@click.argument("url")
@click.option("--in", "question", type=_FILE, help="Play this recording to the server; default: the microphone.")
@click.option("--out", "answer", type=_FILE, help="Write the answers to a WAV file.")
@secrets.KNOWN_TOKEN
@click.option(
    "--wait", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Timeout for an answer, seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@secrets.INSECURE
def talk(
    url: str,
    question: Path | None,
    answer: Path | None,
    token: str,
    token_file: Path | None,
    wait: float,
    as_json: bool,
    insecure: bool,
) -> None:
    """Talk to a server that `thalweg serve` runs, without a browser.

    \b
    thalweg talk http://localhost:8080
    thalweg talk http://localhost:8080 --in question.wav --out answer.wav

    Exit status: 0, 1 if no answer was heard, 2 if it could not connect.
    """
    from thalweg.deploy.commands.talk import talk_to

    known = secrets.known_token(token, token_file)
    sys.exit(talk_to(url, question, answer, known, wait, as_json, insecure=insecure))


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@operating.TRUST
def validate(file: Path, pairs: tuple[str, ...], trust: bool) -> None:
    """Check a pipeline file without running any code, not even of classes beside it."""
    from thalweg.deploy.reading import read_spec, unchecked_line

    spec = read_spec(file, settings_of(pairs), trust=trust)
    say(f"{file}: {len(spec.graph.stages)} stages, {len(spec.graph.connections)} connections, all well")
    if spec.unchecked:
        say(unchecked_line(spec), err=True)


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("--svg", type=_FILE, help="Draw an SVG picture.")
@click.option("--format", "form", type=click.Choice(["mermaid", "svg"]), help="Mermaid, unless OUTPUT ends in .svg.")
@click.option("-o", "--output", type=_FILE, help="Write to a file instead of printing.")
@operating.TRUST
def graph(
    file: Path, pairs: tuple[str, ...], svg: Path | None, form: str | None, output: Path | None, trust: bool
) -> None:
    """Draw a pipeline file as Mermaid text or an SVG picture. Variables need no values."""
    from thalweg.deploy.ops.observing.report import write_whole
    from thalweg.deploy.ops.pictures import graph as pictures
    from thalweg.deploy.reading import read_spec, unchecked_line

    spec = read_spec(file, settings_of(pairs), trust=trust, to_look_at=True)
    if spec.unchecked:
        say(unchecked_line(spec), err=True)
    if svg is not None:
        write_whole(svg, pictures.svg(spec.graph), public=True)
    if svg is not None and form is None and output is None:
        return
    is_svg = form == "svg" or (form is None and output is not None and output.suffix.lower() == ".svg")
    drawn = (pictures.svg if is_svg else pictures.mermaid)(spec.graph)
    if output is None:
        say(drawn, end="")
    else:
        write_whole(output, drawn, public=True)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors that complete and check YAML."""
    from thalweg.deploy.commands.reference.schema import pipeline_schema

    say_json(pipeline_schema(), indent=2)


@cli.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option(
    "--trust", is_flag=True, help="Import a NAME of the form module:Class, also from this folder. This runs its code."
)
def stages(name: str | None, as_json: bool, trust: bool) -> None:
    """List every stage, or show the ports and parameters of one."""
    from thalweg.deploy.commands.reference.stages import print_stages

    print_stages(name, as_json, trust=trust)


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option(
    "--to",
    multiple=True,
    type=_FILE,
    metavar="NAME.srt|.vtt|.txt|.json|.tsv",
    help="Write to this file; .srt: one beside each recording; FOLDER/.srt: one each in FOLDER. Repeatable.",
)
@click.option("--engine", default="whisper", show_default=True, help="Recogniser: the stage speech.ENGINE.")
@click.option("--language", default="", help="Spoken language, such as en; auto: detected, if the recogniser can.")
@click.option("--translate", is_flag=True, help="Translate into English, if the recogniser can.")
@click.option("--words", "by_word", is_flag=True, help="Write one cue or row per word, if word times are known.")
@click.option("--overwrite", is_flag=True, help="Overwrite existing files.")
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Parameter of the recogniser, such as model=NAME."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per transcript.")
def transcribe(files: tuple[Path, ...], engine: str, pairs: tuple[str, ...], **wished: Any) -> None:
    """Transcribe recordings: audio or video files, folders of them, or standard input (-).

    Text is printed as it is recognised, or with --to written to files, which appear only when complete; after a stop
    the same command resumes. Exit status: 0, 1 if a recording could not be transcribed, 2 if it could not start.
    """
    from thalweg.deploy.commands.transcribe import Wish, transcribe_files

    sys.exit(transcribe_files(files, engine, Wish(**wished), settings_of(pairs)))


@cli.group()
def models() -> None:
    """Manage models: those that Thalweg comes with, can download, or has downloaded."""


@models.command("list")
def models_list() -> None:
    """List every model with its licence, its size and whether it is downloaded."""
    from thalweg.deploy.commands.models import list_models

    list_models()


@models.command("pull")
@click.argument("names", nargs=-1)
def models_pull(names: tuple[str, ...]) -> None:
    """Download models, by default all, and verify them."""
    from thalweg.deploy.commands.models import pull_models

    pull_models(names)


@models.command("convert")
@click.argument("checkpoint")
@click.option(
    "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
@click.option("--lookahead", metavar="DURATION", help="Default look-ahead, such as 80ms.")
@click.option("--int8", is_flag=True, help="Quantise matrix products: a quarter of the size, faster.")
def models_convert(checkpoint: str, folder: Path, lookahead: str | None, int8: bool) -> None:
    """Convert a streaming FastConformer of NeMo: CHECKPOINT is a .nemo file, the name of a pulled one, or a bundled
    recogniser to convert to another precision.

    Neither NeMo nor torch is needed, and nothing in the archive is executed.
    """
    from thalweg.deploy.commands.models import convert_model
    from thalweg.pipeline.duration import parse_duration

    try:
        wanted_ns = parse_duration(lookahead) if lookahead else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--lookahead") from None
    convert_model(checkpoint, folder, wanted_ns, int8)


@models.command("path")
@click.argument("name")
def models_path(name: str) -> None:
    """Print the folder of a model's files; downloads them if needed."""
    from thalweg.deploy.commands.models import model_files

    for path in model_files(name):
        say(path)


@models.command("verify")
@click.argument("names", nargs=-1)
def models_verify(names: tuple[str, ...]) -> None:
    """Verify the hashes of downloaded files."""
    from thalweg.deploy.commands.models import verify_models

    sys.exit(verify_models(names))


@cli.group(invoke_without_command=True)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Show what is installed, what is missing and the command that adds it."""
    from thalweg.deploy.commands.doctor import examine

    if context.invoked_subcommand is None:
        sys.exit(examine())


@doctor.command("webrtc")
@click.argument("url")
@secrets.KNOWN_TOKEN
@secrets.ICE
@secrets.INSECURE
def doctor_webrtc(
    url: str, token: str, token_file: Path | None, ice: tuple[str, ...], ice_file: Path | None, insecure: bool
) -> None:
    """Diagnose the connection to a server: addresses, NAT, TURN, codecs.

    Given STUN and TURN servers are used in place of the server's. Exit status: 0 if a conversation is possible, 1 if
    not.
    """
    from aiortc import RTCIceServer

    from thalweg.deploy.commands.doctor_webrtc import examine_webrtc

    servers = secrets.ice_servers(ice, ice_file)
    given = [RTCIceServer(s.url, s.username or None, s.credential or None) for s in servers]
    sys.exit(examine_webrtc(url, secrets.known_token(token, token_file), given, insecure=insecure))


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("-o", "--output", type=_FILE, default=Path("profile.json"), show_default=True, help="File to write.")
@click.option("--picture", type=_FILE, help="Draw accuracy against latency with the Pareto front.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=34, show_default=True, help="Recorded samples per combination."
)
@click.option(
    "--load", "loads", multiple=True, type=int, default=(2,), show_default=True, help="Number of busy processes beside."
)
def profile(
    file: Path, pairs: tuple[str, ...], output: Path, picture: Path | None, samples: int, loads: tuple[int, ...]
) -> None:
    """Measure latency and accuracy of every combination of a file's knobs on this device.

    Use the table as `profile` of `fusion.decide`, which chooses a combination for each sample.
    """
    from thalweg.deploy.commands.profiling import profile as measure
    from thalweg.deploy.commands.profiling import write_profile
    from thalweg.deploy.ops.pictures.pareto import draw_pareto
    from thalweg.deploy.reading import read_spec

    made, measured = measure(read_spec(file, settings_of(pairs)), loads=loads, samples=samples, say=say)
    write_profile(output, made, measured)
    say(f"{len(made.rows)} combinations in {output}")
    if picture is not None:
        draw_pareto(picture, made)


for command in (serve, bench_command.bench, *operating.COMMANDS, *recordings.COMMANDS, new, fleet.hub, fleet.node):
    cli.add_command(command)


def main() -> None:
    """Entry point: errors meant for people are printed as such, without a traceback unless `--debug`."""
    be_in_utf8()
    begin()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue(), err=True, end="", level=logging.ERROR)
        sys.exit(error.exit_code)
    except ReaderGone:
        sys.exit(READER_GONE)
    except (ThalwegError, ModelError) as error:
        _end(str(error))
    except ModuleNotFoundError as error:
        from thalweg.deploy.commands.doctor import extra_with

        package = (error.name or "").partition(".")[0]
        extra = extra_with(package, sys.argv[1:])
        if not extra:
            raise
        _end(f"the package {package} is missing: pip install 'thalweg[{extra}]'")


def _end(why: str) -> NoReturn:
    if "--debug" in sys.argv:
        say(traceback.format_exc(), err=True, level=logging.ERROR)
    say(f"thalweg: {why}", err=True, level=logging.ERROR)
    sys.exit(2)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder it is run in: modules there are for files that are trusted (`deploy.reading`)
    main()
