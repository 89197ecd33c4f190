"""Pure functions over tasks and parameters. Imports torch, never ray, files, configs or clocks."""
