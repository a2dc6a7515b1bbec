"""Imported by the process from which the tests fork programs, see `program.start`."""

import prepared

prepared.prepare()
