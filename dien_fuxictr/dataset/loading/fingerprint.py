"""Fingerprint of a built data set: its input files and its entry's keys."""

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import digest

from ..samples.build_options import RAW_FILES

FILE_NAME = "fingerprint.json"
FORMAT = 1
KEYS = "keys"
"""Role of the entry's keys in the content of a set."""
_ABSENT = "(absent)"
_PATHS = {f"build.{name}" for name in RAW_FILES}


@dataclass
class Fingerprint:
    """Inputs of a build, and the files that it wrote.

    Attributes:
        entry: dotted key -> value, all keys that influence the build.
        inputs: role (`train_data file 1`) -> path, size, mtime_ns, blake2b.
        files: paths relative to the data set's folder that the build wrote.
        built_at: nanoseconds since 1970; tells two builds from the same inputs apart.
    """

    entry: dict[str, object]
    inputs: dict[str, dict]
    files: list[str]
    built_at: int = field(default_factory=time.time_ns)

    def save(self, folder: Path) -> None:
        """Write fingerprint.json atomically."""
        state = {"entry": self.entry, "inputs": self.inputs, "files": self.files, "built_at": self.built_at}
        temporary = folder / f".{FILE_NAME}.{os.getpid()}"
        temporary.write_text(json.dumps(state, indent=4), encoding="utf-8")
        os.replace(temporary, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> "Fingerprint | None":
        """Return the fingerprint of a folder, None if it has none.

        Raises:
            UserError: the file is damaged.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            # Older sets also store the paths of raw files that were written with ./; only the content of these files
            # matters.
            entry = {key: value for key, value in state["entry"].items() if key not in _PATHS}
            if entry.get("data_loader") == "flat":
                entry["data_loader"] = "memory_mapped"  # the name in older sets
            for seen in state["inputs"].values():
                _ = seen["path"], seen["size"], seen["mtime_ns"], seen["blake2b"]
            return cls(entry, state["inputs"], [str(Path(file)) for file in state["files"]], state["built_at"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); move the folder away to build it again") from error

    @classmethod
    def content_of(cls, folder: Path) -> dict[str, str]:
        """Return what a set was built from: role of a file -> digest, and a digest of the entry's keys.

        Sets of equal content give each id the same meaning. Empty for a set that was not built here.

        Raises:
            UserError: as of `load`.
        """
        known = cls.load(folder)
        if known is None:
            return {}
        keys = hashlib.blake2b(json.dumps(known.entry, sort_keys=True).encode(), digest_size=20)
        return {role: seen["blake2b"] for role, seen in known.inputs.items()} | {KEYS: keys.hexdigest()}

    def check_whole(self, folder: Path) -> None:
        """Check that the files that the build wrote exist, except the samples.

        Samples are not read again.

        Raises:
            UserError: a file is missing.
        """
        for name in self.files:
            if Path(name).parts[0] != "samples" and not (folder / name).is_file():
                raise UserError(f"{name} is missing in {folder}; --rebuild builds the data set again")

    @classmethod
    def take(cls, entry: dict[str, object], inputs: dict[str, Path], known: "Fingerprint | None") -> "Fingerprint":
        """Take the fingerprint of the present state.

        A file whose size and time are equal to those in `known` is not read again.

        Args:
            entry: flat keys.
            inputs: role -> existing file.
            known: the fingerprint of the built set.
        """
        taken = {}
        for role, path in inputs.items():
            status = path.stat()
            seen = {"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
            old = known.inputs.get(role, {}) if known else {}
            same = all(old.get(key) == value for key, value in seen.items())
            taken[role] = {**seen, "blake2b": old["blake2b"] if same else digest(path, size=20)}
        return cls({"format": FORMAT, **entry}, taken, [])

    def changes_since(self, known: "Fingerprint") -> list[str]:
        """Return the changes, one text per key or file.

        An input file that no longer exists cannot be compared and is logged.
        """
        changes = []
        for key in [*known.entry, *(key for key in self.entry if key not in known.entry)]:
            old, new = known.entry.get(key, _ABSENT), self.entry.get(key, _ABSENT)
            if old != new:
                changes.append(f"{key}: {old} -> {new}")
        gone = [known.inputs[role]["path"] for role in known.inputs if role not in self.inputs]
        if gone:
            logging.info("Input files of the built data set no longer exist; it is used unchanged: " + ", ".join(gone))
        for role, seen in self.inputs.items():
            if role not in known.inputs:
                changes.append(f"{role}: {seen['path']} is new")
            elif seen["blake2b"] != known.inputs[role]["blake2b"]:
                changes.append(f"{role}: the content of {seen['path']} changed")
        return changes


def flatten(key: str, value: object) -> dict[str, object]:
    """Return a nested entry as dotted keys.

    Lists of named columns are keyed by name, and their order is a separate key.
    """
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in flatten(f"{key}.{name}", item).items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        flat: dict[str, object] = {key: [item["name"] for item in value]}
        for item in value:
            flat |= flatten(f"{key}.{item['name']}", {k: v for k, v in item.items() if k != "name"})
        return flat
    return {key: json.loads(json.dumps(value, default=str))}
