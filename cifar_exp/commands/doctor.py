"""cifar-exp doctor: could a run start here now?"""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of

_MARKS = {"ok": "ok", "note": "--", "problem": "!!"}


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "what is configured and working here, and what to do where something is not"
    doctor = commands.add_parser("doctor", parents=[store], help=said, description=f"Says {said}.")
    doctor.add_argument("--quick", action="store_true", help="without asking Keras for a GPU, which takes seconds")
    doctor.add_argument("--clean", action="store_true", help="remove what killed parallel sweeps have left")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the run in question: data=digits, say")
    doctor.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """0 if a run could start, 1 if not."""
    import json
    from dataclasses import asdict

    from cifar_exp import console
    from cifar_exp.commands import doctor_checks

    config = config_of(arguments, arguments.overrides)
    found = []
    for one in doctor_checks.findings(config, gpu=not arguments.quick, clean=arguments.clean):
        found.append(one)
        if not arguments.json:
            console.say(f"{_MARKS[one.state]}  {one.about:9} {one.said}" + (f" -> {one.todo}" if one.todo else ""))
    problems = [one.about for one in found if one.state == doctor_checks.PROBLEM]
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif problems:
        console.say(f"\nA run could not start: {', '.join(problems)}.")
    else:
        console.say("\nA run could start now.")
    return 1 if problems else 0
