"""GarbageCollection: delete what users deleted longer ago than the time to live.

In order:
collector      one collection, from plan to report
plan           what has expired, by MLflow's meaning of age, and what stays by the guards
removal        pages of owners: journal, rows in short transactions, artifacts; what a killed run has left
summary        what is printed and reported of plan and removal
orphans        artifact folders without a row: finds, shows, removes and reports them

What they use:
registry       runs and models that a registered model version needs
locations      what an artifact location means; refuses those that could lead elsewhere
destinations   which store a location is in; checks that this job sees the artifacts of the server
stores         a folder, and what every store can do; bucket_store: S3; remote: the server, and MLflow's own code
journal        what is being removed, so that the next run can finish it
row_removal    rows of owners and of all that belongs to them; checks again, in the transaction, that they have expired
cascade        what belongs to an owner   transactions: the connection that deletes   tables: MLflow's tables
"""
