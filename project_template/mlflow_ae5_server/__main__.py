import gc
import os
import sys

from mlflow_ae5_server.cli import main

_MEANWHILE = {"garbage-collection", "backup"}  # jobs that go on beside the server, which people wait for

os.umask(0o077)  # whatever the platform's is: nobody else shall read or change what this process and its children make
# MLflow makes a million objects while it is imported: a tenth of that time would be spent on looking for garbage.
gc.set_threshold(50_000)
if _MEANWHILE.intersection(sys.argv[1:2]):
    os.nice(10)
code = main()
gc.freeze()  # the process ends: nothing is gained by looking at all of them once more
sys.exit(code)
