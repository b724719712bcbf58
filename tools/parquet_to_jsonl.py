#!/usr/bin/env python3
"""Rows of Parquet files as JSON lines, for the commands that read rows: one object per row, every column a key.

    tools/parquet_to_jsonl.py FILE... > rows.jsonl

Needs pyarrow (pip install pyarrow). Reads a batch at a time, so the file may be larger than memory. Columns that JSON has
no type for (dates, decimals) become text; bytes are refused.
"""
import json
import sys

try:
    import pyarrow.parquet
except ImportError:
    sys.exit("parquet_to_jsonl.py: needs pyarrow; run: pip install pyarrow")


def as_text(value):
    if isinstance(value, bytes):
        raise TypeError("a column of bytes has no place in JSON")
    return str(value)


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    for path in sys.argv[1:]:
        try:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
                for row in batch.to_pylist():
                    print(json.dumps(row, ensure_ascii=False, default=as_text))
        except BrokenPipeError:
            sys.exit(1)
        except (OSError, TypeError, pyarrow.ArrowException) as error:
            sys.exit(f"{path}: {error}")


if __name__ == "__main__":
    main()
