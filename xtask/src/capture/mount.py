# What a captured client of a metadata server does.
import os

import cephfs

fs = cephfs.LibCephFS(conffile=os.environ["CEPH_CONF"], auth_id="admin")
fs.mount()
fs.mkdir(b"/folder", 0o755)
fs.symlink(b"folder", b"/link")
fs.rmdir(b"/folder")
fs.shutdown()
