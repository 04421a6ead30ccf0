"""Elements as JSON values and back: a module for each subject, see `common`."""
