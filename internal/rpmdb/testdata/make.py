#!/usr/bin/env python3
"""Makes the databases of this folder: headers of made-up packages in the one
table that is read, with small pages so that there are several levels and
overflow pages, and a write-ahead log that was not checkpointed."""
import gzip, os, shutil, sqlite3, struct, sys


def header(name, files):
    index, data = b"", b""

    def add(tag, kind, count, value, align=1):
        nonlocal index, data
        data += b"\0" * (-len(data) % align)
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += value

    add(1000, 6, 1, name.encode() + b"\0")
    add(1001, 6, 1, b"1\0")
    add(1002, 6, 1, b"2\0")
    if files:
        add(1116, 4, files, b"\0\0\0\0" * files, 4)
        add(1117, 8, files, b"".join(b"file%d\0" % i for i in range(files)))
        add(1118, 8, 1, b"/usr/share/%s/\0" % name.encode())
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def save(name):
    with open(name, "rb") as f, open(name + ".gz", "wb") as out:
        with gzip.GzipFile("", "wb", 9, out, mtime=0) as z:
            shutil.copyfileobj(f, z)


def make(name, count, step):
    for suffix in "", "-wal", "-shm":
        if os.path.exists(name + suffix):
            os.remove(name + suffix)
    c = sqlite3.connect(name, isolation_level=None)
    c.execute("PRAGMA page_size=512")
    c.execute("PRAGMA journal_mode=WAL")
    c.execute("PRAGMA wal_autocheckpoint=0")
    c.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)")
    c.execute("CREATE TABLE 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
    for i in range(count):
        c.execute("INSERT INTO Packages(blob) VALUES (?)", (header("pkg%d" % (i + 1), i * step),))
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    c.execute("BEGIN")
    c.execute("DELETE FROM Packages WHERE hnum=1")
    c.execute("UPDATE Packages SET blob=? WHERE hnum=?", (header("changed", 5), min(count, 100)))
    c.execute("INSERT INTO Packages(blob) VALUES (?)", (header("added", 50),))
    c.execute("COMMIT")
    for suffix in "", "-wal":
        save(name + suffix)
    c.close()
    os.remove(name)


make("many.sqlite", 300, 1)
make("small.sqlite", 4, 20)
