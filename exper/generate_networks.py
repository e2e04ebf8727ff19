import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "pascal_scribble" / "generate_networks.py"
globals().update(runpy.run_path(str(SCRIPT), run_name=__name__))
