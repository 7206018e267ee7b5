"""One file per verb: parse options, call an operation, render its result."""
