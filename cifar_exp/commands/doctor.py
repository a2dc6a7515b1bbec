"""cifar-exp doctor: check whether a run could start on this machine."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of

_MARKS = {"ok": "ok", "note": "--", "problem": "!!"}


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "check whether a run could start on this machine, and tell what to do if it could not"
    doctor = commands.add_parser("doctor", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    doctor.add_argument("--quick", action="store_true", help="do not ask Keras for a GPU, which takes seconds")
    doctor.add_argument("--clean", action="store_true", help="remove what killed parallel sweeps have left")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the run, such as data=digits"
    )
    doctor.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings.

    Returns:
        Exit code: 0 if a run could start, otherwise 1.
    """
    import json
    from dataclasses import asdict

    from cifar_exp import console
    from cifar_exp.commands import doctor_checks

    config = config_of(arguments, arguments.overrides)
    findings = []
    for finding in doctor_checks.findings(config, gpu=not arguments.quick, clean=arguments.clean):
        findings.append(finding)
        if not arguments.json:
            advice = f" -> {finding.todo}" if finding.todo else ""
            console.say(f"{_MARKS[finding.state]}  {finding.about:9} {finding.said}{advice}")
    problems = [finding.about for finding in findings if finding.state == doctor_checks.PROBLEM]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif problems:
        console.say(f"\nA run could not start: {', '.join(problems)}.")
    else:
        console.say("\nA run could start now.")
    return 1 if problems else 0
