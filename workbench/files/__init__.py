"""Files: canonical JSON, strict reading, atomic writing of files and folders."""

from workbench.files.atomic import (
    aside_of,
    is_aside,
    make_folder,
    sync_folder,
    write_atomic,
    write_once,
    writing,
)  # fmt: skip
from workbench.files.canonical import canonical, digest, pretty
from workbench.files.json_reader import check_exact, parse_json
from workbench.files.reading import open_regular, read_bytes, read_text, shortened, until_changed
from workbench.files.strict import STRICT, parse, parse_yaml, prepare_types, read_yaml, yaml_text

__all__ = [
    "STRICT", "aside_of", "canonical", "check_exact", "digest", "is_aside", "make_folder", "open_regular",
    "parse", "parse_json", "parse_yaml", "prepare_types", "pretty", "read_bytes", "read_text", "read_yaml",
    "shortened", "sync_folder", "until_changed", "write_atomic", "write_once", "writing", "yaml_text",
]  # fmt: skip
