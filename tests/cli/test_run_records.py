"""The records of runs go with the job, or by hand: that there is none is no proof that it never ran."""

from __future__ import annotations


def test_a_run_without_a_record_is_told_from_the_journal(bench, capsys):
    assert bench.install(capsys).code == 0
    before = collection(bench, capsys)
    assert bench.run(capsys, "schedule-gc", "--sandbox", "--run-now").code == 24, "it writes no report"
    owner = bench.owner()
    for run in owner.get("runs"):
        owner.call("DELETE", f"runs/{run['id']}")
    after = collection(bench, capsys)
    examined = bench.run(capsys, "doctor", "--sandbox").out

    assert "; no run on record; next " in before
    assert "; no run on record; this machine started one " in after
    assert "no run of it is on record" in examined
    assert "never ran" not in before + after
    told = bench.run(capsys, "status", "--sandbox", "--json").data["collection"]
    assert (told["last"], told["started_here"][:4].isdigit()) == (None, True)


def collection(bench, capsys):
    out = bench.run(capsys, "status", "--sandbox", "--release", str(bench.release)).out
    (line,) = [line for line in out.splitlines() if line.startswith("  Collection")]
    return line
