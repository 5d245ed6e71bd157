"""The process that executes commands is killed (-9) again and again: none is executed twice, each is answered."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fake_graph import MACHINE, NOW_S, Machine
from myrvm_cloud.audit_log import entries, verify_log
from myrvm_cloud.command import Status
from myrvm_core.signing import SigningKey
from myrvm_sim.operator import Operator, as_yaml

KILLS, COMMANDS, LIMIT_S = 12, 150, 60.0
# Takes all envelopes in turn, as a server that was never answered sends them; notes what it has executed.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from fake_graph import Machine
folder, keys, envelopes = map(Path, sys.argv[1:])
machine = Machine(folder, keys)
executed = (folder / "executed").open("a", buffering=1)
machine.graph.before_answer = lambda service, fields: executed.write(fields["holder"] + "\\n")
async def work():
    await machine.desk._settle()
    known = len(machine.journal.journal.ended)
    for number, envelope in enumerate(envelopes.read_text().splitlines()):
        if number >= known:
            print("next", flush=True)
        await machine.desk.handle(envelope)
    print("end", flush=True)
asyncio.run(work())
"""


def test_commands_survive_kills(tmp_path: Path) -> None:
    operator = Operator([SigningKey.generate("a"), SigningKey.generate("b")])
    folder, keys, sent = tmp_path / "var", tmp_path / "keys.yaml", tmp_path / "envelopes"
    keys.write_text(as_yaml(operator.ring))
    claims = [operator.claims(MACHINE, "light", {"on": True}, NOW_S) for _ in range(COMMANDS)]
    sent.write_text("\n".join(operator.sign(one) for one in claims))
    generator, ended, kills = random.Random(7), False, 0
    for _ in range(KILLS):
        ended = _run(folder, keys, sent, generator.randint(1, 15), generator.uniform(0.0, 0.01))
        kills += not ended
    while not ended:
        ended = _run(folder, keys, sent, COMMANDS + 1, 0.0)
    assert kills > KILLS // 2
    machine = Machine(folder, keys)
    outcomes = {outcome.command_id: outcome.status for outcome in machine.desk.outcomes() if outcome.command_id}
    executed = Counter(line.removeprefix("command ") for line in (folder / "executed").read_text().splitlines())
    assert max(executed.values()) == 1, "twice"
    assert outcomes.keys() == {one["command_id"] for one in claims}, "each is answered"
    for command_id, status in outcomes.items():
        assert status is Status.INTERRUPTED or (status is Status.DONE and executed[command_id] == 1)
    assert Counter(outcomes.values())[Status.INTERRUPTED] <= kills
    assert verify_log(machine.audit_folder, machine.public).problems == []
    told = {entry["command_id"] for entry in entries(machine.audit_folder) if entry["kind"] == "ended"}
    assert told == outcomes.keys(), "each has a line"


def _run(folder: Path, keys: Path, sent: Path, steps: int, later_s: float) -> bool:
    """Run, and kill in the midst of a command after so many; whether it came to its end first."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(keys), str(sent)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tests) as process:
        assert process.stdout is not None
        try:
            for _ in range(steps):
                line = process.stdout.readline()
                assert line, "it died by itself"
                if line == "end\n":
                    return True
            time.sleep(later_s)  # anywhere in the command
            return False
        finally:
            process.kill()
            process.wait(LIMIT_S)
