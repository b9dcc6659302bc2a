"""Writes buf/validate/validate.proto out of protovalidate's wheel, compiled, for protoc.

Run it:

    python -m production.lessons.rules.descriptors build/validate.binpb

protoc reads the file by --descriptor_set_in. So the rules that contracts may use are always those
that the installed library knows, and no registry is asked.
"""

import argparse
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from protobuf import DescFile
from protovalidate import ViolationPb


def files(file: DescFile) -> dict[str, bytes]:
    """Returns a file after those that it imports, serialized, by their names."""
    found: dict[str, bytes] = {}
    for dependency in file.dependencies:
        found |= files(dependency)
    return found | {file.name: file.proto.to_binary()}


def descriptors() -> FileDescriptorSet:
    """Builds the set of all files that a contract with rules needs."""
    found = FileDescriptorSet()
    for serialized in files(ViolationPb.desc().file).values():
        found.file.add().MergeFromString(serialized)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Write protovalidate's contract for protoc.")
    parser.add_argument("file", type=Path)
    parser.parse_args().file.write_bytes(descriptors().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
