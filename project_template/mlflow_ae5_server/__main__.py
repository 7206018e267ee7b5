import sys

from mlflow_ae5_server.cli import main

sys.exit(main())
