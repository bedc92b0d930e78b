"""Runs one script in another environment: `run.py request.json answer.json`. Standard library alone; a script may
import what lies beside it, and what of Regraft its environment can."""

import importlib.util
import json
import os
import sys

_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind")


def refuse_network(event, arguments):
    """An audit hook, for its words, and where the kernel has no filter: conversions are a matter of the file alone."""
    if event in _NETWORK:
        raise PermissionError(f"the converter asked for the network ({event} {arguments[1:2]}), which is refused")


def imported(name, path):
    """A module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Read the request, run the script, write the answer whole or not at all."""
    with open(sys.argv[1]) as handle:
        request = json.load(handle)
    path = request["script"]
    regraft = os.path.join(os.path.abspath(__file__), *[os.pardir] * 5)
    sys.path += [os.path.dirname(path), os.path.normpath(regraft)]
    sys.addaudithook(refuse_network)
    imported("seccomp", request["seccomp"]).refuse_network()
    try:
        answer = imported("converter", path).convert(request["model"], request["out"], request["options"])
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    with open(sys.argv[2] + ".part", "w") as handle:
        json.dump(answer, handle)
    os.replace(sys.argv[2] + ".part", sys.argv[2])


if __name__ == "__main__":
    main()
