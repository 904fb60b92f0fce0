"""Removes the settings of the developer's shell and `.env`, so that they change no test.

Import it before anything that imports config.py.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

for name in re.findall(r'"([A-Z][A-Z0-9_]+)"', (ROOT / "config.py").read_text()):
    os.environ.pop(name, None)
    os.environ.pop(f"{name}_FILE", None)
os.environ["MOVIES_CONFIG"] = "testing"
os.environ["MOVIES_ENV_FILE"] = ""
os.environ["FLASK_SKIP_DOTENV"] = "1"
