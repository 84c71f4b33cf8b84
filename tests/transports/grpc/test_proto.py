"""`edge.proto`: what is compiled is current, and no version can misread another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from thalweg.deploy.commands.protobuf import COMPILED, TRANSPORTS, breaks, compile_proto

FIRST = (Path(__file__).parent / "edge_v1.binpb").read_bytes()


def test_the_descriptor_is_what_the_proto_compiles_to() -> None:
    fresh = descriptor_pb2.FileDescriptorSet.FromString(compile_proto(TRANSPORTS / "edge.proto"))
    assert fresh == descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes()), "run `make proto`"


def test_workers_of_the_first_version_and_of_this_one_understand_each_other() -> None:
    assert breaks(FIRST, COMPILED.read_bytes()) == []


def message(descriptor: Any, name: str) -> Any:
    return next(found for found in descriptor.file[0].message_type if found.name == name)


def remove_field(descriptor: Any) -> None:
    del message(descriptor, "Hello").field[1]


def renumber(descriptor: Any) -> None:
    message(descriptor, "Hello").field[1].number = 9


def retype(descriptor: Any) -> None:
    message(descriptor, "Record").field[0].type = descriptor_pb2.FieldDescriptorProto.TYPE_STRING


def reuse(descriptor: Any) -> None:
    message(descriptor, "Welcome").field[0].name = "capacity"


def leave_oneof(descriptor: Any) -> None:
    message(descriptor, "Frame").field[3].ClearField("oneof_index")


def remove_message(descriptor: Any) -> None:
    messages = descriptor.file[0].message_type
    del messages[[found.name for found in messages].index("Taken")]


def stop_streaming(descriptor: Any) -> None:
    descriptor.file[0].service[0].method[0].client_streaming = False


def move_package(descriptor: Any) -> None:
    descriptor.file[0].package = "thalweg.edge.v2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_field, "thalweg.edge.v1.Hello: field edge = 2 is gone"),
        (renumber, "thalweg.edge.v1.Hello: field edge = 2 is gone"),
        (retype, "thalweg.edge.v1.Record: field number = 1 has another type"),
        (reuse, "thalweg.edge.v1.Welcome: number 1 was window and is capacity"),
        (leave_oneof, "thalweg.edge.v1.Frame: field signal = 4 has changed its oneof"),
        (remove_message, "message thalweg.edge.v1.Taken is gone"),
        (stop_streaming, "method thalweg.edge.v1.Edge/Connect is another"),
        (move_package, "package thalweg.edge.v1 is gone"),
    ],
)
def test_what_an_old_reader_would_misread_is_found(change: Callable[[Any], None], said: str) -> None:
    descriptor = descriptor_pb2.FileDescriptorSet.FromString(FIRST)
    change(descriptor)
    assert breaks(FIRST, descriptor.SerializeToString()) == [said]


def test_what_is_added_breaks_nothing() -> None:
    descriptor = descriptor_pb2.FileDescriptorSet.FromString(FIRST)
    message(descriptor, "Hello").field.add(name="more", number=99, type=9, label=1)
    descriptor.file[0].message_type.add(name="New")
    assert breaks(FIRST, descriptor.SerializeToString()) == []
