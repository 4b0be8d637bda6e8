"""Meta-train to a folder. Work interrupted by Ctrl-C or an error is kept beside it; run this again to continue."""

from pathlib import Path

from fewshot_sdk import preset
from fewshot_sdk.meta.run import train_to_folder

resume = Path("init.checkpoint").exists()
init = train_to_folder(preset("glyphs"), "init", evaluate_every=100, resume=resume)
print(f"{init.metrics[-1].accuracy:.1%} on new classes")
