import gc
import sys

from mlflow_ae5_server.cli import main

# MLflow makes a million objects while it is imported: a tenth of that time would be spent on looking for garbage.
gc.set_threshold(10_000)
code = main()
gc.freeze()  # the process ends: nothing is gained by looking at all of them once more
sys.exit(code)
