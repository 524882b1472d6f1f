"""Tables as files that carry their signature, and that any reader opens without options.

CSV and JSON have no place for it beside the rows, so it stands in a column ``signature``, in the first
row only. Parquet keeps it in the file's metadata, under ``signature``.

A spreadsheet takes a cell of a CSV that begins with ``=``, ``+``, ``-`` or ``@`` for a formula and carries it out, whoever
wrote it; and ``-`` is a token like any other. So in a CSV such a text has an apostrophe before it. ``read_csv`` takes it off.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: With what a text must not begin in a CSV; the wide signs count as the narrow ones in a Japanese spreadsheet. The apostrophe
#: too, so that one that was there is told from one that was put there.
_LEADING = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
#: File endings and their media types, as a browser's download wants them.
MEDIA_TYPES = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet", ".json": "application/json"}


def table_bytes(frame: pd.DataFrame, suffix: str, signature: str) -> bytes:
    """The table as the bytes of a file. ``suffix`` is one of ``MEDIA_TYPES``."""
    if suffix in (".csv", ".json"):
        signed = frame.assign(signature=[signature] + [""] * (len(frame) - 1) if len(frame) else [])
        if suffix == ".csv":
            # With this end of a line (RFC 4180) a text that holds either half of it is quoted, and cannot begin a row.
            return _guarded(signed).to_csv(index=False, lineterminator="\r\n").encode()
        # Not pandas' own JSON: it rounds to decimal places, and a p-value of 1e-80 would become 0.
        return json.dumps(signed.to_dict("records"), ensure_ascii=False, indent=1).encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(frame, preserve_index=False)
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), b"signature": signature.encode()})
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    return buffer.getvalue()


def read_csv(source: Path | str | io.BytesIO) -> pd.DataFrame:
    """A CSV that ``table_bytes`` made (a path, or its bytes in a ``BytesIO``) as the table it was, ``signature`` included.

    Texts are as they were: without the apostrophe, and ``NA`` or ``null`` as the tokens that they are. An empty cell is
    missing among numbers, and an empty text among texts. Of the columns that hold nothing but digits ``token`` is text, the
    others are numbers. Raises what pandas raises for what is no CSV.
    """
    import pandas as pd

    found = pd.read_csv(source, keep_default_na=False, na_values=[""], dtype={"token": str, "signature": str})
    texts = [n for n in found if not (pd.api.types.is_numeric_dtype(found[n]) or pd.api.types.is_bool_dtype(found[n]))]
    for name in texts:
        found[name] = found[name].fillna("").map(_without_apostrophe)
    return found.rename(columns=_without_apostrophe)


def _guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would carry out. Numbers stay numbers."""
    texts = [n for n in frame if frame[n].dtype == object or frame[n].dtype.name in ("str", "string", "category")]
    guarded = frame.copy(deep=False)
    for name in texts:
        guarded[name] = frame[name].astype(object).map(_with_apostrophe)
    return guarded.rename(columns=_with_apostrophe)


def _with_apostrophe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_LEADING) else value


def _without_apostrophe(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value.startswith("'") else value
