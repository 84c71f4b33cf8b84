"""`make proto`: compiles `edge.proto` to its descriptor, unless a reader of the one before would misread it.

Every file that is compiled must be readable by workers of the version before and the other way round: nothing is
removed, nothing that was given a number is given another one, another name or another type. What is added is new
to old readers, and they skip it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from thalweg.stages.io.terminal import say

TRANSPORTS = Path(__file__).resolve().parents[2] / "transports" / "grpc"
COMPILED = TRANSPORTS / "edge.binpb"

Descriptor = Any  # protobuf makes its classes at run time


def compile_proto(source: Path) -> bytes:
    """The descriptor set of a `.proto`. Raises SystemExit where protoc does not take it."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.binpb"
        if protoc.main(["protoc", f"-I{source.parent}", f"--descriptor_set_out={out}", source.name]):
            raise SystemExit(f"{source} does not compile")
        return out.read_bytes()


def breaks(before: bytes, after: bytes) -> list[str]:
    """What a reader of one descriptor set would misread in what a writer of the other writes, each in a line."""
    old, new = (descriptor_pb2.FileDescriptorSet.FromString(text) for text in (before, after))
    found = []
    files = {file.package: file for file in new.file}
    for file in old.file:
        if file.package not in files:
            found.append(f"package {file.package} is gone")
            continue
        found += _messages(file.package, file.message_type, files[file.package].message_type)
        found += _services(file, files[file.package])
    return found


def _messages(where: str, old: Descriptor, new: Descriptor) -> Iterator[str]:
    messages = {message.name: message for message in new}
    for message in old:
        name = f"{where}.{message.name}"
        if message.name not in messages:
            yield f"message {name} is gone"
            continue
        other = messages[message.name]
        fields = {field.number: field for field in other.field}
        for field in message.field:
            yield from _field(name, field, fields.get(field.number), message, other)
        yield from _messages(name, message.nested_type, other.nested_type)
        yield from _enums(name, message.enum_type, other.enum_type)


def _field(where: str, old: Descriptor, new: Descriptor | None, before: Descriptor, after: Descriptor) -> Iterator[str]:
    if new is None:
        yield f"{where}: field {old.name} = {old.number} is gone"
    elif new.name != old.name:
        yield f"{where}: number {old.number} was {old.name} and is {new.name}"
    elif (new.type, new.type_name, new.label) != (old.type, old.type_name, old.label):
        yield f"{where}: field {old.name} = {old.number} has another type"
    elif _group(old, before) != _group(new, after):
        yield f"{where}: field {old.name} = {old.number} has changed its oneof"


def _group(field: Descriptor, message: Descriptor) -> str:
    return str(message.oneof_decl[field.oneof_index].name) if field.HasField("oneof_index") else ""


def _enums(where: str, old: Descriptor, new: Descriptor) -> Iterator[str]:
    enums = {enum.name: {value.number: value.name for value in enum.value} for enum in new}
    for enum in old:
        for value in enum.value:
            if enums.get(enum.name, {}).get(value.number) != value.name:
                yield f"{where}.{enum.name}: {value.name} = {value.number} is gone or another"


def _services(old: Descriptor, new: Descriptor) -> Iterator[str]:
    def methods(file: Descriptor) -> dict[str, tuple[Any, ...]]:
        return {
            f"{file.package}.{service.name}/{method.name}": (
                method.input_type,
                method.output_type,
                method.client_streaming,
                method.server_streaming,
            )
            for service in file.service
            for method in service.method
        }

    now = methods(new)
    for name, kind in methods(old).items():
        if now.get(name) != kind:
            yield f"method {name} is {'another' if name in now else 'gone'}"


def main() -> None:
    """Compile, compare with what is committed, and write; exit 1, with nothing written, where something breaks."""
    compiled = compile_proto(TRANSPORTS / "edge.proto")
    found = breaks(COMPILED.read_bytes(), compiled)
    if found:
        raise SystemExit("edge.proto is not compatible with what is committed:\n  " + "\n  ".join(found))
    COMPILED.write_bytes(compiled)
    say("wrote transports/grpc/edge.binpb")


if __name__ == "__main__":
    main()
