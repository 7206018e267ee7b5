"""The tracking database: connect, check, dump, load, compare, migrate.

connection         parse a database URI, open it, wait until it answers
character_sets     check that it can store every character
schema             MLflow's tables at any revision; the state of a database's schema (pinned_schema: read beforehand)
migration          migrate to the installed MLflow, or rehearse that on a copy
locks              one maintenance run at a time; which tracking server uses the database
dump               dump, digests, state: for any dialect, by the modules below

sqlite, postgresql, mysql                   dump, digests, state, columns of one dialect
sqlite_load, postgresql_load, mysql_load    write rows into one dialect
saved_copy (mysql_saved_copy)               move tables away and back; scratch databases
load               from any dialect into any other
portability        values that another dialect refuses
contents           what a dump holds, and what a database holds
digests            a digest of rows that is the same on every dialect
copy_text          rows as text
"""
