"""The process around the models: threads, memory, files, progress, warnings, optional packages."""
