#!/usr/bin/env bash
# pooch 1.9.0 with its Unzip processor, ended while the last file of an archive was being unpacked (here: that file cut to
# half its length), and called again.
#   guess   the archive is unpacked anew
#   found   every name is there, so that nothing is done: the half file is among those returned
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" pooch==1.9.0
python - <<'PYTHON'
import zipfile
from pathlib import Path

import pooch

with zipfile.ZipFile("archive.zip", "w") as archive:
    archive.writestr("first.txt", "first\n" * 1000)
    archive.writestr("last.txt", "last\n" * 1000)
folder = Path.cwd()
store = pooch.create(folder, base_url="", registry={"archive.zip": pooch.file_hash("archive.zip")})
store.fetch("archive.zip", processor=pooch.Unzip())
last = folder / "archive.zip.unzip" / "last.txt"
last.write_text("last\n" * 500)
files = store.fetch("archive.zip", processor=pooch.Unzip())
print({Path(file).name: Path(file).stat().st_size for file in files})
assert str(last) in files and last.stat().st_size == 2500
PYTHON
