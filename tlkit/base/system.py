"""What the operating system refuses, in our words: which file, why, and the remedy."""

import errno
import os
import re
import tempfile
from pathlib import Path

from tlkit.base.errors import TlkitError, first_line

_ROOM = "make room there, or choose another place; `tlkit cache show` says what the store of features holds."
_PLACE = "choose another place, or change who may write there."
# error number -> what is said of the file, and the remedy
_SAID = {
    errno.ENOSPC: ("its disk is full.", _ROOM),
    errno.EDQUOT: ("the quota of its disk is used up.", _ROOM),
    errno.EFBIG: ("it is larger than files may be here.", "`ulimit -f unlimited`, or another disk."),
    errno.EROFS: ("its disk can only be read.", _PLACE),
    errno.EACCES: ("permission denied.", _PLACE),
    errno.EPERM: ("permission denied.", _PLACE),
    errno.ENOENT: ("it is not there, or no longer.", "restore it; another program may have moved or removed it."),
    errno.EMFILE: ("too many files are open.", "`ulimit -n 4096` allows more."),
    errno.ENAMETOOLONG: ("its name is too long for its disk.", "choose a shorter one."),
    errno.EIO: ("its disk reports an error.", "copy what is there to another disk, and look into the system's log."),
}


def os_error(error: OSError | RuntimeError) -> TlkitError | None:
    """The one error that a user meets for what the system refused: which file, why, and the remedy.

    None for an error that is not of the system. HDF5 tells of what it could not write in the text of a RuntimeError.
    """
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := re.search(r"errno = (\d+)", str(error))):
        number = int(found[1])
    if not name and (found := re.search(r"filename = '([^']*)'", str(error))):
        name = found[1]
    if number is None and not isinstance(error, OSError):
        return None
    why, remedy = _SAID.get(number or 0, ("", ""))
    if not why:
        why, remedy = os.strerror(number) if number else first_line(error), "TLKIT_DEBUG=1 shows where it was met."
    name = re.sub(r"\.tmp-[0-9a-f]{8}(-\d+-[0-9a-f]{8})?-", "", str(name)) if name else "a file or connection"
    return TlkitError(f"{name}: {why}", remedy)


def try_to_write(folder: Path) -> None:
    """Raise where nothing can be written into an existing folder: a file without a name is tried, and is gone at once.

    Raises:
        TlkitError: with the reason of the system.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        why, remedy = _SAID.get(error.errno or 0, ("", ""))
        if error.errno == errno.ENOENT or not why:  # /proc
            why, remedy = f"{error.strerror}.", _PLACE
        raise TlkitError(f"nothing can be written into {str(folder)!r}: {why}", remedy) from None
