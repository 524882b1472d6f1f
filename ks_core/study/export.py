"""Tables as files that carry their signature, and that any reader opens without options.

CSV and JSON have no place for it beside the rows, so it stands in a column ``signature``, in the first
row only. Parquet keeps it in the file's metadata, under ``signature``.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: File endings and their media types, as a browser's download wants them.
MEDIA_TYPES = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet", ".json": "application/json"}


def table_bytes(frame: pd.DataFrame, suffix: str, signature: str) -> bytes:
    """The table as the bytes of a file. ``suffix`` is one of ``MEDIA_TYPES``."""
    if suffix in (".csv", ".json"):
        signed = frame.assign(signature=[signature] + [""] * (len(frame) - 1) if len(frame) else [])
        if suffix == ".csv":
            return signed.to_csv(index=False).encode()
        # Not pandas' own JSON: it rounds to decimal places, and a p-value of 1e-80 would become 0.
        return json.dumps(signed.to_dict("records"), ensure_ascii=False, indent=1).encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(frame, preserve_index=False)
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), b"signature": signature.encode()})
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    return buffer.getvalue()
