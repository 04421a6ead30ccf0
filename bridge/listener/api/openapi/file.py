"""The operations for files."""

from typing import Final

from bridge.listener.api.openapi.operation import (
    FROM,
    OF_BODY,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import TEXTS, WORD, Table, object_schema
from bridge.listener.api.stanza import JSON
from bridge.listener.problem import STATUS_OF

SCHEMAS: Final[Table] = {
    "UploadedFile": object_schema(
        ["url", "size", "media_type", "name"],
        url=WORD,
        size={"type": "integer", "minimum": 1},
        media_type=WORD,
        name=WORD,
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    name = parameter("query", "name", TEXTS, "The name that the file has for those who get it")
    found = content(
        "Uploaded; an entry for `files`",
        {JSON: ref("UploadedFile")},
        {"Location": {"schema": WORD}},
    )
    anything = {"application/octet-stream": {"type": "string", "format": "binary"}}
    return {
        "/v1/files": {
            "post": operation(
                "uploadFile",
                "files",
                "Upload a file of any media type to the server's upload service",
                [name, FROM],
                anything,
                {"201": found},
                (*OF_BODY, 411, *STATUS_OF.values()),
            )
        }
    }
