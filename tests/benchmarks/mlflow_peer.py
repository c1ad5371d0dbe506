"""`mlflow models serve`, with the model saved by MLflow's own flavor for transformers, as its documentation has it.

python -m tests.benchmarks.mlflow_peer mlflow PORT MODEL
"""

import os
import shutil
import sys
from pathlib import Path

from tests.benchmarks.serving_peers import pipe


def main() -> None:
    """Serve until ended."""
    import mlflow

    port, folder = sys.argv[2], Path(sys.argv[3])
    saved = folder.parent / "mlflow"
    shutil.rmtree(saved, ignore_errors=True)
    mlflow.transformers.save_model(pipe(str(folder), bf16=False), str(saved), pip_requirements=["mlflow"])
    # The command that a user types, in the place of this process; it looks for uvicorn on the path.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = f"-m mlflow models serve -p {port} -h 127.0.0.1 --env-manager local -m".split()
    os.execv(sys.executable, [sys.executable, *line, str(saved)])


if __name__ == "__main__":
    main()
