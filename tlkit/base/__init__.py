"""What everything stands on: files, downloads, errors, the machine, the process, the story. Cold."""
