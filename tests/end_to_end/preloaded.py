"""Imported by the process from which the tests fork programs, see `program.Fork`."""

import prepared

prepared.prepare()
