"""Restore a snapshot, resume an interrupted restore, or undo one."""
