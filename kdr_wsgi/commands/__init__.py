"""The commands of `kdr`, a module each."""
