"""Makes the helper modules of this room, and the forms of the oracle room, importable."""

import sys
from pathlib import Path

ROOM = Path(__file__).parent
sys.path[:0] = [str(ROOM), str(ROOM.parent / "oracle")]
