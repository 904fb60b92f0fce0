"""The command that runs the stand-in."""

import re
import signal
import subprocess
import sys
from dataclasses import fields

import pytest
import requests
from clean_environment import ROOT
from click.testing import CliRunner

from stand_in.__main__ import main
from stand_in.faults import Faults


def test_help_names_every_switch() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(f"--{field.name.replace('_', '-')} " in text for field in fields(Faults))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--codes", "4xx"],
        ["--latency", "slow"],
        ["--latency", "2:1"],
        ["--refuse", "0.6", "--hang", "0.6"],
    ],
)
def test_invalid_switches_are_usage_errors(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


@pytest.mark.slow
def test_the_command_prints_its_url_and_faults_and_ends_on_sigterm() -> None:
    switches = ["--port", "0", "--refuse", "1", "--codes", "418", "--latency", "0.01:0.02"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stand_in", *switches],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        try:
            assert process.stdout is not None
            url = re.findall(r"http://\S+", process.stdout.readline())[0]
            assert "refuse=1.0, codes=(418,)" in process.stdout.readline()
            assert session.get(url + "movies/", timeout=30).status_code == 418
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
