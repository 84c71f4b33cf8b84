"""Every error that Thalweg raises on purpose: one tree, below `ThalwegError`.

`FAMILIES` is the tree: what happened → its errors, and where each is defined. Import any of them from here; a test
compares the table with the code. Each message says what was found, what was expected, where, and what to do.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class ThalwegError(Exception):
    """Root of every error that this package raises on purpose. Its message is written for people.

    `public`: one sentence for users, without internal addresses, names and reasons; empty where there is none.
    """

    public: str = ""


FAMILIES: dict[str, dict[str, str]] = {
    "a pipeline that cannot be": {
        "ConfigureError": "thalweg.pipeline.senses.configuring",
        "DumpError": "thalweg.pipeline.file.dump",
        "FileError": "thalweg.deploy.reading",
        "GraphError": "thalweg.pipeline.graph",
        "JoinError": "thalweg.pipeline.joins.joined",
        "PreferenceError": "thalweg.pipeline.file.preferences",
        "SpecError": "thalweg.pipeline.file.source",
        "StageError": "thalweg.pipeline.stage",
    },
    "a run that did not start, or has ended": {
        "DeploymentError": "thalweg.deploy.cluster.deployment",
        "EndError": "thalweg.stages.io.program",
        "OutputLost": "thalweg.stages.io.terminal",
        "ReaderGone": "thalweg.pipeline.errors",
        "RemoteError": "thalweg.deploy.cluster.remote",
        "RunError": "thalweg.deploy.run",
        "StartError": "thalweg.deploy.errors",
        "WorkerFull": "thalweg.deploy.cluster.remote",
        "WorkerLost": "thalweg.deploy.cluster.remote",
    },
    "a value that is not valid": {
        "ChannelClosed": "thalweg.pipeline.errors",
        "ControlError": "thalweg.pipeline.dialogue.events",
        "PayloadError": "thalweg.pipeline.errors",
        "SkipError": "thalweg.pipeline.senses.skipping",
    },
    "a boundary that was not crossed": {
        "CodecError": "thalweg.transports.values",
        "CommandError": "thalweg.pipeline.fleet.actions",
        "FleetError": "thalweg.deploy.fleet.errors",
        "FrameError": "thalweg.transports.grpc.wire",
        "HandoverError": "thalweg.pipeline.fleet.moving.handover",
        "HubAway": "thalweg.deploy.fleet.node.asking",
        "HubRefused": "thalweg.deploy.fleet.node.asking",
        "LeaseError": "thalweg.transports.fleet.lease",
        "SpoolError": "thalweg.transports.fleet.segment",
        "NoPeerError": "thalweg.pipeline.dialogue.call",
        "OfferError": "thalweg.transports.webrtc.sections",
        "RecordingError": "thalweg.transports.recording",
        "ReleaseRefused": "thalweg.deploy.fleet.node.releases",
        "RingError": "thalweg.transports.shm.ring",
        "TalkError": "thalweg.transports.webrtc.signalling",
        "TransportError": "thalweg.transports.link",
        "UplinkError": "thalweg.stages.fleet.uplink",
    },
    "a stage that could not do its work": {
        "AudioError": "thalweg.stages.io.audio",
        "LanguageModelError": "thalweg.stages.language.model",
        "LimitsError": "thalweg.stages.fleet.limits",
        "MavlinkError": "thalweg.stages.fleet.mavlink_link",
        "MediaError": "thalweg.stages.io.reading",
        "SinkError": "thalweg.stages.io.whole",
        "SpeechSynthesisError": "thalweg.stages.speech.piper",
        "VideoError": "thalweg.stages.video.coder",
    },
    "a model": {
        "BackendError": "thalweg.models.language.backend",
        "HttpError": "thalweg.models.http.errors",
        "ModelError": "thalweg.models.errors",
        "SampleError": "thalweg.models.senses.samples",
    },
    "a command": {
        "BenchError": "thalweg.deploy.bench",
        "MetricsError": "thalweg.deploy.ops.observing.families",
        "OutputError": "thalweg.deploy.ops.observing.report",
        "RehearsalError": "thalweg.deploy.commands.recording.rehearsal",
        "ScaffoldError": "thalweg.deploy.commands.scaffolding.scaffold",
        "KeepingError": "thalweg.deploy.ops.keeping.deployments",
        "TargetError": "thalweg.deploy.transcripts.targets",
        "UpError": "thalweg.deploy.ops.keeping.up",
    },
    "the server": {
        "DrainError": "thalweg.deploy.commands.hosts",
        "HostsError": "thalweg.deploy.commands.hosts",
        "HostError": "thalweg.deploy.server.hosts.record",
        "HostLost": "thalweg.deploy.server.hosts.link",
        "NetworkError": "thalweg.deploy.door.addresses",
        "Refused": "thalweg.deploy.door.refused",
        "ServeError": "thalweg.deploy.server.serve",
        "SessionOver": "thalweg.deploy.server.newcomer",
        "SettingsError": "thalweg.deploy.server.settings",
        "SnapshotError": "thalweg.deploy.server.snapshot",
        "CertificateError": "thalweg.deploy.door.certificate",
        "TokenError": "thalweg.deploy.door.tokens",
        "WrongName": "thalweg.deploy.door.names",
        "ZoneError": "thalweg.deploy.server.hosts.zones",
    },
    "a test": {"DeadlockError": "thalweg.deploy.testing"},
}
_MODULES = {name: module for family in FAMILIES.values() for name, module in family.items()}


def __getattr__(name: str) -> Any:  # Any: an exception class
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
