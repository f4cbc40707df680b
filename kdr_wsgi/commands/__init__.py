"""The commands of `kdr`, a module each, which is imported when its command is called."""

from __future__ import annotations

#: Each with one line of help, in the groups that ``kdr --help`` shows.
GROUPS: dict[str, dict[str, str]] = {
    "publish and look": {
        "publish": "register a file or a directory and print its partial URL",
        "list": "show what is registered",
        "open": "open what is registered in the browser",
        "top": "watch what is registered, and how it is used",
        "revoke": "end a registration",
    },
    "serve": {
        "serve": "run the relay server in the foreground",
        "demo": "tile an image, publish it from a notebook, and show it in JupyterLab",
    },
    "look after": {
        "doctor": "look for what is wrong, and say what to do",
        "verify": "read again what a content key promises",
        "gc": "remove what has expired",
        "migrate": "copy a registry into PostgreSQL",
    },
    "in the shell": {
        "completion": "print what makes a shell complete commands, options, keys and paths",
    },
}

COMMANDS = {name: told for group in GROUPS.values() for name, told in group.items()}
