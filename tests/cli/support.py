"""Running a command."""

from click.testing import CliRunner

from hiercorr.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])
