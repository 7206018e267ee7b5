"""One file per stage of the runbook. A stage never imports another stage."""
