"""The command line, `thalweg`."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

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
@click.option("--debug", is_flag=True, help="Show tracebacks and more of what goes on.")
@click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="THALWEG_LOG",
    help="What lines of the log are: text, or an object each.  [$THALWEG_LOG]",
)
def cli(debug: bool, log: str) -> None:
    """Streaming multimodal pipelines, from sensor to language model.

    \b
    A first run:      thalweg run voice_turn.yaml --set input=question.wav --set output=answer.wav
                      (a file of yours, or by its bare name one of the examples that come with Thalweg)
    What may be used: thalweg stages, thalweg models list, thalweg doctor
    Your own:         thalweg new pipeline NAME, thalweg new stage NAME
    To stay:          thalweg up FILE, then ps, top, logs, restart, down
    """
    level, ours = (logging.DEBUG, logging.DEBUG) if debug else (logging.WARNING, logging.INFO)
    log_to_stderr(level, ours=ours, as_json=log == "json")


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("--report", type=_FILE, help="Write turns, stages, channels and errors as JSON.")
@click.option("--trace", type=_FILE, help="Write a trace for ui.perfetto.dev.")
@click.option("--timeline", type=_FILE, help="Draw who worked when (PNG, SVG or PDF).")
@click.option("--live/--no-live", default=None, help="Table of rates and queues while it runs.")
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

    Ends with 0, with 1 if anything went wrong on the way, 2 if it could not start, 130 after Ctrl-C.
    """
    from thalweg.deploy.commands.run import Outputs, run_file

    outputs = Outputs(report=report, trace=trace, timeline=timeline)
    sys.exit(run_file(file, settings_of(pairs), outputs, live=live, quiet=quiet, metrics=metrics))


@cli.command()
@click.argument("url")
@click.option("--in", "question", type=_FILE, help="Say this recording; the microphone where it is left out.")
@click.option("--out", "answer", type=_FILE, help="Write what is heard to a WAV file.")
@secrets.KNOWN_TOKEN
@click.option("--wait", default=60.0, show_default=True, help="Longest wait for an answer, seconds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.option("--insecure", is_flag=True, help="Verify no certificate; refused with a token for another machine.")
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

    Ends with 0, with 1 if no answer was heard, 2 if no conversation came about.
    """
    from thalweg.deploy.commands.talk import talk_to

    known = secrets.known_token(token, token_file)
    sys.exit(talk_to(url, question, answer, known, wait, as_json, insecure=insecure))


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@operating.TRUST
def validate(file: Path, pairs: tuple[str, ...], trust: bool) -> None:
    """Check a pipeline file without running anything, of classes beside it neither."""
    from thalweg.deploy.reading import read_spec, unchecked_line

    spec = read_spec(file, settings_of(pairs), trust=trust)
    say(f"{file}: {len(spec.graph.stages)} stages, {len(spec.graph.connections)} connections, all well")
    if spec.unchecked:
        say(unchecked_line(spec), err=True)


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("--svg", type=_FILE, help="Draw it.")
@click.option("--format", "form", type=click.Choice(["mermaid", "svg"]), help="Mermaid, unless OUTPUT ends in .svg.")
@click.option("-o", "--output", type=_FILE, help="Write to a file instead of printing.")
@operating.TRUST
def graph(
    file: Path, pairs: tuple[str, ...], svg: Path | None, form: str | None, output: Path | None, trust: bool
) -> None:
    """Draw a pipeline file as Mermaid text or an SVG picture; variables need no values for that."""
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
    "--trust", is_flag=True, help="Import a NAME of the form module:Class, from here, too: that runs its code."
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
    help="Write a file; an ending alone: one beside each recording, or in a FOLDER/.srt. Repeatable.",
)
@click.option("--engine", default="whisper", show_default=True, help="The recogniser: stage speech.ENGINE.")
@click.option("--language", default="", help="Language that is spoken, as en; auto where the recogniser can tell.")
@click.option("--translate", is_flag=True, help="Into English, where the recogniser can.")
@click.option("--words", "by_word", is_flag=True, help="A cue or row for each word, where their times are known.")
@click.option("--overwrite", is_flag=True, help="Write anew what is there already.")
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A parameter of the recogniser, as its model."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per transcript.")
def transcribe(files: tuple[Path, ...], engine: str, pairs: tuple[str, ...], **wished: Any) -> None:
    """Write down what is said in recordings: sound or video files, folders of them, standard input (-).

    Printed as it is understood, or with --to in files that are there whole or not at all; where it is stopped, the same
    command goes on. Ends with 0, with 1 if something could not be transcribed, 2 if nothing could be begun with.
    """
    from thalweg.deploy.commands.transcribe import Wish, transcribe_files

    sys.exit(transcribe_files(files, engine, Wish(**wished), settings_of(pairs)))


@cli.group()
def models() -> None:
    """The models Thalweg comes with or can fetch, and those that are here."""


@models.command("list")
def models_list() -> None:
    """List every model with its licence, size and whether it is here."""
    from thalweg.deploy.commands.models import list_models

    list_models()


@models.command("pull")
@click.argument("names", nargs=-1)
def models_pull(names: tuple[str, ...]) -> None:
    """Fetch models, all of them by default, and check them."""
    from thalweg.deploy.commands.models import pull_models

    pull_models(names)


@models.command("convert")
@click.argument("checkpoint")
@click.option(
    "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
@click.option("--lookahead", metavar="DURATION", help="The look-ahead it uses unless told otherwise, such as 80ms.")
@click.option("--int8", is_flag=True, help="Quantise matrix products: a quarter of the size, faster.")
def models_convert(checkpoint: str, folder: Path, lookahead: str | None, int8: bool) -> None:
    """Make a streaming FastConformer of NeMo's ready to run: CHECKPOINT is a .nemo file, the name of a pulled one, or a
    bundled recogniser that is to compute in another precision.

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
    """Print where the files of a model lie, fetching them if need be."""
    from thalweg.deploy.commands.models import model_files

    for path in model_files(name):
        say(path)


@models.command("verify")
@click.argument("names", nargs=-1)
def models_verify(names: tuple[str, ...]) -> None:
    """Hash the files that are here again and compare."""
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
@click.option("--insecure", is_flag=True, help="Verify no certificate; refused with a token for another machine.")
def doctor_webrtc(
    url: str, token: str, token_file: Path | None, ice: tuple[str, ...], ice_file: Path | None, insecure: bool
) -> None:
    """Say why a connection to a server comes about or not: addresses, NAT, TURN, codecs.

    STUN and TURN servers that are given are tried in place of the server's.
    Ends with 0 where a conversation is possible, 1 where not.
    """
    from aiortc import RTCIceServer

    from thalweg.deploy.commands.doctor_webrtc import examine_webrtc

    servers = secrets.ice_servers(ice, ice_file)
    given = [RTCIceServer(s.url, s.username or None, s.credential or None) for s in servers]
    sys.exit(examine_webrtc(url, secrets.known_token(token, token_file), given, insecure=insecure))


@cli.command()
@click.argument("file", type=PIPELINE)
@_SET
@click.option("-o", "--output", type=_FILE, default=Path("profile.json"), show_default=True, help="Where it goes.")
@click.option("--picture", type=_FILE, help="Draw accuracy against latency with the Pareto front.")
@click.option("--samples", default=34, show_default=True, help="Recorded samples per combination.")
@click.option(
    "--load", "loads", multiple=True, type=int, default=(2,), show_default=True, help="Busy processes beside."
)
def profile(
    file: Path, pairs: tuple[str, ...], output: Path, picture: Path | None, samples: int, loads: tuple[int, ...]
) -> None:
    """Measure what every combination of a file's knobs costs and is worth on this device.

    The table is for the `profile` parameter of `fusion.decide`, which chooses from it for every sample.
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
        say(shown.getvalue(), err=True, end="")
        sys.exit(error.exit_code)
    except ReaderGone:
        sys.exit(READER_GONE)
    except (ThalwegError, ModelError) as error:
        if "--debug" in sys.argv:
            say(traceback.format_exc(), err=True)
        say(f"thalweg: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder it is run in: modules there are for files that are trusted (`deploy.reading`)
    main()
