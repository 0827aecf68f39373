# What a captured client of a storage daemon does: messages with and without data, both ways, short and long.
import json
import os
import sys

import rados

lines = b"".join(b"line %06d of a file that compresses well\n" % number for number in range(300))

cluster = rados.Rados(conffile=os.environ["CEPH_CONF"], name="client.admin")
cluster.connect(timeout=30)
cluster.mon_command(json.dumps({"prefix": "mon getmap"}), b"")
objects = cluster.open_ioctx("test")
objects.write_full("greeting", b"hello")
objects.write_full("page", bytes(range(256)) * 16)
objects.write_full("lines", lines)
objects.write_full("empty", b"")
objects.set_xattr("greeting", "language", b"en")
if objects.read("page", 4096) != bytes(range(256)) * 16 or objects.read("lines", len(lines)) != lines:
    sys.exit("other bytes came back")
try:
    objects.read("missing")
    sys.exit("an object that was never written was read")
except rados.ObjectNotFound:
    pass
objects.remove_object("greeting")
objects.close()
cluster.shutdown()
