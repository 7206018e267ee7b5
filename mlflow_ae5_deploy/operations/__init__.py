"""Everything after the install: verify, rotate, back up, restore, upgrade, uninstall."""
