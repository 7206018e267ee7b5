"""GarbageCollection: removes for good what users deleted longer ago than the time to live, rows and artifacts.

job        from settings to report; may the server be used, is the schema ours, is it the same database
plan       what is due, by MLflow's meaning of age, and what stays by the guards
registry   what a registered model version needs
locations  what a location in the database means; refuses what could lead elsewhere
places     which store that is; proof that this job sees the artifacts of the server
stores, objects, remote   a folder, S3, the server or MLflow's own code for the rest
journal    what is being removed now, so that the next run can finish it
removal    pages of owners: written down, rows removed in short transactions, artifacts removed
cascade, tables, writing  what belongs to an owner; which tables there are; the connection that deletes
orphans    artifact folders without a row
telling    what is printed and reported
"""
